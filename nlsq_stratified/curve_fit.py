"""``curve_fit_large``: NLSQ's function, with chunks that are kept as the caller made them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import nlsq
import numpy as np
from nlsq.result import CurveFitResult
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from nlsq_stratified.arguments import accepted, check_loss, check_method, positive
from nlsq_stratified.chunk_data import KeptPoints, NanPolicy, chunk_data, points_in
from nlsq_stratified.chunked_fit import FitOptions, fit_chunks, parameter_names
from nlsq_stratified.chunks import Chunks
from nlsq_stratified.fit_result import ChunkedResult, FittedPoints, TupleResult
from nlsq_stratified.objectives.correlated import CorrelatedObjective, covariance_root
from nlsq_stratified.objectives.curve import CurveObjective
from nlsq_stratified.objectives.local import LocalObjective, LocalParameters
from nlsq_stratified.reduction import ChunkSequence
from nlsq_stratified.start import estimated_start

__all__ = ["curve_fit_large", "fit_with_chunks"]

DEFAULT_CHUNK = 100_000


def curve_fit_large(
    f: Callable[..., Any],
    xdata: ArrayLike | None = None,
    ydata: ArrayLike | None = None,
    p0: ArrayLike | str | None = None,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    check_finite: bool = True,
    bounds: tuple[ArrayLike, ArrayLike] = (-np.inf, np.inf),
    method: str | None = None,
    stability: Any = False,
    rescale_data: bool = True,
    max_jacobian_elements_for_svd: int = 10_000_000,
    memory_limit_gb: float | None = None,
    auto_size_detection: bool = True,
    size_threshold: int = 1_000_000,
    show_progress: bool = False,
    chunk_size: int | None = None,
    multistart: bool = False,
    n_starts: int = 10,
    global_search: bool = False,
    sampler: str = "lhs",
    center_on_p0: bool = True,
    scale_factor: float = 1.0,
    *,
    chunks: Chunks | ChunkSequence | int | str | None = None,
    preserve_chunks: bool = True,
    executor: Executor | None = None,
    progressive: bool = False,
    local: LocalParameters | None = None,
    **kwargs: Any,
) -> CurveFitResult | tuple[Any, ...]:
    """Fit a curve to data of any size; with `chunks`, exactly and chunk by chunk.

    With ``chunks=None`` this is ``nlsq.curve_fit_large``. With chunks, each one contributes its
    sums over points and the sums are added, so the answer is the least-squares answer of the
    whole data whatever the chunks are, in whatever order and wherever they are summed.

    Parameters
    ----------
    f : callable
        ``f(x, *params) -> y`` in jax.numpy operations.
    xdata : (N,), (features, N) or (N, features) array
        With chunks; None where these hold their own data. The model sees each chunk of x in the
        same orientation.
    ydata : (N,) array
    p0 : (p,) array or 'auto', optional
        Start; ones (moved into the bounds) when None. With 'auto' the method ``estimate_p0(x, y)``
        of f gives it, or else the ranges of the data do, as in NLSQ; where chunks bring their own
        data, those of the first one.
    sigma : (N,) or (N, N) array, optional
        Standard deviation of each y, or the covariance matrix of all.
    absolute_sigma : bool
        If False the covariance is scaled by the reduced chi-square.
    check_finite : bool
        Raise if xdata, ydata or sigma hold a value that is not finite.
    bounds : (lower, upper)
        Each a float or a (p,) array.
    method : {None, 'trf', 'lm'}
        Has no effect with chunks, where there is one method.
    memory_limit_gb : float, optional
        Limits the size of chunks that are not the caller's to keep.
    show_progress : bool
        Show pass, chunk, cost and gradient while it runs.
    chunk_size : int, optional
        With ``chunks='auto'``: points in a chunk.
    multistart, n_starts, global_search, sampler, center_on_p0, scale_factor
        As in NLSQ: draw further starts, compare them on a sample of the chunks, take the best.
    chunks : Chunks, int, 'auto', or sequence, optional
        A partition of the points; a chunk size; a size chosen here; or any object with
        ``__len__`` and ``__getitem__(i) -> (x, y)`` or ``(x, y, sigma)``, which may read from
        disk.
    preserve_chunks : bool
        If True the model is called on exactly these chunks. If False their boundaries are hints,
        and the points are cut, in the order of the chunks, into runs that meet the memory limit.
    executor : concurrent.futures.Executor, optional
        Where the chunks are summed; here, reading one chunk ahead, when None.
    progressive : bool
        Fit on one chunk first, then on 4, 16, ..., all: for chunks that each are a fair sample
        of the data, as `Chunks.stratified` makes them.
    local : LocalParameters, optional
        Parameters that each group of points has its own values of. `f` is then the model of one
        group, and the time of a pass follows its parameters rather than all p.
    **kwargs
        With chunks: ``ftol``, ``xtol``, ``gtol``, ``max_nfev``, ``x_scale``, ``loss``,
        ``f_scale``, ``nan_policy``, ``callback`` (NLSQ's protocol), ``jac`` (its
        ``jac(x, *params)``, (n, p), in jax.numpy operations), ``full_output``, and ``tolerance``:
        how far from the minimum, in standard errors, the fit may stop. Without any of the
        tolerances it is 1e-4. One warning names those that steer NLSQ's own algorithms and have
        no effect here. With ``chunks=None``: whatever NLSQ takes.

    Returns
    -------
    CurveFitResult
        NLSQ's result, which is also the tuple ``(popt, pcov)``; has x, pcov, cost, cost_initial,
        grad, nit, nfev (of the last stage), success, message, chunk_sizes, chunk_costs. A fit
        that did not converge has success False and an infinite covariance. Where the data do not
        determine a parameter, or it sits at a bound, its covariance is infinite. With
        ``full_output=True`` the tuple ``(popt, pcov, infodict, mesg, ier)`` of SciPy and NLSQ.
        With ``chunks=None`` a plain tuple where NLSQ gives one.

    Raises
    ------
    ValueError
        If lengths disagree, data are not real or not finite, sigma is not positive or is given
        for some chunks only, the model is not finite at p0, no point depends on some parameter,
        or an option has a value that it cannot have.
    TypeError
        If an argument is not supported together with `chunks`.

    Notes
    -----
    Points that are masked (`numpy.ma`) in x, y or sigma are left out.
    """
    if chunks is None:
        if executor is not None or progressive or not preserve_chunks or local is not None:
            raise TypeError(
                "executor, progressive, preserve_chunks and local need chunks: without them "
                "NLSQ's own path is taken"
            )
        upstream: Any = nlsq.curve_fit_large
        result = upstream(
            f,
            xdata,
            ydata,
            p0=p0,
            sigma=sigma,
            absolute_sigma=absolute_sigma,
            check_finite=check_finite,
            bounds=bounds,
            method=method,
            stability=stability,
            rescale_data=rescale_data,
            max_jacobian_elements_for_svd=max_jacobian_elements_for_svd,
            memory_limit_gb=memory_limit_gb,
            auto_size_detection=auto_size_detection,
            size_threshold=size_threshold,
            show_progress=show_progress,
            chunk_size=chunk_size,
            multistart=multistart,
            n_starts=n_starts,
            global_search=global_search,
            sampler=sampler,
            center_on_p0=center_on_p0,
            scale_factor=scale_factor,
            **kwargs,
        )
        return TupleResult(result) if isinstance(result, CurveFitResult) else result
    # The matrices are narrow: threads of the linear algebra would only wait for each other.
    with threadpool_limits(1, user_api="blas"):
        return fit_with_chunks(
            f,
            xdata,
            ydata,
            chunks,
            p0=p0,
            sigma=sigma,
            absolute_sigma=absolute_sigma,
            check_finite=check_finite,
            bounds=bounds,
            method=method,
            memory_limit_gb=memory_limit_gb,
            chunk_size=chunk_size,
            preserve_chunks=preserve_chunks,
            executor=executor,
            progressive=progressive,
            local=local,
            show_progress=show_progress,
            multistart=multistart,
            n_starts=n_starts,
            global_search=global_search,
            sampler=sampler,
            center_on_p0=center_on_p0,
            scale_factor=scale_factor,
            stability=stability,
            rescale_data=rescale_data,
            max_jacobian_elements_for_svd=max_jacobian_elements_for_svd,
            auto_size_detection=auto_size_detection,
            size_threshold=size_threshold,
            **kwargs,
        )


def fit_with_chunks(
    f: Callable[..., Any],
    xdata: ArrayLike | None,
    ydata: ArrayLike | None,
    chunks: Chunks | ChunkSequence | int | str,
    *,
    p0: ArrayLike | str | None = None,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    check_finite: bool = True,
    nan_policy: NanPolicy = "raise",
    bounds: tuple[ArrayLike, ArrayLike] = (-np.inf, np.inf),
    method: str | None = None,
    memory_limit_gb: float | None = None,
    chunk_size: int | None = None,
    preserve_chunks: bool = True,
    loss: str = "linear",
    f_scale: float = 1.0,
    jac: Callable[..., Any] | None = None,
    full_output: bool = False,
    multistart: bool = False,
    n_starts: int = 10,
    global_search: bool = False,
    local: LocalParameters | None = None,
    **others: Any,
) -> ChunkedResult | tuple[Any, ...]:
    """The part of `curve_fit_large` that has chunks.

    `others` are those of `FitOptions`, and what NLSQ takes and has no effect here.
    """
    starts = 20 if global_search else n_starts if multistart else 0
    known = FitOptions.__dataclass_fields__.keys() - {"n_starts"}
    options = FitOptions(n_starts=starts, **accepted(others, known))
    check_method(method)
    check_loss(loss)
    how: dict[str, Any] = {"loss": loss, "f_scale": positive("f_scale", f_scale), "jac": jac}
    if jac is not None and not callable(jac):
        raise ValueError(f"jac must be a function jac(x, *params) or None, not {jac!r}")
    names = _names(f, p0, local)
    parts = _partition(chunks, ydata, len(names), memory_limit_gb, chunk_size, preserve_chunks)
    correlated = sigma is not None and np.ndim(sigma) == 2
    data = chunk_data(xdata, ydata, None if correlated else sigma, parts, check_finite, nan_policy)
    if correlated:
        if local is not None:
            raise TypeError("a covariance matrix is not supported together with local parameters")
        order, root = _covariance(sigma, parts, data, nan_policy)
        objective = CorrelatedObjective(f, root, order, **how)
    elif local is not None:
        objective = LocalObjective(f, local, **how)
    else:
        objective = CurveObjective(f, **how)
    if isinstance(p0, str):
        p0 = estimated_start(f, data, local, len(names))
    fit = fit_chunks(objective, data, names, p0, bounds, options, absolute_sigma)
    result = ChunkedResult(fit, model=f, xdata=xdata, ydata=ydata)
    result.seen_through(FittedPoints(objective, data))
    return result.full_output() if full_output else result


def _names(
    f: Callable[..., Any], p0: ArrayLike | str | None, local: LocalParameters | None
) -> list[str]:
    """Names of the parameters, as many as there are values in p0 if that holds some."""
    if isinstance(p0, str):
        if p0 != "auto":
            raise ValueError(f"p0 must be numbers, 'auto' or None, not {p0!r}")
        p0 = None
    if p0 is not None and np.ndim(p0) > 1:
        raise ValueError(f"p0 must have one dimension, got shape {np.shape(p0)}")
    if local is None:
        return parameter_names(f, p0)
    names = local.parameters(f)
    if p0 is not None and np.size(p0) != len(names):
        raise ValueError(
            f"p0 has {np.size(p0)} values, and there are {len(names)} parameters with those of "
            f"{local.n_groups} groups"
        )
    return names


def _covariance(
    sigma: Any, parts: Chunks | ChunkSequence, data: ChunkSequence, nan_policy: NanPolicy
) -> tuple[NDArray[np.int64] | None, NDArray[np.float64]]:
    """The order of the points, and the root of their covariance."""
    if not isinstance(parts, Chunks) or nan_policy == "omit":
        raise TypeError(
            "a covariance matrix needs a partition of the points, and all of them: "
            "pass xdata and ydata whole"
        )
    if isinstance(data, KeptPoints) or np.ma.is_masked(sigma):
        raise ValueError(
            "a covariance matrix needs all points: take those that are masked out of xdata, ydata "
            "and sigma"
        )
    if np.shape(sigma) != (parts.n_points, parts.n_points):
        raise ValueError(f"sigma of shape {np.shape(sigma)} does not match {parts.n_points} points")
    return parts.order, covariance_root(sigma)


def _partition(
    chunks: Chunks | ChunkSequence | int | str,
    ydata: ArrayLike | None,
    n_params: int,
    memory_limit_gb: float | None,
    chunk_size: int | None,
    preserve: bool,
) -> Chunks | ChunkSequence:
    """Chunks of the size asked for, or the caller's own."""
    most = points_in(memory_limit_gb, n_params)
    if isinstance(chunks, str | int | np.integer):
        if ydata is None:
            raise ValueError("ydata is needed to cut the data into chunks")
        n_points = len(np.asarray(ydata))
        if chunks == "auto":
            return Chunks.of_size(n_points, chunk_size or min(DEFAULT_CHUNK, most))
        if isinstance(chunks, str | bool):
            raise TypeError(
                f"chunks must be a Chunks, a size, 'auto' or a sequence, not {chunks!r}"
            )
        return Chunks.of_size(n_points, int(chunks))
    if preserve:
        return chunks
    if not isinstance(chunks, Chunks):
        raise TypeError("preserve_chunks=False needs a partition of the points: pass a Chunks")
    return chunks.resized(min(most, chunk_size or DEFAULT_CHUNK))
