"""The global search: many starts on a small sample of the data, few on a larger one.

The sinc² has side lobes, so the cost has local minima in the shear rate and in phi0, and a rate
off by an order of magnitude leaves a flat landscape. Contrast and offset need no start, being
eliminated. Starts spread evenly over what the data could resolve are therefore screened on a few
tiles that span all lags, and the more promising half goes on, to more steps and to more data,
until one basin is left: successive halving (K. Jamieson and A. Talwalkar, *AISTATS*, 2016).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.options import MultiStart
from homodyne_fit.fitting.search.solution import SearchPoint
from homodyne_fit.model.coordinates import SearchSpace
from nlsq_stratified import Equations, NormalEquations, TrustRegionResult, solve_many

__all__ = [
    "HOPELESS",
    "MOST_ON_A_LARGER_SAMPLE",
    "CostFunctions",
    "SAME_BASIN",
    "Screening",
    "draw_starts",
    "is_above",
    "screen_starts",
]

# Starts that go on from the screening.
REFINED = 16
# Evaluations of each in the rounds on the first sample; after each round the better half goes on.
ROUNDS = (3, 5, 8)
# Evaluations of each start that is still in doubt, in the rounds on a larger sample.
LATER_ROUNDS = (2, 6)
# Accuracy of a refined start, in standard errors of the sample.
REFINEMENT_TOLERANCE = 0.3
# Basins are one if their minima are within this distance, in standard errors.
SAME_BASIN = 5.0
# A basin is given up if its minimum is this far above the best one, in standard errors; this is
# much, since models are not quite those of the data.
HOPELESS = 30.0
# Basins that are followed up, at the most.
MOST_BASINS = 4
# Evaluations on a larger sample, at the most.
MOST_ON_A_LARGER_SAMPLE = MOST_BASINS * sum(LATER_ROUNDS)
# How far above the best one, in standard errors, a basin may be to outlast a round in any case.
CLOSE = 5.0
# Exponents of the starts lie between minus this and this.
EXPONENTS = 1.0

# Normal equations of the physics at each of many searched coordinates (s, m).
CostFunctions = Callable[[NDArray[np.float64]], Sequence[NormalEquations]]


@dataclass(frozen=True, eq=False)
class Screening:
    """Result of the global search.

    Attributes
    ----------
    coordinates : (b, m) array
        Where the search of each basin ended that more points may turn out to prefer, on the last
        sample that it took to tell the basins apart. The best basin comes first.
    n_starts, n_refined, n_reached : int
        Starts screened, starts refined, and how many of these reached the best basin.
    """

    coordinates: NDArray[np.float64]
    n_starts: int
    n_refined: int
    n_reached: int

    def points(self, space: SearchSpace) -> list[SearchPoint]:
        """The ends of the searches in the space that they were made in."""
        return [SearchPoint(space, y) for y in self.coordinates]

    def report(self) -> dict[str, Any]:
        """For the result."""
        return {
            "starts": self.n_starts,
            "refined": self.n_refined,
            "reached_best": self.n_reached,
            "effect": f"{self.n_starts} starts screened; {self.n_reached} of the {self.n_refined} "
            "refined reached the best basin",
        }


@dataclass(frozen=True, eq=False)
class _Basin:
    fit: TrustRegionResult
    starts: frozenset[int] = field(default_factory=frozenset)


def draw_starts(
    space: SearchSpace,
    start: NDArray[np.float64],
    data: TwoTimeData,
    gap: float,
    settings: MultiStart,
) -> NDArray[np.float64]:
    """Starts (n, p) spread evenly over what the data could resolve.

    A transport decay is visible when ``q² J t`` is about 1 for some time t between one frame
    and the whole measurement; a shear decay when ``½ q h γ̇ t`` is. The rates at
    mid-measurement are spread on a logarithmic scale, exponents and direction evenly. Parameters
    that are not free keep their value in `start`.

    Parameters
    ----------
    space : SearchSpace
        For its model, the bounds, and what is fixed.
    start : (p,) array
        In the order of ``model.parameters``.
    data : TwoTimeData
        For its q, frame time and duration.
    gap : float
        Å.
    """
    model, lower, upper, free = space.model, space.lower, space.upper, np.isnan(space.fixed)
    q, dt, duration = float(np.median(data.q)), data.dt, float(data.times[-1])
    visible = {0: (0.1 / (q**2 * duration), 3.0 / (q**2 * dt))}
    if model.has_flow:
        phase = 0.5 * q * gap
        visible[space.power_laws[1]] = 0.3 / (phase * duration), 3.0 / (phase * dt)
    unit = _unit_cube(settings, 2 * len(visible) + 1)
    starts = np.tile(start, (settings.n_starts, 1))
    for column, (i, (slowest, fastest)) in enumerate(visible.items()):
        if free[i + 1]:
            span = max(lower[i + 1], -EXPONENTS), min(upper[i + 1], EXPONENTS)
            starts[:, i + 1] = span[0] + (span[1] - span[0]) * unit[:, 2 * column + 1]
        if free[i]:
            rates = slowest * (fastest / slowest) ** unit[:, 2 * column]
            starts[:, i] = rates / (duration / 2) ** starts[:, i + 1]
    last = len(start) - 1
    if model.has_flow and free[last]:
        # The model does not change when the flow turns by 180°.
        half = min(upper[last] - lower[last], 180.0) / 2
        starts[:, last] = (lower[last] + upper[last]) / 2 + half * (2 * unit[:, -1] - 1)
    return np.where(free, np.clip(starts, lower, upper), starts)


def _unit_cube(settings: MultiStart, d: int) -> NDArray[np.float64]:
    """Points (n_starts, d) spread over the unit cube."""
    if settings.sampling_strategy == "sobol":
        # Slow to import, and needed here alone.
        from scipy.stats import qmc

        return qmc.Sobol(d, rng=settings.seed).random(settings.n_starts)
    rng, n = np.random.default_rng(settings.seed), settings.n_starts
    strata = rng.permuted(np.tile(np.arange(n), (d, 1)), axis=1).T
    return (strata + rng.random((n, d))) / n


def screen_starts(
    cost_functions: Sequence[CostFunctions],
    starts: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> Screening:
    """Screen all starts, refine the first and the most promising, return the best basins.

    Parameters
    ----------
    cost_functions : sequence of callable
        Coordinates (s, m) of many searches to the normal equations of each, on samples of growing
        size; those after the first are used as long as there is a doubt.
    starts : (n, m) array
        The first one is what the user asked for, and is always refined.
    lower, upper : (m,) array
    """
    costs = np.array([_cost(state) for state in cost_functions[0](starts)])
    ranked = [i for i in np.argsort(costs, kind="stable") if i != 0]
    chosen = [i for i in [0, *ranked][:REFINED] if np.isfinite(costs[i])]
    if not chosen:
        raise InputError("the model is not finite at any start within the bounds")

    def refined(
        evaluate: CostFunctions, ys: NDArray[np.float64], nfev: int
    ) -> list[TrustRegionResult]:
        return solve_many(evaluate, ys, lower, upper, tolerance=REFINEMENT_TOLERANCE, max_nfev=nfev)

    def further(basins: list[_Basin], evaluate: CostFunctions, nfev: int) -> list[_Basin]:
        fits = refined(evaluate, np.array([basin.fit.x for basin in basins]), nfev)
        return _distinct([replace(b, fit=fit) for b, fit in zip(basins, fits, strict=True)])

    first, *later = ROUNDS
    fits = refined(cost_functions[0], starts[chosen], first)
    basins = _distinct([_Basin(fit, frozenset([i])) for i, fit in zip(chosen, fits, strict=True)])
    for nfev in later:
        basins = further(_promising(basins), cost_functions[0], nfev)
    basins = _promising(basins)[:MOST_BASINS]
    for evaluate, nfev in itertools.product(cost_functions[1:], LATER_ROUNDS):
        basins = _hopeful(basins)
        if len(basins) > 1:
            basins = further(basins, evaluate, nfev)
    basins = _hopeful(basins)
    coordinates = np.array([basin.fit.x for basin in basins])
    return Screening(coordinates, len(starts), len(chosen), len(basins[0].starts))


def _promising(basins: list[_Basin]) -> list[_Basin]:
    """The better half, and what is hardly worse than the best."""
    half = -(-len(basins) // 2)
    return [
        basin
        for i, basin in enumerate(basins)
        if i < half or not is_above(basin.fit.state, basins[0].fit.state, CLOSE)
    ]


def _hopeful(basins: list[_Basin]) -> list[_Basin]:
    """Those that more points may turn out to be the best."""
    best = basins[0].fit.state
    return [basin for basin in basins if not is_above(basin.fit.state, best, HOPELESS)]


def _cost(state: NormalEquations) -> float:
    return state.cost if state.finite else np.inf


def _variance(state: Equations) -> float:
    """Of a point, going by the cost."""
    return 2 * max(state.cost, state.rounding) / max(1, state.n_points)


def _distinct(basins: Sequence[_Basin]) -> list[_Basin]:
    """The basins, best first; fits that lie in the one of a better fit are counted there."""
    distinct: list[_Basin] = []
    for basin in sorted(basins, key=lambda basin: basin.fit.state.cost):
        home = next((i for i, other in enumerate(distinct) if _same(basin.fit, other.fit)), None)
        if home is None:
            distinct.append(basin)
        else:
            distinct[home] = replace(distinct[home], starts=distinct[home].starts | basin.starts)
    return distinct


def is_above(state: Equations, better: Equations, distance: float) -> bool:
    """Whether a cost is farther above another than so many standard errors."""
    return state.cost - better.cost > 0.5 * distance**2 * _variance(better)


def _same(fit: TrustRegionResult, better: TrustRegionResult) -> bool:
    """Whether two fits are a few standard errors apart, and so are their costs."""
    state, step = better.state, fit.x - better.x
    return bool(
        not is_above(fit.state, state, SAME_BASIN)
        and step @ state.hessian @ step <= SAME_BASIN**2 * _variance(state)
    )
