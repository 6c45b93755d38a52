"""What the data ask for beyond bounds that hold a parameter: the rate at mid-measurement.

A parameter at its bound says nothing of how far beyond it the minimum is. A search within wider
bounds, on a part of the points, tells the order of magnitude at a small part of the cost of a fit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.fitting.problem import global_search, search_space
from homodyne_fit.fitting.search.minimum import find_minimum
from homodyne_fit.fitting.search.refinement import SAMPLE_TOLERANCE, GlobalSearch
from homodyne_fit.fitting.search.samples import Samples
from homodyne_fit.fitting.search.solution import SearchPoint, Solution
from homodyne_fit.fitting.search.starts import is_above
from homodyne_fit.fitting.settings import FitSettings
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.parameters import RATES
from homodyne_fit.model.rates import rates

__all__ = ["beyond_bounds"]

# Evaluations of the search after the screening.
NFEV = 30

# Standard errors by which the minimum beyond the bounds must be lower.
LOWER = 5.0


def beyond_bounds(
    data: TwoTimeData, settings: FitSettings, solution: Solution, samples: Samples
) -> dict[str, float]:
    """The rates that the data ask for where bounds that were given hold their parameters."""
    space, parameters = solution.space, settings.model.parameters
    at_limit = space.at_limit(solution.result.active)
    held: dict[str, int] = {}
    bounds = dict(settings.bounds)
    for which, law in enumerate(space.power_laws):
        of_law = parameters[law : law + 3]
        at_bound = [n for n, at in zip(of_law, at_limit[law:], strict=False) if at and n in bounds]
        if at_bound:
            held[RATES[which]] = which
            # Without one of the two bounds on a rate, the other would be the next to hold it.
            for name in {of_law[0], of_law[2], *at_bound}:
                bounds.pop(name, None)
    if not held or samples.budget.exhausted:
        return {}
    wider = replace(settings, bounds=bounds)
    wide = search_space(data, wider)
    search = global_search(data, wider, wide, solution.parameters)
    found = _rates_beyond_bounds(solution, samples, wide, search)
    return {} if found is None else {key: found[which] for key, which in held.items()}


def _rates_beyond_bounds(
    solution: Solution, samples: Samples, wide: SearchSpace, global_search: GlobalSearch | None
) -> list[float] | None:
    """J, and with flow the shear rate, at mid-measurement within wider bounds.

    None where the minimum there is not clearly lower.

    Parameters
    ----------
    solution : Solution
        With parameters at their bounds.
    samples : Samples
        Its probe and its smallest sample are used.
    wide : SearchSpace
        With wider bounds.
    global_search : callable or None
        Within these.
    """
    sample, objective = samples.smallest, solution.objective
    here = sample.cost_function(objective, solution.space)(solution.result.evaluated)
    parameters = np.clip(solution.parameters, wide.lower, wide.upper)
    parameters = np.where(np.isnan(wide.fixed), parameters, wide.fixed)
    start = SearchPoint(wide, wide.to_coordinates(parameters))
    if global_search is not None:
        start = global_search(objective, start, [samples.probe]).points(wide)[0]
    space, result = find_minimum(
        objective, start, sample, sample, tolerance=SAMPLE_TOLERANCE, max_nfev=NFEV
    )
    if not is_above(here, result.state, LOWER):
        return None
    values, _ = rates(
        space.model_in_coordinates, space.complete(result.x), space.tau, space.tau, objective.dt
    )
    return values[: len(space.power_laws), 0].tolist()
