"""Chunks of matrices that are on the disk: they read themselves when they are summed.

As those of `homodyne_fit.kernel.tiles`, but their tiles are dealt in runs, tiles that follow each
other in a row of tiles, so that much is read at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.storage.memory import CHUNKS_SHARE, allowed_memory
from homodyne_fit.data.storage.stored_matrices import StoredMatrices
from homodyne_fit.kernel.tiles import TILE, TileChunk, dealing_order, tile_chunks
from nlsq_stratified.processors import available_processors

__all__ = ["Chunk", "StoredChunk", "chunks_of"]

# Bytes of a chunk at most. Chunks that are being summed, two to a processor, take a quarter of the
# memory at most.
LARGEST = 2**25

# Runs of tiles in a chunk, at least.
RUNS = 4


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

    @property
    def room(self) -> tuple[int, int]:
        """B' and K."""
        return self.capacity, self.n_angles

    def loaded(self) -> TileChunk:
        """Read it."""
        c2 = np.empty((*self.room, TILE, TILE), self.c2.dtype)
        begins = np.cumsum(self.lengths) - self.lengths
        for begin, row, col, length in zip(begins, self.rows, self.cols, self.lengths, strict=True):
            self._read(int(row), int(col), c2[begin : begin + length])
        rows = np.repeat(self.rows, self.lengths)
        cols = np.arange(self.n_tiles) + np.repeat(self.cols - begins, self.lengths)
        frames = np.arange(TILE)
        return TileChunk(
            rows[:, None] * TILE + frames, cols[:, None] * TILE + frames, c2, self.n_angles
        )

    def _read(self, row: int, col: int, tiles: NDArray[np.floating]) -> None:
        """Read a run into tiles (length, K, TILE, TILE)."""
        n = self.c2.shape[1]
        rows = slice(row * TILE, min((row + 1) * TILE, n))
        columns = slice(col * TILE, min((col + len(tiles)) * TILE, n))
        for k in range(self.n_angles):
            _cut(self.c2.upper(k, rows, columns), tiles[:, k])
        if row == col:
            tiles[0][:, np.tri(TILE, dtype=bool)] = np.nan


Chunk = TileChunk | StoredChunk


def chunks_of(data: TwoTimeData, memory: int | None = None) -> list[Chunk]:
    """Cut all points t1 < t2 into chunks of one shape.

    Parameters
    ----------
    data : TwoTimeData
    memory : int, optional
        Bytes that may be used; three quarters of what is available by default. Of matrices on
        the disk, the first chunks are kept in memory, as many as fit into half of that.
    """
    if not isinstance(data.c2, StoredMatrices):
        return list(tile_chunks(data))
    memory = allowed_memory(memory)
    recipes = _recipes(data.c2, min(LARGEST, memory // (8 * available_processors())))
    size = recipes[0].capacity * _tile_bytes(data.c2)
    resident = int(CHUNKS_SHARE * memory / size)
    return [*(recipe.loaded() for recipe in recipes[:resident]), *recipes[resident:]]


def _tile_bytes(c2: StoredMatrices) -> int:
    """Bytes of a tile at all angles."""
    return len(c2) * TILE**2 * c2.dtype.itemsize


def _recipes(c2: StoredMatrices, size: int) -> list[StoredChunk]:
    """Cut the matrices into chunks of about so many bytes."""
    per_chunk = max(1, size // _tile_bytes(c2))
    rows, cols, lengths = _runs(-(-c2.shape[1] // TILE), max(1, per_chunk // RUNS))
    n_chunks = -(-int(lengths.sum()) // per_chunk)
    dealt = [slice(i, None, n_chunks) for i in range(n_chunks)]
    capacity = max(int(lengths[of].sum()) for of in dealt)
    return [StoredChunk(c2, rows[of], cols[of], lengths[of], capacity) for of in dealt]


def _runs(
    blocks: int, longest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut the rows of the upper triangle of tiles into runs: row, first column, and length of each.

    They are in the order in which tiles are dealt, and those of a row are of about the same length.
    """
    tiles = []
    for row in range(blocks):
        parts = -(-(blocks - row) // longest)
        ends = row + np.arange(parts + 1) * (blocks - row) // parts
        tiles.append(np.stack([np.full(parts, row), ends[:-1], np.diff(ends)]))
    rows, cols, lengths = np.concatenate(tiles, axis=1)
    order = dealing_order(rows, cols)
    return rows[order], cols[order], lengths[order]


def _cut(values: NDArray[np.floating], tiles: NDArray[np.floating]) -> None:
    """Copy a row of tiles (TILE or less, columns) into tiles (b, TILE, TILE), NaN past its end."""
    height, width = values.shape
    whole, rest = divmod(width, TILE)
    tiles[:whole, :height] = values[:, : whole * TILE].reshape(height, whole, TILE).swapaxes(0, 1)
    tiles[:, height:] = np.nan
    if rest:
        tiles[whole, :height, :rest] = values[:, whole * TILE :]
        tiles[whole, :, rest:] = np.nan
