"""Two-time data cut into square tiles of t1 < t2, and tiles dealt out to chunks.

A tile is the set of matrix entries of some row frames and some column frames, for all angles;
so a chunk, a set of tiles, is stratified over the angles by construction. Tiles are dealt to
chunks in order of their lag, so that every chunk also holds short and long lags, and those of one
lag in an order in which any first few of them are spread over the measurement. So the first few
chunks are a good sample, the better for more than their share of short lags, where the decay is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.storage.stored_matrices import StoredMatrices, block

__all__ = ["TILE", "TileChunk", "dealing_order", "probe_chunk", "probed_angles", "tile_chunks"]

# Frames along the side of a tile. Its working set (a dozen arrays) fits a second-level cache,
# and what the diagonal tiles waste stays small at a few hundred frames.
TILE = 64


# Tiles of single angles in a chunk, at least and at most: their sums take a processor some
# milliseconds, so that the time to start them does not matter.
SMALLEST = 16
LARGEST = 256

# Chunks that small data are cut into where these bounds allow, so that there are samples.
WANTED = 16

# Successive multiples of it, modulo 1, leave no large gap anywhere.
GOLDEN = (5**0.5 - 1) / 2

# Angles of a probe.
PROBED_ANGLES = 4

# Successive frames in each of the three runs of a probe.
PROBED_RUN = 8


@dataclass(frozen=True, eq=False)
class TileChunk:
    """Tiles of K angles.

    Attributes
    ----------
    rows, cols : (B, TILE) int
        Frames of t1 and of t2, ascending.
    c2 : (B', K', TILE, TILE) float32 or float64
        NaN where an entry does not count: not t1 < t2, past the last frame, or missing. What
        comes after B tiles, or after K angles, is nothing.
    n_angles : int
        K.
    weights : (B', K', TILE, TILE) float64, optional
        Of the points; arbitrary where c2 is NaN. None where all are alike.
    """

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    c2: NDArray[np.floating]
    n_angles: int
    weights: NDArray[np.float64] | None = None

    @property
    def n_tiles(self) -> int:
        """B."""
        return len(self.rows)

    @property
    def values(self) -> NDArray[np.floating]:
        """c2 of its tiles, (B, K, TILE, TILE)."""
        return self.c2[: self.n_tiles, : self.n_angles]

    @property
    def weights_of_tiles(self) -> list[NDArray[np.float64] | None]:
        """Weights of each of its B tiles, (K, TILE, TILE)."""
        if self.weights is None:
            return [None] * self.n_tiles
        return list(self.weights[: self.n_tiles, : self.n_angles])

    @property
    def room(self) -> tuple[int, int]:
        """B' and K'."""
        return self.c2.shape[0], self.c2.shape[1]

    def loaded(self) -> TileChunk:
        """Itself, as it is in memory."""
        return self


def tile_chunks(data: TwoTimeData, per_chunk: int | None = None) -> list[TileChunk]:
    """Cut all points t1 < t2 into chunks of one shape.

    Parameters
    ----------
    data : TwoTimeData
    per_chunk : int, optional
        Tiles of all angles in a chunk.
    """
    blocks = -(-data.n_frames // TILE)
    first, second = np.triu_indices(blocks)
    order = dealing_order(first, second)
    first, second = first[order], second[order]
    per_chunk = per_chunk or tiles_per_chunk(data)
    n_chunks = -(-len(first) // per_chunk)
    frames = np.arange(TILE)
    return [
        _chunk(
            data,
            first[i::n_chunks, None] * TILE + frames,
            second[i::n_chunks, None] * TILE + frames,
            (per_chunk, data.n_angles),
        )
        for i in range(n_chunks)
    ]


def dealing_order(rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.intp]:
    """Order tiles by lag, those of one lag so that any first few are spread over all times."""
    dealt = np.argsort(np.argsort((0.5 + GOLDEN * np.arange(rows.max() + 1)) % 1))
    return np.lexsort((np.argsort(dealt)[rows], cols - rows))


def tiles_per_chunk(data: TwoTimeData) -> int:
    """A power of two: the kernel is compiled for each number of tiles and of angles."""
    blocks = -(-data.n_frames // TILE)
    size = blocks * (blocks + 1) // 2 / WANTED
    size = min(max(size, SMALLEST / data.n_angles), LARGEST / data.n_angles)
    return 1 << max(0, int(np.log2(size)))


def probed_angles(phi: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions of a few of the angles (K,), evenly chosen whatever their order."""
    chosen = np.linspace(0, len(phi) - 1, min(len(phi), PROBED_ANGLES)).round().astype(np.int64)
    return np.argsort(phi, kind="stable")[np.unique(chosen)]


def probe_chunk(
    data: TwoTimeData,
    room: tuple[int, int] | None = None,
    angles: NDArray[np.int64] | None = None,
) -> TileChunk:
    """One tile that spans all lags and times, for rough searches.

    Most of its frames are spread over the whole measurement, the others are successive ones at
    its beginning, middle and end.

    Parameters
    ----------
    data : TwoTimeData
    room : (int, int), optional
        Tiles and angles that the chunk has room for: those of other chunks, or the kernel would be
        compiled again.
    angles : (k,) int array, optional
        Those of which it is; all when None.
    """
    n = data.n_frames
    frames = np.arange(min(n, TILE))
    if n > TILE:
        run = np.arange(PROBED_RUN)
        spread = np.linspace(0, n - 1, TILE - 3 * PROBED_RUN).round().astype(np.int64)
        middle, last = (n - PROBED_RUN) // 2, n - PROBED_RUN
        frames = np.unique(np.concatenate([spread, run, middle + run, last + run]))
    grid = np.concatenate([frames, n + np.arange(TILE - len(frames))])[None]
    return _chunk(data, grid, grid, room or (1, data.n_angles), angles)


def _chunk(
    data: TwoTimeData,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    room: tuple[int, int],
    angles: NDArray[np.int64] | None = None,
) -> TileChunk:
    """Gather tiles, of frames that ascend, into an array with room for so many and their angles."""
    c2 = np.empty((*room, TILE, TILE), dtype=data.c2.dtype)
    angles = np.arange(data.n_angles) if angles is None else angles
    n, k = data.n_frames, len(angles)
    weights = None if data.weights is None else np.zeros(c2.shape)
    for b, (i, j) in enumerate(zip(rows, cols, strict=True)):
        counted, values = (i[:, None] < j) & (j < n), c2[b, :k]
        at = np.minimum(i, n - 1), np.minimum(j, n - 1)
        values[:] = _entries(data, angles, *at)
        if not np.all(counted):
            values[:, ~counted] = np.nan
        values[np.isinf(values)] = np.nan
        if weights is not None and data.weights is not None:
            weights[b, :k] = data.weights[np.ix_(angles, *at)]
    return TileChunk(rows, cols, c2, k, weights)


def _entries(
    data: TwoTimeData, angles: NDArray[np.int64], rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> NDArray[np.floating]:
    """c2 (k, a, b) of angles at ascending rows and columns; arbitrary at t1 > t2."""
    line = slice(int(cols[0]), int(cols[-1]) + 1)
    if not isinstance(data.c2, StoredMatrices):
        # Slices of memory, then the columns, are taken faster than single entries.
        return np.take(data.c2[angles[:, None], rows, line], cols - cols[0], axis=2)
    values = np.empty((len(angles), len(rows), len(cols)), data.c2.dtype)
    for of_angle, k in zip(values, angles.tolist(), strict=True):
        for i, row in enumerate(rows):
            of_angle[i] = block(data.c2, k, slice(row, row + 1), line)[0, cols - cols[0]]
    return values
