r"""Sums of the decay alone, and their derivatives: all that a cost needs of the points.

With contrast c, offset o and the mean-free data d of an angle, the sum of squares
:math:`\sum (c f + o - d)^2` is made of :math:`\sum f^2, \sum f, \sum f d` and of sums without f.
As functions of the curves S and Γ, and of the factors a and b of `homodyne_fit.kernel.moments`,

.. math:: \frac{\partial f_{ij}}{\partial S_j} = -\frac{\partial f_{ij}}{\partial S_i} = -a f_{ij},
          \qquad \frac{\partial f_{ij}}{\partial \Gamma_j}
          = -\frac{\partial f_{ij}}{\partial \Gamma_i} = b f_{x,ij}.

With :math:`w = 2f, 1, d` for the three sums, their derivatives by S and Γ are therefore
:math:`-a` and :math:`b` times the curves

.. math:: F_i = \sum_j (w f)_{ji} - \sum_j (w f)_{ij}, \qquad
          G_i = \sum_j (w f_x)_{ji} - \sum_j (w f_x)_{ij},

and those by a and b are :math:`-\sum S_i F_i` and :math:`\sum \Gamma_i G_i`. Sums and curves take
one pass over the points, and cost a fraction of the moment matrices.
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
    "SumsAndCurves",
    "Tiles",
    "compiled_for_draws",
    "compiled_with_curves",
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


class SumsAndCurves(NamedTuple):
    """Sums of f², f and f d of each angle (K, 3), and their curves F and G, (K, 3, n)."""

    sums: Any
    f: Any
    g: Any

    def derivatives(self, s: Any, gamma: Any, a: Any, b: Any, slopes: Any) -> tuple[Any, ...]:
        """Of Σ slopes · sums, with slopes (K, 3), by S, Γ, a and b."""
        f, g = (jnp.einsum("km,kmn->kn", slopes, each) for each in (self.f, self.g))
        return -a @ f, b @ g, -f @ s, g @ gamma


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
    function.defvjp(form.forward, form.backward)
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

    def forward(
        self, s: jax.Array, gamma: jax.Array, a: jax.Array, b: jax.Array, tiles: Tiles
    ) -> tuple[jax.Array, Any]:
        """The sums, and what `backward` needs."""
        found = self.with_curves(s, gamma, a, b, tiles)
        return found.sums, (found, (s, gamma, a, b), tiles)

    def backward(self, kept: Any, slopes: jax.Array) -> tuple[Any, ...]:
        """Derivatives of Σ slopes · sums by all arguments."""
        found, arguments, tiles = kept
        none = jax.tree.map(_no_derivative, tiles)
        return (*found.derivatives(*arguments, slopes), none)

    def with_curves(
        self, s: jax.Array, gamma: jax.Array, a: jax.Array, b: jax.Array, tiles: Tiles
    ) -> SumsAndCurves:
        """Sums, F and G of each angle."""
        side, flows = tiles.rows.shape[1], 2 if self.has_flow else 1

        def of_tile(i: jax.Array, total: Any) -> Any:
            tile = self._tile(s, gamma, tiles, i)

            def of_angle(k: jax.Array, found: Any) -> Any:
                sums, curves = found
                # An entry that does not count has f = f_x = 0.
                f, fx, d = self._decay(tile, a[k], b[k], tiles.c2[i, k])
                weighted = [w * slope for slope in (f, fx)[:flows] for w in (f, 1, d)]
                rows, cols = map(jnp.stack, zip(*map(_row_and_column_sums, weighted), strict=True))
                each = jnp.concatenate([-rows, cols], axis=1)
                return sums.at[k].add(rows[:3].sum(1)), curves.at[k].set(each)

            sums, curves = total
            found = jnp.zeros((len(a), 3 * flows, 2 * side))
            sums, found = jax.lax.fori_loop(0, len(a), of_angle, (sums, found))
            frames = jnp.concatenate([tiles.rows[i], tiles.cols[i]])
            return sums, curves.at[frames].add(jnp.moveaxis(found, 2, 0))

        nothing = jnp.zeros((len(a), 3)), jnp.zeros((len(s), len(a), 3 * flows))
        sums, curves = jax.lax.fori_loop(0, len(tiles.rows), of_tile, nothing)
        curves = jnp.moveaxis(curves, 0, 2) * jnp.tile(jnp.array([2.0, 1.0, 1.0]), flows)[:, None]
        f = curves[:, :3]
        return SumsAndCurves(sums, f, curves[:, 3:] if self.has_flow else jnp.zeros_like(f))

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
def compiled_with_curves(
    sinc_power: int, precision: Precision, *, has_flow: bool
) -> Callable[..., SumsAndCurves]:
    """Of S, Γ, a, b and tiles: the sums and their curves."""
    form = _Form(sinc_power, PRECISIONS[precision], has_flow)
    return jax.jit(form.with_curves, compiler_options=compiler_options())


def compiler_options() -> dict[str, Any] | None:
    """What these functions are compiled with on the device in use."""
    return CPU_OPTIONS if jax.default_backend() == "cpu" else None
