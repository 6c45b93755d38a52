"""Objectives made of sums over chunks, and the one loop that adds them."""

from __future__ import annotations

import functools
import operator
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nlsq_stratified.normal_equations import Equations

__all__ = ["ChunkSequence", "Objective", "Sums", "evaluate", "partial_sums", "reduce"]

# Chunks handed to an executor before the first result is waited for.
WINDOW = max(16, 2 * (os.cpu_count() or 1))


class Sums(Protocol):
    """Anything that adds: an array, `Equations`, ..."""

    def __add__(self, other: Any, /) -> Any: ...


class ChunkSequence(Protocol):
    """Data in chunks. Items may be read from disk when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Objective[S: Sums](Protocol):
    """A least-squares cost that needs only sums over the points.

    `chunk_sums` is heavy: it touches the points and runs where the chunk lives.
    `normal_equations` is light: it turns the sum over all chunks into what the solver needs.
    """

    def chunk_sums(self, params: NDArray[np.float64], chunk: Any) -> S:
        """Sums over the points of one chunk at `params` (p,)."""
        ...

    def normal_equations(self, params: NDArray[np.float64], sums: S) -> Equations:
        """Cost, gradient and Hessian from the sums over all chunks at `params`."""
        ...


def partial_sums[S: Sums](
    objective: Objective[S],
    params: NDArray[np.float64],
    chunks: ChunkSequence,
    executor: Executor | None = None,
) -> Iterator[S]:
    """Yield ``objective.chunk_sums`` of each chunk, in the order of the chunks.

    A few chunks at most are in memory at a time: without an executor the one that is summed and
    the next, which is read meanwhile; with one, those that wait for it.

    Parameters
    ----------
    objective : Objective
    params : (p,) array
    chunks : sequence
        At least one chunk.
    executor : concurrent.futures.Executor, optional
        Runs the chunks; in this thread, one after the other, when None.
    """
    if executor is not None:
        tasks = (
            executor.submit(objective.chunk_sums, params, chunks[i]) for i in range(len(chunks))
        )
        yield from _in_order(tasks, WINDOW)
    elif len(chunks) == 1:
        yield objective.chunk_sums(params, chunks[0])
    else:
        with ThreadPoolExecutor(1) as reader:
            reads = (reader.submit(chunks.__getitem__, i) for i in range(len(chunks)))
            for chunk in _in_order(reads, 2):
                yield objective.chunk_sums(params, chunk)


def _in_order[T](tasks: Iterator[Future[T]], window: int) -> Iterator[T]:
    """Results in the order of submission, with at most `window` tasks under way."""
    pending: deque[Future[T]] = deque()
    try:
        for task in tasks:
            pending.append(task)
            if len(pending) == window:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for task in pending:
            task.cancel()


def reduce[S: Sums](
    objective: Objective[S],
    params: NDArray[np.float64],
    chunks: ChunkSequence,
    executor: Executor | None = None,
) -> S:
    """Sum ``objective.chunk_sums`` over all chunks.

    The additions are made in the order of the chunks whatever the order in which they finish,
    so every executor gives the same bits.
    """
    return functools.reduce(operator.add, partial_sums(objective, params, chunks, executor))


def evaluate[S: Sums](
    objective: Objective[S],
    params: NDArray[np.float64],
    chunks: ChunkSequence,
    executor: Executor | None = None,
) -> Equations:
    """One pass over the data: the normal equations of all chunks at `params`."""
    return objective.normal_equations(params, reduce(objective, params, chunks, executor))
