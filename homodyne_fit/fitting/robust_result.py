"""The result of a fit to pseudo-data, as that of the robust loss which they are made for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from homodyne_fit.fitting.result import FitResult
from homodyne_fit.fitting.robust_loss import no_loss, robust_cost, robust_loss
from homodyne_fit.fitting.search.robust import Robust
from homodyne_fit.fitting.search.samples import Sample
from homodyne_fit.fitting.search.solution import SearchPoint, Solution
from homodyne_fit.kernel.elimination import JointEquations

__all__ = ["robust_result"]


def robust_result(
    result: FitResult,
    solution: Solution,
    robust: Robust,
    all_points: Sample,
    start: SearchPoint,
    at_start: JointEquations,
) -> FitResult:
    """The result with the cost of the loss, and the weights that points have lost.

    Parameters
    ----------
    result : FitResult
        Of the pseudo-data.
    solution : Solution
    robust : Robust
    all_points : Sample
    start : SearchPoint
        Where the search began.
    at_start : JointEquations
        Of some of the points there.
    """
    objective = replace(result.objective, pseudo_data=None)
    if solution.objective.pseudo_data is None:
        found = no_loss(robust, len(objective.phi), objective.n_frames)
        return replace(result, objective=objective, robust=found)
    found, cost = robust_loss(solution, all_points, robust.f_scale)
    scaling = at_start.scaling.values(at_start.z)
    initial = robust_cost(
        solution.objective.in_coordinates(start.space), start.y, scaling, all_points, found
    )
    return replace(
        result,
        objective=objective,
        cost=cost,
        noise=float(np.sqrt(np.mean(found.noise**2))),
        info=replace(result.info, cost_initial=initial),
        robust=found,
    )
