"""Chunks held by the workers of a Dask cluster, summed and added up where they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import batched, groupby
from typing import Any, cast

import distributed

from nlsq_stratified.reduction import FAN_IN, ChunkReference, ChunkSequence, Sums, add_up

__all__ = ["DaskExecutor", "additions", "group_size"]

# Groups of chunks for each thread of the workers. With fewer groups the scheduler has less work,
# but threads wait longer for the last group.
GROUPS_A_THREAD = 4


class DaskExecutor(Executor):
    """Runs a fit on a Dask cluster.

    Workers read the chunks once and keep them; only parameters and sums are sent. One task sums a
    group of chunks, since the scheduler takes about a millisecond for a task, longer than the sum
    of a small chunk. The workers add the sums, in the same order as every executor. If a worker is
    lost, another one reads its chunks again. Chunks in memory are sent once, and the scheduler
    keeps a copy to restore them.

    Parameters
    ----------
    client : distributed.Client
        Connected; it is not closed here.
    threads : int
        Number of threads that share the chunks of a task. Use it if a worker has fewer threads than
        processors: with one worker of one thread on each machine, and as many threads here as the
        machine has processors, a pass takes only a few tasks for each machine.
    """

    def __init__(self, client: distributed.Client, threads: int = 1) -> None:
        self.client, self.threads = client, threads
        self._plain = client.get_executor()

    def submit[T](self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a function on some worker."""
        return self._plain.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work."""
        self._plain.shutdown(wait=wait)

    def distribute(self, chunks: ChunkSequence) -> Sequence[_Member]:
        """Let the workers begin to read the chunks, and return what stands for them."""
        threads = cast("dict[str, int]", self.client.nthreads())
        size = group_size(len(chunks), sum(threads.values()))
        placed: list[_Member] = []
        for run in batched(range(len(chunks)), size):
            references = [ChunkReference(chunks, i) for i in run]
            group = self.client.submit(_loaded, references, self.threads, pure=False)
            placed += [_Member(group, size, i) for i in range(len(run))]
        return placed

    def sums[P: Sums](self, function: Callable[[Any], P], chunks: ChunkSequence) -> list[P]:
        """``function(chunk)`` of each chunk in order, added up in runs until few sums are left."""
        placed = [chunks[i] for i in range(len(chunks))]
        if not isinstance(placed[0], _Member):
            placed = self.distribute(placed)
        size = placed[0].size
        groups = [list(each) for _, each in groupby(placed, lambda member: member.group.key)]
        tasks = self.client.map(
            _sums,
            [group[0].group for group in groups],
            [[member.index for member in group] for group in groups],
            function=function,
            in_runs=size >= FAN_IN,
            threads=self.threads,
            pure=False,
        )
        for fan in additions(len(placed), size)[0]:
            tasks = self.client.map(_added, [list(run) for run in batched(tasks, fan)])
        lists = cast("list[list[P]]", self.client.gather(tasks))
        return [part for parts in lists for part in parts]


def group_size(n_chunks: int, n_threads: int) -> int:
    """Number of chunks in a group, a power of two so that runs of `FAN_IN` have whole groups."""
    size = max(1, n_chunks // (GROUPS_A_THREAD * max(1, n_threads)))
    return min(1 << (size.bit_length() - 1), FAN_IN**2)


def additions(n_chunks: int, size: int) -> tuple[list[int], int]:
    """Number of tasks whose sums one task adds, for each level of additions; number of sums left.

    The first level adds the sums of groups of `size` chunks. At most `FAN_IN` sums are left.
    """
    n_sums, sums_per_task, fans = n_chunks, size, []
    if size >= FAN_IN:
        n_sums, sums_per_task = -(-n_sums // FAN_IN), size // FAN_IN
    while n_sums > FAN_IN:
        fans.append(FAN_IN // sums_per_task)
        n_sums, sums_per_task = -(-n_sums // FAN_IN), 1
    return fans, n_sums


@dataclass(frozen=True, eq=False)
class _Member:
    """Stands for a chunk: its group, the size of a full group, and its index in the group."""

    group: distributed.Future
    size: int
    index: int


def _loaded(references: list[ChunkReference], threads: int) -> list[Any]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(ChunkReference.load, references))


def _sums[P: Sums](
    chunks: list[Any], indices: list[int], function: Callable[[Any], P], in_runs: bool, threads: int
) -> list[P]:
    """Sums of some chunks of a group, or of runs of `FAN_IN` of them."""
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(function, [chunks[i] for i in indices]))
    return [add_up(run) for run in batched(parts, FAN_IN)] if in_runs else parts


def _added[P: Sums](lists: list[list[P]]) -> list[P]:
    return [add_up([part for parts in lists for part in parts])]
