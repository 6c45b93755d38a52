r"""Other minima than the one that a search prefers: followed up, compared, reported.

A sample of the data may prefer another basin than all points do, so basins that a sample cannot
rule out go on with the best one. And some minima no data can tell apart: the model depends on the
flow direction by :math:`|\cos(\phi_0 - \phi_k)|` alone, which at angles that are all :math:`a`
or :math:`a + 90°` does not change when :math:`\phi_0` is reflected, to :math:`2a - \phi_0`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.search.samples import Position
from homodyne_fit.model.coordinates import SearchSpace

__all__ = ["distance_between", "mirror_images", "other_minima"]

# Δχ² up to which the data do not decide between two minima.
UNDECIDED = 10.0

# Degrees by which angles may miss a multiple of 90° for a reflection not to matter; and by which
# two directions differ.
RIGHT_ANGLE, SAME_DIRECTION = 1e-6, 0.01


def distance_between(position: Position, other: Position) -> float:
    """Distance (standard errors) of another position in the quadratic model at this one.

    Infinite where it has no coordinates in the search space of this one.
    """
    space = position.space
    parameters = other.parameters
    if not np.all(np.isfinite(parameters)):
        return 0.0 if np.array_equal(parameters, position.parameters) else np.inf
    step = space.to_coordinates(parameters) - position.result.x
    hessian = position.joint.reduced().hessian
    return float(np.sqrt(max(0.0, step @ hessian @ step) / position.variance))


def other_minima(position: Position, others: Iterable[Position]) -> list[dict[str, Any]]:
    """Minima that the data do not tell from this one, for the result."""
    space = position.space
    found = [
        _described(space, image, 0.0, mirror=True)
        for image in mirror_images(space, position.parameters, position.objective.phi)
    ]
    known = [position.parameters, *(np.array(list(m["parameters"].values())) for m in found)]
    for other in sorted(others, key=lambda other: other.equations.cost):
        rise = 2 * (other.equations.cost - position.equations.cost) / position.variance
        image = any(_same_but_for_rounding(other.parameters, one) for one in known)
        if rise <= UNDECIDED and not image:
            found.append(_described(space, other.parameters, max(0.0, rise), mirror=False))
    return found


def mirror_images(
    space: SearchSpace, parameters: NDArray[np.float64], phi: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Parameters (p,) within the limits that give the same matrices by another flow direction."""
    names = space.model.parameters
    if not space.model.has_flow or not np.isnan(space.fixed[index := names.index("phi0")]):
        return []
    phi0 = parameters[index]
    off = (phi - phi[0] + 45.0) % 90.0 - 45.0
    directions = [phi0]
    if np.all(np.abs(off) <= RIGHT_ANGLE):
        directions.append(2 * phi[0] - phi0)
    lower, upper = space.lower[index], space.upper[index]
    images: list[NDArray[np.float64]] = []
    for direction in directions:
        # The model does not change when the flow turns by 180°.
        first = lower + (direction - lower) % 180.0
        for turned in np.arange(first, upper, 180.0):
            if abs(turned - phi0) > SAME_DIRECTION:
                images.append(np.where(np.arange(len(names)) == index, turned, parameters))
    return images


def _same_but_for_rounding(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    return bool(np.allclose(x, y, rtol=1e-3, atol=0.0))


def _described(
    space: SearchSpace, parameters: NDArray[np.float64], rise: float, *, mirror: bool
) -> dict[str, Any]:
    values: Mapping[str, float] = dict(
        zip(space.model.parameters, parameters.tolist(), strict=True)
    )
    return {
        "parameters": {k: v if np.isfinite(v) else None for k, v in values.items()},
        "delta_chi2": float(rise),
        "mirror": mirror,
    }
