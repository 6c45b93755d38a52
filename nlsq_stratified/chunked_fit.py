"""A curve fit over chunks, from a start to NLSQ's result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from nlsq.callbacks import StopOptimization
from nlsq.result import CurveFitResult
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.arguments import box, plain_numbers, scales
from nlsq_stratified.chunk_pass import Budget, NotFiniteError, Pass
from nlsq_stratified.fit_options import FitOptions
from nlsq_stratified.normal_equations import Equations, covariance_of
from nlsq_stratified.preliminary_fits import best_start, monotone_start, sample_size, staged_start
from nlsq_stratified.progress_bar import ProgressBar
from nlsq_stratified.reduction import ChunkSequence, Objective, distribute
from nlsq_stratified.solver.trust_region import TrustRegionResult

__all__ = ["fit_chunks"]

# Loss functions for which the pull of a point fades to zero with its distance.
REDESCENDING = ("cauchy", "arctan")


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
        budget = Budget(options.max_nfev or 100 * len(names), len(data))
        full = Pass(objective, data, placed, names, lower, upper, options.executor, bar, budget)

        def search(start: NDArray[np.float64]) -> TrustRegionResult:
            callback = _callback(options.callback)
            return full.minimise(start, x_scale=x_scale, callback=callback, **options.tolerances())

        try:
            better_start = start
            if options.n_starts > 0:
                better_start = best_start(full.first(sample_size(data)), start, options)
            if getattr(objective, "loss", None) in REDESCENDING:
                better_start = monotone_start(full, better_start)
            if options.progressive:
                better_start = staged_start(full, better_start)
            fit = search(better_start)
        except NotFiniteError:
            # The sample may have led to parameters at which the model of other points is not
            # finite. Begin at the caller's start; if the model is not finite there, say so.
            fit = search(start)
        initial = full.evaluated_first(start)
    fit = _with_dead_parameters(fit, initial, full)
    return _result(fit, initial.cost, full, absolute_sigma)


def _with_dead_parameters(
    fit: TrustRegionResult, initial: Equations, full: Pass
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
    fit: TrustRegionResult, cost_initial: float, full: Pass, absolute_sigma: bool
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
