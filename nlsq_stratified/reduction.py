"""Objectives that are sums over chunks, and the loop that adds these sums."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nlsq_stratified.normal_equations import Equations
from nlsq_stratified.processors import available_processors

__all__ = [
    "FAN_IN",
    "ChunkExecutor",
    "ChunkReference",
    "ChunkSequence",
    "Objective",
    "Partial",
    "Summable",
    "Sums",
    "add_up",
    "distribute",
    "evaluate",
    "forks",
    "in_memory",
    "partial_sums",
    "reduce",
    "require_no_fork",
]

# Number of sums in a run; see `add_up`.
FAN_IN = 64

# Smallest number of chunks that may wait for an executor.
LEAST_WINDOW = 16


class Sums(Protocol):
    """Anything that can be added: an array, `Equations`, ..."""

    def __add__(self, other: Any, /) -> Any: ...


class ChunkSequence(Protocol):
    """Data in chunks. Items may be read from disk when they are used."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Summable[S: Sums](Protocol):
    """Anything that is a sum over chunks."""

    def chunk_sums(self, params: NDArray[np.float64], chunk: Any) -> S:
        """Sums over the points of one chunk at `params` (p,)."""
        ...


class Objective[S: Sums](Summable[S], Protocol):
    """A least-squares cost that needs only sums over the points.

    `chunk_sums` takes long: it uses the points, and runs where the chunk is. `normal_equations` is
    fast: it makes the equations for the solver from the sum over all chunks.
    """

    def normal_equations(self, params: NDArray[np.float64], sums: S) -> Equations:
        """Cost, gradient and Hessian from the sums over all chunks at `params`."""
        ...


@dataclass(frozen=True, eq=False)
class Partial[S: Sums]:
    """The sum over some chunks, with some values of each chunk; can be added like the sums.

    Attributes
    ----------
    sums : S
    costs : tuple of float
        Cost of each chunk; NaN if its sums have no attribute ``cost``.
    sizes : tuple of int
        Points of each chunk; 0 if its sums have no attribute ``n_points``.
    finite : tuple of bool
        Whether all sums of each chunk are finite; True if they have no attribute ``finite``.
    widths : tuple of int
        Number of arrays in each chunk; 0 if a chunk is no tuple.
    """

    sums: S
    costs: tuple[float, ...]
    sizes: tuple[int, ...]
    finite: tuple[bool, ...]
    widths: tuple[int, ...]

    def __add__(self, other: Partial[S]) -> Partial[S]:
        return Partial(
            self.sums + other.sums,
            self.costs + other.costs,
            self.sizes + other.sizes,
            self.finite + other.finite,
            self.widths + other.widths,
        )


@runtime_checkable
class ChunkExecutor(Protocol):
    """An executor that keeps chunks where they are summed, so that only sums travel."""

    def distribute(self, chunks: ChunkSequence, /) -> ChunkSequence:
        """Give the chunks to the workers, once. Items of the result stand for chunks in `sums`.

        The workers release the chunks when nothing refers to the result any more.
        """
        ...

    def sums[P: Sums](self, function: Callable[[Any], P], chunks: ChunkSequence, /) -> Iterable[P]:
        """``function(chunk)`` of each chunk in order, or sums of runs as in `add_up`."""
        ...


def distribute(chunks: ChunkSequence, executor: Executor | None) -> ChunkSequence:
    """Give the chunks to an executor that keeps them; other executors leave them as they are.

    Call it once before many passes over the same chunks.
    """
    require_no_fork(executor)
    return executor.distribute(chunks) if isinstance(executor, ChunkExecutor) else chunks


def require_no_fork(executor: Executor | None) -> None:
    """Raise a `ValueError` if an executor forks this process."""
    if executor is not None and forks(executor):
        raise ValueError(
            "a ProcessPoolExecutor that forks hangs with JAX; give it "
            "mp_context=multiprocessing.get_context('spawn')"
        )


def forks(executor: Executor) -> bool:
    """Whether an executor forks this process: a fork inherits locks of JAX's threads, and hangs."""
    if not isinstance(executor, ProcessPoolExecutor):
        return False
    context = getattr(executor, "_mp_context", None) or multiprocessing.get_context()
    return context.get_start_method() == "fork"


def in_memory(chunks: ChunkSequence) -> bool:
    """Whether the items are in memory, so that the items are sent to workers, not the sequence.

    A sequence can say so by its attribute ``in_memory``. Without the attribute a list or a tuple is
    in memory, and any other sequence reads its items.
    """
    return getattr(chunks, "in_memory", isinstance(chunks, list | tuple))


@dataclass(frozen=True, eq=False)
class ChunkReference:
    """A chunk for a worker: the way to read it, or the chunk itself if it is in memory."""

    chunks: ChunkSequence
    index: int

    def load(self) -> Any:
        """The chunk."""
        return self.chunks[self.index]

    def __reduce__(self) -> tuple[type[ChunkReference], tuple[ChunkSequence, int]]:
        # The chunk is cut from its arrays only now, when it is sent.
        if in_memory(self.chunks):
            return ChunkReference, ([self.load()], 0)
        return ChunkReference, (self.chunks, self.index)


def partial_sums[S: Sums](
    objective: Summable[S],
    params: NDArray[np.float64],
    chunks: ChunkSequence,
    executor: Executor | None = None,
) -> Iterator[Partial[S]]:
    """Yield ``objective.chunk_sums`` of each chunk, or of runs of them, in their order.

    Few chunks are in memory at a time: without an executor, the chunk that is summed and the next
    one, which is read meanwhile; with an executor, the chunks that wait for it. An executor that
    keeps chunks has all of them, and may add up runs of chunks where they are.

    Parameters
    ----------
    objective : Objective
    params : (p,) array
    chunks : sequence
        At least one chunk. With an executor that keeps chunks: the result of `distribute`; if not,
        each chunk is sent in each pass.
    executor : concurrent.futures.Executor, optional
        Computes the sums; when None, this thread does, one chunk after the other.
    """
    function = functools.partial(_partial, objective, params)
    if isinstance(executor, ChunkExecutor):
        yield from executor.sums(function, chunks)
    elif executor is not None:
        tasks = (executor.submit(function, chunks[i]) for i in range(len(chunks)))
        yield from in_order(tasks, _window(executor))
    elif len(chunks) == 1:
        yield function(chunks[0])
    else:
        with ThreadPoolExecutor(1) as reader:
            reads = (reader.submit(chunks.__getitem__, i) for i in range(len(chunks)))
            for chunk in in_order(reads, 2):
                yield function(chunk)


def _partial[S: Sums](
    objective: Summable[S], params: NDArray[np.float64], chunk: Any
) -> Partial[S]:
    sums = objective.chunk_sums(params, chunk)
    return Partial(
        sums,
        (float(getattr(sums, "cost", np.nan)),),
        (int(getattr(sums, "n_points", 0)),),
        (bool(getattr(sums, "finite", True)),),
        (len(chunk) if isinstance(chunk, tuple) else 0,),
    )


def _window(executor: Executor) -> int:
    """Number of chunks that an executor has at a time: two for each worker."""
    workers = getattr(executor, "_max_workers", None) or available_processors()
    return max(LEAST_WINDOW, 2 * workers)


def in_order[T](tasks: Iterator[Future[T]], window: int) -> Iterator[T]:
    """Yield results in the order of the tasks, with at most `window` tasks unfinished."""
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


def add_up[P: Sums](parts: Iterable[P]) -> P:
    """Add in a fixed order: runs of `FAN_IN` successive parts, then runs of these sums, ...

    The order depends only on the number of parts, so sums have the same bits wherever and whenever
    the parts are made. A worker that has a run can add it.
    """
    while True:
        left = iter(parts)
        runs = [
            functools.reduce(operator.add, itertools.islice(left, FAN_IN - 1), first)
            for first in left
        ]
        if len(runs) == 1:
            return runs[0]
        parts = runs


def reduce[S: Sums](
    objective: Summable[S],
    params: NDArray[np.float64],
    chunks: ChunkSequence,
    executor: Executor | None = None,
) -> S:
    """Sum ``objective.chunk_sums`` over all chunks.

    The sums are added in the order of `add_up`, whatever the order in which the chunks finish, so
    every executor gives the same bits.
    """
    return add_up(partial_sums(objective, params, chunks, executor)).sums


def evaluate[S: Sums](
    objective: Objective[S],
    params: NDArray[np.float64],
    chunks: ChunkSequence,
    executor: Executor | None = None,
) -> Equations:
    """One pass over the data: the normal equations of all chunks at `params`."""
    return objective.normal_equations(params, reduce(objective, params, chunks, executor))
