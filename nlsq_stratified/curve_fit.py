"""``curve_fit_large``: NLSQ's function, with chunks that stay as the caller made them."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import nlsq
import numpy as np
from nlsq.result import CurveFitResult
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.arguments import (
    INSIDE,
    accepted,
    check_loss,
    check_method,
    parameter_names,
    positive,
    suggestion,
)
from nlsq_stratified.chunk_data import NanPolicy, chunk_data, points_in
from nlsq_stratified.chunked_fit import fit_chunks
from nlsq_stratified.chunks import ArrayChunks, Chunks
from nlsq_stratified.fit_options import FitOptions
from nlsq_stratified.fit_result import ChunkedResult, FittedPoints, TupleResult
from nlsq_stratified.objectives.correlated import CorrelatedObjective, covariance_root
from nlsq_stratified.objectives.curve import CurveObjective
from nlsq_stratified.objectives.local import LocalObjective, LocalParameters
from nlsq_stratified.reduction import ChunkSequence
from nlsq_stratified.start import estimated_start
from nlsq_stratified.threads import one_blas_thread

__all__ = ["curve_fit_large", "fit_with_chunks"]

# Points in a chunk with ``chunks="auto"``.
DEFAULT_CHUNK = 100_000

# A size of chunks below SMALL_CHUNK that makes more than MANY_CHUNKS of them is worth a warning.
SMALL_CHUNK = 1_000
MANY_CHUNKS = 10_000

# Arguments that NLSQ's own function does not have, and the values that stand for its own way.
NEW_ARGUMENTS: dict[str, Any] = {
    "executor": None,
    "progressive": False,
    "preserve_chunks": True,
    "local": None,
}


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
        None if the chunks hold their own data. The model gets each chunk of x in the same
        orientation.
    ydata : (N,) array
    p0 : (p,) array or 'auto', optional
        Start; ones (moved into the bounds) when None. With 'auto' the start comes from the method
        ``estimate_p0(x, y)`` of f or, without one, from the ranges of the data, as in NLSQ. If the
        chunks hold their own data, the first chunk is used.
    sigma : float, (N,) or (N, N) array, optional
        Standard deviation of each y, or the covariance matrix of all y. Points of infinite sigma
        are left out; unlike in SciPy they do not count as degrees of freedom.
    absolute_sigma : bool
        If False the covariance is scaled by the reduced chi-square.
    check_finite : bool
        Raise if xdata, ydata or sigma hold a value that is not finite.
    bounds : (lower, upper) or scipy.optimize.Bounds
        Each a float or a (p,) array; None stands for no bound.
    method : {None, 'trf', 'lm'}
        Has no effect with chunks: there is one method.
    memory_limit_gb : float, optional
        Limits the size of chunks that are cut here, not by the caller.
    show_progress : bool
        Show pass, chunk, cost and gradient during the fit.
    chunk_size : int, optional
        With ``chunks='auto'``: points in a chunk.
    multistart, n_starts, global_search, sampler, center_on_p0, scale_factor
        As in NLSQ: draw further starts, compare them on a sample of the chunks, take the best.
    chunks : Chunks, int, 'auto', or sequence, optional
        A partition of the points; a chunk size; 'auto' for a default size; or any object with
        ``__len__`` and ``__getitem__(i) -> (x, y)`` or ``(x, y, sigma)``, which may read from
        disk.
    preserve_chunks : bool
        If True the model is called on exactly these chunks, and compiled for each of their
        lengths. False is for a model that computes each point by itself: the points are taken in
        the order of the chunks, and cut anew into runs that meet the memory limit; chunks that
        hold their own data, or lack points that are left out, are filled up with copies of their
        last point, which do not count, to one of a few lengths.
    executor : concurrent.futures.Executor, optional
        Computes the sums of the chunks. When None, this thread does, while the next chunk is read.
    progressive : bool
        Fit one chunk first, then 4, 16, ..., all. Each chunk should be a fair sample of the data,
        as `Chunks.stratified` makes them.
    local : LocalParameters, optional
        Parameters with a separate value for each group of points. `f` is then the model of one
        group, and the time of a pass depends on the parameters of one group, not on all p.
    **kwargs
        With chunks: ``ftol``, ``xtol``, ``gtol``, ``max_nfev``, ``x_scale``, ``loss``,
        ``f_scale``, ``nan_policy``, ``callback`` (NLSQ's protocol), ``jac`` (its
        ``jac(x, *params)``, (n, p), in jax.numpy operations), ``full_output``, and ``tolerance``:
        how far from the minimum, in standard errors, the fit may stop; 1e-4 if none of the
        tolerances is passed. Arguments that control NLSQ's own algorithms have no effect; one
        warning names them. With ``chunks=None``: all arguments of NLSQ.

    Returns
    -------
    CurveFitResult
        NLSQ's result, which is also the tuple ``(popt, pcov)``; has x, pcov, cost, cost_initial,
        grad, nit, nfev (of the last stage), success, message, chunk_sizes, chunk_costs. A fit
        that did not converge has success False and an infinite covariance. The covariance of a
        parameter is infinite if the data do not determine it, or if it is at a bound. With
        ``full_output=True``: the tuple ``(popt, pcov, infodict, mesg, ier)`` of SciPy and NLSQ.
        With ``chunks=None``: what NLSQ returns.

    Raises
    ------
    ValueError
        If lengths disagree, data are not real or not finite, sigma is not positive or missing in
        some of the chunks, the model is not finite at p0, no point depends on a parameter, or the
        value of an argument is not allowed.
    TypeError
        If an argument is not supported together with `chunks`, or JAX can't trace the model.

    Notes
    -----
    Points that are masked (`numpy.ma`) in x, y or sigma are left out.
    """
    arguments = locals()  # all arguments by name, to pass on
    arguments |= arguments.pop("kwargs")
    if chunks is None:
        del arguments["chunks"]
        if any(arguments.pop(name) != value for name, value in NEW_ARGUMENTS.items()):
            raise TypeError(
                "executor, progressive, preserve_chunks and local need chunks: without them "
                "NLSQ's own path is taken"
            )
        # NLSQ ignores names that it does not know.
        if wrong := [
            n + hint for n in kwargs if (hint := suggestion(n, [*NEW_ARGUMENTS, "chunks"]))
        ]:
            raise TypeError(f"there is no argument {', '.join(wrong)}")
        result: Any = nlsq.curve_fit_large(**arguments)
        return TupleResult(result) if isinstance(result, CurveFitResult) else result
    return fit_with_chunks(**arguments)


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
    """`curve_fit_large` with chunks.

    `others` are the arguments of `FitOptions`, and arguments of NLSQ that have no effect here.
    """
    starts = 20 if global_search else n_starts if multistart else 0
    known = FitOptions.__dataclass_fields__.keys() - {"n_starts"}
    own = inspect.signature(fit_with_chunks).parameters
    options = FitOptions(n_starts=starts, **accepted(others, known, own))
    check_method(method)
    check_loss(loss)
    cost: dict[str, Any] = {"loss": loss, "f_scale": positive("f_scale", f_scale), "jac": jac}
    if jac is not None and not callable(jac):
        raise ValueError(f"jac must be a function jac(x, *params) or None, not {jac!r}")
    names = _names(f, p0, local)
    parts = _partition(chunks, ydata, len(names), memory_limit_gb, chunk_size, preserve_chunks)
    correlated = sigma is not None and np.ndim(sigma) == 2
    data = chunk_data(xdata, ydata, None if correlated else sigma, parts, check_finite, nan_policy)
    whole = isinstance(data, ArrayChunks) and data.keep is None
    cost["pad"] = not preserve_chunks and not whole
    if absolute_sigma and not correlated and len(data[0]) == 2:
        warnings.warn(
            "absolute_sigma=True without sigma: the errors are those of points with a standard "
            "deviation of 1",
            UserWarning,
            skip_file_prefixes=INSIDE,
        )
    if correlated:
        if local is not None:
            raise TypeError("a covariance matrix is not supported together with local parameters")
        order, root = _covariance(sigma, parts, data, nan_policy)
        del cost["pad"]  # the matrix belongs to all points
        objective = CorrelatedObjective(f, root, order, **cost)
    elif local is not None:
        objective = LocalObjective(f, local, **cost)
    else:
        objective = CurveObjective(f, **cost)
    if isinstance(p0, str):
        p0 = estimated_start(f, data, local, len(names))
    with one_blas_thread():
        fit = fit_chunks(objective, data, names, p0, bounds, options, absolute_sigma)
    result = ChunkedResult(fit, model=f, xdata=xdata, ydata=ydata)
    result.with_points(FittedPoints(objective, data))
    return result.full_output() if full_output else result


def _names(
    f: Callable[..., Any], p0: ArrayLike | str | None, local: LocalParameters | None
) -> list[str]:
    """Names of the parameters; without names in f, numbers as many as p0 has values."""
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
    """The order in which the chunks take the points, and the root of their covariance."""
    if not isinstance(parts, Chunks) or nan_policy == "omit":
        raise TypeError(
            "a covariance matrix needs all points, and chunks that cut them: "
            "pass all of xdata and ydata"
        )
    if (isinstance(data, ArrayChunks) and data.keep is not None) or np.ma.is_masked(sigma):
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
    """The caller's chunks, or chunks of the size that the caller wants."""
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
        if chunks < SMALL_CHUNK and n_points > MANY_CHUNKS * chunks > 0:
            warnings.warn(
                f"chunks={chunks} is the number of points in a chunk: this makes "
                f"{-(-n_points // int(chunks)):,} chunks, each of which takes a call; 'auto' "
                "chooses a size",
                UserWarning,
                skip_file_prefixes=INSIDE,
            )
        return Chunks.of_size(n_points, int(chunks))
    if preserve or not isinstance(chunks, Chunks):
        return chunks
    return chunks.resized(min(most, chunk_size or DEFAULT_CHUNK))
