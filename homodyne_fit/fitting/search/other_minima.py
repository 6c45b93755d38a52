r"""Other minima than the one reported.

Some cost hardly more, and some no data can tell apart: the model depends on the flow direction by
:math:`|\cos(\phi_0 - \phi_k)|` alone, which at angles that are all :math:`a` or :math:`a + 90°`
does not change when :math:`\phi_0` is reflected, to :math:`2a - \phi_0`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.model.coordinates import SearchSpace

__all__ = ["distance_between", "mirror_images", "other_minima"]

# Δχ² up to which the data do not decide between two minima.
UNDECIDED = 10.0

# Degrees by which angles may miss a multiple of 90° for a reflection not to matter.
RIGHT_ANGLE = 1e-6

# Degrees by which two directions differ.
SAME_DIRECTION = 0.01


def distance_between(solution: Solution, other: Solution) -> float:
    """Distance (standard errors) of another solution in the quadratic model at this one.

    Infinite where it has no coordinates in the search space of this one.
    """
    space = solution.space
    parameters = other.parameters
    if not np.all(np.isfinite(parameters)):
        return 0.0 if np.array_equal(parameters, solution.parameters) else np.inf
    step = space.to_coordinates(parameters) - solution.result.x
    hessian = solution.joint.reduced().hessian
    return float(np.sqrt(max(0.0, step @ hessian @ step) / solution.variance))


def other_minima(solution: Solution, others: Iterable[Solution]) -> list[dict[str, Any]]:
    """Minima that the data do not tell from this one, for the result."""
    space = solution.space
    minima = [
        _described(space, image, 0.0, mirror=True)
        for image in mirror_images(space, solution.parameters, solution.objective.phi)
    ]
    known = [solution.parameters, *(np.array(list(m["parameters"].values())) for m in minima)]
    for other in sorted(others, key=lambda other: other.equations.cost):
        rise = 2 * (other.equations.cost - solution.equations.cost) / solution.variance
        image = any(_same_but_for_rounding(other.parameters, one) for one in known)
        if rise <= UNDECIDED and not image:
            minima.append(_described(space, other.parameters, max(0.0, rise), mirror=False))
    return minima


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
