"""Options of a fit that a configuration and calls from Python share, and the rules they keep.

Nothing here imports jax: a configuration is checked without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from homodyne_fit.errors import Problem
from homodyne_fit.fitting.default_bounds import LARGEST_BOUND, Limits, bounds_known
from homodyne_fit.kernel.precision import Precision
from homodyne_fit.model.parameters import DIFFUSION, SCALING, SHEAR
from homodyne_fit.model.scaling import fourier_problems
from homodyne_fit.validation import (
    Count,
    Fraction,
    NotNegative,
    Positive,
    Section,
    Size,
    Values,
)

__all__ = [
    "LAYERS",
    "LEAST_SCALE",
    "AntiDegeneracy",
    "Constant",
    "ConstantParts",
    "GradientMonitoringSettings",
    "HierarchicalSettings",
    "Loss",
    "MultiStart",
    "PointWeighting",
    "Precision",
    "RegularizationSettings",
    "ScalingMode",
    "SearchOptions",
    "ShearForm",
    "ShearWeightingSettings",
    "UncertaintyModel",
    "gap_problems",
    "left_to_data",
    "loss_problems",
    "parameter_problems",
    "weighting_problems",
    "zero_parts",
]

# Form of the shear term; see `homodyne_fit.fitting.settings.SHEAR_FORMS`.
ShearForm = Literal["documented", "homodyne"]

ScalingMode = Literal[
    "auto", "individual", "averaged", "constant", "fourier", "hierarchical", "sequential"
]

# What the error bars assume: the statistics of speckles and photons, or independent points.
UncertaintyModel = Literal["speckle", "white"]

# How the points are weighted: all alike, by the noise of speckles that they share, or as it pays.
PointWeighting = Literal["none", "speckle", "auto"]

# Loss functions, with the names of SciPy; linear is least squares.
Loss = Literal["linear", "soft_l1", "huber", "cauchy", "arctan"]

# Smallest scale of a loss, in standard deviations of the noise: below, hardly a point keeps its
# weight.
LEAST_SCALE = 0.5

# Whether the rates have constant parts, and whether they may be constant.
ConstantParts = Literal["auto", "free", "zero"]

# Names of other programs for `RegularizationSettings.mode`.
OTHER_PENALTIES = {"auto": "evidence", "relative": "cv", "absolute": "l2"}

# Names of other programs for the response 'restart' of `GradientMonitoringSettings`.
OTHER_RESPONSES = ("hierarchical", "reset")

# Sections of `AntiDegeneracy` that its `enable` switches.
LAYERS = ("hierarchical", "regularization", "gradient_monitoring", "shear_weighting")


class Constant(Section):
    """What the mode ``constant`` holds: one value, or one for each angle.

    What c2 at short and long lags has where None.
    """

    contrast: Values | None = Field(
        default=None,
        description="Contrast to hold in the mode `constant`: one, or one for each angle.",
    )
    offset: Values | None = Field(
        default=None,
        description="Offset to hold in the mode `constant`: one, or one for each angle.",
    )


class HierarchicalSettings(Section):
    """Layer 2: the physics first, contrast and offset held."""

    enable: bool = Field(default=True, description="Whether the physics is searched first.")


class RegularizationSettings(Section):
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


class GradientMonitoringSettings(Section):
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


class ShearWeightingSettings(Section):
    """Layer 5: weights of the angles by their direction to the flow; see the layer."""

    enable: bool | None = Field(
        default=None,
        description="null leaves it to the mode: `auto` weights angles in its search on samples, "
        "and counts all alike on all points; true keeps the weights to the end.",
    )
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
    hierarchical: HierarchicalSettings = HierarchicalSettings()
    regularization: RegularizationSettings = RegularizationSettings()
    gradient_monitoring: GradientMonitoringSettings = GradientMonitoringSettings()
    shear_weighting: ShearWeightingSettings = ShearWeightingSettings()

    def problems(
        self, n_angles: int, bounds: Mapping[str, tuple[float, float]]
    ) -> Iterator[Problem]:
        """What the number of angles, or the bounds of contrast and offset, do not allow.

        Parameters
        ----------
        n_angles : int
            Angles of the data.
        bounds : mapping
            (lower, upper) of contrast and of offset.
        """
        if self.per_angle_mode == "fourier":
            for problem in fourier_problems(self.fourier_order, n_angles):
                yield Problem(f"anti_degeneracy.{problem.where}", problem.what)
        if self.per_angle_mode != "constant":
            return
        for name, (lower, upper) in bounds.items():
            values = getattr(self.constant, name)
            if values is None:
                continue
            where = f"anti_degeneracy.constant.{name}"
            if len(values) not in (1, n_angles):
                yield Problem(
                    where,
                    f"{len(values)} values for {n_angles} angles; give one value, or one for each "
                    "angle",
                )
            if any(not lower <= value <= upper for value in values):
                yield Problem(
                    where, f"{values} is not within the bounds of {name}, {lower:g} to {upper:g}"
                )

    @property
    def names_mode(self) -> bool:
        """Whether the mode was given rather than left at its default."""
        return "per_angle_mode" in self.model_fields_set

    @property
    def use_of_shear_weights(self) -> Literal["none", "search", "fit"]:
        """Where layer 5 weights the angles: in the search on samples, or in the whole fit."""
        if self.shear_weighting.enable is None:
            return "search" if self.per_angle_mode == "auto" else "none"
        return "fit" if self.shear_weighting.enable else "none"

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


class SearchOptions(Section):
    """How a fit is made: accuracy, effort, resources, the global search and the layers."""

    tolerance: Annotated[Positive, Field(alias="standard_error_tolerance")] = Field(
        default=0.01,
        description="The fit ends at this distance from the minimum, in standard errors.",
    )
    max_nfev: Annotated[Count, Field(alias="max_iterations")] = Field(
        default=2000,
        description="Passes over the points that the fit may take, the global search included; an "
        "evaluation of a sample counts by its share of the points.",
    )
    precision: Precision = Field(
        default="double",
        description="Of what is computed for every point; sums are double. single is faster, on "
        "most GPUs by far, and moves the answer by some hundredths of a standard error at most.",
    )
    uncertainty: UncertaintyModel = Field(
        default="speckle",
        description="What the error bars assume: speckle, the noise of speckles and photons, which "
        "neighbouring points of c2 share; or white, that the points are independent.",
    )
    weighting: PointWeighting = Field(
        default="none",
        description="How the points are weighted: none, all alike, which is least squares; or "
        "speckle, by the noise of speckles that they share, from the solution of least squares on: "
        "smaller errors from some 0.5 photons in a pixel and frame on; or auto, speckle where that "
        "makes the errors 10 % smaller and the model stands the test.",
    )
    loss: Loss = Field(
        default="linear",
        description="linear: least squares. The others take weight off points that are further "
        "from the fit than f_scale standard deviations of the noise; without f_scale they differ "
        "from least squares only at residuals of c2 near 1, so least squares is fitted.",
    )
    f_scale: Positive | None = Field(
        default=None,
        description="Where a robust loss begins to act, in standard deviations of the noise found, "
        "at least 0.5. 1.345 is usual for huber, 2.385 for cauchy.",
    )
    constant_parts: ConstantParts = Field(
        default="auto",
        description="Constant parts of the rates, D_offset and gamma_dot_t_offset: auto, as the "
        "data need them, exponents likewise, unless start, bounds or value are given; free, "
        "searched; zero, 0.",
    )
    threads: Count | None = Field(
        default=None, description="Threads that sum over the points; null: one for each processor."
    )
    memory: Size | None = Field(
        default=None,
        description="Memory that the fit may use, as 2GB, 512MiB or bytes; null: three quarters of "
        "what is available. Matrices that need more than a quarter of it stay on the disk.",
    )
    scratch: str | None = Field(
        default=None,
        description="Folder for a file into which compressed matrices are unpacked if they stay on "
        "the disk; null: the one for temporary files.",
    )
    anti_degeneracy: AntiDegeneracy = AntiDegeneracy()
    multi_start: MultiStart = MultiStart()

    @property
    def is_robust(self) -> bool:
        """Whether outliers lose weight."""
        return self.loss != "linear" and self.f_scale is not None


def weighting_problems(search: SearchOptions) -> Iterator[Problem]:
    """Whether weights are asked for, but not the noise of which they are made."""
    if search.weighting == "speckle" and search.uncertainty == "white":
        yield Problem(
            "search.weighting",
            "weights are made of the noise of speckles; take uncertainty: speckle, or weighting: "
            "none",
        )


def loss_problems(search: SearchOptions) -> Iterator[Problem]:
    """What does not go with a robust loss."""
    if not search.is_robust or search.f_scale is None:
        return
    if search.f_scale < LEAST_SCALE:
        yield Problem(
            "search.f_scale",
            f"is in standard deviations of the noise, and below {LEAST_SCALE:g} hardly a point "
            f"keeps its weight (got {search.f_scale:g}); 1.345 is usual for huber",
        )
    if search.weighting != "none":
        yield Problem(
            "search.loss",
            "points are weighted either by a robust loss or by the noise of speckles; take loss: "
            "linear, or weighting: none",
        )


def parameter_problems(
    initial: Mapping[str, float],
    fixed: Mapping[str, float],
    bounds: Mapping[str, Limits],
) -> Iterator[Problem]:
    """What is wrong with starts, held values and bounds; the place is ``bounds.D0``, for example.

    Parameters
    ----------
    initial, fixed, bounds : mapping
        As in `homodyne_fit.fitting.settings.FitSettings`.
    """
    for name in fixed:
        if name in SCALING:
            yield Problem(
                f"fixed.{name}",
                "contrast and offset cannot be held fixed; narrow the bounds, or take the "
                "per_angle_mode 'constant'",
            )
    wrong = set()
    for name, (lower, upper) in bounds.items():
        if max(abs(lower), abs(upper)) > LARGEST_BOUND:
            text = f"{lower:g} to {upper:g} reach beyond {LARGEST_BOUND:g}"
        elif not lower < upper:
            text = f"the lower bound, {lower:g}, is not below the upper, {upper:g}"
        else:
            continue
        wrong.add(name)
        yield Problem(f"bounds.{name}", text)
    for name, start in initial.items():
        if name in SCALING:
            yield Problem(
                f"initial.{name}",
                "contrast and offset are computed, not searched; narrow the bounds instead",
            )
        elif name not in fixed and name not in wrong:
            problem = _problem_of_start(name, start, bounds_known(name, bounds))
            if problem is not None:
                yield Problem(f"initial.{name}", problem)


def _problem_of_start(name: str, start: float, limits: Limits | None) -> str | None:
    """Why a search cannot start there; bounds that come from the measurement give way to it."""
    if limits is not None:
        lower, upper = limits
        if lower <= start <= upper:
            return None
        return (
            f"the start of {name}, {start:g}, is outside its bounds, {lower:g} to {upper:g}; "
            "change it, or widen the bounds"
        )
    if name in (DIFFUSION[0], SHEAR[0]) and start <= 0:
        return f"the start of {name}, {start:g}, is not above 0; change it, or give bounds"
    if abs(start) > LARGEST_BOUND:
        return f"the start of {name}, {start:g}, is beyond {LARGEST_BOUND:g}"
    return None


def zero_parts(constant_parts: ConstantParts, names: Iterable[str]) -> dict[str, float]:
    """Constant parts that are held at 0 unless a value is given.

    Parameters
    ----------
    constant_parts : {'auto', 'free', 'zero'}
    names : iterable of str
        Parameters of the model.
    """
    if constant_parts != "zero":
        return {}
    return dict.fromkeys({DIFFUSION[2], SHEAR[2]}.intersection(names), 0.0)


def left_to_data(
    constant_parts: ConstantParts,
    per_angle_mode: ScalingMode,
    names: Iterable[str],
    said: Iterable[str],
) -> frozenset[str]:
    """Exponents and constant parts of which the data decide whether they are needed.

    Parameters
    ----------
    constant_parts : {'auto', 'free', 'zero'}
    per_angle_mode : str
        In the mode ``sequential`` single angles are fitted, whose contrast and offset are then
        held: there the data decide nothing.
    names : iterable of str
        Parameters of the model.
    said : iterable of str
        Those of which a start, bounds or a value are given.
    """
    if constant_parts != "auto" or per_angle_mode == "sequential":
        return frozenset()
    optional = {name for _, *others in (DIFFUSION, SHEAR) for name in others}
    return frozenset(optional.intersection(names).difference(said))


def gap_problems(model_name: str, *, has_flow: bool, gap: float | None) -> Iterator[Problem]:
    """Whether the model needs a gap and has none."""
    if has_flow and gap is None:
        yield Problem("gap", f"no value is given: {model_name} needs the gap, in Å (1 mm = 1e7 Å)")
