"""Processes of this machine that keep chunks: each chunk is always summed by the same process."""

from __future__ import annotations

import itertools
import multiprocessing
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from threadpoolctl import threadpool_limits

from nlsq_stratified.processors import available_processors
from nlsq_stratified.reduction import ChunkReference, ChunkSequence, Sums

__all__ = ["ResidentProcesses"]

# If the process of a chunk has died this many times in a pass, the pass fails.
MOST_DEATHS = 3


class ResidentProcesses(Executor):
    """Processes that keep the chunks they sum.

    Each chunk belongs to one process, which reads it once; only parameters and sums are sent. A
    process that dies is replaced, and its chunks are read again. Objectives and models must be
    picklable, and the main module must be guarded by ``if __name__ == "__main__"``.

    Parameters
    ----------
    max_workers : int, optional
        Number of processes; one for each processor when None.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        self._workers = [_Worker() for _ in range(max_workers or available_processors())]
        self._numbers = itertools.count()
        self._turns = itertools.cycle(self._workers)

    def submit[T](self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a function in some process."""
        return next(self._turns).pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.pool.shutdown(wait, cancel_futures=cancel_futures)

    def distribute(self, chunks: ChunkSequence) -> _Placed:
        """Assign the chunks to the processes, which read them when they first sum them."""
        placed = _Placed(
            _Kept(next(self._numbers), worker, ChunkReference(chunks, i))
            for i, worker in zip(range(len(chunks)), itertools.cycle(self._workers))
        )
        numbers = [kept.number for kept in placed]
        # The garbage collector may call `release` at any time, so it must not take a lock.
        weakref.finalize(placed, _Worker.release, self._workers, numbers).atexit = False
        return placed

    def sums[P: Sums](self, function: Callable[[Any], P], chunks: ChunkSequence) -> Iterator[P]:
        """Yield ``function(chunk)`` of each chunk, in order.

        If the process of a chunk dies `MOST_DEATHS` times, raise a `BrokenProcessPool`.
        """
        placed = [chunks[i] for i in range(len(chunks))]
        if not isinstance(placed[0], _Kept):
            placed = self.distribute(placed)
        futures = [kept.worker.sum(function, kept) for kept in placed]
        try:
            for i, kept in enumerate(placed):
                deaths = 0
                while isinstance(error := futures[i].exception(), BrokenProcessPool):
                    deaths += 1
                    if deaths == MOST_DEATHS:
                        raise BrokenProcessPool(
                            f"chunk {i} was not summed: its process died {deaths} times"
                        ) from error
                    kept.worker.restart()
                    for j in range(i, len(placed)):
                        if placed[j].worker is kept.worker:
                            futures[j] = kept.worker.sum(function, placed[j])
                yield futures[i].result()
                kept.worker.holds.add(kept.number)
        finally:
            for future in futures:
                future.cancel()


@dataclass(frozen=True, eq=False)
class _Kept:
    """A chunk that a process keeps, or will keep, under a number."""

    number: int
    worker: _Worker
    reference: ChunkReference


class _Placed(list[_Kept]):
    """A list that can have weak references."""


class _Worker:
    """A process, and the numbers of the chunks that it holds."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start a new process."""
        # A forked process could inherit locks that are held by threads of JAX.
        spawn = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(1, spawn, initializer=_one_thread)
        self.holds: set[int] = set()
        self.released: set[int] = set()

    def sum[P](self, function: Callable[[Any], P], kept: _Kept) -> Future[P]:
        """``function(chunk)`` in this process, which gets the reference if it lacks the chunk."""
        reference = None if kept.number in self.holds else kept.reference
        unused, self.released = self.holds & self.released, set()
        self.holds -= unused
        try:
            return self.pool.submit(_sum, function, kept.number, reference, unused)
        except BrokenProcessPool as error:
            broken: Future[P] = Future()
            broken.set_exception(error)
            return broken

    @staticmethod
    def release(workers: list[_Worker], numbers: list[int]) -> None:
        """Mark chunks as unused; each process drops them before its next sum."""
        for worker in workers:
            worker.released = worker.released.union(numbers)


# The chunks that are kept in this process, by their numbers.
_chunks: dict[int, Any] = {}


def _one_thread() -> None:
    # JAX factors matrices with SciPy's BLAS. One thread is enough: each processor has a process.
    import scipy.linalg  # noqa: F401

    threadpool_limits(1, user_api="blas")


def _sum[P](
    function: Callable[[Any], P], number: int, reference: ChunkReference | None, unused: set[int]
) -> P:
    for other in unused:
        del _chunks[other]
    if reference is not None:
        _chunks[number] = reference.load()
    return function(_chunks[number])
