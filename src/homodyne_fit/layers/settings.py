"""Settings of the layers: the section ``anti_degeneracy`` of a configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from homodyne_fit.sections import Section
from homodyne_fit.value_types import Count, Fraction, NotNegative, Positive, Values

__all__ = [
    "AntiDegeneracy",
    "Constant",
    "GradientMonitoring",
    "Hierarchical",
    "Regularization",
    "ScalingMode",
    "ShearWeighting",
]

ScalingMode = Literal[
    "auto", "individual", "averaged", "constant", "fourier", "hierarchical", "sequential"
]

# Names of other programs.
OTHER_PENALTIES = {"auto": "evidence", "relative": "cv", "absolute": "l2"}
OTHER_RESPONSES = ("hierarchical", "reset")  # both are a restart


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


LAYERS = ("hierarchical", "regularization", "gradient_monitoring", "shear_weighting")
