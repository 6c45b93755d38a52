"""A minimum in the coordinates of a search space, with the bounds of its parameters kept.

The bounds of a prefactor or a constant part are not a box in (r, s, p1). The search therefore runs
without them at first. Where it ends beyond one, the minimum has a parameter of that power law at a
bound: each of these is tried on a small sample of the data, and the best one is followed up on all
of it. A search that begins with a parameter held at its bound, because an earlier one ended so,
keeps it there as long as the cost falls beyond the bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.search.solution import SearchPoint
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.coordinates import SearchSpace
from nlsq_stratified import Equations, NormalEquations, TrustRegionResult, solve

__all__ = [
    "MOST_NFEV",
    "AfterStep",
    "CostFunction",
    "Evaluator",
    "Minimum",
    "find_minimum",
    "search_without_bounds",
]

# Bounds taken up one after the other, after which none that holds is exchanged for another.
MOST_EXCHANGES = 6

# Standard errors that a parameter must move away from its bound for the search to be repeated.
NOTICED = 0.1

# Starts on bounds that are tried, of those that look best.
STARTS_TRIED = 4

# Accuracy of a trial, in standard errors of the small sample, and its evaluations.
TRIAL_TOLERANCE = 0.3
TRIAL_NFEV = 30

# Evaluations of a search that has no limit of its own.
MOST_NFEV = 100

# Normal equations of the physics at searched coordinates y (m,).
CostFunction = Callable[[NDArray[np.float64]], NormalEquations]

# Called with the space and its coordinates after every step; ends a search by StopIteration.
AfterStep = Callable[[SearchSpace, NDArray[np.float64]], None]


class Evaluator(Protocol):
    """What a search needs of a sample."""

    @property
    def evaluations_left(self) -> int:
        """Evaluations that are still allowed."""
        ...

    def cost_function(self, objective: TwoTimeObjective, space: SearchSpace) -> CostFunction:
        """The normal equations as a function of the coordinates of a space."""
        ...


class Minimum(NamedTuple):
    """A minimum within the bounds, and the space in which it was found.

    Its cost at the start and its evaluations are those of the whole search.
    """

    space: SearchSpace
    result: TrustRegionResult


def find_minimum(
    objective: TwoTimeObjective,
    start: SearchPoint,
    sample: Evaluator,
    trial_sample: Evaluator,
    *,
    tolerance: float,
    max_nfev: int = MOST_NFEV,
    after_step: AfterStep | None = None,
) -> Minimum:
    """Minimise from a start, holding parameters at bounds where the minimum is beyond them.

    Parameters
    ----------
    start : SearchPoint
        Its space may hold parameters already.
    sample, trial_sample : Evaluator
        The points to fit, and fewer of them on which bounds are tried.
    tolerance : float
        As for `nlsq_stratified.solve`.
    max_nfev : int
        Evaluations of each search on `sample`.
    after_step : callable, optional
        Called with the space and its coordinates after every step; ends the search by raising
        StopIteration.
    """

    def search(point: SearchPoint) -> TrustRegionResult:
        return search_without_bounds(objective, point, sample, tolerance, max_nfev, after_step)

    def search_bounds(point: SearchPoint) -> Minimum:
        result = search(point)
        minimum = Minimum(point.space, result)
        exchanges = 0
        while (law := minimum.space.first_law_out_of_bounds(_parameters(minimum))) is not None:
            exchange = exchanges < MOST_EXCHANGES
            point = _best_bound(objective, trial_sample, minimum, law, exchange=exchange)
            minimum = _continued(minimum, Minimum(point.space, search(point)))
            exchanges += 1
        return minimum

    minimum = search_bounds(start)
    if sample.evaluations_left <= 1:
        return minimum
    if start.space.held and not _held_rightly(sample, objective, minimum):
        again = SearchPoint(minimum.space, minimum.result.x).without_held()
        minimum = _continued(minimum, search_bounds(again))
    if (again := _revived(objective, sample, minimum, start)) is not None:
        other = _continued(minimum, search_bounds(again))
        if other.result.state.cost < minimum.result.state.cost:
            minimum = other
    return minimum


def search_without_bounds(
    objective: TwoTimeObjective,
    start: SearchPoint,
    sample: Evaluator,
    tolerance: float,
    max_nfev: int,
    after_step: AfterStep | None = None,
    *,
    trust_last_step: bool = True,
) -> TrustRegionResult:
    """Minimise from a start within the limits of its coordinates alone; see `find_minimum`."""

    def callback(nit: int, y: NDArray[np.float64], state: Equations, nfev: int) -> None:
        if after_step is not None:
            after_step(start.space, y)

    return solve(
        sample.cost_function(objective, start.space),
        start.y,
        *start.space.limits,
        tolerance=tolerance,
        max_nfev=min(max_nfev, sample.evaluations_left),
        sizes=start.space.sizes(start.y),
        callback=callback,
        trust_last_step=trust_last_step,
    )


def _revived(
    objective: TwoTimeObjective, sample: Evaluator, minimum: Minimum, start: SearchPoint
) -> SearchPoint | None:
    """Where the sample is fitted better than with a power law that has vanished; None if nowhere.

    Where a prefactor is as good as zero the cost does not depend on the exponent, so that a search
    which got there with an odd one cannot leave.
    """
    space = minimum.space
    held = [law for law in space.power_laws if space.held.get(law) == space.lower[law]]
    if not held:
        return None
    x, before, free = _parameters(minimum), start.parameters, space.without_held
    here = sample.cost_function(objective, space)(minimum.result.x).cost
    best: tuple[float, SearchPoint | None] = here, None
    for law in held:
        for of_law in _revivals(x[law : law + 3], before[law : law + 3], space.tau):
            other = x.copy()
            other[law : law + 3] = of_law
            other = np.clip(other, space.lower, space.upper)
            result = _trial(objective, sample, SearchPoint(free, free.to_coordinates(other)))
            if result.state.cost < best[0]:
                best = result.state.cost, SearchPoint(free, result.x)
    return best[1]


def _revivals(
    now: NDArray[np.float64], before: NDArray[np.float64], tau: float
) -> list[NDArray[np.float64]]:
    """Laws (3,) in place of one that is now its constant part alone.

    The law before, and the constant part with that power law, or with one of an exponent of 0.
    """
    amplitude = before[0] * tau ** before[1]
    laws = [before]
    if np.isfinite(amplitude):
        exponents = {float(before[1]), 0.0}
        laws += [np.array([amplitude * tau**-e, e, now[2]]) for e in exponents]
    return laws


def _parameters(minimum: Minimum) -> NDArray[np.float64]:
    return minimum.space.to_parameters(minimum.result.x)


def _continued(minimum: Minimum, later: Minimum) -> Minimum:
    """The later minimum, as the end of one search that began with the earlier one."""
    result = replace(
        later.result,
        nfev=minimum.result.nfev + later.result.nfev,
        cost_initial=minimum.result.cost_initial,
    )
    return Minimum(later.space, result)


def _held_rightly(sample: Evaluator, objective: TwoTimeObjective, minimum: Minimum) -> bool:
    """Whether the cost falls beyond every bound at which a parameter is held, or hardly inwards.

    That is the sign of its Lagrange multiplier. The parameters of a power law can stand in for one
    another, so that the little gradient that is left along the others would hide it: the gradient
    is taken where they are settled, going by the quadratic model.
    """
    space = minimum.space
    released = replace(space, held={})
    y = space.complete(minimum.result.evaluated)[released.searched]
    state = sample.cost_function(objective, released)(y)
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


def _best_bound(
    objective: TwoTimeObjective,
    sample: Evaluator,
    minimum: Minimum,
    law: int,
    *,
    exchange: bool,
) -> SearchPoint:
    """The bounds of a power law on which the sample is fitted best, and where.

    With `exchange` a bound that holds already may be given up for another. Where no evaluations are
    left it is the bound that the minimum is beyond.
    """
    space, y = minimum.space, minimum.result.x
    x = space.to_parameters(y)
    of_law = [i for i in (law, law + 2) if i not in space.held and np.isnan(space.fixed[i])]
    if len(of_law) == 2:
        choices = [
            {i: float(value)}
            for i in of_law
            for value in (space.lower[i], space.upper[i])
            if np.isfinite(value)
        ]
    else:
        # One is held, and now the other is beyond its limit: both, or that one instead. Or one is
        # known, so that there is no other choice.
        (i,) = of_law
        beyond = {i: float(np.clip(x[i], space.lower[i], space.upper[i]))}
        (other,) = {law, law + 2} - {i}
        if other in space.held:
            choices = [{**beyond, other: space.held[other]}, *([beyond] * exchange)]
        else:
            choices = [beyond]
    if out_of_evaluations := sample.evaluations_left <= 1:
        nearest = np.clip(x, space.lower, space.upper)
        choices = [c for c in choices if all(nearest[i] == value for i, value in c.items())]
    starts = [
        SearchPoint(limited, y)
        for limited, several in (space.hold_at_limit(law, choice, y) for choice in choices)
        for y in several
    ]
    if out_of_evaluations:
        return starts[0]

    def cost(point: SearchPoint) -> float:
        return sample.cost_function(objective, point.space)(point.y).cost

    promising = sorted(starts, key=cost)[:STARTS_TRIED]
    trials = [(point.space, _trial(objective, sample, point)) for point in promising]
    best, result = min(trials, key=lambda trial: trial[1].state.cost)
    return SearchPoint(best, result.x)


def _trial(objective: TwoTimeObjective, sample: Evaluator, point: SearchPoint) -> TrustRegionResult:
    """A short and rough search."""
    limits = TRIAL_TOLERANCE, TRIAL_NFEV
    return search_without_bounds(objective, point, sample, *limits, trust_last_step=False)
