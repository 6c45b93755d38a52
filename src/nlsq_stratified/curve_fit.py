"""``curve_fit_large``: NLSQ's function, with chunks that are kept as the caller made them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import nlsq
import numpy as np
from nlsq.result import CurveFitResult
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.chunks import ArrayChunks, Chunks
from nlsq_stratified.curve_objective import CurveObjective
from nlsq_stratified.normal_equations import Equations, spread
from nlsq_stratified.reduction import evaluate
from nlsq_stratified.trust_region import solve

__all__ = ["curve_fit_large"]


def curve_fit_large(
    f: Callable[..., Any],
    xdata: ArrayLike,
    ydata: ArrayLike,
    p0: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    check_finite: bool = True,
    bounds: tuple[ArrayLike, ArrayLike] = (-np.inf, np.inf),
    *,
    chunks: Chunks | int | None = None,
    executor: Executor | None = None,
    max_nfev: int | None = None,
    **kwargs: Any,
) -> CurveFitResult | tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit a curve to data of any size; with `chunks`, exactly and chunk by chunk.

    With ``chunks=None`` this is ``nlsq.curve_fit_large``, which takes every argument. With
    chunks, each one contributes the sums JᵀJ, Jᵀr and r² and the sums are added, so the answer
    is the least-squares answer of the whole data whatever the chunks are.

    Parameters
    ----------
    f : callable
        ``f(x, *params) -> y`` in jax.numpy operations.
    xdata : (N,) or (features, N) array
    ydata : (N,) array
    p0 : (p,) array, optional
        Start; ones (moved into the bounds) when None.
    sigma : (N,) array, optional
        Standard deviation of each y.
    absolute_sigma : bool
        If False the covariance is scaled by the reduced chi-square.
    check_finite : bool
        Raise if xdata, ydata or sigma hold a value that is not finite.
    bounds : (lower, upper)
        Each a float or a (p,) array.
    chunks : Chunks or int, optional
        The partition of the points, or a chunk size.
    executor : concurrent.futures.Executor, optional
        Where the chunks are summed.
    max_nfev : int, optional
        Passes over the data allowed; 100 per parameter when None.
    **kwargs
        Further arguments of ``nlsq.curve_fit_large``, with ``chunks=None`` only.

    Returns
    -------
    CurveFitResult
        NLSQ's result: unpacks as ``popt, pcov``; has x, pcov, cost, cost_initial, grad, nit,
        nfev, success, message. A fit that did not converge has success False and an infinite
        covariance. Where the data do not determine a parameter, or it sits at a bound, its
        covariance is infinite.

    Raises
    ------
    ValueError
        If lengths disagree, data are not finite, sigma is not positive, the model cannot be
        evaluated at p0, or no point depends on some parameter.
    TypeError
        If an argument is not supported together with `chunks`.
    """
    if chunks is None:
        if executor is not None:
            raise TypeError("executor needs chunks: without them NLSQ's own path is taken")
        if max_nfev is not None:
            kwargs["max_nfev"] = max_nfev
        upstream: Any = nlsq.curve_fit_large
        return upstream(f, xdata, ydata, p0, sigma, absolute_sigma, check_finite, bounds, **kwargs)
    if kwargs:
        raise TypeError(f"not supported together with chunks: {', '.join(sorted(kwargs))}")

    x, y, weights = _check_data(xdata, ydata, sigma, check_finite)
    parts = chunks if isinstance(chunks, Chunks) else Chunks.of_size(len(y), chunks)
    if parts.n_points != len(y):
        raise ValueError(f"the chunks hold {parts.n_points} points, the data {len(y)}")
    names = _parameter_names(f, p0)
    lower, upper = (np.broadcast_to(np.asarray(b, np.float64), len(names)) for b in bounds)
    start = np.clip(np.ones(len(names)) if p0 is None else np.asarray(p0, float), lower, upper)

    data = ArrayChunks(parts, (x, y) if weights is None else (x, y, weights))
    objective = CurveObjective(f)

    def at(params: NDArray[np.float64]) -> Equations:
        return evaluate(objective, params, data, executor)

    fit = solve(at, start, lower, upper, max_nfev=max_nfev or 100 * len(names))
    dead = [name for name, h in zip(names, np.diag(fit.state.hessian), strict=True) if h == 0]
    if dead:
        raise ValueError(f"no point depends on parameter {', '.join(dead)} at {fit.x.tolist()}")
    free = fit.active == 0
    spare = fit.state.n_points - np.count_nonzero(free)
    degrees = max(1, spare)
    variance = 1.0 if absolute_sigma else 2 * fit.state.cost / degrees
    pcov = spread(fit.state.linear_problem()[0], free).covariance() * variance
    pcov[~free, :] = pcov[:, ~free] = np.inf
    if not fit.success or (spare <= 0 and not absolute_sigma):
        pcov[:] = np.inf
    return CurveFitResult(
        x=fit.x,
        popt=fit.x,
        pcov=pcov,
        cost=fit.state.cost,
        cost_initial=fit.cost_initial,
        grad=fit.state.gradient,
        optimality=float(np.max(np.abs(fit.state.gradient))),
        active_mask=fit.active,
        nit=fit.nit,
        nfev=fit.nfev,
        njev=fit.nfev,
        success=fit.success,
        status=int(fit.success),
        message=fit.message,
        chunk_sizes=parts.sizes,
        model=f,
        xdata=x,
        ydata=y,
    )


def _check_data(
    xdata: ArrayLike, ydata: ArrayLike, sigma: ArrayLike | None, check_finite: bool
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    x, y = np.asarray(xdata), np.asarray(ydata)
    weights = None if sigma is None else np.asarray(sigma)
    if y.ndim != 1:
        raise ValueError(f"ydata must have one dimension, got shape {y.shape}")
    if x.ndim == 0 or x.shape[-1] != len(y):
        raise ValueError(f"xdata of shape {x.shape} does not match {len(y)} points of ydata")
    if weights is not None and weights.shape != y.shape:
        raise ValueError(f"sigma of shape {weights.shape} does not match {len(y)} points")
    if weights is not None and not np.all(weights > 0):
        raise ValueError("every sigma must be positive")
    for name, array in (("xdata", x), ("ydata", y), ("sigma", weights)):
        if check_finite and array is not None and not np.all(np.isfinite(array)):
            raise ValueError(f"{name} holds values that are not finite")
    return x, y, weights


def _parameter_names(f: Callable[..., Any], p0: ArrayLike | None) -> list[str]:
    """Names of the parameters of ``f(x, ...)``; numbered where f takes ``*params``."""
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
