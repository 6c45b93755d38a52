r"""Curve fits with local parameters, which have a separate value for each group of points.

There are p = S + G L parameters: S are shared, and L belong to each of G groups. A point depends on
m = S + L of them, so its row of the Jacobian has m columns. The sums of a group are the triangular
factor R of its rows, with the local columns first and the residual r last,

.. math:: Q_g^T [J_l\; J_s\; r] = \begin{pmatrix} A_g & B_g & c_g \\ & C_g & d_g \end{pmatrix}.

The factor of all groups has the shape of an arrow: it holds A_g, B_g and c_g of one group below
those of another, and at the bottom the factor of the stacked C_g, d_g of all groups.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.normal_equations import FactoredEquations
from nlsq_stratified.objectives.curve import ModelObjective, ResidualAndJacobian, counted_rows
from nlsq_stratified.objectives.loss import LOSSES, robust

__all__ = ["GroupedFactors", "LocalObjective", "LocalParameters"]

# Largest number of points of a group that are factored at a time.
MOST_ROWS = 256

# Number of factors of a group that are merged at a time.
MERGED = 8


@dataclass(frozen=True)
class LocalParameters:
    """Parameters of a model that have a separate value for each group of points.

    The model is written for one group, ``f(x, *params)``, and works point by point: it gets the x
    of a chunk, and for each local parameter an array with a value for each point. In `p0` and in
    the result, a local parameter has one value for each group, in sequence: ``f(x, rate, offset)``
    with a local offset and three groups has the parameters rate, offset[0], offset[1], offset[2].

    Parameters
    ----------
    names : tuple of str
        Names of the local parameters in the signature of the model.
    group : callable
        ``group(x)`` returns the number of the group, 0 to ``n_groups - 1``, for each point of a
        chunk; for example ``lambda x: x[:, 1]``.
    n_groups : int
    """

    names: tuple[str, ...]
    group: Callable[[Any], Any]
    n_groups: int

    def parameters(self, f: Callable[..., Any]) -> list[str]:
        """Names of all parameters (p,) of a fit of f."""
        own = self.signature(f)
        if self.n_groups < 1:
            raise ValueError(f"n_groups must be positive, got {self.n_groups}")
        return [
            name
            for parameter in own
            for name in (
                [f"{parameter}[{g}]" for g in range(self.n_groups)]
                if parameter in self.names
                else [parameter]
            )
        ]

    def signature(self, f: Callable[..., Any]) -> list[str]:
        """Names of the parameters of f, shared and local (m,)."""
        _, *parameters = inspect.signature(f).parameters.values()
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            raise ValueError("local parameters have names: the model must not take *params")
        own = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        if missing := [name for name in self.names if name not in own]:
            raise ValueError(
                f"the model has no parameter {', '.join(missing)}; it has {', '.join(own)}"
            )
        return own

    def columns(self, f: Callable[..., Any]) -> NDArray[np.int64]:
        """Indices (G, m) of the parameters of each group among all p, local ones first."""
        where, at = {}, 0
        for name in self.signature(f):
            local = name in self.names
            where[name] = np.arange(at, at + self.n_groups) if local else at
            at += self.n_groups if local else 1
        ordered = sorted(where, key=lambda name: name not in self.names)
        return np.stack(np.broadcast_arrays(*(where[name] for name in ordered)), axis=1)

    def groups_of(self, x: NDArray[Any], n_points: int | None = None) -> NDArray[np.int64]:
        """Group of each point of a chunk; `n_points` checks the length of the caller's answer."""
        labels = np.asarray(self.group(x))
        allowed = f"group(x) must give each point a number from 0 to {self.n_groups - 1}, and gave"
        if labels.ndim != 1 or n_points not in (None, len(labels)):
            for_points = "" if n_points is None else f" for {n_points} points"
            raise ValueError(f"{allowed} an array of shape {labels.shape}{for_points}")
        groups = labels.astype(np.int64)
        wrong = (groups != labels) | (groups < 0) | (groups >= self.n_groups)
        if np.any(wrong):
            raise ValueError(f"{allowed} {labels[wrong][0]}")
        return groups


@dataclass(frozen=True, eq=False)
class GroupedFactors:
    """Sums over the points of each of G groups; the sums of each group are added by QR.

    Attributes
    ----------
    cost : float
    triangles : (G, m + 1, m + 1) float64
        R of the QR factorisation of ``[J_local, J_shared, r]`` of each group.
    n_points : int
    majorants : (G, m) float64
        The majorant of each group; see `FactoredEquations`.
    """

    cost: float
    triangles: NDArray[np.float64]
    n_points: int
    majorants: NDArray[np.float64]

    def __add__(self, other: GroupedFactors) -> GroupedFactors:
        return GroupedFactors(
            self.cost + other.cost,
            _triangles(np.concatenate([self.triangles, other.triangles], axis=1)),
            self.n_points + other.n_points,
            self.majorants + other.majorants,
        )

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.cost) and np.all(np.isfinite(self.triangles)))

    def together(self, columns: NDArray[np.int64], n_local: int) -> FactoredEquations:
        """The equations of all groups.

        Parameters
        ----------
        columns : (G, m) array of int
            Indices of the parameters of each group among all p, local ones first.
        n_local : int
            L, the number of local parameters of a group.
        """
        p = int(columns.max()) + 1
        width = p - len(columns) * n_local + 1
        triangle = np.zeros((p + 1, p + 1))
        for g, (own, factor) in enumerate(zip(columns, self.triangles, strict=True)):
            rows = slice(g * n_local, (g + 1) * n_local)
            triangle[rows, own] = factor[:n_local, :-1]
            triangle[rows, -1] = factor[:n_local, -1]
        rest = self.triangles[:, n_local:, n_local:].reshape(-1, width)
        shared = np.append(columns[0, n_local:], p)
        triangle[p + 1 - width :, shared] = _triangles(rest)
        majorant = np.zeros(p)
        np.add.at(majorant, columns, self.majorants)
        return FactoredEquations(self.cost, triangle, self.n_points, majorant)


@dataclass(frozen=True, eq=False)
class LocalObjective(ModelObjective):
    """`nlsq_stratified.CurveObjective` for a model with local parameters.

    The time of a pass depends on the parameters of one group, not on all parameters.
    """

    f: Callable[..., Any]
    local: LocalParameters
    loss: str = "linear"
    f_scale: float = 1.0
    jac: Callable[..., Any] | None = None
    pad: bool = False
    rows: ResidualAndJacobian = field(init=False, repr=False)

    def __post_init__(self) -> None:
        model = _Shifted(self.f, self._is_local)
        jacobian = None if self.jac is None else _ShiftedJacobian(self.jac, self._is_local)
        object.__setattr__(self, "rows", ResidualAndJacobian(model, jacobian))

    @functools.cached_property
    def _columns(self) -> NDArray[np.int64]:
        return self.local.columns(self.f)

    @functools.cached_property
    def _is_local(self) -> tuple[bool, ...]:
        return tuple(name in self.local.names for name in self.local.signature(self.f))

    def chunk_sums(
        self, params: NDArray[np.float64], chunk: tuple[NDArray[Any], ...]
    ) -> GroupedFactors:
        """Cost and triangular factors of one chunk at `params` (p,)."""
        n_points = len(chunk[1])
        x, *others = chunk = self.padded(params, chunk) if self.pad else chunk
        groups = self.local.groups_of(x, len(chunk[1]))
        tiles, tile_groups = _tiles(groups, self.local.n_groups, len(self._is_local) + 1)
        with jax.enable_x64(True):
            arrays = (jnp.asarray(array, jnp.float64) for array in others)
            rows = self.rows(*self._of_groups(params, x, groups), *arrays)
            sums = _tile_sums(self.loss, self.f_scale, n_points, jnp.asarray(tiles), *rows)
            cost, factors, squares = jax.device_get(sums)
        used = len(tile_groups)
        majorants = np.zeros((self.local.n_groups, squares.shape[1]))
        np.add.at(majorants, tile_groups, squares[:used])
        triangles = np.zeros((self.local.n_groups, *factors.shape[1:]))
        factors, tile_groups = _merged(factors[:used], tile_groups)
        triangles[tile_groups] = factors
        return GroupedFactors(float(cost), triangles, n_points, majorants)

    def normal_equations(
        self, params: NDArray[np.float64], sums: GroupedFactors
    ) -> FactoredEquations:
        """The equations of all groups, for all parameters (p,)."""
        return sums.together(self._columns, sum(self._is_local))

    def curve(
        self, params: NDArray[np.float64], x: ArrayLike, n_points: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The model at the points of x, (n,), and its derivatives (n, p) by all parameters."""
        values, own = super().curve(params, x, n_points)
        jacobian = np.zeros((len(values), len(params)))
        columns = self._columns[self._groups(x)]
        np.put_along_axis(jacobian, columns, own, axis=1)
        return values, jacobian

    def _groups(self, x: ArrayLike) -> NDArray[np.int64]:
        return self.local.groups_of(np.asarray(x))

    def _arguments(self, params: NDArray[np.float64], x: ArrayLike) -> tuple[Any, Any]:
        return self._of_groups(params, x, self._groups(x))

    def _of_groups(
        self, params: NDArray[np.float64], x: ArrayLike, groups: NDArray[np.int64]
    ) -> tuple[Any, Any]:
        """The arguments of `rows`: shifts of zero, and the points with their parameters."""
        of_groups = jnp.asarray(params[self._columns], jnp.float64)
        points = _Points(jnp.asarray(x, jnp.float64), jnp.asarray(groups), of_groups)
        return jnp.zeros(len(self._is_local)), points


class _Points(NamedTuple):
    """Points of several groups, with the parameters of their groups.

    Attributes
    ----------
    x : array
        In the caller's shape.
    groups : (N,) array of int
        Group of each point.
    params : (G, m) array
        Parameters of each group, local ones first.
    """

    x: jax.Array
    groups: jax.Array
    params: jax.Array


@dataclass(frozen=True)
class _Shifted:
    """The model as a function of shifts of its m parameters, local ones first.

    All points share a shift, so the derivative by the shift is, at each point, the derivative by
    the parameter of the group.
    """

    f: Callable[..., Any]
    is_local: tuple[bool, ...]

    def __call__(self, points: _Points, *shifts: jax.Array) -> jax.Array:
        return self.f(points.x, *self.arguments(points, shifts))

    @property
    def order(self) -> list[int]:
        """Positions in the signature of the parameters, local ones first."""
        return sorted(range(len(self.is_local)), key=lambda i: not self.is_local[i])

    def arguments(self, points: _Points, shifts: Sequence[jax.Array]) -> list[jax.Array]:
        """Arguments of f in the order of the signature: arrays if local, numbers if shared."""
        params = points.params
        values: list[Any] = [None] * len(shifts)
        for k, i in enumerate(self.order):
            values[i] = (params[points.groups, k] if self.is_local[i] else params[0, k]) + shifts[k]
        return values


class _ShiftedJacobian(_Shifted):
    """The derivatives (N, m) of the model as a function of the shifts."""

    def __call__(self, points: _Points, *shifts: jax.Array) -> jax.Array:
        return jnp.asarray(super().__call__(points, *shifts))[:, np.array(self.order)]


@functools.partial(jax.jit, static_argnums=0)
def _tile_sums(
    loss: str,
    f_scale: float,
    n_points: int,
    tiles: jax.Array,
    residual: jax.Array,
    jacobian: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Cost, factors (B, m + 1, m + 1) and majorants (B, m) of tiles of points.

    Only the first `n_points` points count.
    """
    residual, jacobian = counted_rows(n_points, residual, jacobian)
    cost, squares = 0.5 * residual @ residual, jacobian**2
    if (function := LOSSES[loss]) is not None:
        cost, residual_factor, jacobian_factor, slope = robust(function, f_scale, residual)
        squares = slope[:, None] * squares
        residual, jacobian = residual * residual_factor, jacobian * jacobian_factor[:, None]
    columns = jnp.concatenate([jacobian, residual[:, None]], axis=1)
    # Points that are missing in a tile have numbers past the last point, and become rows of zeros.
    rows = columns.at[tiles].get(mode="fill", fill_value=0.0)
    sums = squares.at[tiles].get(mode="fill", fill_value=0.0).sum(axis=1)
    return cost, jnp.linalg.qr(rows, mode="r"), sums


def _tiles(
    groups: NDArray[np.int64], n_groups: int, n_columns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut N points into tiles of one group each.

    Returns
    -------
    tiles : (B, rows) array
        Numbers of points; N in places without a point. B depends on N alone, so that the last
        tiles may be empty.
    tile_groups : (used,) array
        Group of each tile that is not empty, ascending.
    """
    n = len(groups)
    # With this number of rows, at most a quarter of the rows of all tiles have no point.
    rows = max(n_columns, min(MOST_ROWS, n // (4 * n_groups)))
    counts = np.bincount(groups, minlength=n_groups)
    needed = -(-counts // rows)
    order = np.argsort(groups.astype(np.min_scalar_type(n_groups)), kind="stable")
    sorted_groups = groups[order]
    rank = np.arange(n) - (np.cumsum(counts) - counts)[sorted_groups]
    tiles = np.full((n // rows + min(n, n_groups)) * rows, n)
    tiles[(np.cumsum(needed) - needed)[sorted_groups] * rows + rank] = order
    return tiles.reshape(-1, rows), np.repeat(np.arange(n_groups), needed)


def _merged(
    factors: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Merge successive factors with the same label into one factor."""
    while True:
        starts = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
        if len(starts) == len(labels):
            return factors, labels
        rank = np.arange(len(labels)) - np.repeat(starts, np.diff(np.append(starts, len(labels))))
        place = rank % MERGED
        stacks = np.zeros((np.count_nonzero(place == 0), MERGED, *factors.shape[1:]))
        stacks[np.cumsum(place == 0) - 1, place] = factors
        factors = _triangles(stacks.reshape(len(stacks), -1, factors.shape[2]))
        labels = labels[place == 0]


def _triangles(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Triangular factors (..., n, n) of rows (..., k, n), k ≥ n."""
    if np.all(np.isfinite(rows)):
        return np.linalg.qr(rows, mode="r")
    return np.full((*rows.shape[:-2], rows.shape[-1], rows.shape[-1]), np.nan)
