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

from nlsq_stratified.chunk_data import NanPolicy, chunk_data, points_in
from nlsq_stratified.chunked_fit import FitOptions, fit_chunks, parameter_names
from nlsq_stratified.chunks import Chunks
from nlsq_stratified.correlated import CorrelatedObjective, covariance_root
from nlsq_stratified.curve_objective import CurveObjective
from nlsq_stratified.local_parameters import LocalObjective, LocalParameters
from nlsq_stratified.loss import LOSSES
from nlsq_stratified.reduction import ChunkSequence, Objective

__all__ = ["curve_fit_large", "fit_with_chunks"]

DEFAULT_CHUNK = 100_000

# Upstream's arguments that steer its own algorithms, with the values that mean nothing special.
UPSTREAM_ONLY = {
    "stability": False,
    "rescale_data": True,
    "max_jacobian_elements_for_svd": 10_000_000,
    "auto_size_detection": True,
    "size_threshold": 1_000_000,
}


def curve_fit_large(
    f: Callable[..., Any],
    xdata: ArrayLike | None = None,
    ydata: ArrayLike | None = None,
    p0: ArrayLike | None = None,
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
) -> CurveFitResult | tuple[NDArray[np.float64], NDArray[np.float64]]:
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
    p0 : (p,) array, optional
        Start; ones (moved into the bounds) when None.
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
        ``f_scale``, ``nan_policy``, ``callback`` (NLSQ's protocol), and ``tolerance``: how far
        from the minimum, in standard errors, the fit may stop. Without any of the tolerances it
        is 1e-4. With ``chunks=None``: whatever NLSQ takes.

    Returns
    -------
    CurveFitResult
        NLSQ's result: unpacks as ``popt, pcov``; has x, pcov, cost, cost_initial, grad, nit,
        nfev (of the last stage), success, message, chunk_sizes, chunk_costs. A fit that did not
        converge has success False and an infinite covariance. Where the data do not determine a
        parameter, or it sits at a bound, its covariance is infinite.

    Raises
    ------
    ValueError
        If lengths disagree, data are not finite, sigma is not positive, the model is not finite
        at p0, or no point depends on some parameter.
    TypeError
        If an argument is not supported together with `chunks`.
    """
    if chunks is None:
        if executor is not None or progressive or not preserve_chunks or local is not None:
            raise TypeError(
                "executor, progressive, preserve_chunks and local need chunks: without them "
                "NLSQ's own path is taken"
            )
        upstream: Any = nlsq.curve_fit_large
        return upstream(
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
    given = {
        "stability": stability,
        "rescale_data": rescale_data,
        "max_jacobian_elements_for_svd": max_jacobian_elements_for_svd,
        "auto_size_detection": auto_size_detection,
        "size_threshold": size_threshold,
    }
    unsupported = [name for name, value in given.items() if value != UPSTREAM_ONLY[name]]
    if unsupported:
        raise TypeError(f"not supported together with chunks: {', '.join(unsupported)}")
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
            n_starts=20 if global_search else n_starts * multistart,
            sampler=sampler,
            center_on_p0=center_on_p0,
            scale_factor=scale_factor,
            **kwargs,
        )


def fit_with_chunks(
    f: Callable[..., Any],
    xdata: ArrayLike | None,
    ydata: ArrayLike | None,
    chunks: Chunks | ChunkSequence | int | str,
    *,
    p0: ArrayLike | None = None,
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
    local: LocalParameters | None = None,
    **options: Any,
) -> CurveFitResult:
    """The part of `curve_fit_large` that has chunks; `options` are those of `FitOptions`."""
    unknown = options.keys() - FitOptions.__dataclass_fields__.keys()
    if unknown:
        raise TypeError(f"not supported together with chunks: {', '.join(sorted(unknown))}")
    if method not in (None, "trf", "lm", "dogbox"):
        raise TypeError(f"method {method!r} is not supported together with chunks")
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, not {loss!r}")
    names = parameter_names(f, p0) if local is None else local.parameters(f)
    if local is not None and p0 is not None and np.size(p0) != len(names):
        raise ValueError(
            f"p0 has {np.size(p0)} values, and there are {len(names)} parameters with those of "
            f"{local.n_groups} groups"
        )
    parts = _partition(chunks, ydata, len(names), memory_limit_gb, chunk_size, preserve_chunks)
    objective: Objective[Any] = (
        CurveObjective(f, loss, f_scale)
        if local is None
        else LocalObjective(f, local, loss, f_scale)
    )
    if sigma is not None and np.ndim(sigma) == 2:
        if local is not None:
            raise TypeError("a covariance matrix is not supported together with local parameters")
        if not isinstance(parts, Chunks) or nan_policy == "omit":
            raise TypeError(
                "a covariance matrix needs a partition of the points, and all of them: "
                "pass xdata and ydata whole"
            )
        if np.shape(sigma) != (parts.n_points, parts.n_points):
            raise ValueError(
                f"sigma of shape {np.shape(sigma)} does not match {parts.n_points} points"
            )
        objective = CorrelatedObjective(f, covariance_root(sigma), parts.order, loss, f_scale)
        sigma = None
    data = chunk_data(xdata, ydata, sigma, parts, check_finite, nan_policy)
    result = fit_chunks(objective, data, names, p0, bounds, FitOptions(**options), absolute_sigma)
    result.update(model=f, xdata=xdata, ydata=ydata)
    return result


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
