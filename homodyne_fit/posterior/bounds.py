"""Draws in bounded coordinates, the parameters that they stand for, and whether bounds are kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.parameters import PARAMETERS
from homodyne_fit.model.rates import RATE_FLOOR
from homodyne_fit.model.scaling import ScalingMap
from homodyne_fit.posterior.target import Target

__all__ = ["Bounds", "named_values", "parameters_of"]

Floats = NDArray[np.float64]

# Relative rounding of a bound.
SLACK = 1e-9


@dataclass(frozen=True, eq=False)
class Bounds:
    """Tells which draws are within the bounds of parameters, contrasts and offsets."""

    target: Target
    scaling: ScalingMap

    def __call__(self, xi: Floats, scaling: Floats) -> NDArray[np.bool_]:
        """Of draws (n, d) and (n, 2K): (n,)."""
        space = self.target.space
        x = parameters_of(space, self.target.bounded_values(xi))
        free = np.isnan(space.fixed)
        slack = SLACK * np.maximum(1.0, np.abs(self.scaling.upper))
        return np.asarray(
            np.all((space.lower <= x) & (x <= space.upper) | ~free, axis=1)
            & np.all(scaling >= self.scaling.lower - slack, axis=1)
            & np.all(scaling <= self.scaling.upper + slack, axis=1)
        )


def parameters_of(space: SearchSpace, v: Floats) -> Floats:
    """Parameters of the model (n, p) of y and spreads (n, d)."""
    m = np.count_nonzero(space.searched)
    return np.array([space.to_parameters(each[:m]) for each in v])


def named_values(
    target: Target, v: Floats, scaling: Floats
) -> tuple[dict[str, Floats], dict[str, str]]:
    """Values by name, and their units.

    Parameters
    ----------
    v : (chains, draws, d) array
        Coordinates y, then spreads.
    scaling : (chains, draws, 2K) array
    """
    shape, space, form = v.shape[:2], target.space, target.density.form
    flat = v.reshape(-1, v.shape[2])
    x = parameters_of(space, flat)
    values, units = {}, {}
    for i in np.flatnonzero(np.isnan(space.fixed)):
        name = space.model.parameters[i]
        values[name], units[name] = x[:, i].reshape(shape), PARAMETERS[name].unit
    for law, name, unit in zip(space.power_laws, ("J", "gamma_dot"), ("Å²/s", "1/s"), strict=False):
        p0, p1, p2 = x[:, law : law + 3].T
        rate = np.maximum(p0 * space.tau**p1 + p2, RATE_FLOOR)
        values[f"{name}_mid"], units[f"{name}_mid"] = rate.reshape(shape), unit
    if form.learned and flat.shape[1] > form.n_physics:
        spreads = flat[:, -2:]
        for name, column in zip(("contrast_spread", "offset_spread"), spreads.T, strict=True):
            values[name], units[name] = column.reshape(shape), ""
    contrast, offset = np.split(scaling, 2, axis=2)
    if target.objective.scaling.matrix.shape[1]:
        values |= {"contrast": contrast, "offset": offset}
        units |= {"contrast": "", "offset": ""}
    return values, units
