"""The fit: start from the data, refine on a sample, finish on all points."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.bounded_search import BoundedSolution, solve_within_limits
from homodyne_fit.coordinates import SearchSpace
from homodyne_fit.dataset import TwoTimeData
from homodyne_fit.errors import InputError, suggestion
from homodyne_fit.model import LAMINAR_FLOW, Model
from homodyne_fit.objective import TwoTimeObjective
from homodyne_fit.parameters import ALIASES, PARAMETERS
from homodyne_fit.results import FitInfo, FitResult
from homodyne_fit.scaling import JointEquations, scaling_map
from homodyne_fit.search import best_start, start_grid
from homodyne_fit.tiles import TileChunk, probe_chunk, tile_chunks
from homodyne_fit.uncertainty import assemble_result, physics_spread
from nlsq_stratified import NormalEquations, Spread, reduce, solve

__all__ = ["FitSettings", "Progress", "fit"]

# Shapes of the shear term: power of the sinc, and its argument over q h cos(φ0 − φ) ΔΓ.
# `homodyne` reproduces homodyne <= 2.23 and xpcsjax 0.1.8, whose shear rates are not those of
# the formula they document.
SHEAR_FORMS = {"documented": (2, 0.5), "homodyne": (4, 0.5 / np.pi)}

# With this many chunks, one in so many is fitted first, to this accuracy in standard errors.
SAMPLE_STAGE_CHUNKS, SAMPLE_STAGE_SHARE, SAMPLE_STAGE_TOLERANCE = 16, 8, 0.3

# A contrast that is zero but for rounding.
NO_CONTRAST = 1e-12

# Called with the name of the stage, the passes so far, and the cost per point.
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class FitSettings:
    """Everything that decides a fit besides the data.

    Attributes
    ----------
    model : Model
    gap : float or None
        Width of the sheared gap, Å; needed by a model with flow.
    initial : mapping
        Start values by parameter name; what is missing comes from the data or the defaults.
    fixed : mapping
        Parameters held at a value.
    bounds : mapping
        (lower, upper) by parameter name, in place of the defaults.
    per_angle_mode : str
        One of `homodyne_fit.scaling.MODES`.
    multi_start : bool
        Search the sample for the best basin; if False, start from the initial values alone.
    tolerance : float
        Distance from the minimum, in standard errors, at which the fit has converged.
    max_nfev : int
        Passes over all points allowed.
    shear : str
        'documented' for sinc²(½ q h cos·ΔΓ), 'homodyne' for the form homodyne computes.
    threads : int or None
        Threads that sum the chunks; one for each processor when None.
    """

    model: Model = LAMINAR_FLOW
    gap: float | None = None
    initial: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    per_angle_mode: str = "individual"
    multi_start: bool = True
    tolerance: float = 1e-4
    max_nfev: int = 100
    shear: str = "documented"
    threads: int | None = None

    def __post_init__(self) -> None:
        known = [*self.model.parameters, "contrast", "offset"]
        for kind in ("initial", "fixed", "bounds"):
            given: Mapping[str, Any] = getattr(self, kind)
            named = {ALIASES.get(name, name): value for name, value in given.items()}
            for name in named:
                if kind != "bounds" and name in ("contrast", "offset"):
                    raise InputError(f"{kind}: {name} is not searched; narrow its bounds instead")
                if name not in known:
                    raise InputError(
                        f"{kind}: the model {self.model.name} has no parameter "
                        f"'{name}'{suggestion(name, known)}"
                    )
            object.__setattr__(self, kind, named)
        for name, value in [*self.initial.items(), *self.fixed.items()]:
            if not np.isfinite(value):
                raise InputError(f"the value of {name} must be finite, got {value}")
        for name, (lower, upper) in self.bounds.items():
            if not (np.isfinite(lower) and np.isfinite(upper)):
                raise InputError(f"bounds of {name} must be finite, got {lower:g} to {upper:g}")
            if not lower < upper:
                raise InputError(f"bounds of {name}: {lower:g} is not below {upper:g}")
        if self.model.has_flow and not (self.gap is not None and self.gap > 0):
            raise InputError(f"the model {self.model.name} needs a positive gap in Å")
        if self.shear not in SHEAR_FORMS:
            raise InputError(f"shear must be one of {', '.join(SHEAR_FORMS)}, not '{self.shear}'")

    def limits(self, name: str) -> tuple[float, float]:
        """Bounds of a parameter: those given, or the defaults."""
        return self.bounds.get(name, (PARAMETERS[name].lower, PARAMETERS[name].upper))


def fit(
    data: TwoTimeData,
    settings: FitSettings,
    executor: Executor | None = None,
    progress: Progress | None = None,
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

    Returns
    -------
    FitResult
        Also when the fit did not converge: see its ``success`` and ``message``.

    Raises
    ------
    InputError
        If settings and data do not fit together, or no start within the bounds is finite.
    """
    if executor is not None:
        return _fit(data, settings, executor, progress)
    with ThreadPoolExecutor(settings.threads or os.cpu_count()) as threads:
        return _fit(data, settings, threads, progress)


class _Evaluator:
    """Normal equations of the search on some of the chunks, in some coordinates.

    Remembers the sums it has seen, which the covariance needs once more.
    """

    def __init__(
        self,
        stage: str,
        objective: TwoTimeObjective,
        chunks: Sequence[TileChunk],
        executor: Executor,
        counter: _PassCounter,
    ) -> None:
        self.stage, self.objective, self.chunks = stage, objective, chunks
        self.executor, self.counter = executor, counter
        self.sums: dict[bytes, NDArray[np.float64]] = {}

    def __call__(self, y: NDArray[np.float64]) -> NormalEquations:
        sums = reduce(self.objective, y, self.chunks, self.executor)
        self.sums[y.tobytes()] = sums
        state = self.objective.normal_equations(y, sums)
        self.counter.add(self.stage, sum(len(chunk.c2) for chunk in self.chunks), state)
        return state

    def joint(self, y: NDArray[np.float64]) -> JointEquations:
        """Physics and scaling together, at coordinates that have been evaluated."""
        return self.objective.joint_equations(self.sums[y.tobytes()])


class _PassCounter:
    """Counts evaluated tiles, as passes over the whole measurement."""

    def __init__(self, n_tiles: int, progress: Progress | None) -> None:
        self.n_tiles, self.progress, self.passes = n_tiles, progress, 0.0

    def add(self, stage: str, tiles: int, state: NormalEquations) -> None:
        self.passes += tiles / self.n_tiles
        if self.progress is not None:
            self.progress(stage, self.passes, state.cost / max(1, state.n_points))


def _fit(
    data: TwoTimeData, settings: FitSettings, executor: Executor, progress: Progress | None
) -> FitResult:
    began = time.perf_counter()
    space = _search_space(data, settings)
    objective = _objective(data, settings, space)
    chunks = tile_chunks(data)
    counter = _PassCounter(sum(len(chunk.c2) for chunk in chunks), progress)
    evaluators: dict[tuple[str, SearchSpace], _Evaluator] = {}

    def on(stage: str, part: Sequence[TileChunk]) -> Callable[[SearchSpace], _Evaluator]:
        def evaluator(space: SearchSpace) -> _Evaluator:
            moved = replace(objective, model=space.form, fixed=space.fixed_coordinates)
            new = _Evaluator(stage, moved, part, executor, counter)
            return evaluators.setdefault((stage, space), new)

        return evaluator

    everything = on("all points", chunks)
    start = _start(data, settings, space)
    initial = everything(space)(space.to_coordinates(start))
    if not initial.finite:
        raise InputError(
            f"{data.source}: the model is not finite at the start, "
            + ", ".join(
                f"{n} = {v:g}" for n, v in zip(settings.model.parameters, start, strict=True)
            )
        )
    unknowns = np.count_nonzero(space.searched) + objective.scaling.matrix.shape[1]
    if initial.n_points <= unknowns:
        raise InputError(
            f"{data.source}: {initial.n_points} points cannot determine {unknowns} unknowns"
        )
    y, layers = space.to_coordinates(start), {}
    if settings.multi_start:
        grid = start_grid(settings.model, start, space, data, settings.gap or np.nan)
        candidates = np.array([space.to_coordinates(x) for x in [start, *grid]])
        found = best_start(on("search", [probe_chunk(data)])(space), candidates, *space.limits)
        layers["multi_start"] = {
            "candidates": len(candidates),
            "refined": found.n_refined,
            "reached_best": found.n_reached,
        }
        y = found.coordinates
    sample = everything
    if len(chunks) >= SAMPLE_STAGE_CHUNKS:
        sample = on("sample", chunks[: len(chunks) // SAMPLE_STAGE_SHARE])
        y = solve(sample(space), y, *space.limits, tolerance=SAMPLE_STAGE_TOLERANCE).x
    solution = solve_within_limits(
        everything, sample, space, y, settings.tolerance, settings.max_nfev
    )
    final = everything(solution.space)
    joint = final.joint(solution.result.x)
    success, message = solution.result.success, solution.result.message
    contrast = (objective.scaling.matrix @ joint.z)[: data.n_angles]
    if np.all(np.abs(contrast) <= NO_CONTRAST):
        success, message = False, "the data show no decay: the contrast is zero at every angle"
    elif np.any(space.searched) and not np.any(np.diag(solution.result.state.hessian)):
        success, message = False, "the model does not decay: no physical parameter has an effect"
    return assemble_result(
        final.objective,
        solution,
        joint,
        _physics_spread(everything, solution),
        FitInfo(
            success=success,
            message=message,
            cost_initial=initial.cost,
            passes=counter.passes,
            seconds=time.perf_counter() - began,
            layers=layers,
        ),
    )


def _physics_spread(
    evaluator_in: Callable[[SearchSpace], _Evaluator], solution: BoundedSolution
) -> Spread:
    """Spread of the parameters at the solution; one more pass if some are held at limits."""
    space, y, state = solution.space, solution.result.x, solution.result.state
    if space.held:
        released = replace(space, held={})
        y = space.complete(y)[released.searched]
        space, state = released, evaluator_in(released)(y)
    return physics_spread(space, y, state)


def _search_space(data: TwoTimeData, settings: FitSettings) -> SearchSpace:
    names = settings.model.parameters
    limits = np.array([settings.limits(name) for name in names])
    return SearchSpace(
        model=settings.model,
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
            settings.per_angle_mode,
            data.n_angles,
            settings.limits("contrast"),
            settings.limits("offset"),
        ),
        reference=np.array([_mean_off_diagonal(matrix) for matrix in data.c2]),
        fixed=space.fixed_coordinates,
        sinc_power=power,
        phase_per_gap=phase,
    )


def _mean_off_diagonal(matrix: NDArray[np.floating]) -> float:
    rows = (row[i + 1 :][np.isfinite(row[i + 1 :])] for i, row in enumerate(matrix))
    sums = [(float(row.sum(dtype=np.float64)), len(row)) for row in rows]
    return sum(total for total, _ in sums) / sum(count for _, count in sums)


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
            if not lower <= start[i] <= upper:
                raise InputError(
                    f"the start of {name}, {start[i]:g}, is outside its bounds "
                    f"[{lower:g}, {upper:g}]"
                )
        else:
            start[i] = np.clip(defaults[name], lower, upper)
    return start
