"""Partitions of N data points into chunks: an order of the points, and boundaries in it."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ArrayChunks", "ChunkReport", "Chunks"]


@dataclass(frozen=True)
class ChunkReport:
    """How the groups of the data are spread over the chunks.

    Attributes
    ----------
    sizes : tuple of int
        Points in each chunk.
    groups : tuple
        The distinct group labels.
    counts : (n_chunks, n_groups) int array
        Points of each group in each chunk.
    """

    sizes: tuple[int, ...]
    groups: tuple[Any, ...]
    counts: NDArray[np.int64]

    @property
    def missing(self) -> tuple[tuple[Any, ...], ...]:
        """The groups that have no point in a chunk, for each chunk."""
        return tuple(
            tuple(group for group, count in zip(self.groups, row, strict=True) if count == 0)
            for row in self.counts
        )

    @property
    def coverage(self) -> float:
        """Share of the chunks that hold every group."""
        return float(np.mean(np.all(self.counts > 0, axis=1)))

    @property
    def imbalance_ratio(self) -> float:
        """Points in the largest group over points in the smallest."""
        totals = self.counts.sum(axis=0)
        return float(totals.max() / totals.min())

    def __str__(self) -> str:
        lines = [
            f"{len(self.sizes)} chunks, {sum(self.sizes):,} points, {len(self.groups)} groups",
            f"imbalance ratio {self.imbalance_ratio:.2f}, "
            f"{self.coverage:.0%} of the chunks hold every group",
            f"{'chunk':>7} {'points':>12}  groups missing",
        ]
        lines += [
            f"{index:>7} {size:>12,}  {', '.join(map(str, missing)) or '-'}"
            for index, (size, missing) in enumerate(zip(self.sizes, self.missing, strict=True))
        ]
        return "\n".join(lines)


class Chunks:
    """A partition of N points: each point is in exactly one chunk.

    Parameters
    ----------
    sizes : iterable of int
        Points in each chunk, all positive.
    order : (N,) array of int, optional
        The points in the order in which the chunks take them; the natural order when None.

    Raises
    ------
    ValueError
        If a chunk is empty, or `order` is not a permutation of ``range(sum(sizes))``.
    """

    def __init__(self, sizes: Iterable[int], order: ArrayLike | None = None) -> None:
        self.sizes = tuple(operator.index(size) for size in sizes)
        if not self.sizes:
            raise ValueError("at least one chunk is needed")
        for index, size in enumerate(self.sizes):
            if size <= 0:
                raise ValueError(f"chunk {index} is empty: every chunk needs at least one point")
        self.n_points = sum(self.sizes)
        self.order = None if order is None else _permutation(order, self.n_points)
        self._ends = np.cumsum(self.sizes)

    @classmethod
    def from_sizes(cls, sizes: Iterable[int]) -> Chunks:
        """Consecutive runs of points with these lengths."""
        return cls(sizes)

    @classmethod
    def of_size(cls, n_points: int, size: int) -> Chunks:
        """Consecutive runs of `size` points; the last run holds the rest."""
        if size <= 0:
            raise ValueError(f"the chunk size must be positive, got {size}")
        if n_points <= 0:
            raise ValueError("there are no points to chunk")
        full, rest = divmod(n_points, size)
        return cls([size] * full + [rest] * (rest > 0))

    @classmethod
    def from_indices(cls, indices: Sequence[ArrayLike]) -> Chunks:
        """Chunk i holds the points ``indices[i]``, in that order."""
        parts = [np.atleast_1d(np.asarray(part)) for part in indices]
        if not parts:
            raise ValueError("at least one chunk is needed")
        return cls([len(part) for part in parts], np.concatenate(parts))

    @classmethod
    def from_labels(cls, labels: ArrayLike) -> Chunks:
        """One chunk for each distinct label, ascending; points keep their order in a chunk."""
        labels = np.asarray(labels)
        _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
        return cls(counts, np.argsort(inverse, kind="stable"))

    by_group = from_labels

    def resized(self, size: int) -> Chunks:
        """The points in the same order, cut into runs of `size`; the old boundaries are dropped."""
        return Chunks(Chunks.of_size(self.n_points, size).sizes, self.order)

    @classmethod
    def stratified(
        cls, groups: ArrayLike, target_size: int = 100_000, seed: int | None = None
    ) -> Chunks:
        """Chunks of about equal size that hold every group in proportion to its size.

        With k chunks, each has the k-th part of the points of each group, rounded down or up. There
        are as few chunks as the target size allows, and none holds only a small rest.

        Parameters
        ----------
        groups : (N,) array
            Group label of each point.
        target_size : int
            Largest number of points in a chunk, apart from rounding.
        seed : int, optional
            Take the points of each group in random order; in their own order when None.
        """
        labels, inverse, counts = np.unique(
            np.asarray(groups), return_inverse=True, return_counts=True
        )
        if target_size < len(labels):
            raise ValueError(
                f"target_size {target_size} cannot hold a point of each of {len(labels)} groups"
            )
        members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])
        if seed is not None:
            rng = np.random.default_rng(seed)
            members = [rng.permutation(part) for part in members]
        quotas = np.maximum(1, counts * target_size // counts.sum())
        size, total = int(quotas.sum()), int(counts.sum())
        n_chunks = -(-total // size)
        cuts = [[n * i // n_chunks for n in counts.tolist()] for i in range(n_chunks + 1)]
        return cls.from_indices(
            [
                np.concatenate([part[a:b] for part, a, b in zip(members, *ends, strict=True)])
                for ends in itertools.pairwise(cuts)
            ]
        )

    def __repr__(self) -> str:
        least, most = min(self.sizes), max(self.sizes)
        size = f"{most:,}" if least == most else f"{least:,} to {most:,}"
        order = "" if self.order is None else ", in an order of their own"
        return f"<Chunks: {self.n_points:,} points in {len(self):,} chunks of {size}{order}>"

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[slice | NDArray[np.int64]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> slice | NDArray[np.int64]:
        """What selects the points of a chunk from an array of N points: a slice, or positions."""
        index = range(len(self))[index]
        stop = int(self._ends[index])
        run = slice(stop - self.sizes[index], stop)
        return run if self.order is None else self.order[run]

    def report(self, groups: ArrayLike) -> ChunkReport:
        """Count the points of each group in each chunk.

        Parameters
        ----------
        groups : (N,) array
            Group label of each point.
        """
        groups = np.asarray(groups)
        if groups.shape != (self.n_points,):
            raise ValueError(f"{self.n_points} points need as many labels, got {groups.shape}")
        labels, inverse = np.unique(groups, return_inverse=True)
        counts = np.stack([np.bincount(inverse[part], minlength=len(labels)) for part in self])
        return ChunkReport(self.sizes, tuple(labels.tolist()), counts)


@dataclass(frozen=True)
class ArrayChunks:
    """Arrays of N points as a sequence of chunks: item i is a tuple with chunk i of each array.

    Attributes
    ----------
    chunks : Chunks
    arrays : tuple of array
        Points run along the last axis of each array, except for the first array.
    axis : int
        The axis of the first array along which points run.
    keep : (N,) bool array, optional
        Points to keep; the others are left out. All when None.
    """

    chunks: Chunks
    arrays: tuple[NDArray[Any], ...]
    axis: int = -1
    keep: NDArray[np.bool_] | None = None
    in_memory = True

    def __post_init__(self) -> None:
        lengths = [self.arrays[0].shape[self.axis], *(a.shape[-1] for a in self.arrays[1:])]
        for length in lengths:
            if length != self.chunks.n_points:
                raise ValueError(
                    f"the chunks hold {self.chunks.n_points} points, an array {length}"
                )

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], ...]:
        part = self.chunks[index]
        if self.keep is not None:
            positions = np.arange(part.start, part.stop) if isinstance(part, slice) else part
            part = positions[self.keep[positions]]
        first, *rest = self.arrays
        of_first = first[part] if self.axis == 0 else first[..., part]
        return (of_first, *(array[..., part] for array in rest))

    @property
    def kept_order(self) -> NDArray[np.int64]:
        """The points that are kept, in the order in which the chunks take them."""
        order = np.arange(self.chunks.n_points) if self.chunks.order is None else self.chunks.order
        return order if self.keep is None else order[self.keep[order]]


def _permutation(order: ArrayLike, n_points: int) -> NDArray[np.int64]:
    """Return `order` as int64, checked to hold each point exactly once."""
    order = np.asarray(order)
    if order.ndim != 1 or not np.issubdtype(order.dtype, np.integer):
        raise ValueError(f"point indices must be integers in one dimension, got {order.dtype}")
    if len(order) != n_points:
        raise ValueError(f"the chunks hold {n_points} points but the order lists {len(order)}")
    outside = order[(order < 0) | (order >= n_points)]
    if len(outside):
        raise ValueError(f"point {outside[0]} is out of range: there are {n_points} points")
    counts = np.bincount(order, minlength=n_points)
    if np.any(counts > 1):
        point = np.argmax(counts > 1)
        raise ValueError(f"point {point} occurs {counts[point]} times")
    return order.astype(np.int64)
