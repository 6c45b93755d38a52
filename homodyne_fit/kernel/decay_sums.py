r"""Sums of the decay alone, and their derivatives: all that a cost needs of the points.

With contrast c, offset o and the mean-free data d of an angle, the sum of squares
:math:`\sum (c f + o - d)^2` is made of :math:`\sum f^2, \sum f, \sum f d` and of sums without f.
As functions of the curves S and Γ, and of the factors a and b of `homodyne_fit.kernel.moments`,

.. math:: \frac{\partial f_{ij}}{\partial S_j} = -\frac{\partial f_{ij}}{\partial S_i} = -a f_{ij},
          \qquad \frac{\partial f_{ij}}{\partial \Gamma_j}
          = -\frac{\partial f_{ij}}{\partial \Gamma_i} = b f_{x,ij},

so that the derivative of any function of them by the curves is made of row and column sums of two
matrices. The sums cost a fraction of the moment matrices, and differentiate in reverse.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.moments import CPU_OPTIONS, PRECISIONS, PointPrecision, Tile
from homodyne_fit.kernel.precision import Precision
from homodyne_fit.kernel.tiles import TileChunk

__all__ = [
    "DecaySums",
    "Tiles",
    "compiled_derivatives",
    "compiled_for_draws",
    "compiler_options",
    "constant_sums",
    "decay_sums",
    "tiles_of",
]


class Tiles(NamedTuple):
    """Tiles of K angles.

    Attributes
    ----------
    rows, cols : (B, T) int array
        Frames, none past the last.
    c2 : (B, K, T, T) array
        Less the reference of the angle; NaN where a point does not count.
    """

    rows: Any
    cols: Any
    c2: Any


def tiles_of(chunk: TileChunk, reference: NDArray[np.float64], n_frames: int) -> Tiles:
    """The tiles of a chunk, as many as it has room for: those that it lacks hold nothing."""
    room, angles = chunk.room[0], chunk.n_angles
    side = chunk.c2.shape[2]
    frames = np.zeros((2, room, side), dtype=np.int64)
    frames[:, : chunk.n_tiles] = np.minimum([chunk.rows, chunk.cols], n_frames - 1)
    c2 = np.full((room, angles, side, side), np.nan, chunk.c2.dtype)
    c2[: chunk.n_tiles] = chunk.values - reference[:, None, None].astype(c2.dtype)
    return Tiles(frames[0], frames[1], c2)


def constant_sums(tiles: Tiles) -> NDArray[np.float64]:
    """Sums of d², d and 1 of each angle, (K, 3)."""
    c2 = tiles.c2.astype(np.float64)
    axes = (0, 2, 3)
    return np.stack(
        [np.nansum(c2**2, axes), np.nansum(c2, axes), np.isfinite(c2).sum(axes)], axis=1
    )


# Arguments: S and Γ (n,), a and b (K,), tiles. Returns sums of f², f and f d, (K, 3).
DecaySums = Callable[[jax.Array, jax.Array, jax.Array, jax.Array, Tiles], jax.Array]


@functools.cache
def decay_sums(sinc_power: int, precision: Precision, *, has_flow: bool) -> DecaySums:
    """The function that sums over tiles, of which JAX knows the derivatives.

    Without flow, Γ and b have no effect.
    """
    of_point = PRECISIONS[precision]
    form = _Form(sinc_power, of_point, has_flow)
    function = jax.custom_vjp(form.sums)
    function.defvjp(lambda *inputs: (form.sums(*inputs), inputs), form.derivatives)
    return function


class _Form(NamedTuple):
    sinc_power: int
    of_point: PointPrecision
    has_flow: bool

    def sums(
        self, s: jax.Array, gamma: jax.Array, a: jax.Array, b: jax.Array, tiles: Tiles
    ) -> jax.Array:
        """Sums of f², f and f d of each angle, (K, 3)."""

        def of_tile(i: jax.Array, total: jax.Array) -> jax.Array:
            tile = self._tile(s, gamma, tiles, i)

            def of_angle(k: jax.Array, total: jax.Array) -> jax.Array:
                f, _, d = self._decay(tile, a[k], b[k], tiles.c2[i, k])
                ones = jnp.ones(len(d), f.dtype)
                return total.at[k].add(
                    jnp.stack([jnp.sum((w @ ones).astype(jnp.float64)) for w in (f * f, f, f * d)])
                )

            return jax.lax.fori_loop(0, len(a), of_angle, total)

        return jax.lax.fori_loop(0, len(tiles.rows), of_tile, jnp.zeros((len(a), 3)))

    def derivatives(self, inputs: tuple[Any, ...], slopes: jax.Array) -> tuple[Any, ...]:
        """Of Σ slopes · sums by S, Γ, a and b."""
        s, gamma, a, b, tiles = inputs

        def of_tile(i: jax.Array, total: Any) -> Any:
            tile = self._tile(s, gamma, tiles, i)
            (s_row, s_col), (g_row, g_col) = tile.s, tile.g

            def of_angle(k: jax.Array, found: Any) -> Any:
                rows, by_a, by_b = found
                f, fx, d = self._decay(tile, a[k], b[k], tiles.c2[i, k])
                # An entry that does not count has f = f_x = 0.
                weight = 2 * slopes[k, 0] * f + slopes[k, 1] + slopes[k, 2] * d
                weight = weight.astype(f.dtype)
                (f_row, f_col) = _row_and_column_sums(weight * f)
                rows = rows + jnp.stack([a[k] * f_row, -a[k] * f_col, 0 * f_row, 0 * f_col])
                by_a = by_a.at[k].add(f_row @ s_row - f_col @ s_col)
                if self.has_flow:
                    (x_row, x_col) = _row_and_column_sums(weight * fx)
                    rows = rows + jnp.stack([0 * x_row, 0 * x_row, -b[k] * x_row, b[k] * x_col])
                    by_b = by_b.at[k].add(x_col @ g_col - x_row @ g_row)
                return rows, by_a, by_b

            by_s, by_gamma, by_a, by_b = total
            zero = jnp.zeros((4, tiles.rows.shape[1]))
            found, by_a, by_b = jax.lax.fori_loop(0, len(a), of_angle, (zero, by_a, by_b))
            row, col = tiles.rows[i], tiles.cols[i]
            by_s = by_s.at[row].add(found[0]).at[col].add(found[1])
            by_gamma = by_gamma.at[row].add(found[2]).at[col].add(found[3])
            return by_s, by_gamma, by_a, by_b

        nothing = tuple(jnp.zeros_like(each) for each in (s, gamma, a, b))
        found = jax.lax.fori_loop(0, len(tiles.rows), of_tile, nothing)
        return (*found, jax.tree.map(_no_derivative, tiles))

    def _tile(self, s: jax.Array, gamma: jax.Array, tiles: Tiles, i: jax.Array) -> Tile:
        row, col = tiles.rows[i], tiles.cols[i]
        integrals = jnp.stack([jnp.stack([each[row], each[col]]) for each in (s, gamma)])
        nothing = jnp.zeros((2, len(row), 0))
        return Tile(integrals, nothing, nothing, row[-1] <= col[0], self.sinc_power, self.of_point)

    def _decay(
        self, tile: Tile, a: jax.Array, b: jax.Array, c2: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """f, f_x and d (T, T), zeros where a point does not count."""
        counted = jnp.isfinite(c2)
        d = jnp.where(counted, c2.astype(self.of_point.dtype), 0)
        f, fx = tile.decay(a, b, counted.astype(self.of_point.dtype), has_flow=self.has_flow)
        return f, fx, d


def _row_and_column_sums(w: jax.Array) -> tuple[jax.Array, jax.Array]:
    ones = jnp.ones(len(w), w.dtype)
    return (w @ ones).astype(jnp.float64), (ones @ w).astype(jnp.float64)


def _no_derivative(x: jax.Array) -> Any:
    if jnp.issubdtype(x.dtype, jnp.integer):
        return np.zeros(x.shape, jax.dtypes.float0)
    return jnp.zeros_like(x)


@functools.cache
def compiled_for_draws(
    sinc_power: int, precision: Precision, *, has_flow: bool
) -> Callable[..., jax.Array]:
    """`decay_sums` of draws of the curves: (D, n), (D, n), (K,), (D, K), tiles to (D, K, 3)."""
    of_one = decay_sums(sinc_power, precision, has_flow=has_flow)

    def of_all(
        s: jax.Array, gamma: jax.Array, a: jax.Array, b: jax.Array, tiles: Tiles
    ) -> jax.Array:
        return jax.lax.map(lambda draw: of_one(draw[0], draw[1], a, draw[2], tiles), (s, gamma, b))

    return jax.jit(of_all, compiler_options=compiler_options())


@functools.cache
def compiled_derivatives(
    sinc_power: int, precision: Precision, *, has_flow: bool
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """Of S, Γ, a, b, tiles and slopes (K, 3): derivatives of Σ slopes · sums by S, Γ and b."""
    of_one = decay_sums(sinc_power, precision, has_flow=has_flow)

    def derivatives(
        s: jax.Array, gamma: jax.Array, a: jax.Array, b: jax.Array, tiles: Tiles, slopes: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        _, pull = jax.vjp(lambda s, gamma, b: of_one(s, gamma, a, b, tiles), s, gamma, b)
        return pull(slopes)

    return jax.jit(derivatives, compiler_options=compiler_options())


def compiler_options() -> dict[str, Any] | None:
    """What these functions are compiled with on the device in use."""
    return CPU_OPTIONS if jax.default_backend() == "cpu" else None
