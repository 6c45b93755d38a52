"""The fit: start from the data, refine on a sample, finish on all points."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.storage.stored_matrices import Matrices, upper_bands
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.layers.build import build_controller
from homodyne_fit.fitting.layers.layer import Controller
from homodyne_fit.fitting.result import FitInfo, FitResult
from homodyne_fit.fitting.search.bounded_search import solve_within_limits
from homodyne_fit.fitting.search.rivals import distance_between, other_minima
from homodyne_fit.fitting.search.samples import (
    PROBE_NFEV,
    Evaluations,
    PassCounter,
    Place,
    Position,
    Progress,
    count_tiles,
)
from homodyne_fit.fitting.search.starts import (
    HOPELESS,
    SAME_BASIN,
    Start,
    best_start,
    is_above,
    spread_starts,
)
from homodyne_fit.fitting.settings import SHEAR_FORMS, FitSettings
from homodyne_fit.fitting.uncertainty import assemble_result
from homodyne_fit.kernel.compilation import meanwhile
from homodyne_fit.kernel.moments import compile_kernel
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.kernel.stored_chunks import chunks_of
from homodyne_fit.kernel.tiles import probe_chunk, probed_angles
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.parameters import PARAMETERS
from homodyne_fit.model.scaling import scaling_map
from nlsq_stratified import solve

__all__ = ["FitSettings", "Progress", "fit"]

# One chunk in so many is fitted first, and of these as many before them and so on; to this accuracy
# in standard errors of the sample.
SAMPLE_SHARE, SAMPLE_TOLERANCE = 8, 0.3

# A contrast that is zero but for rounding.
NO_CONTRAST = 1e-12

# How far the mean of a matrix may lie outside of what the bounds of contrast and offset span.
SLACK = 0.1

# Evaluations on the first sample before the layers look at it.
FIRST_GLANCE = 4

# Evaluations of a sample that show whether a rival is hopeless there, and those that it then gets.
RIVAL_NFEV, LATER_NFEV = 8, 30

# Decrease of χ² from which on a rival takes the place of the best.
BETTER = 0.05

# How far above the best, in standard errors, a rival may be on all points to be followed up.
DECIDED = 5.0

# The variance on all points may be above that of the last sample by so many standard errors of
# that, and by this share of it, before the sample counts as misleading.
MISLEADING, TRIVIAL = 5.0, 0.02

# Degrees from a direction of symmetry within which no search starts.
STATIONARY = 1.0

# Searches after which the layers get no further say.
MAX_SEARCHES = 30


def fit(
    data: TwoTimeData,
    settings: FitSettings,
    executor: Executor | None = None,
    progress: Progress | None = None,
    like: FitResult | None = None,
) -> FitResult:
    """Fit the model to all points t1 < t2 of all angles.

    Parameters
    ----------
    data : TwoTimeData
    settings : FitSettings
    executor : concurrent.futures.Executor, optional
        Where the chunks are summed; threads of this process when None.
    progress : callable, optional
        Called after every evaluation.
    like : FitResult, optional
        An earlier fit of the same angles: contrast, offset and the weights of the angles are
        treated exactly as at its end, penalty included, and no layer acts.

    Returns
    -------
    FitResult
        Also when the fit did not converge: see its ``success`` and ``message``.

    Raises
    ------
    InputError
        If settings and data do not fit together, or no start within the bounds is finite.
    """
    # The matrices of a fit are small: threads of the linear algebra would only wait for each other.
    with threadpool_limits(1, user_api="blas"):
        if executor is not None:
            return _fit(data, settings, executor, progress, like)
        with ThreadPoolExecutor(settings.search.threads or os.cpu_count()) as threads:
            return _fit(data, settings, threads, progress, like)


def _fit(
    data: TwoTimeData,
    settings: FitSettings,
    executor: Executor,
    progress: Progress | None,
    like: FitResult | None,
) -> FitResult:
    began = time.perf_counter()
    search = _Search(data, settings, executor, progress, like)
    start, sums = search.start()
    objective, y = search.controller.prepare(search.objective, start, search.rehearse)
    at_start = objective.joint_equations(sums)
    layers = {}
    search.counter.restart_budget()
    places = [Place(search.space, y)]
    if settings.search.multi_start.enable:
        found = search.best_start(objective, y)
        places = [Place(search.space, y) for y in (found.coordinates, *found.rivals)]
        layers["multi_start"] = found.report()
    position, rivals = search.through_samples(objective, places)
    if settings.search.multi_start.enable and search.sample_was_misleading(position):
        position, rivals = search.once_more(position, rivals)
    n_points = position.joint.equations.n_points
    success, message = _verdict(position)
    if (failure := search.controller.failure()) is not None:
        success, message = False, failure
    elif not success and search.counter.exhausted:
        message = (
            f"stopped after {search.counter.spent:.0f} of {settings.search.max_nfev} passes over "
            "the points without converging"
        )
    return assemble_result(
        position,
        search.released(position),
        FitInfo(
            success=success,
            message=message,
            cost_initial=0.5 * at_start.sum_of_squares * n_points / at_start.equations.n_points,
            passes=search.counter.passes,
            seconds=time.perf_counter() - began,
            layers={**layers, **search.controller.report()},
            alternatives=other_minima(position, rivals) if success else [],
        ),
    )


class _Search:
    """A fit in progress: the samples of the data, and what is done on them."""

    def __init__(
        self,
        data: TwoTimeData,
        settings: FitSettings,
        executor: Executor,
        progress: Progress | None,
        like: FitResult | None = None,
    ) -> None:
        self.data, self.settings = data, settings
        self.space = _search_space(data, settings)
        chunks, angles = chunks_of(data, settings.search.memory), probed_angles(data.phi)
        shape = self.space.form, chunks[0].room, data.c2.dtype
        power, _ = SHEAR_FORMS[settings.shear]
        for precision in {settings.search.precision, "double"}:
            meanwhile(functools.partial(compile_kernel, *shape, power, precision))
        self.counter = PassCounter(count_tiles(chunks), progress, settings.search.max_nfev)
        self.everything = Evaluations("all points", chunks, executor, self.counter)
        self.samples = [self.everything]
        self.last_sample: Position | None = None
        while (share := len(self.samples[0].chunks) // SAMPLE_SHARE) > 0:
            sample = Evaluations("sample", chunks[:share], executor, self.counter)
            self.samples.insert(0, sample)
        probe = probe_chunk(data.only(angles), chunks[0].room)
        self.probe = Evaluations("search", [probe], executor, self.counter, angles)
        self.objective = _objective(data, settings, self.space)
        _require_reachable(data, self.objective.reference, settings)
        self.start_parameters = _start(data, settings, self.space)
        if like is not None:
            same = {"scaling": like.objective.scaling, "weights": like.objective.weights}
            self.objective, self.controller = replace(self.objective, **same), Controller([])
            return
        self.controller = build_controller(
            data,
            settings.search.anti_degeneracy,
            settings.limits("contrast"),
            settings.limits("offset"),
            float(self.start_parameters[-1]) if settings.model.has_flow else None,
        )

    def start(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coordinates of the start, where the model must be finite, and sums of a sample there."""
        parameters, objective = self.start_parameters, self.objective
        y = self.space.to_coordinates(parameters)
        unknowns = np.count_nonzero(self.space.searched) + objective.scaling.matrix.shape[1]
        n_points = 0
        for sample in self.samples:
            sums = sample.sums(objective, y)
            initial = objective.normal_equations(y, sums)
            n_points = initial.n_points
            if not initial.finite:
                named = zip(self.settings.model.parameters, parameters, strict=True)
                raise InputError(
                    f"{self.data.source}: the model is not finite at the start, "
                    + ", ".join(f"{name} = {value:g}" for name, value in named)
                )
            if n_points > unknowns:
                return y, sums
        raise InputError(
            f"{self.data.source}: {n_points} points cannot determine {unknowns} unknowns"
        )

    def best_start(
        self,
        objective: TwoTimeObjective,
        y: NDArray[np.float64],
        sample: Evaluations | None = None,
    ) -> Start:
        """The best basins on the probe, from y and from starts spread over what is visible.

        Where the probe leaves a doubt, the sample helps: the smallest one when None.
        """
        spread = spread_starts(
            self.settings.model,
            self.start_parameters,
            self.space,
            self.data,
            self.settings.gap or np.nan,
            self.settings.search.multi_start,
        )
        starts = np.array([y, *map(self.space.to_coordinates, spread)])
        samples = [self.probe, sample or self.samples[0]]
        evaluators = [sample.of(objective)(self.space) for sample in samples]
        return best_start(evaluators, starts, *self.space.limits)

    def rehearse(
        self, objective: TwoTimeObjective, y: NDArray[np.float64], *, everything: bool = False
    ) -> tuple[Position, NDArray[np.float64]]:
        """A preliminary fit from y for a layer, as `layers.layer.Rehearse` says."""
        self.counter.restart_budget()
        if everything and self.settings.search.multi_start.enable:
            y = self.best_start(objective, y).coordinates
        sample = self.everything if everything else self.probe
        place = Place(self.space, y)
        position = self._solve(sample, objective, place, SAMPLE_TOLERANCE)
        return position, self.space.released(position.result.x, position.space)

    def through_samples(
        self, objective: TwoTimeObjective, places: list[Place]
    ) -> tuple[Position, list[Position]]:
        """Search on samples of growing size, then on all points.

        Returns where the best of the places leads, and where those lead that samples could not
        rule out.
        """
        place, *rivals = places
        for sample in self.samples[:-1]:
            # On a larger sample, what had to be held at a limit may not have to.
            position = self.settle(sample, objective, self.freed(place), SAMPLE_TOLERANCE)
            position, others = self.compare(sample, position, rivals, SAMPLE_TOLERANCE)
            objective, place, self.last_sample = position.objective, position.place, position
            rivals = [other.place for other in others]
        sample, tolerance = self.everything, self.settings.search.tolerance
        position = self.settle(sample, objective, self.freed(place), tolerance)
        return self.compare(sample, position, rivals, tolerance)

    def compare(
        self, sample: Evaluations, position: Position, rivals: Sequence[Place], tolerance: float
    ) -> tuple[Position, list[Position]]:
        """Follow up other places.

        Returns the best position, and others that are not hopeless, the best one first.
        """
        hopeless = DECIDED if sample is self.everything else HOPELESS
        others: list[Position] = []
        for rival in rivals:
            if self.counter.running_out:
                break
            place, objective = self.freed(rival), position.objective
            other = self._solve(sample, objective, place, SAMPLE_TOLERANCE, RIVAL_NFEV)
            if is_above(other.equations, position.equations, hopeless):
                continue
            if any(distance_between(one, other) <= SAME_BASIN for one in (position, *others)):
                continue
            other = self._solve(sample, objective, other.place, tolerance, LATER_NFEV)
            gain = 2 * (position.equations.cost - other.equations.cost) / position.variance
            if gain > BETTER:
                others.append(position)
                position = self.settle(sample, objective, other.place, tolerance)
                same = position.objective.scaling is other.objective.scaling
                if same and other.equations.cost < position.equations.cost:
                    position = other
            else:
                others.append(other)
        others.sort(key=lambda other: other.equations.cost)
        return position, [
            other for other in others if not is_above(other.equations, position.equations, hopeless)
        ]

    def sample_was_misleading(self, position: Position) -> bool:
        """Whether all points are fitted worse than the last sample was, beyond chance."""
        if self.last_sample is None or self.counter.running_out:
            return False
        chance = np.sqrt(2 / self.last_sample.equations.n_points)
        most = self.last_sample.variance * (1 + MISLEADING * chance + TRIVIAL)
        return position.variance > most

    def once_more(
        self, position: Position, rivals: list[Position]
    ) -> tuple[Position, list[Position]]:
        """Look for better basins once more, from where the search has ended and from new starts."""
        found = self.best_start(position.objective, self.freed(position.place).y, self.samples[-2])
        places = [Place(self.space, y) for y in (found.coordinates, *found.rivals)]
        position, others = self.compare(
            self.everything, position, places, self.settings.search.tolerance
        )
        return position, [*rivals, *others]

    def freed(self, place: Place) -> Place:
        """The same place with no parameter held at a limit."""
        return Place(self.space, self.space.released(place.y, place.space))

    def settle(
        self,
        evaluations: Evaluations,
        objective: TwoTimeObjective,
        place: Place,
        tolerance: float,
    ) -> Position:
        """Search, again and again, until no layer asks for more."""
        self.controller.begin(tolerance)
        nfev = 1 if self.controller.failure() else evaluations.evaluations_left
        # What the layers would ask for at the end, most of it, they can have at once: the place is
        # near the end of all points where samples led there.
        glance = FIRST_GLANCE if evaluations is self.samples[0] else 1
        result = solve(
            evaluations.of(objective)(place.space),
            place.y,
            *place.space.limits,
            tolerance=tolerance,
            max_nfev=min(glance, nfev),
        )
        position = evaluations.position(objective, place.space, result)
        objective, place = self._revised(position) or (objective, position.place)
        position = self._solve(evaluations, objective, place, tolerance, nfev, watched=True)
        for _ in range(MAX_SEARCHES):
            elsewhere = self.controller.restart(position)
            if self.controller.failure() is not None or self.counter.exhausted:
                break
            if position.result.success and self.counter.running_out:
                break
            if elsewhere is not None:
                place = elsewhere
            elif (revised := self._revised(position)) is not None:
                objective, place = revised
            else:
                break
            position = self._solve(evaluations, objective, place, tolerance, watched=True)
        return position

    def _revised(self, position: Position) -> tuple[TwoTimeObjective, Place] | None:
        """The objective that a layer wants to go on with, and from where."""
        revised = self.controller.revise(position)
        if revised is None:
            return None
        if revised.scaling.mode == position.objective.scaling.mode:
            return revised, position.place
        return revised, self._another_basin(revised, position.place)

    def _another_basin(self, objective: TwoTimeObjective, place: Place) -> Place:
        """Other contrasts and offsets may make another basin the best one."""
        if not self.settings.search.multi_start.enable:
            return place
        y = self.space.released(place.y, place.space)
        return Place(self.space, self.best_start(objective, y).coordinates)

    def _solve(
        self,
        evaluations: Evaluations,
        objective: TwoTimeObjective,
        place: Place,
        tolerance: float,
        max_nfev: int | None = None,
        *,
        watched: bool = False,
    ) -> Position:
        def watch(space: SearchSpace, y: NDArray[np.float64]) -> None:
            inside = objective.within(space)
            self.controller.check(space, inside, y, evaluations.sums(inside, y))

        smallest = evaluations if evaluations is self.probe else self.samples[0]

        def left() -> int:
            return min(max_nfev or PROBE_NFEV, evaluations.evaluations_left)

        solution = solve_within_limits(
            evaluations.of(objective),
            smallest.of(objective),
            place.space,
            place.y,
            tolerance,
            left,
            lambda: smallest.evaluations_left,
            watch if watched else None,
        )
        return evaluations.position(objective, solution.space, solution.result)

    def released(self, position: Position) -> Position:
        """The same place with no parameter held; its sums are known already."""
        space = position.space
        if not space.held:
            return position
        free = replace(space, held={})
        ends = {
            name: space.complete(getattr(position.result, name))[free.searched]
            for name in ("x", "evaluated")
        }
        result = replace(position.result, **ends)
        return self.everything.position(position.objective, free, result)


def _verdict(position: Position) -> tuple[bool, str]:
    """Whether the fit converged to something, and what to say about it."""
    contrast = position.scaling[: len(position.objective.phi)]
    if np.all(np.abs(contrast) <= NO_CONTRAST):
        return False, "the data show no decay: the contrast is zero at every angle"
    if position.without_effect:
        return False, "the model does not decay: no physical parameter has an effect"
    return position.result.success, position.result.message


def _search_space(data: TwoTimeData, settings: FitSettings) -> SearchSpace:
    names = settings.model.parameters
    limits = np.array([settings.limits(name) for name in names])
    return SearchSpace(
        model=settings.model.for_one_fit(),
        tau=float(data.times[-1]) / 2,
        lower=limits[:, 0],
        upper=limits[:, 1],
        fixed=np.array([settings.fixed.get(name, np.nan) for name in names]),
    )


def _objective(data: TwoTimeData, settings: FitSettings, space: SearchSpace) -> TwoTimeObjective:
    power, phase = SHEAR_FORMS[settings.shear]
    return TwoTimeObjective(
        model=space.form,
        dt=data.dt,
        n_frames=data.n_frames,
        q=data.q,
        phi=data.phi,
        gap=np.nan if settings.gap is None else settings.gap,
        scaling=scaling_map(
            "individual",
            phi=data.phi,
            contrast=settings.limits("contrast"),
            offset=settings.limits("offset"),
        ),
        weights=np.ones(data.n_angles),
        # Numbers of single precision, so that subtracting them is exact there, too.
        reference=np.array([_mean_off_diagonal(data.c2, k) for k in range(data.n_angles)])
        .astype(np.float32)
        .astype(np.float64),
        fixed=space.fixed_coordinates,
        sinc_power=power,
        phase_per_gap=phase,
        precision=settings.search.precision,
    )


def _mean_off_diagonal(c2: Matrices, k: int) -> float:
    """Mean of the finite entries of c2[k] at t1 < t2."""
    total, count = 0.0, 0
    for _, band in upper_bands(c2, k):
        counted = np.triu(np.isfinite(band), 1)
        total += float(band.sum(dtype=np.float64, where=counted))
        count += int(np.count_nonzero(counted))
    return total / count


def _require_reachable(
    data: TwoTimeData, means: NDArray[np.float64], settings: FitSettings
) -> None:
    """Refuse matrices whose mean no contrast and offset within their bounds can have."""
    (low, high), (_, contrast) = settings.limits("offset"), settings.limits("contrast")
    slack = SLACK * (high + contrast - low)
    outside = (means < low - slack) | (means > high + contrast + slack)
    if not np.any(outside):
        return
    k = int(np.argmax(outside))
    hint = "is it c2 - 1? add 1; else " if low <= means[k] + 1 <= high + contrast else ""
    raise InputError(
        f"{data.source}: the mean of the matrix at φ = {data.phi[k]:g}° is {means[k]:.3g}, which "
        f"no offset from {low:g} to {high:g} and contrast up to {contrast:g} gives; {hint}widen "
        "the bounds of contrast and offset"
    )


def _start(data: TwoTimeData, settings: FitSettings, space: SearchSpace) -> NDArray[np.float64]:
    """All parameters (p,): fixed, given, read off the data, or the default, in that order."""
    q = float(np.median(data.q))
    defaults = {
        **{p.name: p.start for p in PARAMETERS.values() if p.start is not None},
        # Transport decays to 1/e, and the shear phase reaches 1, in a quarter of the measurement.
        "D0": 2 / (q**2 * space.tau),
        "gamma_dot_t0": 4 / (q * (settings.gap or np.nan) * space.tau),
    }
    start = np.empty(len(space.fixed))
    for i, name in enumerate(settings.model.parameters):
        lower, upper = settings.limits(name)
        if name in settings.fixed:
            start[i] = settings.fixed[name]
        elif name in settings.initial:
            start[i] = settings.initial[name]
        else:
            start[i] = np.clip(defaults[name], lower, upper)
    return _off_symmetry(start, space, data.phi)


def _off_symmetry(
    start: NDArray[np.float64], space: SearchSpace, phi: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Leave a flow direction at which nothing depends on it to first order.

    Where all angles are along the flow or across it the cost is stationary, and a maximum as often
    as a minimum.
    """
    names = space.model.parameters
    if not space.model.has_flow or not np.isnan(space.fixed[index := names.index("phi0")]):
        return start
    off = (phi - start[index] + 45.0) % 90.0 - 45.0
    if np.all(np.abs(off) < STATIONARY):
        start = start.copy()
        room = space.upper[index] - start[index], start[index] - space.lower[index]
        start[index] += (
            min(STATIONARY, room[0]) if room[0] >= room[1] else -min(STATIONARY, room[1])
        )
    return start
