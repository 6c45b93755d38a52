"""Everything that decides a fit besides the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import PlainValidator

from homodyne_fit.errors import InputError, suggestion
from homodyne_fit.layers.settings import AntiDegeneracy
from homodyne_fit.model import LAMINAR_FLOW, Model, model_named
from homodyne_fit.moments import Precision
from homodyne_fit.multi_start import MultiStart
from homodyne_fit.parameters import ALIASES, PARAMETERS
from homodyne_fit.validation import checked_fields
from homodyne_fit.value_types import Count, Number, Positive, Size

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


def _model(model: Any) -> Model:
    return model if isinstance(model, Model) else model_named(model)


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
                    raise InputError(
                        f"{kind}: the model {self.model.name} has no parameter "
                        f"'{name}'{suggestion(name, known) or f'; it has {", ".join(known)}'}"
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
