"""Two-time data cut into square tiles of t1 < t2, and tiles dealt out to chunks.

A tile is the set of matrix entries of some row frames and some column frames, for all angles;
so a chunk, a set of tiles, is stratified over the angles by construction. Tiles are dealt to
chunks in order of their lag, so that every chunk also holds short and long lags, early and late
times in proportion, and the chunks are put into an order in which any first few of them are spread
over all: they are a fair sample.

Chunks of matrices on the disk are recipes that read themselves when they are summed. Their tiles
are dealt in runs, tiles that follow each other in a row of tiles, so that much is read at a time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.dataset import TwoTimeData
from homodyne_fit.memory import allowed_memory
from homodyne_fit.stored_matrices import StoredMatrices, block

__all__ = [
    "TILE",
    "Chunk",
    "StoredChunk",
    "TileChunk",
    "probe_chunk",
    "probed_angles",
    "tile_chunks",
]

# Frames along the side of a tile. Its working set (a dozen arrays) fits a second-level cache,
# and what the diagonal tiles waste stays small at a few hundred frames.
TILE = 64


# Tiles of an angle in a chunk: its sums take a processor a few milliseconds, and a GPU less. All
# chunks are of one shape, or the kernel would be compiled for each.
CHUNK = 64

# A chunk that is read: bytes at most, and runs in it at least. Chunks that are under way, of each
# processor two, take a quarter of the memory at most.
STORED_CHUNK, RUNS = 2**25, 4

# Share of the memory for chunks that stay in it.
RESIDENT_SHARE = 0.5

# Successive multiples of it, modulo 1, leave no large gap anywhere.
GOLDEN = (5**0.5 - 1) / 2

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
    def n_angles(self) -> int:
        """K."""
        return self.c2.shape[1]

    @property
    def values(self) -> NDArray[np.floating]:
        """c2 of its tiles, (B, K, TILE, TILE)."""
        return self.c2[: self.n_tiles]

    def loaded(self) -> TileChunk:
        """Itself."""
        return self


@dataclass(frozen=True, eq=False)
class StoredChunk:
    """A `TileChunk` that is still to be read.

    Attributes
    ----------
    c2 : StoredMatrices
    rows, cols : (R,) int
        The tile, counted in its row and column of tiles, that each run begins with.
    lengths : (R,) int
        Tiles in each run.
    capacity : int
        B' of the chunk.
    """

    c2: StoredMatrices
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    lengths: NDArray[np.int64]
    capacity: int

    @property
    def n_tiles(self) -> int:
        """B."""
        return int(self.lengths.sum())

    @property
    def n_angles(self) -> int:
        """K."""
        return len(self.c2)

    def loaded(self) -> TileChunk:
        """Read it."""
        n = self.c2.shape[1]
        c2 = np.empty((self.capacity, self.n_angles, TILE, TILE), self.c2.dtype)
        first = np.repeat(self.rows, self.lengths)
        runs = [np.arange(length) for length in self.lengths]
        second = np.repeat(self.cols, self.lengths) + np.concatenate(runs)
        begin = 0
        for row, col, length in zip(self.rows, self.cols, self.lengths, strict=True):
            rows = slice(row * TILE, min((row + 1) * TILE, n))
            columns = slice(col * TILE, min((col + length) * TILE, n))
            tiles = c2[begin : begin + length]
            begin += length
            for k in range(self.n_angles):
                _cut(block(self.c2, k, rows, columns), tiles[:, k])
            if row == col:
                tiles[0][:, np.tri(TILE, dtype=bool)] = np.nan
        frames = np.arange(TILE)
        return TileChunk(first[:, None] * TILE + frames, second[:, None] * TILE + frames, c2)


Chunk = TileChunk | StoredChunk


def tile_chunks(
    data: TwoTimeData, chunk_size: int = CHUNK, memory: int | None = None
) -> list[Chunk]:
    """Cut all points t1 < t2 into chunks of one shape.

    Parameters
    ----------
    data : TwoTimeData
    chunk_size : int
        Tiles times angles in a chunk, about; of matrices in memory.
    memory : int, optional
        Bytes that may be used; three quarters of what is available by default. Of matrices on
        the disk, the first chunks are kept in memory, as many as fit into half of that.
    """
    if isinstance(data.c2, StoredMatrices):
        return _stored_chunks(data.c2, allowed_memory(memory))
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
        for i in _spread(n_chunks)
    ]


def _stored_chunks(c2: StoredMatrices, memory: int) -> list[Chunk]:
    tile_bytes = len(c2) * TILE**2 * c2.dtype.itemsize
    most = min(STORED_CHUNK, memory // (8 * (os.cpu_count() or 1)))
    per_chunk = max(1, most // tile_bytes)
    rows, cols, lengths = _runs(-(-c2.shape[1] // TILE), max(1, per_chunk // RUNS))
    n_chunks = -(-int(lengths.sum()) // per_chunk)
    dealt = [slice(i, None, n_chunks) for i in _spread(n_chunks)]
    capacity = max(int(lengths[of].sum()) for of in dealt)
    recipes = [StoredChunk(c2, rows[of], cols[of], lengths[of], capacity) for of in dealt]
    resident = int(RESIDENT_SHARE * memory / (capacity * tile_bytes))
    return [*(recipe.loaded() for recipe in recipes[:resident]), *recipes[resident:]]


def _runs(
    blocks: int, longest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut the rows of the upper triangle of tiles into runs: row, first column, and length of each.

    They are in order of their lag; those of a row are of about the same length.
    """
    rows, cols = np.arange(blocks), []
    parts = -(-(blocks - rows) // longest)
    rows = np.repeat(rows, parts)
    for row, n in enumerate(parts):
        cols.append(row + np.arange(n + 1) * (blocks - row) // n)
    lengths = np.concatenate([np.diff(col) for col in cols])
    starts = np.concatenate([col[:-1] for col in cols])
    by_lag = np.lexsort((rows, starts - rows))
    return rows[by_lag], starts[by_lag], lengths[by_lag]


def _spread(n: int) -> NDArray[np.int64]:
    """The numbers below n in an order of which any first few are spread evenly."""
    return np.argsort(np.argsort(GOLDEN * np.arange(n) % 1))


def _cut(values: NDArray[np.floating], tiles: NDArray[np.floating]) -> None:
    """Copy a row of tiles (TILE or less, columns) into tiles (b, TILE, TILE), NaN past its end."""
    height, width = values.shape
    whole, rest = divmod(width, TILE)
    tiles[:whole, :height] = values[:, : whole * TILE].reshape(height, whole, TILE).swapaxes(0, 1)
    tiles[:, height:] = np.nan
    if rest:
        tiles[whole, :height, :rest] = values[:, whole * TILE :]
        tiles[whole, :, rest:] = np.nan


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
    """Gather the tiles into an array for `n_tiles`; frames of a tile ascend."""
    c2 = np.empty((n_tiles, data.n_angles, TILE, TILE), dtype=data.c2.dtype)
    n = data.n_frames
    for b, (i, j) in enumerate(zip(rows, cols, strict=True)):
        counted = (i[:, None] < j) & (j < n)
        values = _entries(data, np.minimum(i, n - 1), np.minimum(j, n - 1))
        c2[b] = np.where(counted & np.isfinite(values), values, np.nan)
    return TileChunk(rows, cols, c2)


def _entries(
    data: TwoTimeData, rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> NDArray[np.floating]:
    """c2 (K, a, b) at ascending rows and columns; arbitrary at t1 > t2."""
    if not isinstance(data.c2, StoredMatrices):
        return data.c2[:, rows[:, None], cols]
    values = np.empty((data.n_angles, len(rows), len(cols)), data.c2.dtype)
    for k in range(data.n_angles):
        for i, row in enumerate(rows):
            line = slice(int(cols[0]), int(cols[-1]) + 1)
            values[k, i] = block(data.c2, k, slice(row, row + 1), line)[0, cols - cols[0]]
    return values
