"""Evaluations of an objective on some of the chunks, none done twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.elimination import JointEquations
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.kernel.stored_chunks import Chunk
from homodyne_fit.model.coordinates import SearchSpace
from nlsq_stratified import NormalEquations, TrustRegionResult, reduce
from nlsq_stratified.reduction import distribute

__all__ = ["Evaluations", "PassCounter", "Place", "Position", "Progress"]

# Evaluations of the probe that a search may take.
PROBE_NFEV = 100

# Share of the budget after which no answer is improved on.
RESERVED = 0.5

# Share of a pass that rounding may hide.
SPARE = 1e-9

# Called with the name of the stage, the passes so far, and the cost per point.
Progress = Callable[[str, float, float], None]


class PassCounter:
    """Counts evaluated tiles of single angles, as passes over the whole measurement.

    Parameters
    ----------
    in_all : int
        Tiles of the measurement.
    progress : callable, optional
        Told of every evaluation.
    budget : int
        Passes that the fit may take, those over the probe of the global search not counted.
    """

    def __init__(self, in_all: int, progress: Progress | None, budget: int) -> None:
        self.in_all, self.progress, self.budget = in_all, progress, budget
        self.passes = self.spent = 0.0

    def restart_budget(self) -> None:
        """Begin a fit that has the whole budget."""
        self.spent = 0.0

    @property
    def exhausted(self) -> bool:
        """Whether the budget is spent."""
        return self.spent > self.budget - SPARE

    @property
    def running_out(self) -> bool:
        """Whether too little of the budget is left for searches that only improve on an answer."""
        return self.spent > RESERVED * self.budget

    def evaluations_left(self, tiles: int) -> int:
        """How often so many tiles may still be evaluated."""
        return int((self.budget - self.spent) * self.in_all / max(1, tiles) + SPARE)

    def add(
        self, stage: str, tiles: int, state: Callable[[], NormalEquations], *, free: bool
    ) -> None:
        """Count the evaluation of so many tiles; `state` tells what came of it."""
        self.passes += tiles / self.in_all
        if not free:
            self.spent += tiles / self.in_all
        if self.progress is not None:
            found = state()
            self.progress(stage, self.passes, found.cost / max(1, found.n_points))


@dataclass(frozen=True, eq=False)
class Place:
    """A search space and its searched coordinates y (m,)."""

    space: SearchSpace
    y: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Position:
    """Where a search ended, and the equations of physics and scaling there.

    Attributes
    ----------
    objective : TwoTimeObjective
        In the coordinates of `space`.
    space : SearchSpace
    result : TrustRegionResult
    sums : (K, m, m) array
        Where the objective was evaluated last: a trusted step before the end, if one was taken.
    joint : JointEquations
        From these, z moved along with that step.
    """

    objective: TwoTimeObjective
    space: SearchSpace
    result: TrustRegionResult
    sums: NDArray[np.float64]
    joint: JointEquations

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.space, self.result.x)

    @property
    def equations(self) -> NormalEquations:
        """Of physics and scaling together."""
        return self.joint.equations

    @property
    def parameters(self) -> NDArray[np.float64]:
        """Parameters of the model (p,)."""
        return self.space.to_parameters(self.result.x)

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which of the searched coordinates are not at a limit, (m,)."""
        return self.result.active == 0

    @property
    def variance(self) -> float:
        """Of the noise of a point."""
        return self.joint.noise_variance(self.free)

    def joint_of(self, objective: TwoTimeObjective, z: NDArray[np.float64]) -> JointEquations:
        """Equations of an objective with other scaling, here and at its z."""
        step = self.result.x - self.result.evaluated
        return objective.joint_equations(self.sums, z).after_step(step, follow=False)

    @property
    def without_effect(self) -> bool:
        """Whether changing any searched coordinate by its own size changes χ² by less than 1."""
        p = self.joint.n_physics
        curvature = np.diag(self.joint.equations.hessian)[:p]
        effects = curvature * self.space.natural_scales(self.result.x) ** 2
        return bool(p) and bool(np.all(effects < max(self.variance, np.finfo(float).tiny)))

    @property
    def scaling(self) -> NDArray[np.float64]:
        """Contrasts, then offsets (2K,)."""
        return self.joint.scaling.values(self.joint.z)


def count_tiles(chunks: Sequence[Chunk]) -> int:
    """Tiles of single angles in the chunks."""
    return sum(chunk.n_tiles * chunk.n_angles for chunk in chunks)


class Evaluations:
    """Moment sums over some chunks, remembered by the physics they belong to.

    The moments do not depend on contrast, offset, weights or penalties, so an objective that
    differs in these alone costs nothing at a place already seen.

    Parameters
    ----------
    stage : str
        Name for the progress display.
    chunks : sequence of TileChunk or StoredChunk
    executor : concurrent.futures.Executor
    counter : PassCounter
    angles : (k,) int array, optional
        Those that the chunks hold; all when None.
    """

    def __init__(
        self,
        stage: str,
        chunks: Sequence[Chunk],
        executor: Executor,
        counter: PassCounter,
        angles: NDArray[np.int64] | None = None,
    ) -> None:
        self.stage, self.counter = stage, counter
        # A single chunk is not worth sending.
        self.executor = executor if len(chunks) > 1 else None
        self.chunks = distribute(chunks, self.executor)
        self.angles, self.tiles = angles, count_tiles(chunks)
        self._sums: dict[tuple[object, ...], NDArray[np.float64]] = {}

    @property
    def is_probe(self) -> bool:
        """Whether the chunks are the probe of the global search, which costs next to nothing."""
        return self.angles is not None

    @property
    def evaluations_left(self) -> int:
        """Evaluations that the budget of the fit still has; one at the least, which is known."""
        if self.is_probe:
            return PROBE_NFEV
        return max(1, self.counter.evaluations_left(self.tiles))

    def objective(self, objective: TwoTimeObjective) -> TwoTimeObjective:
        """The objective for the angles that the chunks hold.

        Those of some angles are a probe, of frames far apart, which asks for double precision.
        """
        if self.angles is None:
            return objective
        return replace(objective.only(self.angles), precision="double")

    def sums(self, objective: TwoTimeObjective, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Moments (K, m, m) at the searched coordinates y, of an objective for these angles."""
        key = (objective.model, objective.complete(y).tobytes())
        if key not in self._sums:
            self._sums[key] = sums = reduce(objective, y, self.chunks, self.executor)
            state = partial(objective.normal_equations, y, sums)
            self.counter.add(self.stage, self.tiles, state, free=self.is_probe)
        return self._sums[key]

    def equations(self, objective: TwoTimeObjective, y: NDArray[np.float64]) -> NormalEquations:
        """Normal equations of the physics at y."""
        return objective.normal_equations(y, self.sums(objective, y))

    def of(
        self, objective: TwoTimeObjective
    ) -> Callable[[SearchSpace], Callable[[NDArray[np.float64]], NormalEquations]]:
        """`equations` as a function of the search space, then of its coordinates."""
        objective = self.objective(objective)
        return lambda space: partial(self.equations, objective.within(space))

    def position(
        self, objective: TwoTimeObjective, space: SearchSpace, result: TrustRegionResult
    ) -> Position:
        """Physics and scaling together where a search ended."""
        objective = self.objective(objective).within(space)
        sums = self.sums(objective, result.evaluated)
        joint = objective.joint_equations(sums).after_step(result.x - result.evaluated, follow=True)
        return Position(objective, space, result, sums, joint)
