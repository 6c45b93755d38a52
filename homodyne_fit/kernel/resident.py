"""Chunks that stay on a GPU from pass to pass: copying one takes longer than summing it."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

import jax
import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.tiles import TileChunk

__all__ = ["points_of"]

# Share of the memory of a device that chunks may take.
SHARE = 0.5

# Of each chunk, c2 and weights on each device that has summed it.
_copies: WeakKeyDictionary[TileChunk, dict[Any, tuple[Any, Any]]] = WeakKeyDictionary()
_lock = threading.Lock()


def points_of(chunk: TileChunk) -> tuple[Any, Any]:
    """c2 and weights of a chunk, as the kernel is to be given them in this thread.

    A processor reads them where they are. To a GPU they are copied once, as long as chunks take no
    more than half of its memory; those for which there is no room are copied in every pass.
    """
    if jax.default_backend() == "cpu":
        return chunk.c2, chunk.weights
    device = jax.config.jax_default_device or jax.devices()[0]  # type: ignore[attr-defined]
    with _lock:
        copies = _copies.setdefault(chunk, {})
        if device in copies:
            return copies[device]
        if not _has_room(device, chunk):
            return chunk.c2, chunk.weights
        copies[device] = jax.device_put((chunk.c2, chunk.weights), device)
        return copies[device]


def _has_room(device: Any, chunk: TileChunk) -> bool:
    limit = (device.memory_stats() or {}).get("bytes_limit", np.inf)
    taken = sum(_size(*copies[device]) for copies in _copies.values() if device in copies)
    return taken + _size(chunk.c2, chunk.weights) <= SHARE * limit


def _size(c2: NDArray[Any], weights: NDArray[Any] | None) -> int:
    return c2.nbytes + (0 if weights is None else weights.nbytes)
