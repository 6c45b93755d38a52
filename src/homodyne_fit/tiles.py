"""Two-time data cut into square tiles of t1 < t2, and tiles dealt out to chunks.

A tile is the set of matrix entries of some row frames and some column frames, for all angles;
so a chunk, a set of tiles, is stratified over the angles by construction. Tiles are dealt to
chunks in order of their lag, so that every chunk also holds short and long lags, early and late
times in proportion and a few chunks are a fair sample of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.dataset import TwoTimeData

__all__ = ["TILE", "TileChunk", "probe_chunk", "tile_chunks"]

# Frames along the side of a tile. Its working set (a dozen arrays) fits a second-level cache,
# and what the diagonal tiles waste stays small at a few hundred frames.
TILE = 64


@dataclass(frozen=True, eq=False)
class TileChunk:
    """B tiles of K angles.

    Attributes
    ----------
    rows, cols : (B, TILE) int
        Frames of t1 and of t2.
    c2 : (B, K, TILE, TILE) float32 or float64
        NaN where an entry does not count: not t1 < t2, past the last frame, or missing.
    """

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    c2: NDArray[np.floating]


def tile_chunks(data: TwoTimeData, target_size: int = 100_000) -> list[TileChunk]:
    """Cut all points t1 < t2 into chunks of about `target_size` points and of one shape."""
    blocks = -(-data.n_frames // TILE)
    first, second = np.triu_indices(blocks)
    by_lag = np.lexsort((first, second - first))
    first, second = first[by_lag], second[by_lag]
    per_chunk = max(1, round(target_size / (data.n_angles * TILE**2)))
    n_chunks = -(-len(first) // per_chunk)
    per_chunk = -(-len(first) // n_chunks)
    frames = np.arange(TILE)
    return [
        _chunk(
            data,
            first[i::n_chunks, None] * TILE + frames,
            second[i::n_chunks, None] * TILE + frames,
            per_chunk,
        )
        for i in range(n_chunks)
    ]


def probe_chunk(data: TwoTimeData) -> TileChunk:
    """A small sample of the points that spans all lags and times, for rough searches.

    One tile holds about `TILE` frames spread over the whole measurement; three more hold runs
    of successive frames at its beginning, middle and end. They overlap in a few points.
    """
    n = data.n_frames
    side = min(TILE, n)
    spread = np.unique(np.linspace(0, n - 1, side).round().astype(np.int64))
    runs = [np.arange(side) + start for start in sorted({0, (n - side) // 2, n - side})]
    grids = [spread, *runs] if n > TILE else [spread]
    frames = np.stack([_padded(grid, n) for grid in grids])
    return _chunk(data, frames, frames, len(frames))


def _padded(frames: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Fill up to a tile with frames past the end, which hold no data."""
    return np.concatenate([frames, n + np.arange(TILE - len(frames))])


def _chunk(
    data: TwoTimeData, rows: NDArray[np.int64], cols: NDArray[np.int64], n_tiles: int
) -> TileChunk:
    """Gather the tiles; add empty ones up to `n_tiles` so that all chunks have one shape."""
    missing = n_tiles - len(rows)
    rows, cols = (np.concatenate([f, np.repeat(f[-1:], missing, axis=0)]) for f in (rows, cols))
    c2 = np.full((n_tiles, data.n_angles, TILE, TILE), np.nan, dtype=data.c2.dtype)
    n = data.n_frames
    for b in range(n_tiles - missing):
        i, j = rows[b], cols[b]
        counted = (i[:, None] < j) & (j < n)
        values = data.c2[:, np.minimum(i, n - 1)[:, None], np.minimum(j, n - 1)]
        c2[b] = np.where(counted & np.isfinite(values), values, np.nan)
    return TileChunk(rows, cols, c2)
