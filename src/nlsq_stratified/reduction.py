"""Objectives made of sums over chunks, and the one loop that adds them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nlsq_stratified.normal_equations import Equations

__all__ = ["ChunkSequence", "Objective", "Sums", "evaluate", "reduce"]


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


def reduce[S: Sums](
    objective: Objective[S],
    params: NDArray[np.float64],
    chunks: ChunkSequence,
    executor: Executor | None = None,
) -> S:
    """Sum ``objective.chunk_sums`` over all chunks.

    The additions are made in the order of the chunks whatever the order in which they finish,
    so every executor gives the same bits.

    Parameters
    ----------
    objective : Objective
    params : (p,) array
    chunks : sequence
        At least one chunk.
    executor : concurrent.futures.Executor, optional
        Runs the chunks; in this thread, one after the other, when None.
    """
    indices = range(len(chunks))
    parts: Iterator[S]
    if executor is None:
        parts = (objective.chunk_sums(params, chunks[i]) for i in indices)
    else:
        parts = executor.map(
            objective.chunk_sums, (params for _ in indices), (chunks[i] for i in indices)
        )
    return functools.reduce(operator.add, parts)


def evaluate[S: Sums](
    objective: Objective[S],
    params: NDArray[np.float64],
    chunks: ChunkSequence,
    executor: Executor | None = None,
) -> Equations:
    """One pass over the data: the normal equations of all chunks at `params`."""
    return objective.normal_equations(params, reduce(objective, params, chunks, executor))
