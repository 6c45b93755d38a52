"""Everything that decides a fit besides the data."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from homodyne_fit.errors import InputError, suggestion
from homodyne_fit.layers.settings import AntiDegeneracy
from homodyne_fit.model import LAMINAR_FLOW, Model, model_named
from homodyne_fit.moments import Precision
from homodyne_fit.multi_start import MultiStart
from homodyne_fit.parameters import ALIASES, PARAMETERS

__all__ = ["SHEAR_FORMS", "FitSettings", "ShearForm"]

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


@dataclass(frozen=True)
class FitSettings:
    """Everything that decides a fit besides the data.

    Attributes
    ----------
    model : Model
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

    model: Model = LAMINAR_FLOW
    gap: float | None = None
    initial: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    anti_degeneracy: AntiDegeneracy = field(default_factory=AntiDegeneracy)
    multi_start: MultiStart = field(default_factory=MultiStart)
    tolerance: float = 0.01
    max_nfev: int = 1000
    shear: ShearForm = "documented"
    precision: Precision = "double"
    threads: int | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, Model):
            object.__setattr__(self, "model", model_named(self.model))
        known = [*self.model.parameters, "contrast", "offset"]
        for kind in ("initial", "fixed", "bounds"):
            given: Mapping[str, Any] = getattr(self, kind)
            named = {ALIASES.get(name, name): value for name, value in given.items()}
            for name in named:
                if kind != "bounds" and name in ("contrast", "offset"):
                    raise InputError(f"{kind}: {name} is not searched; narrow its bounds instead")
                if name not in known:
                    raise InputError(
                        f"{kind}: the model {self.model.name} has no parameter "
                        f"'{name}'{suggestion(name, known) or f'; it has {", ".join(known)}'}"
                    )
            object.__setattr__(self, kind, named)
        for name, value in [*self.initial.items(), *self.fixed.items()]:
            if not np.isfinite(value):
                raise InputError(f"the value of {name} must be finite, got {value}")
        for name, (lower, upper) in self.bounds.items():
            if not (np.isfinite(lower) and np.isfinite(upper)):
                raise InputError(f"bounds of {name} must be finite, got {lower:g} to {upper:g}")
            if max(abs(lower), abs(upper)) > LARGEST_BOUND:
                raise InputError(
                    f"bounds of {name}: {lower:g} to {upper:g} reach beyond {LARGEST_BOUND:g}"
                )
            if not lower < upper:
                raise InputError(f"bounds of {name}: {lower:g} is not below {upper:g}")
        if self.model.has_flow and not (self.gap is not None and self.gap > 0):
            raise InputError(
                f"gap: the model {self.model.name} needs a positive gap in Å (1 mm = 1e7 Å)"
            )
        if self.precision not in typing.get_args(Precision):
            raise InputError(f"precision must be double or single, not '{self.precision}'")
        for name in ("tolerance", "max_nfev", "threads", "memory"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} must be positive, got {value}")
        if self.shear not in SHEAR_FORMS:
            raise InputError(f"shear must be one of {', '.join(SHEAR_FORMS)}, not '{self.shear}'")

    def limits(self, name: str) -> tuple[float, float]:
        """Bounds of a parameter: those given, or the defaults."""
        return self.bounds.get(name, (PARAMETERS[name].lower, PARAMETERS[name].upper))
