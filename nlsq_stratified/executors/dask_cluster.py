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

# Groups of chunks for each thread of the workers: the fewer, the less the scheduler has to do, and
# the longer some wait for the last one.
GROUPS_A_THREAD = 4


class DaskExecutor(Executor):
    """Runs a fit on a Dask cluster.

    Workers read the chunks, once, and keep them; parameters and sums travel. The chunks are dealt
    out in groups, and summing a group is one task: the scheduler takes about a millisecond for a
    task, which is long beside a chunk. The sums are added by the workers, in the order that every
    executor adds them in. Chunks of a lost worker are read again by another. Chunks that are in
    memory when they are placed travel once, and the scheduler keeps a copy to restore them from.

    Parameters
    ----------
    client : distributed.Client
        Connected; it is not closed here.
    threads : int
        That share the chunks of a task, to read and to sum them, where a worker is to use more
        processors than it has threads of its own: with one worker of one thread on each machine,
        and as many threads as the machine has processors, a pass is a few tasks a machine.
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
        """Stand-ins of the chunks, which the workers begin to read."""
        threads = cast("dict[str, int]", self.client.nthreads())
        size = group_size(len(chunks), sum(threads.values()))
        placed: list[_Member] = []
        for run in batched(range(len(chunks)), size):
            references = [ChunkReference(chunks, i) for i in run]
            group = self.client.submit(_loaded, references, self.threads, pure=False)
            placed += [_Member(group, size, i) for i in range(len(run))]
        return placed

    def sums[P: Sums](self, function: Callable[[Any], P], chunks: ChunkSequence) -> list[P]:
        """``function(chunk)`` of each chunk in order, in runs added up until few are left."""
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
    """Chunks in a group, for so many threads of the workers.

    A power of two, so that runs of `FAN_IN` consist of whole groups.
    """
    size = max(1, n_chunks // (GROUPS_A_THREAD * max(1, n_threads)))
    return min(1 << (size.bit_length() - 1), FAN_IN**2)


def additions(n_chunks: int, size: int) -> tuple[list[int], int]:
    """How many tasks below it a task adds the sums of, level by level; and how many sums are left.

    The first level adds those of groups of `size` chunks; at most `FAN_IN` sums are left.
    """
    # Sums in all, and in the list that each task gives.
    left, each, fans = n_chunks, size, []
    if size >= FAN_IN:
        left, each = -(-left // FAN_IN), size // FAN_IN
    while left > FAN_IN:
        fans.append(FAN_IN // each)
        left, each = -(-left // FAN_IN), 1
    return fans, left


@dataclass(frozen=True, eq=False)
class _Member:
    """Stands for a chunk: which one of which group, of a size that only the last one may lack."""

    group: distributed.Future
    size: int
    index: int


def _loaded(references: list[ChunkReference], threads: int) -> list[Any]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(ChunkReference.load, references))


def _sums[P: Sums](
    chunks: list[Any], indices: list[int], function: Callable[[Any], P], in_runs: bool, threads: int
) -> list[P]:
    """Sums of some chunks of a group, or of its runs of `FAN_IN`."""
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(function, [chunks[i] for i in indices]))
    return [add_up(run) for run in batched(parts, FAN_IN)] if in_runs else parts


def _added[P: Sums](lists: list[list[P]]) -> list[P]:
    """The sum of a run."""
    return [add_up([part for parts in lists for part in parts])]
