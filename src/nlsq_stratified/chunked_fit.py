"""A curve fit over chunks, from a start to NLSQ's result."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import jax.numpy as jnp
import numpy as np
from nlsq.callbacks import StopOptimization
from nlsq.global_optimization import (
    center_samples_around_p0,
    get_sampler,
    scale_samples_to_bounds,
)
from nlsq.result import CurveFitResult
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.arguments import (
    box,
    not_negative,
    plain_numbers,
    positive,
    scales,
    whole_number,
)
from nlsq_stratified.chunk_data import FirstChunks
from nlsq_stratified.normal_equations import Equations, spread
from nlsq_stratified.progress import ProgressBar
from nlsq_stratified.reduction import (
    ChunkSequence,
    Objective,
    Partial,
    add_up,
    partial_sums,
    place,
)
from nlsq_stratified.trust_region import TrustRegionResult, solve

__all__ = ["FitOptions", "fit_chunks", "parameter_names"]

# Accuracy, in standard errors of the sample, of all stages but the last; and how many times as
# many chunks each stage takes.
STAGE_TOLERANCE, STAGE_GROWTH = 0.3, 4
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

    def tolerances(self) -> dict[str, float]:
        """Those that were given; where some are, standard errors no longer stop the fit."""
        given = {"ftol": self.ftol, "xtol": self.xtol, "gtol": self.gtol}
        chosen = {name: value for name, value in given.items() if value is not None}
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
        placed = place(data, options.executor)
        everything = _Pass(objective, placed, names, options.executor, bar)
        search = functools.partial(
            solve,
            everything,
            lower=lower,
            upper=upper,
            max_nfev=options.max_nfev or 100 * len(names),
            x_scale=x_scale,
            callback=_callback(options.callback),
            **options.tolerances(),
        )
        try:
            chosen = start
            if options.n_starts > 0:
                chosen = _best_start(everything.first(_sample(data)), start, lower, upper, options)
            if options.progressive:
                chosen = _staged_start(everything, chosen, lower, upper)
            fit = search(chosen)
        except _NotFiniteError:
            # A sample may have led to where other points have no value; the caller's start has
            # one, or the error tells where not.
            fit = search(start)
        staged = options.progressive or options.n_starts > 0
        cost_initial = everything(start).cost if staged else fit.cost_initial
    dead = [name for name, h in zip(names, np.diag(fit.state.hessian), strict=True) if h == 0]
    if dead:
        raise ValueError(f"no point depends on parameter {', '.join(dead)} at {fit.x.tolist()}")
    return _result(fit, cost_initial, everything, absolute_sigma)


class _NotFiniteError(ValueError):
    """The model has no value at the parameters of a first pass."""


class _Pass:
    """Evaluates all chunks at some parameters, and keeps the costs of the chunks."""

    def __init__(
        self,
        objective: Objective[Any],
        data: ChunkSequence,
        names: Sequence[str],
        executor: Executor | None,
        bar: ProgressBar,
    ) -> None:
        self.objective, self.data, self.names = objective, data, names
        self.executor, self.bar = executor, bar
        # Of each evaluation for as long as someone keeps it: the search keeps the best.
        self.chunk_costs: WeakKeyDictionary[Equations, tuple[float, ...]] = WeakKeyDictionary()
        self.chunk_sizes: tuple[int, ...] = ()
        self.started = False

    def first(self, count: int) -> _Pass:
        """The same on the first few chunks."""
        part = FirstChunks(self.data, count)
        return _Pass(self.objective, part, self.names, self.executor, self.bar)

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
        stage = solve(everything.first(count), start, lower, upper, tolerance=STAGE_TOLERANCE)
        start, count = stage.x, count * STAGE_GROWTH
    return start


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
            max_nfev=REFINEMENT_NFEV,
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
    pcov = spread(fit.state.linear_problem()[0], free).covariance() * variance
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
    given = None if p0 is None else len(np.atleast_1d(np.asarray(p0)))
    parameters = inspect.signature(f).parameters.values()
    named = [p for p in parameters if p.kind is not p.KEYWORD_ONLY][1:]
    if any(p.kind is p.VAR_POSITIONAL for p in named):
        if given is None:
            raise ValueError("p0 is needed: the model takes any number of parameters")
        return [f"p[{i}]" for i in range(given)]
    if given is not None and given != len(named):
        return [f"p[{i}]" for i in range(given)]
    return [p.name for p in named]
