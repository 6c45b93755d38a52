r"""Other minima than the one reported.

Some cost hardly more, and some no data can tell apart: the model depends on the flow direction by
:math:`|\cos(\phi_0 - \phi_k)|` alone, which at angles that are all :math:`a` or :math:`a + 90°`
does not change when :math:`\phi_0` is reflected, to :math:`2a - \phi_0`.

With D the difference of two models and r the residuals of the first, the costs of the two differ by
:math:`\Delta = \sum_{i<j} D (r + \tfrac12 D)`. Where one of the two is true, that has the mean
:math:`\pm\mu`, :math:`\mu = \tfrac12 \sum D^2`, and the variance :math:`V` of :math:`\sum D r`,
which is the covariance of a score with D as its derivative (`homodyne_fit.noise.speckle`). The
logarithm of the odds of the two is therefore :math:`2\mu\Delta/V`, and half the rise of χ² from
the one to the other. For independent points that is :math:`\Delta/\sigma^2`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.residuals import Residuals
from homodyne_fit.fitting.score_noise import NoiseOfPoints
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.noise.blocks import Blocks
from homodyne_fit.noise.scores import block_model, joint_covariances_of_angles

__all__ = ["distance_between", "mirror_images", "other_minima", "rise_to"]

# Δχ² up to which the data do not decide between two minima.
UNDECIDED = 10.0

# Degrees by which angles may miss a multiple of 90° for a reflection not to matter.
RIGHT_ANGLE = 1e-6

# Degrees by which two directions differ.
SAME_DIRECTION = 0.01

# Blocks of frames, at most.
MOST_BLOCKS = 96


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


def other_minima(
    solution: Solution,
    others: Iterable[Solution],
    noise: NoiseOfPoints,
    residuals: Residuals | None,
    threads: int | None = None,
) -> list[dict[str, Any]]:
    """Minima that the data do not tell from this one, for the result.

    Parameters
    ----------
    solution : Solution
    others : iterable of Solution
    noise : NoiseOfPoints
    residuals : Residuals or None
        At the solution; None where the data agree with the model to rounding.
    threads : int, optional
        One for each processor when None.
    """
    space = solution.space
    minima = [
        _described(space, image, 0.0, mirror=True)
        for image in mirror_images(space, solution.parameters, solution.objective.phi)
    ]
    known = [solution.parameters, *(np.array(list(m["parameters"].values())) for m in minima)]
    for other in sorted(others, key=lambda other: other.equations.cost):
        if any(_same_but_for_rounding(other.parameters, one) for one in known):
            continue
        rise = rise_to(other, solution, noise, residuals, threads)
        if rise <= UNDECIDED:
            minima.append(_described(space, other.parameters, max(0.0, rise), mirror=False))
    return minima


def rise_to(
    other: Solution,
    solution: Solution,
    noise: NoiseOfPoints,
    residuals: Residuals | None,
    threads: int | None = None,
) -> float:
    """Rise of χ² from a solution to another, by the noise of the points."""
    rise = 2 * (other.equations.cost - solution.equations.cost)
    if noise.speckle is None or residuals is None:
        return rise / solution.variance
    blocks = residuals.blocks.joined(MOST_BLOCKS)
    counts = blocks.sums_of(residuals.blocks, residuals.points)
    here, there = (_means(each, residuals.blocks, blocks) for each in (solution, other))
    difference = here - there
    of_powers, _ = joint_covariances_of_angles(
        solution.objective,
        solution.result.x,
        solution.scaling,
        difference[:, None],
        residuals.blocks,
        blocks,
        counts,
        threads,
    )
    weights = solution.joint.weights
    squares = np.einsum("kij,kij->k", counts, difference**2) / 2
    variance = np.einsum("k,ck,ck->", weights**2, noise.speckle.powers, of_powers[:, :, 0, 0])
    # Where the models do not differ, neither do their costs.
    return float(rise * (weights @ squares) / variance) if variance > 0 else 0.0


def _means(solution: Solution, short: Blocks, blocks: Blocks) -> NDArray[np.float64]:
    """c2 of the model over pairs of blocks, each of some short ones, (K, B, B)."""
    objective = solution.objective
    model = block_model(objective, solution.result.x, short, blocks)
    pairs = zip(*solution.scaling.reshape(2, -1), strict=True)
    return np.stack(
        [contrast * model.at(k).decay + offset for k, (contrast, offset) in enumerate(pairs)]
    )


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
