"""The caller's data as a sequence of chunks ``(x, y)`` or ``(x, y, sigma)``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.chunks import ArrayChunks, Chunks
from nlsq_stratified.reduction import ChunkSequence, in_memory

__all__ = ["FirstChunks", "chunk_data", "points_in"]

Chunk = tuple[NDArray[Any], ...]
NanPolicy = Literal["raise", "omit", "propagate"]


def points_in(memory_limit_gb: float | None, n_params: int) -> int:
    """Points whose sums can be formed within a memory limit; no end of them without one.

    Jacobian, its scaled copy and the copy that the factorisation works on: three arrays of
    p + 1 numbers a point.
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
    """Check the data and see them chunk by chunk.

    Parameters
    ----------
    xdata : (N,), (features, N) or (N, features) array, or None
        None with chunks that bring their own data.
    ydata : (N,) array or None
    sigma : (N,) array or None
    chunks : Chunks or sequence
        A partition of the points, or items ``(x, y)`` or ``(x, y, sigma)``; these are read one
        by one and may live on disk.
    check_finite : bool
        Raise if the data hold a value that is not finite, unless `nan_policy` deals with it.
    nan_policy : {'raise', 'omit', 'propagate'}
        'omit' leaves out the points with such a value; 'propagate' keeps them.

    Raises
    ------
    ValueError
        If the data do not fit together, or are not finite, or a sigma is not positive.
    TypeError
        If `chunks` is neither a partition nor a sequence of chunks.
    """
    if nan_policy not in ("raise", "omit", "propagate"):
        raise ValueError(f"nan_policy must be 'raise', 'omit' or 'propagate', not {nan_policy!r}")
    check = check_finite and nan_policy == "raise"
    axis: int | None = None
    if isinstance(chunks, Chunks):
        if xdata is None or ydata is None:
            raise ValueError("xdata and ydata are needed with a partition of the points")
        arrays, axis = _whole(xdata, ydata, sigma, check)
        if chunks.n_points != len(arrays[1]):
            raise ValueError(f"the chunks hold {chunks.n_points} points, the data {len(arrays[1])}")
        data: ChunkSequence = ArrayChunks(chunks, arrays, axis)
    elif hasattr(chunks, "__len__") and hasattr(chunks, "__getitem__"):
        if xdata is not None or ydata is not None or sigma is not None:
            raise TypeError(
                "chunks that hold their own data replace xdata, ydata and sigma: pass None"
            )
        if len(chunks) == 0:
            raise ValueError("at least one chunk is needed")
        data = _CheckedChunks(chunks, check)
    else:
        raise TypeError(
            "chunks must be a Chunks, a size, 'auto', or a sequence of (x, y[, sigma]), "
            f"not {type(chunks).__name__}"
        )
    return _FinitePoints(data, axis) if nan_policy == "omit" else data


@dataclass(frozen=True)
class _CheckedChunks:
    """Chunks that the caller cut, checked when they are read."""

    chunks: ChunkSequence
    check_finite: bool

    def __len__(self) -> int:
        return len(self.chunks)

    @property
    def in_memory(self) -> bool:
        """Whether those chunks are."""
        return in_memory(self.chunks)

    def __getitem__(self, index: int) -> Chunk:
        chunk = self.chunks[index]
        if not isinstance(chunk, tuple | list) or len(chunk) not in (2, 3):
            raise ValueError(f"chunk {index} is not a tuple (x, y) or (x, y, sigma)")
        try:
            x, y, *sigma = chunk
            arrays, _ = _whole(x, y, sigma[0] if sigma else None, self.check_finite)
        except ValueError as error:
            raise ValueError(f"chunk {index}: {error}") from error
        return arrays


@dataclass(frozen=True)
class _FinitePoints:
    """Chunks without the points that hold a value that is not finite.

    `axis` is that of x along which the points run; from the shape of each chunk when None.
    """

    chunks: ChunkSequence
    axis: int | None = None

    def __len__(self) -> int:
        return len(self.chunks)

    @property
    def in_memory(self) -> bool:
        """Whether those chunks are."""
        return in_memory(self.chunks)

    def __getitem__(self, index: int) -> Chunk:
        x, *rest = self.chunks[index]
        axis = _points_axis(x, len(rest[0])) if self.axis is None else self.axis
        others = tuple(i for i in range(x.ndim) if i != axis)
        keep = np.all(np.isfinite(x), axis=others)
        for array in rest:
            keep = keep & np.isfinite(array)
        return (np.compress(keep, x, axis=axis), *(array[keep] for array in rest))


@dataclass(frozen=True)
class FirstChunks:
    """The first few chunks of a sequence."""

    chunks: ChunkSequence
    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def in_memory(self) -> bool:
        """Whether those chunks are."""
        return in_memory(self.chunks)

    def __getitem__(self, index: int) -> Any:
        return self.chunks[range(self.count)[index]]


def _whole(
    xdata: ArrayLike, ydata: ArrayLike, sigma: ArrayLike | None, check_finite: bool
) -> tuple[Chunk, int]:
    """The arrays, checked to fit together, and the axis of x along which the points run."""
    x, y = np.asarray(xdata), np.asarray(ydata)
    if y.ndim != 1:
        raise ValueError(f"ydata must have one dimension, got shape {y.shape}")
    if len(y) == 0:
        raise ValueError("there are no points")
    axis = _points_axis(x, len(y))
    arrays = [("xdata", x), ("ydata", y)]
    if sigma is not None:
        weights = np.asarray(sigma)
        if weights.shape != y.shape:
            raise ValueError(f"sigma of shape {weights.shape} does not match {len(y)} points")
        if np.any(weights <= 0):
            raise ValueError("every sigma must be positive")
        arrays.append(("sigma", weights))
    for name, array in arrays:
        if check_finite and not np.all(np.isfinite(array)):
            raise ValueError(f"{name} holds values that are not finite")
    return tuple(array for _, array in arrays), axis


def _points_axis(x: NDArray[Any], n_points: int) -> int:
    """The axis of x along which the points run; the last one where both fit."""
    if x.ndim and x.shape[-1] == n_points:
        return x.ndim - 1
    if x.ndim and x.shape[0] == n_points:
        return 0
    raise ValueError(f"xdata of shape {x.shape} does not match {n_points} points of ydata")
