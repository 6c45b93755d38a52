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

__all__ = ["TILE", "TileChunk", "probe_chunk", "probed_angles", "tile_chunks"]

# Frames along the side of a tile. Its working set (a dozen arrays) fits a second-level cache,
# and what the diagonal tiles waste stays small at a few hundred frames.
TILE = 64


# Tiles of an angle in a chunk: its sums take a processor a few milliseconds, and a GPU less. All
# chunks are of one shape, or the kernel would be compiled for each.
CHUNK = 64

# Angles of a probe, and successive frames in each of its three runs.
PROBED_ANGLES, PROBED_RUN = 6, 8


@dataclass(frozen=True, eq=False)
class TileChunk:
    """Tiles of K angles.

    Attributes
    ----------
    rows, cols : (B, TILE) int
        Frames of t1 and of t2, ascending.
    c2 : (B', K, TILE, TILE) float32 or float64
        NaN where an entry does not count: not t1 < t2, past the last frame, or missing. The
        B' - B tiles after those of `rows` hold nothing.
    """

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    c2: NDArray[np.floating]

    @property
    def n_tiles(self) -> int:
        """B."""
        return len(self.rows)

    @property
    def values(self) -> NDArray[np.floating]:
        """c2 of its tiles, (B, K, TILE, TILE)."""
        return self.c2[: self.n_tiles]


def tile_chunks(data: TwoTimeData, chunk_size: int = CHUNK) -> list[TileChunk]:
    """Cut all points t1 < t2 into chunks of one shape.

    Parameters
    ----------
    data : TwoTimeData
    chunk_size : int
        Tiles times angles in a chunk, about.
    """
    blocks = -(-data.n_frames // TILE)
    first, second = np.triu_indices(blocks)
    by_lag = np.lexsort((first, second - first))
    first, second = first[by_lag], second[by_lag]
    per_chunk = max(1, chunk_size // data.n_angles)
    n_chunks = -(-len(first) // per_chunk)
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


def probed_angles(n_angles: int) -> NDArray[np.int64]:
    """A few of the angles, evenly chosen, for rough searches."""
    return np.unique(np.linspace(0, n_angles - 1, min(n_angles, PROBED_ANGLES)).round().astype(int))


def probe_chunk(data: TwoTimeData) -> TileChunk:
    """One tile that spans all lags and times, for rough searches.

    Most of its frames are spread over the whole measurement, the others are successive ones at
    its beginning, middle and end.
    """
    n = data.n_frames
    frames = np.arange(min(n, TILE))
    if n > TILE:
        run = np.arange(PROBED_RUN)
        spread = np.linspace(0, n - 1, TILE - 3 * PROBED_RUN).round().astype(np.int64)
        middle, last = (n - PROBED_RUN) // 2, n - PROBED_RUN
        frames = np.unique(np.concatenate([spread, run, middle + run, last + run]))
    grid = np.concatenate([frames, n + np.arange(TILE - len(frames))])[None]
    return _chunk(data, grid, grid, max(1, CHUNK // data.n_angles))


def _chunk(
    data: TwoTimeData, rows: NDArray[np.int64], cols: NDArray[np.int64], n_tiles: int
) -> TileChunk:
    """Gather the tiles into an array for `n_tiles`."""
    c2 = np.empty((n_tiles, data.n_angles, TILE, TILE), dtype=data.c2.dtype)
    n = data.n_frames
    for b, (i, j) in enumerate(zip(rows, cols, strict=True)):
        counted = (i[:, None] < j) & (j < n)
        values = data.c2[:, np.minimum(i, n - 1)[:, None], np.minimum(j, n - 1)]
        c2[b] = np.where(counted & np.isfinite(values), values, np.nan)
    return TileChunk(rows, cols, c2)
