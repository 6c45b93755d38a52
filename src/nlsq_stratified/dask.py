"""Chunks held by the workers of a Dask cluster, summed and added up where they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from itertools import batched
from typing import Any, cast

import distributed

from nlsq_stratified.reduction import FAN_IN, ChunkSequence, Recipe, Sums, add_up

__all__ = ["DaskExecutor"]


class DaskExecutor(Executor):
    """Runs a fit on a Dask cluster.

    Workers read the chunks, once, and keep them; parameters and sums travel. The sums are added
    by the workers, in the order that every executor adds them in. Chunks of a lost worker are
    read again by another. Chunks that are in memory when they are placed travel once, and the
    scheduler keeps a copy to restore them from.

    Parameters
    ----------
    client : distributed.Client
        Connected; it is not closed here.
    """

    def __init__(self, client: distributed.Client) -> None:
        self.client = client
        self._plain = client.get_executor()

    def submit[T](self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a function on some worker."""
        return self._plain.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work."""
        self._plain.shutdown(wait=wait)

    def place(self, chunks: ChunkSequence) -> Sequence[distributed.Future]:
        """Futures of the chunks, which the workers begin to read."""
        return [
            self.client.submit(Recipe.load, Recipe(chunks, i), pure=False)
            for i in range(len(chunks))
        ]

    def sums[P: Sums](self, function: Callable[[Any], P], chunks: ChunkSequence) -> list[P]:
        """``function(chunk)`` of each chunk in order, in runs added up until few are left."""
        placed = [chunks[i] for i in range(len(chunks))]
        if not isinstance(placed[0], distributed.Future):
            placed = self.place(placed)
        parts = self.client.map(function, placed, pure=False)
        while len(parts) > FAN_IN:
            parts = self.client.map(add_up, [list(run) for run in batched(parts, FAN_IN)])
        return cast("list[P]", self.client.gather(parts))
