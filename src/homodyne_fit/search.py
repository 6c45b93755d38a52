"""Where to start: rates read off the data, and a multi-start on a small sample of it.

The sinc² has side lobes, so the cost has local minima in the shear rate and in phi0, and a rate
off by an order of magnitude leaves a flat landscape. Contrast and offset need no start, being
eliminated. The remaining unknowns that matter are three: how fast the transport decays, how
fast the flow does, and where the flow points. A grid over these, on a sample of a few tiles that
spans all lags, costs less than one pass over a large measurement.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.coordinates import SearchSpace
from homodyne_fit.dataset import TwoTimeData
from homodyne_fit.errors import InputError
from homodyne_fit.model import Model
from nlsq_stratified import NormalEquations, TrustRegionResult, solve

__all__ = ["Start", "best_start", "start_grid"]

# Grid points for the transport rate, the shear rate and the flow direction.
GRID = (10, 12, 3)
# Degrees between flow directions, where the limits of phi0 are wide.
DIRECTION_STEP = 15.0
# Candidates refined after the grid, and evaluations each may take.
REFINED, REFINEMENT_NFEV = 8, 30
# Accuracy of a refined candidate, in standard errors of the sample.
REFINEMENT_TOLERANCE = 0.3


@dataclass(frozen=True, eq=False)
class Start:
    """Result of the search.

    Attributes
    ----------
    coordinates : (m,) array
        The best refined candidate.
    n_refined, n_reached : int
        Candidates refined, and how many of these reached the best basin.
    """

    coordinates: NDArray[np.float64]
    n_refined: int
    n_reached: int


def start_grid(
    model: Model,
    start: NDArray[np.float64],
    space: SearchSpace,
    data: TwoTimeData,
    gap: float,
) -> NDArray[np.float64]:
    """Candidates (n, p): `start` with each rate swept over what the data could resolve.

    A transport decay is visible when ``q² J t`` is about 1 for some time t between one frame
    and the whole measurement; a shear decay when ``½ q h γ̇ t`` is. The prefactors that give
    such rates at mid-measurement, given the exponents of `start`, are spaced evenly on a
    logarithmic scale. Parameters that are not free keep their value.

    Parameters
    ----------
    start : (p,) array
        In the order of ``model.parameters``.
    space : SearchSpace
        For the limits, and for what is fixed.
    data : TwoTimeData
        For its q, frame time and duration.
    gap : float
        Å.
    """
    names, lower, upper = model.parameters, space.lower, space.upper
    free = np.isnan(space.fixed)
    q, dt, duration = float(np.median(data.q)), data.dt, float(data.times[-1])
    middle = duration / 2

    def sweep(name: str, slowest: float, fastest: float, count: int) -> NDArray[np.float64]:
        index = names.index(name)
        if not free[index]:
            return start[index : index + 1]
        exponent = start[index + 1]
        values = np.geomspace(slowest, fastest, count) / middle**exponent
        return np.unique(np.clip(values, lower[index], upper[index]))

    axes = {0: sweep(names[0], 0.1 / (q**2 * duration), 3.0 / (q**2 * dt), GRID[0])}
    if model.has_flow:
        b = len(model.transport_parameters)
        phase = 0.5 * q * gap
        axes[b] = sweep(names[b], 0.3 / (phase * duration), 3.0 / (phase * dt), GRID[1])
        last = len(names) - 1
        if free[last]:
            # The model does not change when the flow turns by 180°.
            span = min(upper[last] - lower[last], 180.0)
            count = max(GRID[2], round(span / DIRECTION_STEP))
            middle_phi = (lower[last] + upper[last]) / 2
            axes[last] = middle_phi + span * ((np.arange(count) + 0.5) / count - 0.5)
    candidates = []
    for values in itertools.product(*axes.values()):
        candidate = start.copy()
        candidate[list(axes)] = values
        candidates.append(candidate)
    return np.array(candidates)


def best_start(
    evaluate: Callable[[NDArray[np.float64]], NormalEquations],
    candidates: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> Start:
    """Evaluate all candidates, refine the first and the most promising, return the best.

    Parameters
    ----------
    evaluate : callable
        On the sample.
    candidates : (n, m) array
        The first one is what the user asked for, and is always refined.
    lower, upper : (m,) array
    """
    costs = np.array([_cost(evaluate(candidate)) for candidate in candidates])
    # The best of each flow direction (the last coordinate) come before second bests.
    ranked = [i for i in np.argsort(costs, kind="stable") if i != 0]
    directions = candidates[ranked, -1]
    firsts = sorted(np.unique(directions, return_index=True)[1])
    rest = sorted(set(range(len(ranked))) - set(firsts))
    promising = [ranked[i] for i in [*firsts, *rest]][: REFINED - 1]
    chosen = [i for i in [0, *promising] if np.isfinite(costs[i])]
    if not chosen:
        raise InputError("the model is not finite at any start within the bounds")
    refined = [
        solve(
            evaluate,
            candidates[i],
            lower,
            upper,
            tolerance=REFINEMENT_TOLERANCE,
            max_nfev=REFINEMENT_NFEV,
        )
        for i in chosen
    ]
    best = min(refined, key=lambda fit: fit.state.cost)
    reached = sum(bool(_same_basin(fit, best)) for fit in refined)
    return Start(best.x, len(refined), reached)


def _cost(state: NormalEquations) -> float:
    return state.cost if state.finite else np.inf


def _same_basin(fit: TrustRegionResult, best: TrustRegionResult) -> bool:
    """Within a likelihood ratio that a few standard errors of every parameter would explain."""
    variance = 2 * best.state.cost / best.state.n_points
    return fit.state.cost - best.state.cost <= 2.0 * len(best.x) * variance
