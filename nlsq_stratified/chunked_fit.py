"""A curve fit over chunks, from a start to NLSQ's result."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import jax.numpy as jnp
import numpy as np
from nlsq.callbacks import StopOptimization
from nlsq.global_optimization import center_samples_around_p0, get_sampler, scale_samples_to_bounds
from nlsq.result import CurveFitResult
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from nlsq_stratified.arguments import (
    INSIDE,
    box,
    check_executor,
    not_negative,
    plain_numbers,
    positive,
    scales,
    whole_number,
)
from nlsq_stratified.chunk_data import FirstChunks
from nlsq_stratified.normal_equations import Equations, covariance_of
from nlsq_stratified.reduction import (
    ChunkSequence,
    Objective,
    Partial,
    add_up,
    distribute,
    partial_sums,
)
from nlsq_stratified.solver.trust_region import TrustRegionResult, solve

__all__ = ["FitOptions", "fit_chunks", "parameter_names", "ProgressBar"]


# Accuracy of a preliminary fit, in standard errors.
STAGE_TOLERANCE = 0.3

# Each stage of a progressive fit takes so many times the chunks of the stage before.
STAGE_GROWTH = 4

# Largest number of evaluations in one stage.
STAGE_NFEV = 100

# Loss functions for which the pull of a point fades to zero with its distance.
REDESCENDING = ("cauchy", "arctan")

# A loss function for which it does not.
MONOTONE = "soft_l1"

# Starts of a multi-start fit that are refined on the sample.
REFINED_STARTS = 3

# Largest number of evaluations of the sample for each of them.
REFINEMENT_NFEV = 20

# Number of different lengths of chunks above which the time to compile is worth a warning.
MOST_LENGTHS = 20

# Half width of the region in which starts are drawn for a parameter without bounds, in units of
# its start value or of 1, whichever is larger.
UNBOUNDED_SPAN = 10.0


@dataclass(frozen=True)
class FitOptions:
    """How to search. The names are those of `nlsq_stratified.curve_fit_large`."""

    executor: Executor | None = None
    progressive: bool = False
    tolerance: float | None = None
    ftol: float | None = None
    xtol: float | None = None
    gtol: float | None = None
    max_nfev: int | None = None
    x_scale: ArrayLike | None = None
    callback: Callable[..., Any] | None = None
    show_progress: bool = False
    n_starts: int = 0
    sampler: str = "lhs"
    center_on_p0: bool = True
    scale_factor: float = 1.0

    def __post_init__(self) -> None:
        check_executor(self.executor)
        for name in ("tolerance", "ftol", "xtol", "gtol"):
            if getattr(self, name) is not None:
                not_negative(name, getattr(self, name))
        if self.max_nfev is not None:
            object.__setattr__(self, "max_nfev", whole_number("max_nfev", self.max_nfev, 1))
        object.__setattr__(self, "n_starts", whole_number("n_starts", self.n_starts, 0))
        positive("scale_factor", self.scale_factor)

    def tolerances(self) -> dict[str, Any]:
        """The tolerances that the caller chose; with any of them, standard errors stop no fit."""
        tolerances = {"ftol": self.ftol, "xtol": self.xtol, "gtol": self.gtol}
        chosen = {name: value for name, value in tolerances.items() if value is not None}
        if self.tolerance is not None:
            chosen["tolerance"] = self.tolerance
        return {"tolerance": 0.0, **chosen} if chosen else {}


def fit_chunks(
    objective: Objective[Any],
    data: ChunkSequence,
    names: Sequence[str],
    p0: ArrayLike | None,
    bounds: tuple[ArrayLike, ArrayLike],
    options: FitOptions,
    absolute_sigma: bool = False,
) -> CurveFitResult:
    """Minimise the objective over all chunks.

    Parameters
    ----------
    objective : Objective
    data : sequence of chunks
    names : sequence of str
        Names of the p parameters, for messages.
    p0 : (p,) array, optional
        Start; if None, ones, moved into the bounds.
    bounds : (lower, upper)
    options : FitOptions
    absolute_sigma : bool
        If False the covariance is scaled by the reduced chi-square.

    Raises
    ------
    ValueError
        If the model is not finite at the start, or no point depends on some parameter.
    """
    lower, upper = box(bounds, names)
    start = np.clip(1.0 if p0 is None else plain_numbers("p0", p0), lower, upper)
    x_scale = scales(options.x_scale, len(names))
    with ProgressBar(options.show_progress) as bar:
        placed = distribute(data, options.executor)
        budget = _Budget(options.max_nfev or 100 * len(names), len(data))
        full = _Pass(objective, data, placed, names, lower, upper, options.executor, bar, budget)

        def search(start: NDArray[np.float64]) -> TrustRegionResult:
            callback = _callback(options.callback)
            return full.minimise(start, x_scale=x_scale, callback=callback, **options.tolerances())

        try:
            better_start = start
            if options.n_starts > 0:
                better_start = _best_start(full.first(_sample(data)), start, options)
            if getattr(objective, "loss", None) in REDESCENDING:
                better_start = _monotone_start(full, better_start)
            if options.progressive:
                better_start = _staged_start(full, better_start)
            fit = search(better_start)
        except _NotFiniteError:
            # The sample may have led to parameters at which the model of other points is not
            # finite. Begin at the caller's start; if the model is not finite there, say so.
            fit = search(start)
        initial = full.evaluated_first(start)
    fit = _with_dead_parameters(fit, initial, full)
    return _result(fit, initial.cost, full, absolute_sigma)


def _with_dead_parameters(
    fit: TrustRegionResult, initial: Equations, full: _Pass
) -> TrustRegionResult:
    """Say in the message which parameters change no point where the fit ended.

    Another parameter at its bound can be the reason: if an amplitude is zero, its rate has no
    effect. Without such a reason the search has lost the parameter, and the fit has failed.

    Raises
    ------
    ValueError
        If such a parameter had no effect at the start either.
    """
    dead = np.diag(fit.state.hessian) == 0
    if not np.any(dead):
        return fit
    explained = bool(np.any((fit.x <= full.lower) | (fit.x >= full.upper)))
    dead_names = ", ".join(name for name, flag in zip(full.names, dead, strict=True) if flag)
    if not explained and np.all(np.diag(initial.hessian)[dead] == 0):
        raise ValueError(f"no point depends on parameter {dead_names} at {fit.x.tolist()}")
    message = f"{fit.message}; no point depends on {dead_names} there"
    return replace(fit, success=fit.success and explained, message=message)


class _NotFiniteError(ValueError):
    """The model is not finite at the parameters of a first pass."""


class _Budget:
    """Evaluations of all chunks that are left; evaluating some chunks counts by their share."""

    def __init__(self, limit: int, n_chunks: int) -> None:
        self.limit, self.n_chunks, self.spent = limit, n_chunks, 0.0

    def spend(self, n_chunks: int) -> None:
        """Count an evaluation of so many chunks."""
        self.spent += n_chunks / self.n_chunks

    def evaluations_left(self, n_chunks: int) -> int:
        """How often so many chunks may still be evaluated; at least once."""
        return max(1, int((self.limit - self.spent) * self.n_chunks / n_chunks + 1e-9))


@dataclass(eq=False)
class _Pass:
    """Evaluates the equations of all its chunks at some parameters."""

    objective: Objective[Any]
    source: ChunkSequence
    # The same chunks, or what stands for them where an executor keeps them.
    data: ChunkSequence
    names: Sequence[str]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    executor: Executor | None
    bar: ProgressBar
    budget: _Budget
    # Costs of the chunks for each evaluation that is still in use; the search keeps the best one.
    chunk_costs: WeakKeyDictionary[Equations, tuple[float, ...]] = field(
        default_factory=WeakKeyDictionary, init=False
    )
    chunk_sizes: tuple[int, ...] = field(default=(), init=False)
    may_be_not_finite: bool = field(default=False, init=False)
    _lengths: set[int] = field(default_factory=set, init=False)
    _first: tuple[NDArray[np.float64], Equations] | None = field(default=None, init=False)

    def first(self, count: int) -> _Pass:
        """The same for the first few chunks."""
        return replace(self, data=FirstChunks(self.data, count))  # `source` begins alike

    def with_loss(self, loss: str) -> _Pass:
        """The same with another loss function."""
        objective: Any = self.objective
        return replace(self, objective=replace(objective, loss=loss))

    def minimise(
        self, start: NDArray[np.float64], *, max_nfev: float = np.inf, **options: Any
    ) -> TrustRegionResult:
        """Search the minimum with the evaluations that are left, at most `max_nfev`."""
        left = min(max_nfev, self.budget.evaluations_left(len(self.data)))
        return solve(self, start, self.lower, self.upper, max_nfev=int(left), **options)

    def cost(self, params: NDArray[np.float64]) -> float:
        """The cost, infinite where the model is not finite."""
        equations = self(params)
        return equations.cost if equations.finite else np.inf

    def evaluated_first(self, start: NDArray[np.float64]) -> Equations:
        """The equations at the start, which are known if the search began there."""
        if self._first is not None and np.array_equal(self._first[0], start):
            return self._first[1]
        return self(start)

    def __call__(self, params: NDArray[np.float64]) -> Equations:
        self.bar.start_pass(len(self.data))
        parts = partial_sums(self.objective, params, self.data, self.executor)
        total = add_up(map(self._show_progress, parts))
        _require_sigma_of_all_or_none(total.widths)
        self.chunk_sizes = total.sizes
        equations = self.objective.normal_equations(params, total.sums)
        self.chunk_costs[equations] = total.costs
        if not self.may_be_not_finite and not equations.finite:
            self._raise_not_finite(params, total.finite)
        self.may_be_not_finite = True
        self.bar.pass_done(equations)
        self.budget.spend(len(self.data))
        self._first = self._first or (params.copy(), equations)
        return equations

    def _show_progress(self, part: Partial[Any]) -> Partial[Any]:
        self.bar.chunks_done(len(part.sizes))
        self._count_lengths(part.sizes)
        return part

    def _count_lengths(self, sizes: Sequence[int]) -> None:
        """Warn once if the model has to be compiled for many lengths of chunks."""
        before = len(self._lengths)
        self._lengths.update(sizes)
        padded = getattr(self.objective, "pad", False)
        if before <= MOST_LENGTHS < len(self._lengths) and not padded:
            warnings.warn(
                f"the chunks have more than {MOST_LENGTHS} different lengths, and the model is "
                "compiled for each of them, which takes long: cut chunks of equal length, or, if "
                "the model computes each point by itself, pass preserve_chunks=False",
                UserWarning,
                skip_file_prefixes=INSIDE,
            )

    def _raise_not_finite(self, params: NDArray[np.float64], finite: Sequence[bool]) -> None:
        at = ", ".join(f"{n} = {v:.6g}" for n, v in zip(self.names, params, strict=True))
        where = ""
        if not all(finite):
            index = finite.index(False)
            where = f" in chunk {index}"
            self._raise_for_derivative(params, index, at)
        raise _NotFiniteError(f"the model is not finite{where} at {at}")

    def _raise_for_derivative(self, params: NDArray[np.float64], index: int, at: str) -> None:
        """Raise if the model has values at all points of a chunk, but not all derivatives."""
        x, y, *_ = self.source[index]
        values, jacobian = self.objective.curve(params, x, len(y))  # type: ignore[attr-defined]
        lacking = ~np.isfinite(jacobian)
        if not np.all(np.isfinite(values)) or not np.any(lacking):
            return
        point = int(np.argmax(np.any(lacking, axis=1)))
        where = f" (x = {np.asarray(x)[point]:.6g})" if np.ndim(x) == 1 else ""
        raise _NotFiniteError(
            f"the model is finite, but its derivatives by the parameters are not, at point {point} "
            f"of chunk {index}{where} and {at}: a root, a power or a norm of 0 has none; leave the "
            "point out, or write the model without it there"
        )


def _require_sigma_of_all_or_none(widths: Sequence[int]) -> None:
    """Require as many arrays, (x, y) or (x, y, sigma), in each chunk as in the first."""
    for i, width in enumerate(widths):
        if width != widths[0]:
            with_one, without = (0, i) if width < widths[0] else (i, 0)
            raise ValueError(
                f"chunk {with_one} has a sigma and chunk {without} has none: "
                "give one for every chunk or for none"
            )


def _sample(data: ChunkSequence) -> int:
    """Chunks in the sample on which starts are compared."""
    return max(1, len(data) // STAGE_GROWTH**2)


def _staged_start(full: _Pass, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit one chunk, then 4, 16, ...; return where the last stage before all chunks ends."""
    count = 1
    while count < len(full.data):
        stage = full.first(count)
        start = stage.minimise(start, tolerance=STAGE_TOLERANCE, max_nfev=STAGE_NFEV).x
        count *= STAGE_GROWTH
    return start


def _monotone_start(full: _Pass, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit with a loss whose pull does not fade with distance; return the better of both points.

    A redescending loss has local minima wherever some points agree, and its gradient vanishes far
    from the data; so its search begins at the estimate of a monotone loss (R. Maronna, D. Martin
    and V. Yohai, *Robust statistics*, 2006, section 5.5).
    """
    end = full.with_loss(MONOTONE).minimise(start, tolerance=STAGE_TOLERANCE).x
    cost_at_start, cost_at_end = full.cost(start), full.cost(end)
    return start if cost_at_start <= cost_at_end else end


def _best_start(
    sample: _Pass, start: NDArray[np.float64], options: FitOptions
) -> NDArray[np.float64]:
    """Draw starts as NLSQ does, evaluate them on the sample, refine the best, return the best."""
    lower, upper = sample.lower, sample.upper
    span = UNBOUNDED_SPAN * np.maximum(1.0, np.abs(start))
    low, high = np.maximum(lower, start - span), np.minimum(upper, start + span)
    low, high = (np.where(np.isfinite(b), b, s) for b, s in ((lower, low), (upper, high)))
    unit = get_sampler(options.sampler)(options.n_starts, len(start))
    box = jnp.asarray(low), jnp.asarray(high)
    if options.center_on_p0:
        drawn = center_samples_around_p0(unit, jnp.asarray(start), options.scale_factor, *box)
    else:
        drawn = scale_samples_to_bounds(unit, *box)
    candidates = [start, *np.clip(np.asarray(drawn, dtype=np.float64), lower, upper)]
    sample.may_be_not_finite = True  # such a candidate is passed over; it is no error
    costs = [sample.cost(candidate) for candidate in candidates]
    order = [i for i in np.argsort(costs, kind="stable") if np.isfinite(costs[i])]
    refined = [
        sample.minimise(candidates[i], tolerance=STAGE_TOLERANCE, max_nfev=REFINEMENT_NFEV)
        for i in order[:REFINED_STARTS]
    ]
    return min(refined, key=lambda fit: fit.state.cost).x if refined else start


def _callback(
    callback: Callable[..., Any] | None,
) -> Callable[[int, NDArray[np.float64], Equations, int], None] | None:
    """NLSQ's protocol, ``callback(iteration, cost, params, info)`` and `StopOptimization`."""
    if callback is None:
        return None
    last: tuple[NDArray[np.float64], float] | None = None

    def call(nit: int, x: NDArray[np.float64], state: Equations, nfev: int) -> None:
        nonlocal last
        gradient = state.gradient
        info = {
            "gradient_norm": float(np.max(np.abs(gradient))),
            "gradient": gradient,
            "nfev": nfev,
            "step_norm": None if last is None else float(np.linalg.norm(x - last[0])),
            "actual_reduction": None if last is None else last[1] - state.cost,
        }
        last = x.copy(), state.cost
        try:
            callback(iteration=nit, cost=state.cost, params=x, info=info)
        except StopOptimization as stop:
            raise StopIteration(str(stop)) from stop

    return call


def _result(
    fit: TrustRegionResult, cost_initial: float, full: _Pass, absolute_sigma: bool
) -> CurveFitResult:
    free = fit.active == 0
    spare = fit.state.n_points - np.count_nonzero(free)
    variance = 1.0 if absolute_sigma else 2 * fit.state.cost / max(1, spare)
    covariance = covariance_of(fit.state.linear_problem()[0], free)
    pcov = covariance.matrix()
    pcov[np.isfinite(pcov)] *= variance
    pcov[~free, :] = pcov[:, ~free] = np.inf
    message = fit.message
    # Parameters without any effect are in the message already.
    undetermined = covariance.undetermined & (np.diag(fit.state.hessian) > 0)
    if fit.success and np.any(undetermined):
        names = (name for name, lost in zip(full.names, undetermined, strict=True) if lost)
        message += f"; the data do not determine {', '.join(names)}"
    if not fit.success or (spare <= 0 and not absolute_sigma):
        pcov[:] = np.inf
    gradient = fit.state.gradient
    return CurveFitResult(
        x=fit.x,
        popt=fit.x,
        pcov=pcov,
        cost=fit.state.cost,
        cost_initial=cost_initial,
        grad=gradient,
        optimality=float(np.max(np.abs(gradient))),
        active_mask=fit.active,
        nit=fit.nit,
        nfev=fit.nfev,
        njev=fit.nfev,
        success=fit.success,
        status=int(fit.success),
        message=message,
        n_points=fit.state.n_points,
        chunk_costs=list(full.chunk_costs[fit.state]),
        chunk_sizes=full.chunk_sizes,
        **_as_of_single_fits(full.chunk_sizes, full.chunk_costs[fit.state]),
    )


def _as_of_single_fits(sizes: Sequence[int], costs: Sequence[float]) -> dict[str, Any]:
    """What NLSQ's result reports on the fits of single chunks. Here no chunk can fail alone."""
    return {
        "n_chunks": len(sizes),
        "success_rate": 1.0,
        "failure_summary": {
            "total_failures": 0,
            "failure_rate": 0.0,
            "failed_chunk_indices": [],
            "error_types": {},
            "common_errors": [],
        },
        "chunk_results": [
            {"chunk_idx": i, "n_points": size, "success": True, "cost": cost}
            for i, (size, cost) in enumerate(zip(sizes, costs, strict=True))
        ],
    }


def parameter_names(f: Callable[..., Any], p0: ArrayLike | None) -> list[str]:
    """Names of the parameters of ``f(x, ...)``; numbered where f takes ``*params``.

    Raises
    ------
    ValueError
        If f takes any number of parameters and p0 does not say how many, or p0 has more or fewer
        values than f takes.
    """
    n_start = None if p0 is None else len(np.atleast_1d(np.asarray(p0)))
    parameters = inspect.signature(f).parameters.values()
    named = [p for p in parameters if p.kind is not p.KEYWORD_ONLY][1:]
    if any(p.kind is p.VAR_POSITIONAL for p in named):
        if n_start is None:
            raise ValueError("p0 is needed: the model takes any number of parameters")
        return [f"p[{i}]" for i in range(n_start)]
    names = [p.name for p in named]
    if n_start is None:
        return names
    if not sum(p.default is p.empty for p in named) <= n_start <= len(names):
        raise ValueError(
            f"p0 has {n_start} values, and the model has {len(names)} parameters: "
            f"{', '.join(names)}"
        )
    return names[:n_start]


class ProgressBar:
    """Counts the chunks of a pass, and shows cost and gradient of the last pass; or does nothing.

    Parameters
    ----------
    shown : bool
    """

    def __init__(self, shown: bool) -> None:
        self._bar: Any = tqdm(unit="chunk", desc="pass 0", disable=not shown)
        self._passes = 0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def start_pass(self, n_chunks: int) -> None:
        """Begin to count the chunks of the next pass."""
        self._passes += 1
        self._bar.reset(total=n_chunks)
        self._bar.set_description(f"pass {self._passes}")

    def chunks_done(self, count: int) -> None:
        """Count so many chunks."""
        self._bar.update(count)

    def pass_done(self, equations: Equations) -> None:
        """Show the cost and the largest component of the gradient."""
        if self._bar.disable:
            return
        gradient = float(np.max(np.abs(equations.gradient)))
        self._bar.set_postfix(cost=f"{equations.cost:.6g}", gradient=f"{gradient:.3g}")
