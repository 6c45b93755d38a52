"""The caller's data as a sequence of chunks ``(x, y)`` or ``(x, y, sigma)``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, SupportsFloat, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.chunks import ArrayChunks, Chunks
from nlsq_stratified.reduction import ChunkSequence, in_memory

__all__ = ["FirstChunks", "chunk_data", "points_in", "real_numbers"]

Chunk = tuple[NDArray[Any], ...]
NanPolicy = Literal["raise", "omit", "propagate"]


def points_in(memory_limit_gb: float | None, n_params: int) -> int:
    """Largest number of points whose sums can be formed within a memory limit.

    A point takes p + 1 numbers in each of three arrays: the Jacobian, its scaled copy, and the
    copy that is factored.
    """
    if memory_limit_gb is None:
        return np.iinfo(np.int64).max
    return max(1, int(memory_limit_gb * 1e9 / (3 * 8 * (n_params + 1))))


def chunk_data(
    xdata: ArrayLike | None,
    ydata: ArrayLike | None,
    sigma: ArrayLike | None,
    chunks: Chunks | ChunkSequence,
    check_finite: bool = True,
    nan_policy: NanPolicy = "raise",
) -> ChunkSequence:
    """Check the data, and return them as a sequence of chunks.

    A point that is masked in one of the arrays (`numpy.ma`) is left out, and so is a point of
    infinite sigma, which has no weight.

    Parameters
    ----------
    xdata : (N,), (features, N) or (N, features) array, or None
        None if the chunks hold their own data.
    ydata : (N,) array or None
    sigma : float, (N,) array, or None
    chunks : Chunks or sequence
        A partition of the points, or a sequence of ``(x, y)`` or ``(x, y, sigma)``, which are
        read one by one and may be on disk.
    check_finite : bool
        With the policy 'raise': raise if the data hold a value that is not finite.
    nan_policy : {'raise', 'omit', 'propagate'}
        'omit' leaves out the points with such a value; 'propagate' keeps them.
    """
    if nan_policy not in ("raise", "omit", "propagate"):
        raise ValueError(f"nan_policy must be 'raise', 'omit' or 'propagate', not {nan_policy!r}")
    check = check_finite and nan_policy == "raise"
    omit = nan_policy == "omit"
    if isinstance(chunks, Chunks):
        if xdata is None or ydata is None:
            raise ValueError("xdata and ydata are needed with a partition of the points")
        arrays, axis, keep = _checked_arrays(xdata, ydata, sigma, check, omit)
        if chunks.n_points != len(arrays[1]):
            raise ValueError(f"the chunks hold {chunks.n_points} points, the data {len(arrays[1])}")
        if np.all(keep):
            return ArrayChunks(chunks, arrays, axis)
        if not np.any(keep):
            raise ValueError(
                "no point is left: each is masked, has an infinite sigma, or holds a value that is "
                "not finite"
            )
        return ArrayChunks(chunks, arrays, axis, keep)
    if hasattr(chunks, "__len__") and hasattr(chunks, "__getitem__"):
        if xdata is not None or ydata is not None or sigma is not None:
            raise TypeError(
                _partition_of(chunks, ydata)
                or "chunks that hold their own data replace xdata, ydata and sigma: pass None"
            )
        if len(chunks) == 0:
            raise ValueError("at least one chunk is needed")
        return _CheckedChunks(chunks, check, omit)
    raise TypeError(
        "chunks must be a Chunks, a size, 'auto', or a sequence of (x, y[, sigma]), "
        f"not {type(chunks).__name__}"
    )


def _partition_of(chunks: ChunkSequence, ydata: ArrayLike | None) -> str:
    """What to pass in place of numbers, or sequences of numbers, that cut the points."""
    n_points = -1 if ydata is None else len(np.asarray(ydata))
    if len(chunks) == 0:
        return ""
    if isinstance(chunks[0], slice):
        return "chunks of slices: pass Chunks.from_sizes, with the lengths of successive slices"
    first = np.asarray(chunks[0]) if not isinstance(chunks[0], tuple) else np.empty(0)
    if first.ndim == 0:
        if len(chunks) == n_points:
            return "chunks of a label for each point: pass Chunks.from_labels(chunks)"
        return "chunks of sizes: pass Chunks.from_sizes(chunks)" if first.dtype.kind in "iu" else ""
    if first.ndim == 1 and first.dtype.kind in "iu":
        return "chunks of point indices: pass Chunks.from_indices(chunks)"
    return ""


@dataclass(frozen=True)
class _CheckedChunks:
    """Chunks with their own data, which are checked when they are read."""

    chunks: ChunkSequence
    check_finite: bool
    omit: bool

    def __len__(self) -> int:
        return len(self.chunks)

    @property
    def in_memory(self) -> bool:
        return in_memory(self.chunks)

    def __getitem__(self, index: int) -> Chunk:
        chunk = self.chunks[index]
        if not isinstance(chunk, tuple | list) or len(chunk) not in (2, 3):
            raise ValueError(f"chunk {index} is not a tuple (x, y) or (x, y, sigma)")
        try:
            x, y, *sigma = chunk
            arrays, axis, keep = _checked_arrays(
                x, y, sigma[0] if sigma else None, self.check_finite, self.omit
            )
        except ValueError as error:
            raise ValueError(f"chunk {index}: {error}") from error
        if np.all(keep):
            return arrays
        x, *others = arrays
        return (np.compress(keep, x, axis=axis), *(array[keep] for array in others))


@dataclass(frozen=True)
class FirstChunks:
    """The first few chunks of a sequence."""

    chunks: ChunkSequence
    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def in_memory(self) -> bool:
        return in_memory(self.chunks)

    def __getitem__(self, index: int) -> Any:
        return self.chunks[range(self.count)[index]]


def _checked_arrays(
    xdata: ArrayLike, ydata: ArrayLike, sigma: ArrayLike | None, check_finite: bool, omit: bool
) -> tuple[Chunk, int, NDArray[np.bool_]]:
    """Check that the arrays are real and agree in length.

    Returns
    -------
    arrays : tuple
        x, y and, if there is one, sigma.
    axis : int
        The axis of x along which the points run.
    keep : (N,) array
        Points that are not masked, have a finite sigma and, with `omit`, finite values only.
    """
    x, y = real_numbers("xdata", xdata), real_numbers("ydata", ydata)
    if y.ndim != 1:
        raise ValueError(f"ydata must have one dimension, got shape {y.shape}")
    if len(y) == 0:
        raise ValueError("there are no points")
    axis = _points_axis(x, len(y))
    arrays = {"xdata": x, "ydata": y}
    if sigma is not None:
        weights = real_numbers("sigma", sigma)
        if weights.shape in ((), (1,)):
            weights = np.broadcast_to(weights, y.shape)
        if weights.shape != y.shape:
            raise ValueError(f"sigma of shape {weights.shape} does not match {len(y)} points")
        arrays["sigma"] = weights
    keep = np.ones(len(y), dtype=bool)
    for array in arrays.values():
        if isinstance(array, np.ma.MaskedArray):
            keep &= ~_any_feature(np.ma.getmaskarray(array), axis)
    data = {name: np.ma.getdata(array) for name, array in arrays.items()}
    if sigma is not None and np.any(data["sigma"][keep] <= 0):
        raise ValueError("every sigma must be positive")
    if sigma is not None:
        keep &= ~np.isposinf(data["sigma"])
    for name, array in data.items():
        if not check_finite and not omit:
            break
        not_finite = _any_feature(~np.isfinite(array), axis)
        if check_finite and np.any(not_finite & keep):
            raise ValueError(f"{name} holds values that are not finite")
        keep &= ~not_finite
    return tuple(data.values()), axis, keep


def _any_feature(marked: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Points (N,) that are marked in at least one of their features."""
    return np.any(marked, axis=tuple(i for i in range(marked.ndim) if i != axis % marked.ndim))


def real_numbers(name: str, values: ArrayLike) -> NDArray[Any]:
    """The values as an array, masked if they are masked; complex numbers and text are refused."""
    array = values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    if array.dtype.kind == "O":
        array = _numbers_of_objects(name, array)
    if np.iscomplexobj(array):
        raise ValueError(
            f"{name} holds complex numbers: fit real and imaginary parts as separate points"
        )
    if array.dtype.kind in "SUMm":
        times = array.dtype.kind in "Mm"
        advice = ": pass seconds, as (t - t[0]) / np.timedelta64(1, 's')" if times else ""
        raise ValueError(f"{name} holds values of type {array.dtype}, not real numbers{advice}")
    return array


def _numbers_of_objects(name: str, array: NDArray[Any]) -> NDArray[np.float64]:
    """An array of Python objects as numbers; None is NaN."""
    hidden = np.ma.getmaskarray(array)
    for value in np.ma.getdata(array)[~hidden]:
        if not isinstance(value, SupportsFloat | SupportsIndex | None):
            raise ValueError(f"{name} holds {value!r}, which is no real number")
    return array.astype(np.float64)


def _points_axis(x: NDArray[Any], n_points: int) -> int:
    """The axis of x along which the points run; the last axis if both have the right length."""
    if x.ndim and x.shape[-1] == n_points:
        return x.ndim - 1
    if x.ndim and x.shape[0] == n_points:
        return 0
    raise ValueError(f"xdata of shape {x.shape} does not match {n_points} points of ydata")
