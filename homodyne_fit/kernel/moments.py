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
costs some multiplications; the division by x is shared by all angles.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.precision import Precision
from homodyne_fit.kernel.pseudo_data import PseudoData, pseudo_residual
from homodyne_fit.kernel.resident import points_of
from homodyne_fit.kernel.tiles import TILE, TileChunk
from homodyne_fit.model.rates import Curves, Model

__all__ = ["AngleFactors", "chunk_moments", "compile_kernel"]


class PointPrecision(NamedTuple):
    """The precision in which a point is computed, and where its formulas end.

    Below ``small_angle`` in |x| the sines cancel, and a Taylor series is used. exp of
    ``safe_exponent``, and of minus it, does not overflow.
    """

    dtype: Any
    small_angle: float
    safe_exponent: float


# At the small angle the error of the series is 1e-16 and 2e-10, that of its derivative 5e-16 and
# 2e-9.
PRECISIONS = {
    "double": PointPrecision(jnp.float64, 0.25, 300.0),
    "single": PointPrecision(jnp.float32, 1.0, 80.0),
}

# Tiles for which the kernel has room, at least, so that few calls do for many parameters.
FEWEST_JOBS = 16

# For this kernel the first level of optimization is as fast as the third, and compiled in half of
# the time; wide vectors make it faster where a processor has them.
CPU_OPTIONS = {"xla_backend_optimization_level": 1, "xla_cpu_prefer_vector_width": 512}


class AngleFactors(NamedTuple):
    """What distinguishes the K angles, each (K,): f depends on a ΔS and b ΔΓ.

    ``transport`` is a = q², ``shear`` is b = ½ q h cos(φ0 − φ), ``direction`` is ∂b/∂φ0, and
    ``reference`` is subtracted from c2, so that its square does not drown the residuals. Of s sets
    of parameters, ``shear`` and ``direction`` are (s, K).
    """

    transport: NDArray[np.float64]
    shear: NDArray[np.float64]
    direction: NDArray[np.float64]
    reference: NDArray[np.float64]


def chunk_moments(
    curves: Curves,
    factors: AngleFactors,
    chunk: TileChunk,
    sinc_power: int = 2,
    precision: Precision = "double",
    pseudo_data: PseudoData | None = None,
) -> NDArray[np.float64]:
    """Sum the moments of a chunk of tiles.

    Parameters
    ----------
    curves : Curves
        Of all frames, a transport and b shear parameters, at one set of parameters or at s of them.
    factors : AngleFactors
        Likewise.
    chunk : TileChunk
    sinc_power : int
        m above.
    precision : {'double', 'single'}
        Of what is computed for every point, and of its sum along a row or a column of a tile; all
        else, and what O(n) curves give, is double. Moments in single precision keep four digits
        or more of the norms of the two columns that they belong to, if the frames of each tile
        follow each other: products of differences come from sums of products, which lose digits
        where curves change much within a tile.
    pseudo_data : PseudoData, optional
        That take the place of c2.

    Returns
    -------
    (K, m, m) or (s, K, m, m) float64 array
        Moment matrices, with m = a + b + 4 where there is flow and a + 3 where there is none. Where
        the chunk has weights of points, each point counts by its own.
        c2 and its reference differ by a constant, so column c2 means c2 − reference.
    """
    n_tiles, k = chunk.n_tiles, chunk.n_angles
    if curves.transport.ndim == 1:
        curves = Curves(
            curves.transport[None],
            curves.transport_jacobian[None],
            curves.shear[None],
            curves.shear_jacobian[None],
        )
        factors = factors._replace(shear=factors.shear[None], direction=factors.direction[None])
        return chunk_moments(curves, factors, chunk, sinc_power, precision, pseudo_data)[0]
    n_sets, n_u = len(curves.transport), curves.transport_jacobian.shape[2]
    # Every tile with every set of parameters is a job.
    sets, tiles = (each.ravel() for each in np.indices((n_sets, n_tiles)))
    room, found = max(len(chunk.c2), FEWEST_JOBS), []
    loss = None if pseudo_data is None else pseudo_data.loss
    fit = None if pseudo_data is None else _fit_at_tiles(pseudo_data, factors, chunk)
    with jax.enable_x64(True):
        kernel = _kernel(jax.default_backend(), sinc_power, precision, loss)
        c2, weights = points_of(chunk)
        for first in range(0, max(1, len(sets)), room):
            part = slice(first, first + room)
            jobs = _jobs(curves, factors, chunk, sets[part], tiles[part], room)
            sums = kernel(*jobs, c2, len(sets[part]), k, fit, weights)
            found.append([np.asarray(each)[: len(sets[part]), :k] for each in sums])
    of_jobs = (np.concatenate(each) for each in zip(*found, strict=True))
    of_tiles = TileSums(
        *(each.reshape(n_sets, n_tiles, *each.shape[1:]).sum(axis=1) for each in of_jobs)
    )
    n_v = _flow(curves).shape[2]
    total, scale = _moments(of_tiles, n_u, n_v), _column_scales(n_u, n_v, factors)
    return total * scale[..., :, None] * scale[..., None, :]


def compile_kernel(
    model: Model,
    room: tuple[int, int],
    dtype: np.dtype[Any],
    sinc_power: int = 2,
    precision: Precision = "double",
    loss: str | None = None,
    weighted: bool = False,
) -> None:
    """Compile what `chunk_moments` needs for chunks with room for so many tiles and angles.

    With a loss, that of its pseudo-data; with weighted points, that of these.
    """
    nothing = np.zeros((0, TILE), dtype=np.int64)
    c2 = np.zeros((*room, TILE, TILE), dtype)
    chunk = TileChunk(nothing, nothing, c2, 0, np.zeros(c2.shape) if weighted else None)
    none, a, b = np.zeros(0), len(model.transport_parameters), len(model.shear_parameters)
    flat = Curves(np.zeros(1), np.zeros((1, a)), np.zeros(1), np.zeros((1, b)))
    factors, one = AngleFactors(none, none, none, none), np.zeros(1)
    pseudo_data = loss and PseudoData(loss, none, 1.0, one, one, none, none, none)
    chunk_moments(flat, factors, chunk, sinc_power, precision, pseudo_data or None)


class _FitAtTiles(NamedTuple):
    """The fit that pseudo-data are made of.

    Attributes
    ----------
    integrals : (2, 2, B, T) array
        S and Γ at rows and columns of the tiles.
    factors : (5, K') array
        Shear, contrast, offset less the reference, scale and gain of the angles.
    """

    integrals: Any
    factors: Any


def _fit_at_tiles(pseudo_data: PseudoData, factors: AngleFactors, chunk: TileChunk) -> _FitAtTiles:
    d, (room, angles) = pseudo_data, chunk.room
    frames = np.minimum(np.stack([chunk.rows, chunk.cols]), len(d.transport) - 1)
    integrals = np.zeros((2, 2, room, frames.shape[2]))
    integrals[:, :, : chunk.n_tiles] = d.transport[frames], d.shear[frames]
    of_angles = np.zeros((5, angles))
    gains = np.full(chunk.n_angles, d.gain)
    rows = d.shear_factor, d.contrast, d.offset - factors.reference, d.scale, gains
    of_angles[:, : chunk.n_angles] = rows
    return _FitAtTiles(integrals, of_angles)


class Jobs(NamedTuple):
    """Tiles that the kernel sums, each with curves of its own; it has room for J.

    Attributes
    ----------
    integrals, u, v : (2, 2, J, T), (2, J, T, a) and (2, J, T, b) arrays
        S and Γ, and the curves of the module's text, at rows and columns of the tiles.
    ordered : (J,) bool
        Whether all rows of a tile precede its columns.
    factors : (J, 3, K') array
        Transport, shear and reference of the angles.
    tiles : (J,) int
        Which of the chunk's.
    """

    integrals: Any
    u: Any
    v: Any
    ordered: Any
    factors: Any
    tiles: Any


def _jobs(
    curves: Curves,
    factors: AngleFactors,
    chunk: TileChunk,
    sets: NDArray[np.int64],
    tiles: NDArray[np.int64],
    room: int,
) -> Jobs:
    """Jobs of these sets of parameters and tiles, (j,) each; what comes after them is arbitrary."""
    frames = np.stack([chunk.rows[tiles], chunk.cols[tiles]])
    at = sets[:, None], np.minimum(frames, curves.transport.shape[1] - 1)

    def gathered(curve: NDArray[np.float64]) -> NDArray[np.float64]:
        at_tiles = np.zeros((2, room, frames.shape[2], *curve.shape[2:]))
        at_tiles[:, : len(tiles)] = curve[at]
        return at_tiles

    u, v = gathered(curves.transport_jacobian), gathered(_flow(curves))
    integrals = np.stack([gathered(curves.transport), gathered(curves.shear)])
    of_angles = np.zeros((room, 3, chunk.c2.shape[1]))
    of_angles[: len(tiles), 0, : chunk.n_angles] = factors.transport
    of_angles[: len(tiles), 1, : chunk.n_angles] = factors.shear[sets]
    of_angles[: len(tiles), 2, : chunk.n_angles] = factors.reference
    ordered, of_chunk = np.zeros(room, dtype=bool), np.zeros(room, dtype=np.int64)
    of_chunk[: len(tiles)] = tiles
    ordered[: len(tiles)] = chunk.rows[tiles, -1] <= chunk.cols[tiles, 0]
    # Only differences of u and v count: an origin inside the tile keeps their digits.
    return Jobs(integrals, u - u[1, :, :1], v - v[1, :, :1], ordered, of_angles, of_chunk)


class TileSums(NamedTuple):
    """Sums over a tile, of every angle, without the factors of the derivatives.

    Matrices are f², f f_x, f_x², f, f c2, f_x, f_x c2, numbered in this order. Curves x have
    values x_i at the rows of a tile and x_j at its columns.

    a and b count the columns of u and v, Γ among those of v.

    ``uu`` (K, a²), ``uv`` (K, ab) and ``vv`` (K, b²) are sums of w_ij (x_i y_i + x_j y_j) for f²,
    f f_x and f_x². ``linear`` (K, 7, a + b + 1) has those of w_ij (x_j - x_i) of all
    matrices for u and v, and in its last column those of w_ij. ``crossed`` (K, 3a + b, a + 2b)
    has the rows Σ_i u_i f²_ij, Σ_i u_i (f f_x)_ij, Σ_j (f f_x)_ij u_j and Σ_i v_i (f_x²)_ij, times
    u_j, v_j and v_i. ``data`` (K, 3) has the sums of c2², c2 and 1.
    """

    uu: Any
    uv: Any
    vv: Any
    linear: Any
    crossed: Any
    data: Any


@functools.cache
def _kernel(
    backend: str, sinc_power: int, precision: Precision, loss: str | None
) -> Callable[..., TileSums]:
    """`_sums_of_tiles`, compiled for a kind of device."""
    on_cpu, of_point = backend == "cpu", PRECISIONS[precision]
    return jax.jit(
        functools.partial(
            _sums_of_tiles, sinc_power=sinc_power, of_point=of_point, loss=loss, one_by_one=on_cpu
        ),
        compiler_options=CPU_OPTIONS if on_cpu else None,
    )


def _sums_of_tiles(
    integrals: jax.Array,
    u: jax.Array,
    v: jax.Array,
    ordered: jax.Array,
    factors: jax.Array,
    tiles: jax.Array,
    c2: jax.Array,
    n_jobs: int,
    n_angles: int,
    fit: _FitAtTiles | None,
    weights: jax.Array | None,
    *,
    sinc_power: int,
    of_point: PointPrecision,
    loss: str | None,
    one_by_one: bool,
) -> TileSums:
    """Sums of every job, with a leading axis J.

    Parameters
    ----------
    integrals, u, v, ordered, factors, tiles
        As in `Jobs`.
    c2 : (B, K, T, T) array
    n_jobs, n_angles : int
        How many of the J and of the K are to be summed; the others are arbitrary.
    fit : _FitAtTiles or None
        That of pseudo-data; None for c2 as it is.
    weights : (B, K, T, T) array or None
    sinc_power : int
    of_point : PointPrecision
    loss : str or None
        Of the pseudo-data.
    one_by_one : bool
        Whether to keep a processor's cache busy with a tile and an angle at a time, or a GPU with
        all of them.
    """
    j_max, k_max, t, n_u, n_v = len(ordered), c2.shape[1], c2.shape[2], u.shape[3], v.shape[3]

    def of_job(i: jax.Array) -> TileSums:
        tile = Tile(integrals[:, :, i], u[:, i], v[:, i], ordered[i], sinc_power, of_point)
        at, of_fit = tiles[i], None
        if fit is not None and loss is not None:
            curves = fit.integrals[:, :, at]
            of_tile = Tile(curves, u[:, i], v[:, i], ordered[i], sinc_power, of_point)
            tile.pseudo, of_fit = _PseudoTile(of_tile, loss), fit.factors.T
        if one_by_one:
            shapes = (7, 2 * t), (3 * n_u + n_v, t), (3,)
            each = one_after_the_other(
                n_angles,
                lambda k: tile.sums(
                    factors[i, :, k],
                    c2[at, k],
                    None if weights is None else weights[at, k],
                    None if of_fit is None else of_fit[k],
                ),
                tuple(jnp.zeros((k_max, *shape)) for shape in shapes),
            )
        else:
            own = None if weights is None else weights[at]
            each = jax.vmap(tile.sums)(factors[i].T, c2[at], own, of_fit)
        return tile.contracted(*each)

    def one_after_the_other(n: int, function: Callable[[jax.Array], Any], nothing: Any) -> Any:
        def add(i: jax.Array, found: Any) -> Any:
            return jax.tree.map(lambda of_all, of_one: of_all.at[i].set(of_one), found, function(i))

        return jax.lax.fori_loop(0, n, add, nothing)

    if not one_by_one:
        return jax.vmap(of_job)(jnp.arange(j_max))
    return one_after_the_other(
        n_jobs,
        of_job,
        TileSums(
            jnp.zeros((j_max, k_max, n_u * n_u)),
            jnp.zeros((j_max, k_max, n_u * n_v)),
            jnp.zeros((j_max, k_max, n_v * n_v)),
            jnp.zeros((j_max, k_max, 7, n_u + n_v + 1)),
            jnp.zeros((j_max, k_max, 3 * n_u + n_v, n_u + 2 * n_v)),
            jnp.zeros((j_max, k_max, 3)),
        ),
    )


class Tile:
    """One tile: what its angles share, and their sums.

    Parameters
    ----------
    integrals, u, v : (2, 2, T), (2, T, a) and (2, T, b) arrays
    ordered : () bool
    sinc_power : int
    of_point : PointPrecision

    Attributes
    ----------
    pseudo : _PseudoTile or None
        Makes pseudo-data of c2.
    """

    pseudo: _PseudoTile | None = None

    def __init__(
        self,
        integrals: jax.Array,
        u: jax.Array,
        v: jax.Array,
        ordered: jax.Array,
        sinc_power: int,
        of_point: PointPrecision,
    ) -> None:
        self.s, self.g = integrals
        self.u, self.v, self.ordered = u, v, ordered
        self.sinc_power, self.of_point = sinc_power, of_point
        # For sums of products, in the precision of a point everywhere: what has to cancel does.
        self.rounded = tuple(self._point(curve).astype(jnp.float64) for curve in (u, v))
        row, col = self.g
        difference = col - row[:, None]
        # Dividing costs as much as the rest, so it is done once for all angles.
        inverse = 1 / jnp.where(difference == 0, 1.0, difference)
        self.difference, self.inverse = self._point(difference), self._point(inverse)
        self.apart = (col[0] > row[-1]) == (col[-1] > row[0])
        self.nearest = jnp.minimum(jnp.abs(col[0] - row[-1]), jnp.abs(col[-1] - row[0]))

    def sums(
        self,
        factors: jax.Array,
        c2: jax.Array,
        weights: jax.Array | None,
        of_fit: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Sums over rows and over columns for one angle: (7, 2T), (3a + b, T) and (3,).

        Every sum is a product of a matrix and a vector: of all ways to write them down, the one
        that is fast on a processor.
        """
        transport, shear, reference = factors
        counted = jnp.isfinite(c2)
        present = self._point(counted)
        weight = present if weights is None else jnp.where(counted, self._point(weights), 0.0)
        c = self._point(c2) - self._point(reference)
        if self.pseudo is not None and of_fit is not None:
            spread = None if weights is None else jax.lax.rsqrt(weight)
            c = self.pseudo.values(c, transport, self._point(of_fit), spread)
        c = jnp.where(counted, c, 0.0)
        f, fx = self.decay(transport, shear, present, has_flow=self.v.shape[2] > 0)
        wf, wfx, wc = (f, fx, c) if weights is None else (weight * f, weight * fx, weight * c)
        ff, ffx, fxfx = f * wf, f * wfx, fx * wfx
        ones, (u, v) = self._point(jnp.ones(len(c2))), map(self._point, self.rounded)
        by_row_and_col = [
            jnp.concatenate([_product(w, ones), _product(ones, w)])
            for w in (ff, ffx, fxfx, wf, wf * c, wfx, wfx * c)
        ]
        crossed = [
            *(_product(curve, ff) for curve in u[0].T),
            *(_product(curve, ffx) for curve in u[0].T),
            *(_product(ffx, curve) for curve in u[1].T),
            *(_product(curve, fxfx) for curve in v[0].T),
        ]
        data = [jnp.sum(_product(w, ones)) for w in (wc * c, wc, weight)]
        return jnp.stack(by_row_and_col), jnp.stack(crossed), jnp.stack(data)

    def decay(
        self, transport: jax.Array, shear: jax.Array, weight: jax.Array, *, has_flow: bool
    ) -> tuple[jax.Array, jax.Array]:
        """f and f_x of one angle, (T, T), times the weights."""
        m, exponential = self.sinc_power, weight * self._exponential(transport)
        sinc, slope = self._sinc(shear) if has_flow else (1.0, 0.0)
        return exponential * sinc**m, m * exponential * sinc ** (m - 1) * slope

    def contracted(self, sums: jax.Array, crossed: jax.Array, data: jax.Array) -> TileSums:
        """What `sums` gave for all angles, times the curves."""

        def squares(x: jax.Array, y: jax.Array) -> jax.Array:
            return (x[..., None] * y[:, :, None]).reshape(2 * x.shape[1], -1)

        (u_row, u_col), (v_row, v_col) = self.u, self.v
        u, v = self.rounded
        ones = jnp.ones((len(u_row), 1))
        differences = jnp.concatenate(
            [
                jnp.concatenate([-u_row, -v_row, ones], axis=1),
                jnp.concatenate([u_col, v_col, 0 * ones], axis=1),
            ]
        )
        return TileSums(
            sums[:, 0] @ squares(u, u),
            sums[:, 1] @ squares(u, v),
            sums[:, 2] @ squares(v, v),
            sums @ differences,
            crossed @ jnp.concatenate([u[1], v[1], v[0]], axis=1),
            data,
        )

    def _exponential(self, transport: jax.Array) -> jax.Array:
        """exp(-|S_j - S_i|), as a product of O(n) factors where that cannot overflow."""
        row, col = transport * self.s
        point = self._point
        return jax.lax.cond(
            self.ordered | (jnp.abs(col[-1] - row[0]) < self.of_point.safe_exponent),
            lambda: point(jnp.exp(row - col[0]))[:, None] * point(jnp.exp(col[0] - col)),
            lambda: jnp.exp(-point(jnp.abs(col - row[:, None]))),
        )

    def _sinc(self, shear: jax.Array) -> tuple[jax.Array, jax.Array]:
        """sinc and its derivative at x = b (Γ_j - Γ_i), Γ being monotonic."""
        row, col = shear * self.g
        point, small_angle = self._point, self.of_point.small_angle
        sin_row, cos_row = point(jnp.sin(row))[:, None], point(jnp.cos(row))[:, None]
        sin_col, cos_col = point(jnp.sin(col)), point(jnp.cos(col))

        def by_division() -> tuple[jax.Array, jax.Array]:
            inverse = self.inverse * point(1 / shear)
            sinc = (sin_col * cos_row - cos_col * sin_row) * inverse
            return sinc, (cos_col * cos_row + sin_col * sin_row - sinc) * inverse

        def with_series() -> tuple[jax.Array, jax.Array]:
            x = point(shear) * self.difference
            x2 = x * x
            small = x2 < small_angle**2
            sinc, slope = by_division()
            series = 1 - x2 / 6 * (1 - x2 / 20 * (1 - x2 / 42 * (1 - x2 / 72 * (1 - x2 / 110))))
            slopes = -x / 3 * (1 - x2 / 10 * (1 - x2 / 28 * (1 - x2 / 54 * (1 - x2 / 88))))
            return jnp.where(small, series, sinc), jnp.where(small, slopes, slope)

        far = self.apart & (self.nearest * jnp.abs(shear) >= small_angle)
        return jax.lax.cond(far, by_division, with_series)

    def _point(self, x: jax.Array) -> jax.Array:
        """In the precision of a point."""
        return x.astype(self.of_point.dtype)


class _PseudoTile(NamedTuple):
    """One tile of pseudo-data.

    Attributes
    ----------
    fit : Tile
        Of the integrals of the fit.
    loss : str
    """

    fit: Tile
    loss: str

    def values(
        self, c: jax.Array, transport: jax.Array, factors: jax.Array, spread: jax.Array | None
    ) -> jax.Array:
        """Pseudo-data (T, T) of one angle, like its c2 less the reference.

        `factors` are those of `_FitAtTiles`; `spread` is 1/√w of points that have weights w.
        """
        shear, contrast, offset, scale, gain = factors
        scale = scale if spread is None else scale * spread
        one, has_flow = jnp.ones((), c.dtype), self.fit.v.shape[2] > 0
        fitted = offset + contrast * self.fit.decay(transport, shear, one, has_flow=has_flow)[0]
        return fitted + pseudo_residual(self.loss, c - fitted, scale, gain)


def _product(x: jax.Array, y: jax.Array) -> jax.Array:
    """Of a matrix and a vector, handed on in double precision.

    HIGHEST, as GPUs would otherwise round the factors to 10 bits.
    """
    return jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST).astype(jnp.float64)


def _moments(sums: TileSums, a: int, b: int) -> NDArray[np.float64]:
    """Moment matrices (…, K, m, m), without the factors of the derivatives.

    The derivatives of f are −f (u_j − u_i) and f_x (v_j − v_i).
    """
    angles = sums.data.shape[:-1]
    u, v, rest = slice(a), slice(a, a + b), slice(a + b, a + b + 3)
    uu, uv = sums.uu.reshape(*angles, a, a), sums.uv.reshape(*angles, a, b)
    vv = sums.vv.reshape(*angles, b, b)
    ff_u, ffx_u, ffx_u_col, fxfx_v = np.split(sums.crossed, [a, 2 * a, 3 * a], axis=-2)
    uu_, vv_ = ff_u[..., :a], fxfx_v[..., a : a + b]
    moments = np.empty((*angles, a + b + 3, a + b + 3))
    moments[..., u, u] = uu - uu_ - uu_.mT
    moments[..., u, v] = ffx_u[..., a : a + b] + ffx_u_col[..., a + b :] - uv
    moments[..., v, v] = vv - vv_ - vv_.mT
    moments[..., u, rest] = -sums.linear[..., [0, 3, 4], :a].mT
    moments[..., v, rest] = sums.linear[..., [1, 5, 6], a : a + b].mT
    moments[..., v, u] = moments[..., u, v].mT
    moments[..., rest, : a + b] = moments[..., : a + b, rest].mT
    (ff, f, fc), (cc, c, n) = (
        np.moveaxis(each, -1, 0) for each in (sums.linear[..., [0, 3, 4], -1], sums.data)
    )
    of_rest = np.array([[ff, f, fc], [f, n, c], [fc, c, cc]])
    moments[..., rest, rest] = np.moveaxis(of_rest, (0, 1), (-2, -1))
    return moments


def _flow(curves: Curves) -> NDArray[np.float64]:
    """Derivatives of Γ, and Γ itself for phi0; no columns without flow."""
    if not curves.shear_jacobian.size:
        return curves.shear_jacobian
    return np.concatenate([curves.shear_jacobian, curves.shear[..., None]], axis=-1)


def _column_scales(n_u: int, n_v: int, factors: AngleFactors) -> NDArray[np.float64]:
    """Factor of each angle on each column of its moments: (…, K, m)."""
    transport, shear, direction = np.broadcast_arrays(*factors[:3])
    flow = [shear] * (n_v - 1) + [direction] * (n_v > 0)
    return np.stack([transport] * n_u + flow + [np.ones_like(transport)] * 3, axis=-1)
