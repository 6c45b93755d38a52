"""Sums over some or all of the points, none computed twice, within the budget of a fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.fitting.search.minimum import CostFunction
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.fitting.search.starts import CostFunctions
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.kernel.stored_chunks import Chunk
from homodyne_fit.kernel.tiles import probe_chunk, probed_angles
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.progress import Progress, Step, not_told
from nlsq_stratified import NormalEquations, TrustRegionResult
from nlsq_stratified.reduction import Partial, Summable, add_up, distribute, partial_sums

__all__ = ["Budget", "Sample", "Samples", "make_samples"]

# One chunk in so many is fitted first, and of these as many before them, and so on.
SAMPLE_SHARE = 8

# Share of the budget after which no answer is improved on.
RESERVED = 0.75

# Share of a pass that rounding may hide.
SPARE = 1e-9

# Parameters that are evaluated in one pass, at most.
AT_ONCE = 32


class Budget:
    """Passes over all points that a fit may take, and those that it has taken.

    Parameters
    ----------
    max_passes : int
    all_tiles : int
        Tiles of the measurement, counted for each angle: one pass.
    progress : callable
        Called with a `Step` after every chunk and every evaluation.
    """

    def __init__(self, max_passes: int, all_tiles: int, progress: Progress = not_told) -> None:
        self.max_passes, self.all_tiles, self.progress = max_passes, all_tiles, progress
        self.passes = self.spent = 0.0
        # What is told with the next chunk.
        self.cost: float | None = None
        self.can_stop = False

    def restart(self) -> None:
        """Begin a fit that has the whole budget."""
        self.spent = 0.0

    @property
    def exhausted(self) -> bool:
        """Whether no pass over all points is left."""
        return self.evaluations_left(self.all_tiles, all_points=True) < 1

    @property
    def running_out(self) -> bool:
        """Whether too little of the budget is left for searches that only improve on an answer."""
        return self.spent > RESERVED * self.max_passes

    def evaluations_left(self, tiles: int, *, all_points: bool) -> int:
        """How often so many tiles may still be evaluated.

        Where they are not all points, a pass over these is left for the end.
        """
        passes = self.max_passes - self.spent - (not all_points)
        return max(0, int(passes * self.all_tiles / max(1, tiles) + SPARE))

    def count(self, tiles: int) -> None:
        """Count the evaluation of so many tiles."""
        self.passes += tiles / self.all_tiles
        self.spent += tiles / self.all_tiles

    def tell(self, stage: str, unit: str = "", done: int = 0, total: int = 0) -> None:
        """Tell what is being done."""
        self.progress(Step(stage, unit, done, total, can_stop=self.can_stop))

    def tell_search(self, sample: str, unit: str = "", done: int = 0, total: int = 0) -> None:
        """Tell on which sample a minimum is searched for, and how far the search has come."""
        self.progress(Step(sample, unit, done, total, self.passes, self.cost, self.can_stop))


class _Evaluation(NamedTuple):
    objective: TwoTimeObjective
    space: SearchSpace
    y: NDArray[np.float64]
    state: NormalEquations

    def is_better_than(self, other: _Evaluation) -> bool:
        """Whether its cost is lower, or its contrast and offset have another freedom."""
        same = self.objective.scaling is other.objective.scaling
        return not same or self.state.cost < other.state.cost


class Sample:
    """Moment sums over some chunks, kept by the physics they belong to.

    The moments do not depend on contrast, offset, weights or penalties, so an objective that
    differs in these alone costs nothing at a point already evaluated.

    Parameters
    ----------
    name : str
        For the progress display.
    chunks : sequence of TileChunk or StoredChunk
    executor : concurrent.futures.Executor
    budget : Budget
    angles : (k,) int array, optional
        Those that the chunks hold; all when None.
    """

    def __init__(
        self,
        name: str,
        chunks: Sequence[Chunk],
        executor: Executor,
        budget: Budget,
        angles: NDArray[np.int64] | None = None,
    ) -> None:
        self.name, self.budget = name, budget
        # A single chunk is not worth sending.
        self.executor = executor if len(chunks) > 1 else None
        self.chunks = distribute(chunks, self.executor)
        self.angles, self.tiles = angles, _count_tiles(chunks)
        self._sums: dict[tuple[object, ...], NDArray[np.float64]] = {}
        self._best: _Evaluation | None = None

    @property
    def is_probe(self) -> bool:
        """Whether the chunks are the probe of the global search."""
        return self.angles is not None

    @property
    def is_all_points(self) -> bool:
        """Whether the chunks are those of the whole measurement."""
        return not self.is_probe and self.tiles == self.budget.all_tiles

    @property
    def evaluations_left(self) -> int:
        """Evaluations that the budget still allows; at least one, which may be known already."""
        return max(1, self.budget.evaluations_left(self.tiles, all_points=self.is_all_points))

    def cost_function(self, objective: TwoTimeObjective, space: SearchSpace) -> CostFunction:
        """The normal equations of the physics as a function of the coordinates of a space."""
        objective = self._own(objective).in_coordinates(space)

        def evaluate(y: NDArray[np.float64]) -> NormalEquations:
            equations = objective.normal_equations(y, self._sums_at(objective, y))
            self._remember(_Evaluation(objective, space, y, equations))
            return equations

        return evaluate

    @property
    def best(self) -> Solution | None:
        """The best point that was evaluated for the last scaling, as where a search stopped."""
        if self._best is None:
            return None
        objective, space, y, state = self._best
        active = np.zeros(len(y), dtype=np.int64)
        result = TrustRegionResult(y, y, state, False, "stopped", 0, 0, state.cost, active)
        return self.solution(objective, space, result)

    def _remember(self, new: _Evaluation) -> None:
        budget, state = self.budget, new.state
        if state.finite and (self._best is None or new.is_better_than(self._best)):
            self._best = new
            budget.can_stop |= self.is_all_points
        budget.cost = state.cost / max(1, state.n_points)
        self._tell_evaluation()

    def _tell_evaluation(self) -> None:
        if self.is_probe:
            self.budget.tell(self.name, "evaluation", len(self._sums))
        else:
            self.budget.tell_search(self.name)

    def cost_functions(self, objective: TwoTimeObjective, space: SearchSpace) -> CostFunctions:
        """`cost_function` at many coordinates (s, m) of a space."""
        objective = self._own(objective).in_coordinates(space)

        def evaluate(ys: NDArray[np.float64]) -> list[NormalEquations]:
            states = []
            for first in range(0, len(ys), AT_ONCE):
                sums = self._sums_at_each(objective, ys[first : first + AT_ONCE])
                states += objective.normal_equations_of_each(sums)
                self._tell_evaluation()
            return states

        return evaluate

    def sums(
        self, objective: TwoTimeObjective, space: SearchSpace, y: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Moments (K, m, m) at the coordinates y of a space."""
        return self._sums_at(self._own(objective).in_coordinates(space), y)

    def solution(
        self, objective: TwoTimeObjective, space: SearchSpace, result: TrustRegionResult
    ) -> Solution:
        """Physics and scaling together where a search in a space ended."""
        objective = self._own(objective).in_coordinates(space)
        sums = self._sums_at(objective, result.evaluated)
        joint = objective.joint_equations(sums).after_step(result.x - result.evaluated, follow=True)
        return Solution(objective, space, result, sums, joint)

    def reduce(
        self, objective: Summable[NDArray[np.float64]], y: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Other sums over the same points, not counted as a pass of the search."""
        return self._summed(objective, y, partial(self.budget.tell, f"residuals of {self.name}"))

    def in_space(self, solution: Solution, space: SearchSpace) -> Solution:
        """The same point in a space that searches more of the same coordinates."""
        if space is solution.space:
            return solution
        x, evaluated = (
            solution.space.complete(y)[space.searched]
            for y in (solution.result.x, solution.result.evaluated)
        )
        active = np.zeros(len(solution.space.fixed), dtype=np.int64)
        active[solution.space.searched] = solution.result.active
        result = replace(solution.result, x=x, evaluated=evaluated, active=active[space.searched])
        return self.solution(solution.objective, space, result)

    def unlimited(self, solution: Solution, space: SearchSpace) -> Solution:
        """The same point in a space that holds nothing, contrast and offset neither.

        What the data know of a parameter does not depend on its limits, nor on those of others.
        """
        x, evaluated = (
            space.convert(y, solution.space) for y in (solution.result.x, solution.result.evaluated)
        )
        active = np.zeros(len(x), dtype=np.int64)
        result = replace(solution.result, x=x, evaluated=evaluated, active=active)
        free = self.solution(solution.objective, space, result)
        return replace(free, joint=replace(free.joint, free=np.eye(len(free.joint.z))))

    def _own(self, objective: TwoTimeObjective) -> TwoTimeObjective:
        """The objective for the angles that the chunks hold.

        Those of some angles are a probe, of frames far apart, which asks for double precision.
        """
        if self.angles is None:
            return objective
        return replace(objective.select_angles(self.angles), precision="double")

    def _sums_at(self, objective: TwoTimeObjective, y: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._sums_at_each(objective, y[None])[0]

    def _sums_at_each(
        self, objective: TwoTimeObjective, ys: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Moments (s, K, m, m) at coordinates (s, m): what is not known yet, in one pass."""
        made_of = objective.pseudo_data and objective.pseudo_data.key
        keys = [(objective.model, full.tobytes(), made_of) for full in objective.complete(ys)]
        new = {key: y for key, y in zip(keys, ys, strict=True) if key not in self._sums}
        if new:
            tell = partial(self.budget.tell_search, self.name)
            found = self._summed(objective, np.array(list(new.values())), tell)
            for key, sums in zip(new, found, strict=True):
                self._sums[key] = sums
                self.budget.count(self.tiles)
        return np.array([self._sums[key] for key in keys])

    def _summed(
        self,
        objective: Summable[NDArray[np.float64]],
        y: NDArray[np.float64],
        tell: Callable[[str, int, int], None],
    ) -> NDArray[np.float64]:
        """The sums over all chunks; each chunk is told."""
        done, several = 0, len(self.chunks) > 1

        def told(part: Partial[NDArray[np.float64]]) -> Partial[NDArray[np.float64]]:
            nonlocal done
            done += len(part.costs)
            if several:
                tell("chunk", done, len(self.chunks))
            return part

        return add_up(map(told, partial_sums(objective, y, self.chunks, self.executor))).sums


@dataclass(frozen=True, eq=False)
class Samples:
    """What a fit is searched on.

    Attributes
    ----------
    probe : Sample
        A few tiles that span all lags, for the global search.
    growing : tuple of Sample
        Shares of the points, the smallest first; the last holds all points.
    budget : Budget
    """

    probe: Sample
    growing: tuple[Sample, ...]
    budget: Budget

    @property
    def smallest(self) -> Sample:
        """The smallest share that is no probe; it may hold all points."""
        return self.growing[0]

    @property
    def all_points(self) -> Sample:
        """Every point of the measurement."""
        return self.growing[-1]


def make_samples(
    data: TwoTimeData,
    chunks: Sequence[Chunk],
    executor: Executor,
    max_passes: int,
    progress: Progress = not_told,
) -> Samples:
    """The probe, and shares of the chunks each `SAMPLE_SHARE` times as large as the one before."""
    budget = Budget(max_passes, _count_tiles(chunks), progress)
    growing = [Sample("all points", chunks, executor, budget)]
    while (share := len(growing[0].chunks) // SAMPLE_SHARE) > 0:
        growing.insert(0, Sample("a sample of the points", chunks[:share], executor, budget))
    angles = probed_angles(data.phi)
    probe = probe_chunk(data, chunks[0].room, angles)
    return Samples(
        Sample("global search", [probe], executor, budget, angles), tuple(growing), budget
    )


def _count_tiles(chunks: Sequence[Chunk]) -> int:
    """Tiles of single angles in the chunks."""
    return sum(chunk.n_tiles * chunk.n_angles for chunk in chunks)
