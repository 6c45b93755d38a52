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

from homodyne_fit.model import Curves

__all__ = ["AngleFactors", "chunk_moments"]

# Below this |x| the sines cancel and a Taylor series is used; its error is under 1e-16 there.
SMALL_ANGLE = 0.25


class AngleFactors(NamedTuple):
    """What distinguishes the K angles, each (K,): f depends on a ΔS and b ΔΓ.

    ``transport`` is a = q², ``shear`` is b = ½ q h cos(φ0 − φ), ``direction`` is ∂b/∂φ0, and
    ``reference`` is subtracted from c2, so that its square does not drown the residuals.
    """

    transport: jax.Array
    shear: jax.Array
    direction: jax.Array
    reference: jax.Array


@functools.partial(jax.jit, static_argnames=("sinc_power", "batch"))
def chunk_moments(
    curves: Curves,
    factors: AngleFactors,
    rows: jax.Array,
    cols: jax.Array,
    c2: jax.Array,
    sinc_power: int = 2,
    batch: int = 1,
) -> jax.Array:
    """Sum the moments of a chunk of tiles.

    Parameters
    ----------
    curves : Curves
        Of all frames, a transport and b shear parameters.
    factors : AngleFactors
    rows, cols : (B, T) int
        Frames of the tiles' rows and columns, ascending.
    c2 : (B, K, T, T)
        NaN where a point does not count.
    sinc_power : int
        m above.
    batch : int
        Tiles worked on at a time: 1 keeps them in a processor's cache, many fill a GPU.

    Returns
    -------
    (K, m, m) float64 array
        Moment matrices, with m = a + b + 4 where there is flow and a + 3 where there is none.
        c2 and its reference differ by a constant, so column c2 means c2 − reference.
    """
    n_tiles, n_angles = c2.shape[:2]
    last = curves.transport.shape[0] - 1

    def tile(args: tuple[jax.Array, ...]) -> jax.Array:
        i, j, k, values = args
        row = jax.tree.map(lambda curve: curve[jnp.minimum(i, last)], curves)
        col = jax.tree.map(lambda curve: curve[jnp.minimum(j, last)], curves)
        factor = jax.tree.map(lambda values: values[k], factors)
        return _tile_moments(row, col, i[-1] <= j[0], factor, values, sinc_power)

    each_tile = jnp.repeat(jnp.arange(n_tiles), n_angles)
    each_angle = jnp.tile(jnp.arange(n_angles), n_tiles)
    values = c2.reshape(-1, *c2.shape[2:])
    moments = jax.lax.map(
        tile,
        (rows[each_tile], cols[each_tile], each_angle, values),
        batch_size=batch if batch > 1 else None,
    )
    total = moments.reshape(n_tiles, n_angles, *moments.shape[1:]).sum(axis=0)
    scale = _column_scales(curves, factors)
    return total * scale[:, :, None] * scale[:, None, :]


def _tile_moments(
    row: Curves,
    col: Curves,
    ordered: jax.Array,
    factor: AngleFactors,
    c2: jax.Array,
    sinc_power: int,
) -> jax.Array:
    """Moments of one tile of one angle, derivatives without the angle's factors."""
    counted = jnp.isfinite(c2)
    weight = counted.astype(jnp.float64)
    c = jnp.where(counted, c2.astype(jnp.float64) - factor.reference, 0.0)
    exponential = weight * _exponential(
        factor.transport * row.transport, factor.transport * col.transport, ordered
    )
    sinc, slope = _sinc(factor.shear * row.shear, factor.shear * col.shear)
    f = exponential * sinc**sinc_power
    fx = sinc_power * exponential * sinc ** (sinc_power - 1) * slope
    # Materialised here, or XLA would compute them again for each of the sums below.
    f, fx, c, weight = jax.lax.optimization_barrier((f, fx, c, weight))

    # Only differences of u and v count: an origin inside the tile keeps their digits.
    u = (
        row.transport_jacobian - col.transport_jacobian[0],
        col.transport_jacobian - col.transport_jacobian[0],
    )
    v_row, v_col = _flow_columns(row), _flow_columns(col)
    v = (v_row - v_col[0], v_col - v_col[0])
    uv = -_quadratic(f * fx, u, v)
    derivatives = jnp.block([[_quadratic(f * f, u, u), uv], [uv.T, _quadratic(fx * fx, v, v)]])
    linear = jnp.concatenate(
        [
            -jnp.stack([_linear(w, u) for w in (f * f, f, f * c)]),
            jnp.stack([_linear(w, v) for w in (f * fx, fx, fx * c)]),
        ],
        axis=1,
    )
    f1, fc, c1 = f.sum(), (f * c).sum(), c.sum()
    scalars = jnp.array([[(f * f).sum(), f1, fc], [f1, weight.sum(), c1], [fc, c1, (c * c).sum()]])
    return jnp.block([[derivatives, linear.T], [linear, scalars]])


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
    """sinc and its derivative at x = col_j - row_i."""
    sin_row, cos_row, sin_col, cos_col = jax.lax.optimization_barrier(
        (jnp.sin(row)[:, None], jnp.cos(row)[:, None], jnp.sin(col), jnp.cos(col))
    )
    x = col - row[:, None]
    x2 = x * x
    small = x2 < SMALL_ANGLE**2
    inverse = 1 / jnp.where(small, 1.0, x)
    sin = sin_col * cos_row - cos_col * sin_row
    cos = cos_col * cos_row + sin_col * sin_row
    series = 1 - x2 / 6 * (1 - x2 / 20 * (1 - x2 / 42 * (1 - x2 / 72 * (1 - x2 / 110))))
    slope_series = -x / 3 * (1 - x2 / 10 * (1 - x2 / 28 * (1 - x2 / 54 * (1 - x2 / 88))))
    sinc = jnp.where(small, series, sin * inverse)
    return sinc, jnp.where(small, slope_series, (cos - sinc) * inverse)


Columns = tuple[jax.Array, jax.Array]


def _quadratic(w: jax.Array, x: Columns, y: Columns) -> jax.Array:
    """Σ w_ij (x_j - x_i)(y_j - y_i) for the columns of x and y, given at rows and at cols."""
    x_row, x_col = x
    y_row, y_col = y
    own = (x_row * w.sum(1)[:, None]).T @ y_row + (x_col * w.sum(0)[:, None]).T @ y_col
    return own - x_row.T @ (w @ y_col) - (y_row.T @ (w @ x_col)).T


def _linear(w: jax.Array, x: Columns) -> jax.Array:
    """Σ w_ij (x_j - x_i) for the columns of x."""
    return w.sum(0) @ x[1] - w.sum(1) @ x[0]


def _flow_columns(curves: Curves) -> jax.Array:
    """Derivatives of Γ, and Γ itself for phi0; no columns without flow."""
    if curves.shear_jacobian.shape[1] == 0:
        return curves.shear_jacobian
    return jnp.concatenate([curves.shear_jacobian, curves.shear[:, None]], axis=1)


def _column_scales(curves: Curves, factors: AngleFactors) -> jax.Array:
    """Factor of each angle (K,) on each column of its moments: (K, m)."""
    a, b = curves.transport_jacobian.shape[1], curves.shear_jacobian.shape[1]
    one = jnp.ones_like(factors.transport)
    flow = [factors.shear] * b + [factors.direction] * (b > 0)
    return jnp.stack([factors.transport] * a + flow + [one] * 3, axis=1)
