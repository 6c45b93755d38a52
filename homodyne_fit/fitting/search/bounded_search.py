"""Least squares in the coordinates of a search space, with the limits of its parameters kept.

The limits of a prefactor or an offset are not a box in (r, s, p1). So the search runs without
them first. Where its answer lies beyond one, the minimum is on the limits of that power law: each
is tried in turn on a sample of the data with the parameter held there, and the best one is
followed up on all of it. A search that begins with a parameter held, since an earlier one ended so,
keeps it there as long as the cost falls beyond the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.model.coordinates import SearchSpace
from nlsq_stratified import Equations, NormalEquations, TrustRegionResult, solve

__all__ = ["BoundedSolution", "EvaluateIn", "solve_within_limits"]

# Search space to the function that evaluates the cost in its coordinates.
EvaluateIn = Callable[[SearchSpace], Callable[[NDArray[np.float64]], NormalEquations]]

# Limits taken up one after the other, after which none that holds is exchanged for another.
MOST_EXCHANGES = 6

# Standard errors that a parameter must move away from its limit for the search to be repeated.
NOTICED = 0.1

# Starts on limits that are tried, of those that look best, and how thoroughly.
STARTS_TRIED, TRIAL_TOLERANCE, TRIAL_NFEV = 2, 0.3, 30


@dataclass(frozen=True, eq=False)
class BoundedSolution:
    """A minimum within the limits, and the coordinates in which it was found.

    Cost at the start and evaluations are those of the whole search.
    """

    space: SearchSpace
    result: TrustRegionResult


def solve_within_limits(
    evaluate_in: EvaluateIn,
    sample_in: EvaluateIn,
    space: SearchSpace,
    y: NDArray[np.float64],
    tolerance: float,
    left: Callable[[], int],
    left_of_sample: Callable[[], int],
    watch: Callable[[SearchSpace, NDArray[np.float64]], None] | None = None,
) -> BoundedSolution:
    """Minimise from y, holding parameters at their limits where the minimum is beyond them.

    Parameters
    ----------
    evaluate_in, sample_in : callable
        For all of the data, and for a sample on which limits are tried.
    space : SearchSpace
        May hold parameters already.
    y : (m,) array
        Its searched coordinates.
    tolerance : float
        As for `nlsq_stratified.solve`.
    left, left_of_sample : callable
        How many evaluations of all of the data, and of the sample, are still allowed.
    watch : callable, optional
        Called with the space and its coordinates after every step; ends the search by raising
        StopIteration.
    """

    def search(space: SearchSpace, y: NDArray[np.float64]) -> TrustRegionResult:
        def callback(nit: int, y: NDArray[np.float64], state: Equations, nfev: int) -> None:
            if watch is not None:
                watch(space, y)

        return solve(
            evaluate_in(space),
            y,
            *space.limits,
            tolerance=tolerance,
            max_nfev=left(),
            sizes=space.sizes(y),
            callback=callback,
            trust_last_step=True,
        )

    def search_all(space: SearchSpace, y: NDArray[np.float64]) -> BoundedSolution:
        result = first = search(space, y)
        nfev = first.nfev
        exchanges = 0
        while (law := space.outside(space.to_parameters(result.x))) is not None:
            exchange = exchanges < MOST_EXCHANGES
            space, y = _best_limit(sample_in, space, law, result.x, exchange, left_of_sample)
            exchanges += 1
            result = search(space, y)
            nfev += result.nfev
        cost_initial = first.cost_initial
        return BoundedSolution(space, replace(result, nfev=nfev, cost_initial=cost_initial))

    found = search_all(space, y)
    if not space.held or _held_rightly(evaluate_in, found.space, found.result.evaluated):
        return found
    again = search_all(space.base, space.base.released(found.result.x, found.space))
    nfev = found.result.nfev + again.result.nfev
    cost_initial = found.result.cost_initial
    return replace(again, result=replace(again.result, nfev=nfev, cost_initial=cost_initial))


def _held_rightly(evaluate_in: EvaluateIn, space: SearchSpace, y: NDArray[np.float64]) -> bool:
    """Whether the cost falls beyond every limit at which a parameter is held, or hardly inwards.

    That is the sign of its Lagrange multiplier. The parameters of a power law can stand in for one
    another, so that the little gradient that is left along the others would hide it: the gradient
    is taken where they are settled, going by the quadratic model.
    """
    released = replace(space, held={})
    state = evaluate_in(released)(space.complete(y)[released.searched])
    factor, target = state.linear_problem()
    norms = np.linalg.norm(factor, axis=0)
    factor = factor / np.where(norms > 0, norms, 1.0)
    held = np.isin(np.flatnonzero(released.searched), list(space.held))
    settled = np.linalg.lstsq(factor[:, ~held], target, rcond=None)[0]
    residual = factor[:, ~held] @ settled - target
    released_residual = factor @ np.linalg.lstsq(factor, target, rcond=None)[0] - target
    variance = 2 * max(state.cost, state.rounding) / max(1, state.n_points)
    if residual @ residual - released_residual @ released_residual <= NOTICED**2 * variance:
        return True
    slopes = factor[:, held].T @ residual
    at_lower = [space.held[i] == space.lower[i] for i in sorted(space.held)]
    return bool(np.all(np.where(at_lower, slopes >= 0, slopes <= 0)))


def _best_limit(
    sample_in: EvaluateIn,
    space: SearchSpace,
    law: int,
    y: NDArray[np.float64],
    exchange: bool,
    left: Callable[[], int],
) -> tuple[SearchSpace, NDArray[np.float64]]:
    """The limits of a power law on which the sample is fitted best, and the fit."""
    x = space.to_parameters(y)
    of_law = [i for i in (law, law + 2) if i not in space.held]
    if len(of_law) == 2:
        choices = [
            {i: float(value)}
            for i in of_law
            for value in (space.lower[i], space.upper[i])
            if np.isfinite(value)
        ]
    else:
        # One is held already, and now the other is beyond its limit: both, or that one instead.
        (i,) = of_law
        beyond = {i: float(np.clip(x[i], space.lower[i], space.upper[i]))}
        (other,) = {law, law + 2} - {i}
        choices = [{**beyond, other: space.held[other]}, *([beyond] * exchange)]
    limits = [space.on_limit(law, choice, y) for choice in choices]
    starts = [(limited, start) for limited, several in limits for start in several]
    starts.sort(key=lambda start: sample_in(start[0])(start[1]).cost)
    fits = [
        (
            limited,
            solve(
                sample_in(limited),
                start,
                *limited.limits,
                tolerance=TRIAL_TOLERANCE,
                max_nfev=min(TRIAL_NFEV, left()),
                sizes=limited.sizes(start),
            ),
        )
        for limited, start in starts[:STARTS_TRIED]
    ]
    best, fit = min(fits, key=lambda candidate: candidate[1].state.cost)
    return best, fit.x
