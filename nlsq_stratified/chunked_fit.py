"""A curve fit over chunks, from a start to NLSQ's result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import jax.numpy as jnp
import numpy as np
from nlsq.callbacks import StopOptimization
from nlsq.global_optimization import center_samples_around_p0, get_sampler, scale_samples_to_bounds
from nlsq.result import CurveFitResult
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from nlsq_stratified.arguments import (
    box,
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


# Accuracy, in standard errors of the sample, of all stages but the last; and how many times as
# many chunks each stage takes.
STAGE_TOLERANCE, STAGE_GROWTH = 0.3, 4

# Evaluations of a stage, at the most.
STAGE_NFEV = 100

# Losses that count a point less the farther it is away, without end, and one that does not.
REDESCENDING, MONOTONE = ("cauchy", "arctan"), "soft_l1"

# Starts that are refined after all have been evaluated on the sample, and with how many passes.
REFINED_STARTS, REFINEMENT_NFEV = 3, 20

# Half the width of the region in which starts are drawn for a parameter without bounds.
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
        for name in ("tolerance", "ftol", "xtol", "gtol"):
            if getattr(self, name) is not None:
                not_negative(name, getattr(self, name))
        if self.max_nfev is not None:
            object.__setattr__(self, "max_nfev", whole_number("max_nfev", self.max_nfev, 1))
        object.__setattr__(self, "n_starts", whole_number("n_starts", self.n_starts, 0))
        positive("scale_factor", self.scale_factor)

    def tolerances(self) -> dict[str, Any]:
        """Those that were given; where some are, standard errors no longer stop the fit."""
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
        Of the p parameters, for messages.
    p0 : (p,) array, optional
        Start; ones, moved into the bounds, when None.
    bounds : (lower, upper)
    options : FitOptions
    absolute_sigma : bool
        If False the covariance is scaled by the reduced chi-square.

    Raises
    ------
    ValueError
        If the model is not finite at the start, or no point depends on some parameter.
    """
    lower, upper = box(bounds, len(names))
    start = np.clip(1.0 if p0 is None else plain_numbers("p0", p0), lower, upper)
    x_scale = scales(options.x_scale, len(names))
    with ProgressBar(options.show_progress) as bar:
        placed = distribute(data, options.executor)
        budget = _Budget(options.max_nfev or 100 * len(names), len(data))
        everything = _Pass(objective, placed, names, options.executor, bar, budget)

        def search(start: NDArray[np.float64]) -> TrustRegionResult:
            return solve(
                everything,
                start,
                lower,
                upper,
                max_nfev=everything.evaluations_left,
                x_scale=x_scale,
                callback=_callback(options.callback),
                **options.tolerances(),
            )

        try:
            chosen = start
            if options.n_starts > 0:
                chosen = _best_start(everything.first(_sample(data)), start, lower, upper, options)
            if getattr(objective, "loss", None) in REDESCENDING:
                chosen = _monotone_start(everything, chosen, lower, upper)
            if options.progressive:
                chosen = _staged_start(everything, chosen, lower, upper)
            fit = search(chosen)
        except _NotFiniteError:
            # A sample may have led to where other points have no value; the caller's start has
            # one, or the error tells where not.
            fit = search(start)
        initial = everything.evaluated_first(start)
    fit = _without_effect(fit, initial, names, lower, upper)
    return _result(fit, initial.cost, everything, absolute_sigma)


def _without_effect(
    fit: TrustRegionResult,
    initial: Equations,
    names: Sequence[str],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> TrustRegionResult:
    """Say which parameters no point depends on where the fit ended.

    Another one at its bound explains it (an amplitude that is zero leaves its rate undetermined);
    if not, the search has lost the parameter and is no success.

    Raises
    ------
    ValueError
        If such a parameter had no effect at the start either.
    """
    dead = np.diag(fit.state.hessian) == 0
    if not np.any(dead):
        return fit
    explained = bool(np.any((fit.x <= lower) | (fit.x >= upper)))
    listed = ", ".join(name for name, is_dead in zip(names, dead, strict=True) if is_dead)
    if not explained and np.all(np.diag(initial.hessian)[dead] == 0):
        raise ValueError(f"no point depends on parameter {listed} at {fit.x.tolist()}")
    message = f"{fit.message}; no point depends on {listed} there"
    return replace(fit, success=fit.success and explained, message=message)


class _NotFiniteError(ValueError):
    """The model has no value at the parameters of a first pass."""


class _Budget:
    """Evaluations of all chunks that a fit may take; one of some chunks counts by their share."""

    def __init__(self, limit: int, n_chunks: int) -> None:
        self.limit, self.n_chunks, self.spent = limit, n_chunks, 0.0

    def spend(self, n_chunks: int) -> None:
        """Count an evaluation of so many chunks."""
        self.spent += n_chunks / self.n_chunks

    def evaluations_left(self, n_chunks: int) -> int:
        """How often so many chunks may still be evaluated; once in any case."""
        return max(1, int((self.limit - self.spent) * self.n_chunks / n_chunks + 1e-9))


class _Pass:
    """Evaluates all chunks at some parameters, and keeps the costs of the chunks."""

    def __init__(
        self,
        objective: Objective[Any],
        data: ChunkSequence,
        names: Sequence[str],
        executor: Executor | None,
        bar: ProgressBar,
        budget: _Budget,
    ) -> None:
        self.objective, self.data, self.names = objective, data, names
        self.executor, self.bar, self.budget = executor, bar, budget
        self._first: tuple[NDArray[np.float64], Equations] | None = None
        # Of each evaluation for as long as someone keeps it: the search keeps the best.
        self.chunk_costs: WeakKeyDictionary[Equations, tuple[float, ...]] = WeakKeyDictionary()
        self.chunk_sizes: tuple[int, ...] = ()
        self.started = False

    def first(self, count: int) -> _Pass:
        """The same on the first few chunks."""
        part = FirstChunks(self.data, count)
        return _Pass(self.objective, part, self.names, self.executor, self.bar, self.budget)

    def with_loss(self, loss: str) -> _Pass:
        """The same with another loss."""
        objective: Any = self.objective
        objective = replace(objective, loss=loss)
        return _Pass(objective, self.data, self.names, self.executor, self.bar, self.budget)

    @property
    def evaluations_left(self) -> int:
        """How often this may still be evaluated."""
        return self.budget.evaluations_left(len(self.data))

    def evaluated_first(self, start: NDArray[np.float64]) -> Equations:
        """The equations at the start, which most fits evaluate first."""
        if self._first is not None and np.array_equal(self._first[0], start):
            return self._first[1]
        return self(start)

    def __call__(self, params: NDArray[np.float64]) -> Equations:
        self.bar.start_pass(len(self.data))
        parts = partial_sums(self.objective, params, self.data, self.executor)
        everything = add_up(map(self._counted, parts))
        _require_sigma_of_all_or_none(everything.widths)
        self.chunk_sizes = everything.sizes
        total = self.objective.normal_equations(params, everything.sums)
        self.chunk_costs[total] = everything.costs
        if not self.started and not total.finite:
            self._name_the_chunk(params, everything.finite)
        self.started = True
        self.bar.pass_done(total)
        self.budget.spend(len(self.data))
        self._first = self._first or (params.copy(), total)
        return total

    def _counted(self, part: Partial[Any]) -> Partial[Any]:
        self.bar.chunks_done(len(part.sizes))
        return part

    def _name_the_chunk(self, params: NDArray[np.float64], finite: Sequence[bool]) -> None:
        at = ", ".join(f"{n} = {v:.6g}" for n, v in zip(self.names, params, strict=True))
        if not all(finite):
            raise _NotFiniteError(f"the model is not finite in chunk {finite.index(False)} at {at}")
        raise _NotFiniteError(f"the model is not finite at {at}")


def _require_sigma_of_all_or_none(widths: Sequence[int]) -> None:
    """Compare the number of arrays of each chunk, (x, y) or (x, y, sigma), with the first."""
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


def _staged_start(
    everything: _Pass,
    start: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Fit one chunk, then four, sixteen, ...; return where the last stage before all ends."""
    count = 1
    while count < len(everything.data):
        stage = everything.first(count)
        left = min(STAGE_NFEV, stage.evaluations_left)
        start = solve(stage, start, lower, upper, tolerance=STAGE_TOLERANCE, max_nfev=left).x
        count *= STAGE_GROWTH
    return start


def _monotone_start(
    everything: _Pass,
    start: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Fit with a loss whose pull does not fade with distance; return the better of both ends.

    A redescending loss has local minima wherever some points agree, and far from the data its
    gradient vanishes; the estimate of a monotone one is where to start it (R. Maronna, D. Martin
    and V. Yohai, *Robust statistics*, 2006, section 5.5).
    """
    monotone = everything.with_loss(MONOTONE)
    left = monotone.evaluations_left
    end = solve(monotone, start, lower, upper, tolerance=STAGE_TOLERANCE, max_nfev=left).x
    costs = [state.cost if (state := everything(x)).finite else np.inf for x in (start, end)]
    return start if costs[0] <= costs[1] else end


def _best_start(
    sample: _Pass,
    start: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    options: FitOptions,
) -> NDArray[np.float64]:
    """Draw starts as NLSQ does, evaluate them on the sample, refine the best, return the best."""
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
    sample.started = True  # a candidate that is not finite is passed over, not an error
    costs = [state.cost if (state := sample(c)).finite else np.inf for c in candidates]
    order = [i for i in np.argsort(costs, kind="stable") if np.isfinite(costs[i])]
    refined = [
        solve(
            sample,
            candidates[i],
            lower,
            upper,
            tolerance=STAGE_TOLERANCE,
            max_nfev=min(REFINEMENT_NFEV, sample.evaluations_left),
        )
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
    fit: TrustRegionResult, cost_initial: float, everything: _Pass, absolute_sigma: bool
) -> CurveFitResult:
    free = fit.active == 0
    spare = fit.state.n_points - np.count_nonzero(free)
    variance = 1.0 if absolute_sigma else 2 * fit.state.cost / max(1, spare)
    pcov = covariance_of(fit.state.linear_problem()[0], free).matrix() * variance
    pcov[~free, :] = pcov[:, ~free] = np.inf
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
        message=fit.message,
        n_points=fit.state.n_points,
        chunk_costs=list(everything.chunk_costs[fit.state]),
        chunk_sizes=everything.chunk_sizes,
        **_as_of_single_fits(everything.chunk_sizes, everything.chunk_costs[fit.state]),
    )


def _as_of_single_fits(sizes: Sequence[int], costs: Sequence[float]) -> dict[str, Any]:
    """What NLSQ's result says of the fits of single chunks; here there is none that could fail."""
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
        If f takes any number of parameters and p0 does not say how many.
    """
    n_start = None if p0 is None else len(np.atleast_1d(np.asarray(p0)))
    parameters = inspect.signature(f).parameters.values()
    named = [p for p in parameters if p.kind is not p.KEYWORD_ONLY][1:]
    if any(p.kind is p.VAR_POSITIONAL for p in named):
        if n_start is None:
            raise ValueError("p0 is needed: the model takes any number of parameters")
        return [f"p[{i}]" for i in range(n_start)]
    if n_start is not None and n_start != len(named):
        return [f"p[{i}]" for i in range(n_start)]
    return [p.name for p in named]


class ProgressBar:
    """Counts chunks within a pass, and shows cost and gradient of the last one.

    Parameters
    ----------
    shown : bool
        If False every method does nothing.
    """

    def __init__(self, shown: bool) -> None:
        self._bar: Any = tqdm(unit="chunk", desc="pass 0") if shown else None
        self._passes = 0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def start_pass(self, n_chunks: int) -> None:
        """Begin to count the chunks of one more pass."""
        if self._bar is not None:
            self._passes += 1
            self._bar.reset(total=n_chunks)
            self._bar.set_description(f"pass {self._passes}")

    def chunks_done(self, count: int) -> None:
        """Count so many chunks."""
        if self._bar is not None:
            self._bar.update(count)

    def pass_done(self, state: Equations) -> None:
        """Show where the pass has led."""
        if self._bar is not None:
            gradient = float(np.max(np.abs(state.gradient)))
            self._bar.set_postfix(cost=f"{state.cost:.6g}", gradient=f"{gradient:.3g}")
