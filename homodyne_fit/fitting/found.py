"""A minimum on all points, and those of other forms of the rates that the data ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.fitting.problem import global_search
from homodyne_fit.fitting.rate_forms import FormTest, form_tests, point_in, revised
from homodyne_fit.fitting.residuals import Residuals, enough_points
from homodyne_fit.fitting.score_noise import NoiseOfPoints, noise_of_points
from homodyne_fit.fitting.search.refinement import Refinement
from homodyne_fit.fitting.search.samples import Sample, Samples
from homodyne_fit.fitting.search.solution import SearchPoint, Solution
from homodyne_fit.fitting.search.starts import Screening
from homodyne_fit.fitting.settings import FitSettings
from homodyne_fit.fitting.weighted_fit import Weighted, weigh_points
from homodyne_fit.fitting.weighted_result import if_worth_it
from homodyne_fit.kernel.objective import TwoTimeObjective

__all__ = ["Found", "found_at", "starts_of", "with_needed_forms"]


def starts_of(
    refinement: Refinement, objective: TwoTimeObjective, start: SearchPoint
) -> tuple[list[SearchPoint], Screening | None]:
    """Where searches begin: the most promising basins, or the start alone."""
    search, samples = refinement.global_search, refinement.samples
    if search is None:
        return [start], None
    screening = search(objective, start, [samples.probe, samples.smallest])
    return screening.points(start.space), screening


@dataclass(frozen=True, eq=False)
class Found:
    """A minimum on all points, the noise there, and how other forms of the rates compare.

    Attributes
    ----------
    solution : Solution
        Of least squares.
    others : list of Solution
        Other minima.
    residuals : Residuals or None
    noise : NoiseOfPoints
    tests : list of FormTest
        At the weighted estimate, where there is one.
    weighted : Weighted or str or None
        In words why there is none; None where it was not asked for.
    """

    solution: Solution
    others: list[Solution]
    residuals: Residuals | None
    noise: NoiseOfPoints
    tests: list[FormTest]
    weighted: Weighted | str | None


def residuals_and_noise(
    settings: FitSettings, samples: Samples, sample: Sample, solution: Solution
) -> tuple[Residuals | None, NoiseOfPoints]:
    """The residuals of a sample at a solution there, and the noise of its points."""
    few = enough_points(samples, len(solution.objective.phi))
    residuals = Residuals.at(solution, sample, min(few, sample, key=lambda one: one.tiles))
    opened = sample.unlimited(solution, solution.space.opened)
    samples.budget.tell("the noise of the points")
    search = settings.search
    noise = noise_of_points(solution, opened, residuals, search.uncertainty, search.threads)
    return residuals, noise


def found_at(
    settings: FitSettings, refinement: Refinement, solution: Solution, others: list[Solution]
) -> Found:
    """Look at the noise where a search ended, and at other forms of the rates."""
    all_points, search = refinement.samples.all_points, settings.search
    residuals, noise = refinement.noise_at(all_points, solution)
    weighted = None
    if search.weighting != "none":
        weighted = weigh_points(solution, noise, all_points, search.tolerance, search.threads)
    if search.weighting == "auto" and isinstance(weighted, Weighted):
        weighted = if_worth_it(weighted)
    tests = []
    if solution.result.success and solution.space.assumed:
        if isinstance(weighted, Weighted):
            at, noise_there, in_space = weighted.solution, weighted.noise, weighted.in_space
        else:
            at, noise_there = solution, noise
            in_space = partial(all_points.in_space, solution)
        needed = in_space(at.space.with_assumed)
        tests = form_tests(at, needed, noise_there, settings.left_to_data)
    return Found(solution, others, residuals, noise, tests, weighted)


def with_needed_forms(
    data: TwoTimeData, settings: FitSettings, refinement: Refinement, found: Found
) -> Found:
    """Fit other forms of the rates until the data ask for no other."""
    samples, tolerance = refinement.samples, settings.search.tolerance
    known = {found.solution.space.assumed: found}
    while (space := revised(found.solution.space, found.tests)) is not None:
        if space.assumed in known:
            # Neither form is good enough for the other: the larger one is taken.
            return min(found, known[space.assumed], key=lambda one: len(one.solution.space.assumed))
        if samples.budget.running_out:
            break
        solution = found.solution
        start, objective = point_in(space, solution), solution.objective
        search = global_search(data, settings, space, start.parameters)
        refinement = replace(refinement, global_search=search)
        if len(space.assumed) > len(solution.space.assumed):
            others = [point_in(space, other) for other in found.others]
            at = refinement.on_all_points(objective, start, others, tolerance)
        else:
            starts, _ = starts_of(refinement, objective, start)
            at = refinement.to_all_points(objective, starts, tolerance)
        if not at[0].result.success:
            break
        found = known[space.assumed] = found_at(settings, refinement, *at)
    return found
