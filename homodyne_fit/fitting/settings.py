"""Everything that decides a fit besides the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike
from pydantic import PlainValidator

from homodyne_fit.errors import InputError, Problem, did_you_mean, suggestion
from homodyne_fit.fitting.default_bounds import Limits, bounds_in_force
from homodyne_fit.fitting.options import (
    SearchOptions,
    ShearForm,
    gap_problems,
    left_to_data,
    loss_problems,
    parameter_problems,
    weighting_problems,
)
from homodyne_fit.model.parameters import ALIASES, SCALING
from homodyne_fit.model.rates import LAMINAR_FLOW, Model, model_named
from homodyne_fit.validation import Number, Positive, checked_fields

__all__ = ["SHEAR_FORMS", "FitSettings"]

# Shapes of the shear term: power of the sinc, and its argument over q h cos(φ0 − φ) ΔΓ.
# `homodyne` reproduces homodyne <= 2.23 and xpcsjax 0.1.8, whose shear rates are not those of
# the formula they document.
SHEAR_FORMS: dict[ShearForm, tuple[int, float]] = {
    "documented": (2, 0.5),
    "homodyne": (4, 0.5 / np.pi),
}


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
        (lower, upper) by parameter name, in place of the defaults, see `bounds_for`.
    shear : str
        'documented' for sinc²(½ q h cos·ΔΓ), 'homodyne' for the form homodyne computes.
    search : SearchOptions
        Accuracy, effort, resources, the global search and the layers against degeneracy. In the
        mode `sequential` the fit of each angle may take `max_nfev` passes.

    Raises
    ------
    InputError
        If a value is of a wrong type, or some do not go together; the place of a problem begins
        with the name of the field.
    """

    model: Annotated[Model, PlainValidator(_model)] = LAMINAR_FLOW
    gap: Positive | None = None
    initial: Mapping[str, Number] = field(default_factory=dict)
    fixed: Mapping[str, Number] = field(default_factory=dict)
    bounds: Mapping[str, tuple[Number, Number]] = field(default_factory=dict)
    shear: ShearForm = "documented"
    search: SearchOptions = field(default_factory=SearchOptions)

    def __post_init__(self) -> None:
        checked_fields(self)
        problems: list[Problem] = []
        for kind in ("initial", "fixed", "bounds"):
            values: Mapping[str, Any] = getattr(self, kind)
            known = {ALIASES.get(name, name): value for name, value in values.items()}
            if len(known) < len(values):
                text = f"a parameter is given by two names: {', '.join(values)}"
                problems.append(Problem(kind, text))
            problems += [
                Problem(kind, self._no_such_parameter(name))
                for name in known
                if name not in (*self.model.parameters, *SCALING)
            ]
            object.__setattr__(self, kind, known)
        if not problems:
            problems += parameter_problems(self.initial, self.fixed, self.bounds)
            has_flow = self.model.has_flow
            problems += gap_problems(self.model.name, has_flow=has_flow, gap=self.gap)
            problems += weighting_problems(self.search)
            problems += loss_problems(self.search)
        if problems:
            raise InputError(problems)

    @property
    def left_to_data(self) -> frozenset[str]:
        """Exponents and constant parts of which the data decide whether they are needed."""
        parts, mode = self.search.constant_parts, self.search.anti_degeneracy.per_angle_mode
        said = {*self.initial, *self.fixed, *self.bounds}
        return left_to_data(parts, mode, self.model.parameters, said)

    def _no_such_parameter(self, name: str) -> str:
        known = [*self.model.parameters, *SCALING]
        near = did_you_mean(suggestion(name, known)) or f"; it has {', '.join(known)}"
        return f"the model {self.model.name} has no parameter '{name}'{near}"

    def bounds_for(self, q: ArrayLike, dt: float, n_frames: int) -> dict[str, Limits]:
        """Bounds of all parameters, contrast and offset for a measurement.

        Those given, or what such a measurement could resolve:
        `homodyne_fit.fitting.default_bounds`.

        Parameters
        ----------
        q : float or (K,) array
            Å⁻¹.
        dt : float
            Seconds.
        """
        return bounds_in_force(
            (*self.model.parameters, *SCALING),
            q=q,
            dt=dt,
            n_frames=n_frames,
            gap=self.gap,
            given=self.bounds,
            initial=self.initial,
            fixed=self.fixed,
        )
