r"""The moment kernel: one pass over the points, a small matrix for each angle.

For angle k and times :math:`t_i < t_j` the model is :math:`f = E\,\mathrm{sinc}^m x`,
:math:`E = \exp(-a_k (S_j - S_i))`, :math:`x = b_k(\Gamma_j - \Gamma_i)`, with m = 2. Its
derivatives by the parameters are products of a matrix and a difference,

.. math:: \partial f/\partial\theta = -f\,(u_j - u_i) \quad\text{or}\quad
          f_x\,(v_j - v_i), \qquad f_x = m E\,\mathrm{sinc}^{m-1}x\ \mathrm{sinc}'x,

where u are derivatives of S, and v derivatives of Γ and (for phi0) Γ itself, all of them O(n)
curves. So with a weight matrix W (:math:`f^2, -f f_x, f_x^2`) the Gauss-Newton Hessian is made
of quadratic forms of a graph Laplacian,

.. math:: \sum_{ij} W_{ij}(u_j - u_i)(v_j - v_i) = \sum_j v_j u_j \sum_i W_{ij}
          + \sum_i u_i v_i \sum_j W_{ij} - u^T W v - v^T W u,

row sums, column sums and a thin product, and no Jacobian is ever stored. For each angle the
kernel returns the symmetric **moment matrix** of the columns

    [∂f/∂θ (transport, shear, phi0), f, 1, c2]

over all points; contrast and offset do not enter it. The exponential and, by the addition
theorems, sine and cosine of a difference are products of O(n) factors, so an entry of the matrix
costs some multiplications and one division.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from homodyne_fit.model import Curves
from homodyne_fit.tiles import TileChunk

__all__ = ["AngleFactors", "chunk_moments"]

# Below this |x| the sines cancel and a Taylor series is used; its error is under 1e-16 there.
SMALL_ANGLE = 0.25


class AngleFactors(NamedTuple):
    """What distinguishes the K angles, each (K,): f depends on a ΔS and b ΔΓ.

    ``transport`` is a = q², ``shear`` is b = ½ q h cos(φ0 − φ), ``direction`` is ∂b/∂φ0, and
    ``reference`` is subtracted from c2, so that its square does not drown the residuals.
    """

    transport: NDArray[np.float64]
    shear: NDArray[np.float64]
    direction: NDArray[np.float64]
    reference: NDArray[np.float64]


def chunk_moments(
    curves: Curves, factors: AngleFactors, chunk: TileChunk, sinc_power: int = 2
) -> NDArray[np.float64]:
    """Sum the moments of a chunk of tiles.

    Parameters
    ----------
    curves : Curves
        Of all frames, a transport and b shear parameters.
    factors : AngleFactors
    chunk : TileChunk
    sinc_power : int
        m above.

    Returns
    -------
    (K, m, m) float64 array
        Moment matrices, with m = a + b + 4 where there is flow and a + 3 where there is none.
        c2 and its reference differ by a constant, so column c2 means c2 − reference.
    """
    n_tiles = chunk.n_tiles
    integrals, u, v = _at_tiles(curves, chunk)
    of_angles = np.zeros((3, chunk.c2.shape[1]))
    of_angles[:, : chunk.n_angles] = factors.transport, factors.shear, factors.reference
    ordered = np.zeros(len(chunk.c2), dtype=bool)
    ordered[:n_tiles] = chunk.rows[:, -1] <= chunk.cols[:, 0]
    with jax.enable_x64(True):
        moments = _moments_of_tiles(
            integrals,
            u,
            v,
            ordered,
            of_angles,
            chunk.c2,
            n_tiles,
            chunk.n_angles,
            sinc_power,
            one_by_one=jax.default_backend() == "cpu",
        )
        total = np.asarray(moments)[: chunk.n_angles]
    scale = _column_scales(u.shape[-1], v.shape[-1], factors)
    return total * scale[:, :, None] * scale[:, None, :]


def _at_tiles(
    curves: Curves, chunk: TileChunk
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The curves as `_moments_of_tiles` takes them; zeros where the chunk holds no tile."""
    frames = np.minimum(np.stack([chunk.rows, chunk.cols]), len(curves.transport) - 1)

    def gathered(curve: NDArray[np.float64]) -> NDArray[np.float64]:
        at_tiles = np.zeros((2, len(chunk.c2), frames.shape[2], *curve.shape[1:]))
        at_tiles[:, : chunk.n_tiles] = curve[frames]
        return at_tiles

    u, v = gathered(curves.transport_jacobian), gathered(_flow(curves))
    # Only differences of u and v count: an origin inside the tile keeps their digits.
    integrals = gathered(np.stack([curves.transport, curves.shear], axis=1))
    return np.moveaxis(integrals, 3, 0), u - u[1, :, :1], v - v[1, :, :1]


@functools.partial(jax.jit, static_argnames=("sinc_power", "one_by_one"))
def _moments_of_tiles(
    integrals: jax.Array,
    u: jax.Array,
    v: jax.Array,
    ordered: jax.Array,
    factors: jax.Array,
    c2: jax.Array,
    n_tiles: int,
    n_angles: int,
    sinc_power: int,
    one_by_one: bool,
) -> jax.Array:
    """Moments (K, m, m) of all tiles, without the factors of the derivatives.

    Parameters
    ----------
    integrals, u, v : (2, 2, B, T), (2, B, T, a) and (2, B, T, b) arrays
        S and Γ, and the curves of the module's text, at rows and columns of the tiles.
    ordered : (B,) bool
        Whether all rows of a tile precede its columns.
    factors : (3, K) array
        Transport, shear and reference of the angles.
    c2 : (B, K, T, T) array
    n_tiles, n_angles : int
        How many of the B and of the K are to be summed; the others are arbitrary.
    sinc_power : int
    one_by_one : bool
        Whether to keep a processor's cache busy with a tile and an angle at a time, or a GPU with
        all of them.
    """

    def of_tile(b: jax.Array) -> jax.Array:
        left = jnp.concatenate([u[0, b], v[0, b]], axis=1)

        def sums(angle: tuple[jax.Array, jax.Array]) -> jax.Array:
            of_angle, values = angle
            n_u = u.shape[3]
            return _tile_sums(
                integrals[:, :, b], ordered[b], of_angle, values, left, n_u, sinc_power
            )

        if one_by_one:
            a, b_ = u.shape[3], v.shape[3]
            nothing = jnp.zeros((c2.shape[1], 17 + 2 * (a + b_), c2.shape[3]))
            each = jax.lax.fori_loop(
                0,
                n_angles,
                lambda k, found: found.at[k].set(sums((factors[:, k], c2[b, k]))),
                nothing,
            )
        else:
            each = jax.vmap(sums)((factors.T, c2[b]))
        return _moments(each, u[:, b], v[:, b])

    if one_by_one:
        size = u.shape[3] + v.shape[3] + 3
        nothing = jnp.zeros((c2.shape[1], size, size))
        return jax.lax.fori_loop(0, n_tiles, lambda b, total: total + of_tile(b), nothing)
    counted = jnp.arange(len(c2)) < n_tiles
    return jnp.where(counted[:, None, None, None], jax.vmap(of_tile)(jnp.arange(len(c2))), 0).sum(0)


def _tile_sums(
    integrals: jax.Array,
    ordered: jax.Array,
    factors: jax.Array,
    c2: jax.Array,
    left: jax.Array,
    n_u: int,
    sinc_power: int,
) -> jax.Array:
    """Sums over the rows and columns of one tile of one angle, (·, T); `_moments` reads them.

    Every sum is a product of a matrix and a vector: of all ways to write them down, the one that
    is fast on a processor.
    """
    transport, shear, reference = factors
    counted = jnp.isfinite(c2)
    weight = counted.astype(jnp.float64)
    c = jnp.where(counted, c2.astype(jnp.float64) - reference, 0.0)
    (s_row, s_col), (g_row, g_col) = transport * integrals[0], shear * integrals[1]
    exponential = weight * _exponential(s_row, s_col, ordered)
    sinc, slope = _sinc(g_row, g_col) if left.shape[1] > n_u else (1.0, 0.0)
    f = exponential * sinc**sinc_power
    fx = sinc_power * exponential * sinc ** (sinc_power - 1) * slope
    matrices = [f * f, f * fx, fx * fx, f, fx, f * c, fx * c, c * c, c, weight]
    ones = jnp.ones(len(c2))
    return jnp.stack(
        [w @ ones for w in matrices]
        + [ones @ w for w in matrices[:7]]
        + [curve @ matrices[0] for curve in left.T[:n_u]]
        + [curve @ matrices[1] for curve in left.T]
        + [curve @ matrices[2] for curve in left.T[n_u:]]
    )


def _moments(sums: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
    """Moments (K, m, m) from the sums (K, ·, T) of a tile; u, v: (2, T, ·)."""
    a, b = u.shape[2], v.shape[2]
    by_row, by_col, u_ff, u_ffx, v_ffx, v_fxfx = jnp.split(
        sums, np.cumsum([10, 7, a, a, b]), axis=1
    )
    ff, _, _, f1, _, fc, _, cc, c1, n = by_row.sum(axis=2).T

    def quadratic(i: int, x: jax.Array, y: jax.Array, x_w: jax.Array, y_w: jax.Array) -> jax.Array:
        """Σ w_ij (x_j - x_i)(y_j - y_i)."""
        squares = (x[..., None] * y[:, :, None]).reshape(*x.shape[:2], x.shape[2] * y.shape[2])
        own = by_row[:, i] @ squares[0] + by_col[:, i] @ squares[1]
        own = own.reshape(len(sums), x.shape[2], y.shape[2])
        return own - x_w @ y[1] - (y_w @ x[1]).mT

    def linear(i: list[int], x: jax.Array) -> jax.Array:
        """Σ w_ij (x_j - x_i) for several w."""
        return by_col[:, np.array(i)] @ x[1] - by_row[:, np.array(i)] @ x[0]

    # The derivatives of f are −f (u_j − u_i) and f_x (v_j − v_i).
    uv = -quadratic(1, u, v, u_ffx, v_ffx)
    uu, vv = quadratic(0, u, u, u_ff, u_ff), quadratic(2, v, v, v_fxfx, v_fxfx)
    by_u, by_v = -linear([0, 3, 5], u), linear([1, 4, 6], v)
    rest = jnp.stack([ff, f1, fc, f1, n, c1, fc, c1, cc], axis=1).reshape(-1, 3, 3)
    return jnp.concatenate(
        [
            jnp.concatenate([uu, uv, by_u.mT], axis=2),
            jnp.concatenate([uv.mT, vv, by_v.mT], axis=2),
            jnp.concatenate([by_u, by_v, rest], axis=2),
        ],
        axis=1,
    )


def _exponential(row: jax.Array, col: jax.Array, ordered: jax.Array) -> jax.Array:
    """exp(-|col_j - row_i|), as a product of O(n) factors where every row precedes every col.

    Both factors are at most 1 then; in other tiles such a product could overflow.
    """
    return jax.lax.cond(
        ordered,
        lambda: jnp.exp(row - col[0])[:, None] * jnp.exp(col[0] - col),
        lambda: jnp.exp(-jnp.abs(col - row[:, None])),
    )


def _sinc(row: jax.Array, col: jax.Array) -> tuple[jax.Array, jax.Array]:
    """sinc and its derivative at x = col_j - row_i, where row and col are monotonic."""
    sin_row, cos_row = jnp.sin(row)[:, None], jnp.cos(row)[:, None]
    sin_col, cos_col = jnp.sin(col), jnp.cos(col)
    x = col - row[:, None]

    def by_division(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        inverse = 1 / x
        sinc = (sin_col * cos_row - cos_col * sin_row) * inverse
        return sinc, (cos_col * cos_row + sin_col * sin_row - sinc) * inverse

    def with_series() -> tuple[jax.Array, jax.Array]:
        x2 = x * x
        small = x2 < SMALL_ANGLE**2
        sinc, slope = by_division(jnp.where(small, 1.0, x))
        series = 1 - x2 / 6 * (1 - x2 / 20 * (1 - x2 / 42 * (1 - x2 / 72 * (1 - x2 / 110))))
        slopes = -x / 3 * (1 - x2 / 10 * (1 - x2 / 28 * (1 - x2 / 54 * (1 - x2 / 88))))
        return jnp.where(small, series, sinc), jnp.where(small, slopes, slope)

    nearest = jnp.minimum(jnp.abs(col[0] - row[-1]), jnp.abs(col[-1] - row[0]))
    far = (nearest >= SMALL_ANGLE) & ((col[0] > row[-1]) == (col[-1] > row[0]))
    return jax.lax.cond(far, lambda: by_division(x), with_series)


def _flow(curves: Curves) -> NDArray[np.float64]:
    """Derivatives of Γ, and Γ itself for phi0; no columns without flow."""
    if not curves.shear_jacobian.size:
        return curves.shear_jacobian
    return np.concatenate([curves.shear_jacobian, curves.shear[:, None]], axis=1)


def _column_scales(n_u: int, n_v: int, factors: AngleFactors) -> NDArray[np.float64]:
    """Factor of each angle (K,) on each column of its moments: (K, m)."""
    one = np.ones_like(factors.transport)
    flow = [factors.shear] * (n_v - 1) + [factors.direction] * (n_v > 0)
    return np.stack([factors.transport] * n_u + flow + [one] * 3, axis=1)
