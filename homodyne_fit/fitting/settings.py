"""Everything that decides a fit besides the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PlainValidator, field_validator

from homodyne_fit.errors import InputError, did_you_mean, suggestion
from homodyne_fit.kernel.moments import Precision
from homodyne_fit.model.parameters import ALIASES, PARAMETERS
from homodyne_fit.model.rates import LAMINAR_FLOW, Model, model_named
from homodyne_fit.validation import (
    Count,
    Fraction,
    NotNegative,
    Number,
    Positive,
    Section,
    Size,
    Values,
    checked_fields,
)

__all__ = [
    "SHEAR_FORMS",
    "FitSettings",
    "ShearForm",
    "AntiDegeneracy",
    "Constant",
    "GradientMonitoring",
    "Hierarchical",
    "Regularization",
    "ScalingMode",
    "ShearWeighting",
    "MultiStart",
    "Precision",
]


# Shapes of the shear term: power of the sinc, and its argument over q h cos(φ0 − φ) ΔΓ.
# `homodyne` reproduces homodyne <= 2.23 and xpcsjax 0.1.8, whose shear rates are not those of
# the formula they document.
ShearForm = Literal["documented", "homodyne"]

SHEAR_FORMS: dict[ShearForm, tuple[int, float]] = {
    "documented": (2, 0.5),
    "homodyne": (4, 0.5 / np.pi),
}

# No parameter comes near; squares of it are still numbers.
LARGEST_BOUND = 1e30

ScalingMode = Literal[
    "auto", "individual", "averaged", "constant", "fourier", "hierarchical", "sequential"
]

# Names of other programs.
OTHER_PENALTIES = {"auto": "evidence", "relative": "cv", "absolute": "l2"}

OTHER_RESPONSES = ("hierarchical", "reset")  # both are a restart

LAYERS = ("hierarchical", "regularization", "gradient_monitoring", "shear_weighting")


def _model(model: Any) -> Model:
    return model if isinstance(model, Model) else model_named(model)


class Constant(Section):
    """What the mode ``constant`` holds: one value, or one for each angle.

    The quantile estimates of the data where None.
    """

    contrast: Values | None = Field(
        default=None,
        description="Contrast to hold in the mode `constant`: one, or one for each angle.",
    )
    offset: Values | None = Field(
        default=None,
        description="Offset to hold in the mode `constant`: one, or one for each angle.",
    )

    def problems(
        self, n_angles: int, limits: Mapping[str, tuple[float, float]]
    ) -> Iterator[tuple[str, str]]:
        """What is wrong with the values: name of the key, and a sentence.

        Parameters
        ----------
        n_angles : int
            Angles of the data.
        limits : mapping
            (lower, upper) of contrast and of offset.
        """
        for name, (lower, upper) in limits.items():
            values = getattr(self, name)
            if values is None:
                continue
            if len(values) not in (1, n_angles):
                yield (
                    name,
                    f"{len(values)} values for {n_angles} angles; give one value, or one for each "
                    "angle",
                )
            if any(not lower <= value <= upper for value in values):
                yield (
                    name,
                    f"{values} is not within the bounds of {name}, {lower:g} to {upper:g}",
                )


class Hierarchical(Section):
    """Layer 2: the physics first, contrast and offset held."""

    enable: bool = Field(default=True, description="Whether the physics is searched first.")


class Regularization(Section):
    """Layer 3: a penalty on contrasts and offsets that spread over the angles.

    Attributes
    ----------
    enable : bool or None
        None leaves it to the mode: on in ``auto`` and ``hierarchical``.
    mode : str
        ``evidence`` learns the weights; ``cv`` and ``l2`` take λ. ``auto``, ``relative`` and
        ``absolute`` are other names of the three.
    strength : float or None
        λ; None for the one that brings a spread of `target_cv` to a share of
        `target_contribution` of the cost.
    """

    enable: bool | None = Field(
        default=None, description="null leaves it to the mode: on in `auto` and `hierarchical`."
    )
    mode: Literal["evidence", "cv", "l2"] = Field(
        default="evidence",
        description="evidence (also auto) learns the weights, cv (relative) penalises λ CV², l2 "
        "(absolute) λ times the squared deviations from the mean.",
        json_schema_extra={"enum": ["evidence", "cv", "l2", *OTHER_PENALTIES]},
    )
    strength: Annotated[Positive | None, Field(alias="lambda")] = Field(
        default=None, description="λ of cv and l2; null: target_contribution / target_cv²."
    )
    target_cv: Positive = Field(
        default=0.10, description="Coefficient of variation over the angles that λ is made for."
    )
    target_contribution: Positive = Field(
        default=0.10, description="Share of the cost that it then has, which makes λ."
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _other_names(cls, mode: Any) -> Any:
        return OTHER_PENALTIES.get(mode, mode) if isinstance(mode, str) else mode

    @property
    def weight(self) -> float:
        """λ."""
        return self.strength or self.target_contribution / self.target_cv**2


class GradientMonitoring(Section):
    """Layer 4: watches for a collapse of the gradient; see `GradientMonitor`."""

    enable: bool = Field(default=True, description="Whether the gradient is watched.")
    ratio_threshold: Positive = Field(
        default=0.01,
        description="Gradient of the physics over that of the scaling that is too small.",
    )
    consecutive_triggers: Count = Field(
        default=5, description="Steps in a row for which it has to be."
    )
    response: Literal["restart", "warn", "abort"] = Field(
        default="restart",
        description="What follows; hierarchical and reset stand for restart.",
        json_schema_extra={"enum": ["restart", "warn", "abort", *OTHER_RESPONSES]},
    )
    max_restarts: NotNegative = Field(default=3, description="Restarts at most.")
    seed: NotNegative = Field(default=0, description="Seed of the new starts.")

    @field_validator("response", mode="before")
    @classmethod
    def _other_names(cls, response: Any) -> Any:
        return "restart" if response in OTHER_RESPONSES else response


class ShearWeighting(Section):
    """Layer 5: weights of the angles by their direction to the flow; see the layer.

    Off unless asked for: where the noise is the same at all angles, equal weights give the
    smallest errors.
    """

    enable: bool = Field(default=False, description="Whether angles are weighted.")
    min_weight: Fraction = Field(
        default=0.3, description="Weight of an angle across the flow; along it, 1."
    )
    alpha: Positive = Field(default=1.0, description="Exponent of |cos(φ0 − φ)| in the weight.")


class AntiDegeneracy(Section):
    """How contrast and offset may differ between the angles, and the other layers."""

    enable: bool = Field(
        default=True, description="false switches layers 2 to 5 off; `per_angle_mode` stays."
    )
    per_angle_mode: ScalingMode = Field(
        default="auto",
        description="Contrast and offset: auto, one pair for all angles, then hierarchical if the "
        "data reject it; hierarchical, a pair for each angle, their spread learned; individual, a "
        "pair for each, freely; averaged, one for all; fourier, a series in φ; constant, held; "
        "sequential, held at what each angle gives alone.",
    )
    fourier_order: Count = Field(
        default=2,
        description="Order of the series in φ of the mode `fourier`; needs 1 + 2·order angles.",
    )
    constant: Constant = Constant()
    hierarchical: Hierarchical = Hierarchical()
    regularization: Regularization = Regularization()
    gradient_monitoring: GradientMonitoring = GradientMonitoring()
    shear_weighting: ShearWeighting = ShearWeighting()

    @property
    def names_mode(self) -> bool:
        """Whether the mode was given rather than left at its default."""
        return "per_angle_mode" in self.model_fields_set

    @property
    def in_force(self) -> AntiDegeneracy:
        """These settings, the layers off where `enable` is false."""
        if self.enable:
            return self
        return self.model_copy(
            update={
                name: getattr(self, name).model_copy(update={"enable": False}) for name in LAYERS
            }
        )


class MultiStart(Section):
    """How the best basin is searched for.

    Attributes
    ----------
    enable : bool
        If False, the fit starts from the initial values alone.
    n_starts : int
        Starts that are screened.
    sampling_strategy : str
        How they are spread.
    seed : int
    """

    enable: bool = Field(
        default=True, description="false: the fit starts from the initial values alone."
    )
    n_starts: Count = Field(default=128, description="Starts that are screened.")
    sampling_strategy: Literal["latin_hypercube", "sobol"] = Field(
        default="latin_hypercube", description="How they are spread."
    )
    seed: NotNegative = Field(default=0, description="Seed of the starts.")


@dataclass(frozen=True)
class FitSettings:
    """Everything that decides a fit besides the data.

    Attributes
    ----------
    model : Model
        Or its name.
    gap : float or None
        Width of the sheared gap, Å; needed by a model with flow.
    initial : mapping
        Start values by parameter name; what is missing comes from the data or the defaults.
    fixed : mapping
        Parameters held at a value.
    bounds : mapping
        (lower, upper) by parameter name, in place of the defaults.
    anti_degeneracy : AntiDegeneracy
        How contrast and offset may differ between the angles, and the layers against degeneracy.
    multi_start : MultiStart
        The search for the best basin.
    tolerance : float
        Distance from the minimum, in standard errors, at which the fit has converged.
    max_nfev : int
        Passes over the points that the fit may take after the global search, which has the number
        of its starts; an evaluation of a sample counts by its share of the points. In the mode
        `sequential` the fit of each angle has as many.
    shear : str
        'documented' for sinc²(½ q h cos·ΔΓ), 'homodyne' for the form homodyne computes.
    precision : {'double', 'single'}
        Of what is computed for every point; sums are double. See `moments.chunk_moments`.
    threads : int or None
        Threads that sum the chunks; one for each processor when None.
    memory : int or None
        Bytes that a fit of matrices on the disk may use; three quarters of what is available
        when None.
    """

    model: Annotated[Model, PlainValidator(_model)] = LAMINAR_FLOW
    gap: Positive | None = None
    initial: Mapping[str, Number] = field(default_factory=dict)
    fixed: Mapping[str, Number] = field(default_factory=dict)
    bounds: Mapping[str, tuple[Number, Number]] = field(default_factory=dict)
    anti_degeneracy: AntiDegeneracy = field(default_factory=AntiDegeneracy)
    multi_start: MultiStart = field(default_factory=MultiStart)
    tolerance: Positive = 0.01
    max_nfev: Count = 1000
    shear: ShearForm = "documented"
    precision: Precision = "double"
    threads: Count | None = None
    memory: Size | None = None

    def __post_init__(self) -> None:
        checked_fields(self)
        known = [*self.model.parameters, "contrast", "offset"]
        for kind in ("initial", "fixed", "bounds"):
            given: Mapping[str, Any] = getattr(self, kind)
            named = {ALIASES.get(name, name): value for name, value in given.items()}
            if len(named) < len(given):
                raise InputError(f"{kind}: a parameter is given by two names: {', '.join(given)}")
            for name in named:
                if kind != "bounds" and name in ("contrast", "offset"):
                    raise InputError(f"{kind}: {name} is not searched; narrow its bounds instead")
                if name not in known:
                    near = did_you_mean(suggestion(name, known)) or f"; it has {', '.join(known)}"
                    raise InputError(
                        f"{kind}: the model {self.model.name} has no parameter '{name}'{near}"
                    )
            object.__setattr__(self, kind, named)
        for name, (lower, upper) in self.bounds.items():
            if max(abs(lower), abs(upper)) > LARGEST_BOUND:
                raise InputError(
                    f"bounds of {name}: {lower:g} to {upper:g} reach beyond {LARGEST_BOUND:g}"
                )
            if not lower < upper:
                raise InputError(f"bounds of {name}: {lower:g} is not below {upper:g}")
        if self.model.has_flow and self.gap is None:
            raise InputError(
                f"gap: the model {self.model.name} needs a positive gap in Å (1 mm = 1e7 Å)"
            )

    def limits(self, name: str) -> tuple[float, float]:
        """Bounds of a parameter: those given, or the defaults."""
        return self.bounds.get(name, (PARAMETERS[name].lower, PARAMETERS[name].upper))
