"""From starts to a minimum on all points, by way of samples and with the layers' say.

A sample of the data may prefer another basin than all points do. Basins that a sample cannot rule
out are therefore followed up on the next larger one, beside the best. Bounds that are no box of the
coordinates are kept on all points alone: what a sample has to hold at a bound, all points may not.

With a robust loss, each sample is fitted by least squares first; then pseudo-data are made and
fitted in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.layers.layer import Layers
from homodyne_fit.fitting.residuals import Residuals
from homodyne_fit.fitting.score_noise import NoiseOfPoints
from homodyne_fit.fitting.search.minimum import (
    MOST_NFEV,
    AfterStep,
    find_minimum,
    search_without_bounds,
)
from homodyne_fit.fitting.search.other_minima import distance_between
from homodyne_fit.fitting.search.robust import Robust, distance_moved
from homodyne_fit.fitting.search.samples import Sample, Samples
from homodyne_fit.fitting.search.solution import SearchPoint, Solution
from homodyne_fit.fitting.search.starts import HOPELESS, SAME_BASIN, Screening, is_above
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.coordinates import SearchSpace

__all__ = ["Refinement"]

# Accuracy on a sample, in standard errors of the sample.
SAMPLE_TOLERANCE = 0.3

# Evaluations on the smallest sample before the layers look at it.
FIRST_NFEV = 4

# Evaluations of a preliminary fit on the probe.
PRELIMINARY_NFEV = 8

# Evaluations of another basin that show whether it is hopeless, and those that it gets if not.
FIRST_NFEV_OF_OTHERS = 8
NFEV_OF_OTHERS = 30

# Decrease of χ² from which on another basin takes the place of the best.
BETTER = 0.05

# How far above the best, in standard errors, another basin may be on all points to be followed up.
DECIDED = 5.0

# The variance on all points may be above that of the last sample by so many standard errors of
# that before the sample counts as misleading,
MISLEADING = 5.0
# and by this share of it.
TRIVIAL = 0.02

# Searches after which the layers get no further say.
MAX_SEARCHES = 30

# Times that pseudo-data are made until they agree with their fit, and that the layers are asked
# whether they agree, too.
MOST_ROUNDS = 30
MOST_TURNS = 4

NOT_SETTLED = "the weights of the robust loss did not settle"

# The global search: (objective, first start, samples to use) to the best basins.
GlobalSearch = Callable[[TwoTimeObjective, SearchPoint, Sequence[Sample]], Screening]

# The residuals of a sample at a solution there, and the noise of its points.
NoiseAt = Callable[[Sample, Solution], tuple[Residuals | None, NoiseOfPoints]]


@dataclass(frozen=True, eq=False)
class Refinement:
    """Searches on samples of growing size.

    Attributes
    ----------
    samples : Samples
    layers : Layers
    global_search : callable or None
        None where the start is taken as it is.
    noise_at : callable
        Finds residuals and noise of the points of a sample at a solution there.
    robust : Robust or None
        None for least squares.
    """

    samples: Samples
    layers: Layers
    global_search: GlobalSearch | None
    noise_at: NoiseAt
    robust: Robust | None = None

    def preliminary_fit(
        self, objective: TwoTimeObjective, start: SearchPoint, *, all_points: bool = False
    ) -> Solution:
        """A fit for a layer, see `homodyne_fit.fitting.layers.layer.PreliminaryFit`."""
        if not all_points:
            probe = self.samples.probe
            return self._without_bounds(probe, objective, start, SAMPLE_TOLERANCE, PRELIMINARY_NFEV)
        # A fit of its own, which has the whole budget, as has the one after it.
        self.samples.budget.restart()
        start = self._best_basin(objective, start)
        sample = self.samples.all_points
        solution = self._minimise(sample, objective, start, SAMPLE_TOLERANCE)
        solution = self._settle(sample, solution, SAMPLE_TOLERANCE)
        self.samples.budget.restart()
        return solution

    def to_all_points(
        self, objective: TwoTimeObjective, starts: Sequence[SearchPoint], tolerance: float
    ) -> tuple[Solution, list[Solution]]:
        """Search on samples of growing size, then on all points.

        Returns
        -------
        solution : Solution
            Where the best of the starts leads.
        others : list of Solution
            Where those lead that the samples could not rule out.
        """
        best, *others = starts
        *smaller, all_points = self.samples.growing
        last = None
        for sample in smaller:
            last, solutions = self._on_sample(sample, objective, best, others, SAMPLE_TOLERANCE)
            best, objective = last.point.without_held(), last.objective
            others = [other.point for other in solutions]
        solution, solutions = self._on_sample(all_points, objective, best, others, tolerance)
        if last and self.global_search and self._is_misleading(last, solution):
            return self._search_again(solution, solutions, tolerance)
        return solution, solutions

    def on_all_points(
        self,
        objective: TwoTimeObjective,
        start: SearchPoint,
        others: Sequence[SearchPoint],
        tolerance: float,
    ) -> tuple[Solution, list[Solution]]:
        """The same from a start near the minimum, on all points alone."""
        return self._on_sample(self.samples.all_points, objective, start, others, tolerance)

    def _on_sample(
        self,
        sample: Sample,
        objective: TwoTimeObjective,
        best: SearchPoint,
        others: Sequence[SearchPoint],
        tolerance: float,
    ) -> tuple[Solution, list[Solution]]:
        found = self._search(sample, objective, best, others, tolerance)
        return self._robustly(sample, *found, tolerance)

    def _search(
        self,
        sample: Sample,
        objective: TwoTimeObjective,
        best: SearchPoint,
        others: Sequence[SearchPoint],
        tolerance: float,
    ) -> tuple[Solution, list[Solution]]:
        solution = self._until_layers_agree(sample, objective, best, tolerance)
        return self._follow_others(sample, solution, others, tolerance)

    def _robustly(
        self, sample: Sample, solution: Solution, others: list[Solution], tolerance: float
    ) -> tuple[Solution, list[Solution]]:
        """By the robust loss, if there is one: until pseudo-data, layers and basins agree."""
        if self.robust is None:
            return solution, others
        for _ in range(MOST_TURNS):
            settled = self._settle(sample, solution, tolerance)
            objective, point = settled.objective, settled.point
            if sample is self.samples.smallest:
                # Outliers may have led the global search astray.
                point = self._best_basin(objective, point)
            points = [other.point for other in others]
            solution, others = self._search(sample, objective, point, points, tolerance)
            if not settled.result.success or self.samples.budget.exhausted:
                break
            if distance_moved(settled, solution) <= tolerance:
                return solution, others
        failed = replace(solution.result, success=False, message=NOT_SETTLED)
        return replace(solution, result=failed), others

    def _settle(self, sample: Sample, solution: Solution, tolerance: float) -> Solution:
        """Make pseudo-data and fit them in turn, until the fit stays where it is."""
        if self.robust is None:
            return solution
        for _ in range(MOST_ROUNDS):
            pseudo_data = self.robust.pseudo_data(solution, sample)
            if pseudo_data is None:
                return solution
            objective = replace(solution.objective, pseudo_data=pseudo_data)
            nfev, before = sample.evaluations_left, solution
            solution = self._minimise(sample, objective, before.point, tolerance, nfev)
            if self.samples.budget.exhausted:
                break
            if distance_moved(before, solution) <= tolerance:
                return solution
        failed = replace(solution.result, success=False, message=NOT_SETTLED)
        return replace(solution, result=failed)

    def _follow_others(
        self, sample: Sample, solution: Solution, others: Sequence[SearchPoint], tolerance: float
    ) -> tuple[Solution, list[Solution]]:
        """Follow up other basins; return the best one, and those that are not hopeless."""
        hopeless = DECIDED if sample is self.samples.all_points else HOPELESS
        followed: list[Solution] = []
        for point in others:
            if self.samples.budget.running_out:
                break
            objective, start = solution.objective, point.without_held()
            other = self._minimise(sample, objective, start, SAMPLE_TOLERANCE, FIRST_NFEV_OF_OTHERS)
            if is_above(other.equations, solution.equations, hopeless):
                continue
            if any(distance_between(one, other) <= SAME_BASIN for one in (solution, *followed)):
                continue
            other = self._minimise(sample, objective, other.point, tolerance, NFEV_OF_OTHERS)
            if _gain(solution, other) > BETTER:
                followed.append(solution)
                solution = self._until_layers_agree(sample, objective, other.point, tolerance)
                same = solution.objective.scaling is other.objective.scaling
                if same and other.equations.cost < solution.equations.cost:
                    solution = other
            else:
                followed.append(other)
        followed.sort(key=lambda other: other.equations.cost)
        return solution, [
            other
            for other in followed
            if not is_above(other.equations, solution.equations, hopeless)
        ]

    def _is_misleading(self, on_sample: Solution, on_all: Solution) -> bool:
        """Whether all points are fitted worse than the last sample was, beyond chance."""
        if self.samples.budget.running_out:
            return False
        chance = np.sqrt(2 / on_sample.equations.n_points)
        return on_all.variance > on_sample.variance * (1 + MISLEADING * chance + TRIVIAL)

    def _search_again(
        self, solution: Solution, others: Sequence[Solution], tolerance: float
    ) -> tuple[Solution, list[Solution]]:
        """Look for better basins, from where the search has ended and from new starts."""
        assert self.global_search is not None
        samples = [self.samples.probe, self.samples.growing[-2]]
        start = solution.point.without_held()
        screening = self.global_search(solution.objective, start, samples)
        all_points = self.samples.all_points
        solution, further = self._robustly(
            all_points,
            *self._follow_others(all_points, solution, screening.points(start.space), tolerance),
            tolerance,
        )
        return solution, [*others, *further]

    def _until_layers_agree(
        self, sample: Sample, objective: TwoTimeObjective, start: SearchPoint, tolerance: float
    ) -> Solution:
        """Search again and again, until no layer asks for more."""
        all_points, noise_at = sample is self.samples.all_points, self.noise_at

        # The layers keep this function: it must not lead back to them, or the data would outlive
        # the fit until Python looks for circles of objects.
        def noise_of(solution: Solution) -> NoiseOfPoints:
            if all_points:
                return noise_at(sample, solution)[1]
            # Passes are cheaper than the noise; on all points the layers ask for it again.
            return NoiseOfPoints(solution.variance)

        self.layers.before_sample(tolerance, noise_of)
        objective = self.layers.for_sample(objective, all_points=all_points)
        nfev = 1 if self.layers.failure() else sample.evaluations_left
        # What the layers would ask for at the end, most of it, they can have at once: the start is
        # near the end on all points if samples led there.
        first_nfev = FIRST_NFEV if sample is self.samples.smallest else 1
        solution = self._without_bounds(sample, objective, start, tolerance, min(first_nfev, nfev))
        objective, point = self._next_objective(solution) or (objective, solution.point)
        solution = self._minimise(sample, objective, point, tolerance, nfev, watched=True)
        budget = self.samples.budget
        for _ in range(MAX_SEARCHES):
            elsewhere = self.layers.next_start(solution)
            if self.layers.failure() is not None or budget.exhausted:
                break
            if elsewhere is None and solution.result.success and budget.running_out:
                break
            if elsewhere is not None:
                point = elsewhere
            elif (revised := self._next_objective(solution)) is not None:
                objective, point = revised
            else:
                break
            nfev = sample.evaluations_left
            solution = self._minimise(sample, objective, point, tolerance, nfev, watched=True)
        return solution

    def _without_bounds(
        self,
        sample: Sample,
        objective: TwoTimeObjective,
        start: SearchPoint,
        tolerance: float,
        nfev: int,
        after_step: AfterStep | None = None,
    ) -> Solution:
        """A search that keeps the limits of the coordinates alone."""
        result = search_without_bounds(objective, start, sample, tolerance, nfev, after_step)
        return sample.solution(objective, start.space, result)

    def _next_objective(self, solution: Solution) -> tuple[TwoTimeObjective, SearchPoint] | None:
        """The objective that a layer wants to go on with, and from where."""
        objective = self.layers.next_objective(solution)
        if objective is None:
            return None
        freedom, before = (one.scaling.matrix.shape[1] for one in (objective, solution.objective))
        if freedom <= before:
            return objective, solution.point
        # With more freedom of contrast and offset another basin may be the best one.
        return objective, self._best_basin(objective, solution.point)

    def _best_basin(self, objective: TwoTimeObjective, start: SearchPoint) -> SearchPoint:
        """Where the global search leads from a start; the start itself without one."""
        if self.global_search is None:
            return start
        start = start.without_held()
        samples = [self.samples.probe, self.samples.smallest]
        return self.global_search(objective, start, samples).points(start.space)[0]

    def _minimise(
        self,
        sample: Sample,
        objective: TwoTimeObjective,
        start: SearchPoint,
        tolerance: float,
        max_nfev: int = MOST_NFEV,
        *,
        watched: bool = False,
    ) -> Solution:
        """The minimum on a sample; `watched` by the layers after every step."""

        def after_step(space: SearchSpace, y: NDArray[np.float64]) -> None:
            inside = objective.in_coordinates(space)
            self.layers.after_step(space, inside, y, sample.sums(objective, space, y))

        callback = after_step if watched else None
        if sample is not self.samples.all_points:
            return self._without_bounds(sample, objective, start, tolerance, max_nfev, callback)
        minimum = find_minimum(
            objective,
            start,
            sample,
            self.samples.smallest,
            tolerance=tolerance,
            max_nfev=max_nfev,
            after_step=callback,
        )
        return sample.solution(objective, minimum.space, minimum.result)


def _gain(solution: Solution, other: Solution) -> float:
    """Decrease of χ² from one solution to another."""
    return 2 * (solution.equations.cost - other.equations.cost) / solution.variance
