"""Settings of the layers: the section ``anti_degeneracy`` of a configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from homodyne_fit.sections import Number, Positive, Section, Whole

__all__ = [
    "AntiDegeneracy",
    "Constant",
    "GradientMonitoring",
    "Hierarchical",
    "Regularization",
    "ShearWeighting",
]

Values = Annotated[
    list[Number],
    BeforeValidator(lambda given: given if isinstance(given, list) else [given]),
    Field(min_length=1),
]


class Constant(Section):
    """What the mode ``constant`` holds: one value, or one for each angle.

    The quantile estimates of the data where None.
    """

    contrast: Values | None = None
    offset: Values | None = None


class Hierarchical(Section):
    """Layer 2: the physics first, contrast and offset held."""

    enable: bool = True


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

    enable: bool | None = None
    mode: Literal["evidence", "cv", "l2"] = "evidence"
    strength: Annotated[Positive | None, Field(alias="lambda")] = None
    target_cv: Positive = 0.10
    target_contribution: Positive = 0.10

    @field_validator("mode", mode="before")
    @classmethod
    def _other_names(cls, mode: Any) -> Any:
        return {"auto": "evidence", "relative": "cv", "absolute": "l2"}.get(mode, mode)

    @property
    def weight(self) -> float:
        """λ."""
        return self.strength or self.target_contribution / self.target_cv**2


class GradientMonitoring(Section):
    """Layer 4: watches for a collapse of the gradient; see `GradientMonitor`."""

    enable: bool = True
    ratio_threshold: Positive = 0.01
    consecutive_triggers: Annotated[Whole, Field(gt=0)] = 5
    response: Literal["restart", "warn", "abort"] = "restart"
    max_restarts: Annotated[Whole, Field(ge=0)] = 3
    seed: Annotated[Whole, Field(ge=0)] = 0

    @field_validator("response", mode="before")
    @classmethod
    def _other_names(cls, response: Any) -> Any:
        return "restart" if response in ("hierarchical", "reset") else response


class ShearWeighting(Section):
    """Layer 5: weights of the angles by their direction to the flow; see the layer.

    Off unless asked for: where the noise is the same at all angles, equal weights give the
    smallest errors.
    """

    enable: bool = False
    min_weight: Annotated[Positive, Field(le=1)] = 0.3
    alpha: Positive = 1.0


class AntiDegeneracy(Section):
    """How contrast and offset may differ between the angles, and the other layers."""

    per_angle_mode: Literal[
        "auto", "individual", "averaged", "constant", "fourier", "hierarchical", "sequential"
    ] = "auto"
    fourier_order: Annotated[Whole, Field(gt=0)] = 2
    constant: Constant = Constant()
    hierarchical: Hierarchical = Hierarchical()
    regularization: Regularization = Regularization()
    gradient_monitoring: GradientMonitoring = GradientMonitoring()
    shear_weighting: ShearWeighting = ShearWeighting()

    @property
    def names_mode(self) -> bool:
        """Whether the mode was given rather than left at its default."""
        return "per_angle_mode" in self.model_fields_set
