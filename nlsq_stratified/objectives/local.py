r"""Curve fits in which each group of points has parameters of its own.

Of p = S + G L parameters, S shared and L for each of G groups, a point touches m = S + L; so its
row of the Jacobian needs m columns, and the sums of a group are the triangular factor R of its
rows, local columns first and the residual r last,

.. math:: Q_g^T [J_l\; J_s\; r] = \begin{pmatrix} A_g & B_g & c_g \\ & C_g & d_g \end{pmatrix}.

The factor of all groups together has the shape of an arrow: A_g, B_g and c_g as they are, below
one another, and under them the factor of all C_g, d_g stacked.
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
from nlsq_stratified.objectives.curve import ModelObjective, ResidualAndJacobian
from nlsq_stratified.objectives.loss import LOSSES, robust

__all__ = ["GroupedFactors", "LocalObjective", "LocalParameters"]

# Most points of a group that are factored at a time, and factors that are merged at a time.
MOST_ROWS, MERGED = 256, 8


@dataclass(frozen=True)
class LocalParameters:
    """Which parameters of a model every group of points has its own values of.

    The model is written for one group, ``f(x, *params)``, and is elementwise: called with the x
    of a chunk, and with an array, a value for each point, for each of the local parameters. In
    `p0` and the result a local parameter is followed by its other groups' values:
    ``f(x, rate, offset)`` with a local offset of three groups has the parameters rate, offset[0],
    offset[1], offset[2].

    Parameters
    ----------
    names : tuple of str
        Of the local parameters, as the signature of the model has them.
    group : callable
        ``group(x)`` is the number of the group, 0 to ``n_groups - 1``, of each point of a chunk,
        such as ``lambda x: x[:, 1]``.
    n_groups : int
    """

    names: tuple[str, ...]
    group: Callable[[Any], Any]
    n_groups: int

    def parameters(self, f: Callable[..., Any]) -> list[str]:
        """Names of all parameters (p,) of a fit of f.

        Raises
        ------
        ValueError
            If f lacks a parameter named here, takes any number of them, or there is no group.
        """
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
        """Where the parameters of a group are among all, (G, m): local ones first."""
        where, at = {}, 0
        for name in self.signature(f):
            local = name in self.names
            where[name] = np.arange(at, at + self.n_groups) if local else at
            at += self.n_groups if local else 1
        ordered = sorted(where, key=lambda name: name not in self.names)
        return np.stack(np.broadcast_arrays(*(where[name] for name in ordered)), axis=1)

    def groups_of(self, x: NDArray[Any], n_points: int | None = None) -> NDArray[np.int64]:
        """Group of each of the n points of a chunk, or of however many x has.

        Raises
        ------
        ValueError
            If one is not a number of a group.
        """
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
    """Sums over the points of each of G groups; they add by QR, group by group.

    Attributes
    ----------
    cost : float
    triangles : (G, m + 1, m + 1) float64
        R of the QR factorisation of ``[J_local, J_shared, r]`` of each group.
    n_points : int
    majorants : (G, m) float64
        As in `FactoredEquations`, of each group.
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
        """Whether every number is."""
        return bool(np.isfinite(self.cost) and np.all(np.isfinite(self.triangles)))

    def together(self, columns: NDArray[np.int64], n_local: int) -> FactoredEquations:
        """The factor of all groups, an arrow.

        Parameters
        ----------
        columns : (G, m) array of int
            Where the parameters of each group are among all p.
        n_local : int
            L, how many of a group's parameters come first and are its own.
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
    """`nlsq_stratified.CurveObjective` of a model with local parameters.

    Its cost follows the parameters that a point touches, not all of them.
    """

    f: Callable[..., Any]
    local: LocalParameters
    loss: str = "linear"
    f_scale: float = 1.0
    jac: Callable[..., Any] | None = None
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
        x, *others = chunk
        groups = self.local.groups_of(x, len(chunk[1]))
        tiles, tile_groups = _tiles(groups, self.local.n_groups, len(self._is_local) + 1)
        with jax.enable_x64(True):
            arrays = (jnp.asarray(array, jnp.float64) for array in others)
            rows = self.rows(*self._of_groups(params, x, groups), *arrays)
            sums = _tile_sums(self.loss, self.f_scale, jnp.asarray(tiles), *rows)
            cost, factors, squares = jax.device_get(sums)
        used = len(tile_groups)
        majorants = np.zeros((self.local.n_groups, squares.shape[1]))
        np.add.at(majorants, tile_groups, squares[:used])
        triangles = np.zeros((self.local.n_groups, *factors.shape[1:]))
        factors, tile_groups = _merged(factors[:used], tile_groups)
        triangles[tile_groups] = factors
        return GroupedFactors(float(cost), triangles, len(chunk[1]), majorants)

    def normal_equations(
        self, params: NDArray[np.float64], sums: GroupedFactors
    ) -> FactoredEquations:
        """The groups together, in all parameters (p,)."""
        return sums.together(self._columns, sum(self._is_local))

    def curve(
        self, params: NDArray[np.float64], x: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The model at the points of x, (n,), and its derivatives (n, p) by all parameters."""
        values, own = super().curve(params, x)
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
        """What `rows` takes: no shift of parameters, and points with those of their groups."""
        of_groups = jnp.asarray(params[self._columns], jnp.float64)
        points = _Points(jnp.asarray(x, jnp.float64), jnp.asarray(groups), of_groups)
        return jnp.zeros(len(self._is_local)), points


class _Points(NamedTuple):
    """What the model of one group needs of points that are of many.

    x as the caller has it, the group of each point (N,), and the parameters of each group (G, m),
    local ones first.
    """

    x: jax.Array
    groups: jax.Array
    params: jax.Array


@dataclass(frozen=True)
class _Shifted:
    """The model as a function of shifts of its m parameters, local ones first.

    A shift that all points share has the derivative by the parameter of each point.
    """

    f: Callable[..., Any]
    is_local: tuple[bool, ...]

    def __call__(self, points: _Points, *shifts: jax.Array) -> jax.Array:
        return self.f(points.x, *self.arguments(points, shifts))

    @property
    def order(self) -> list[int]:
        """The parameters of the signature as the shifts have them: local ones first."""
        return sorted(range(len(self.is_local)), key=lambda i: not self.is_local[i])

    def arguments(self, points: _Points, shifts: Sequence[jax.Array]) -> list[jax.Array]:
        """What f takes: a value for each point, or one for all, in the order of the signature."""
        params = points.params
        values: list[Any] = [None] * len(shifts)
        for k, i in enumerate(self.order):
            values[i] = (params[points.groups, k] if self.is_local[i] else params[0, k]) + shifts[k]
        return values


class _ShiftedJacobian(_Shifted):
    """The same of the derivatives of a model, (N, m)."""

    def __call__(self, points: _Points, *shifts: jax.Array) -> jax.Array:
        return jnp.asarray(super().__call__(points, *shifts))[:, np.array(self.order)]


@functools.partial(jax.jit, static_argnums=0)
def _tile_sums(
    loss: str, f_scale: float, tiles: jax.Array, residual: jax.Array, jacobian: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Cost, factors (B, m + 1, m + 1) and majorants (B, m) of tiles of points."""
    cost, squares = 0.5 * residual @ residual, jacobian**2
    if (function := LOSSES[loss]) is not None:
        cost, residual_factor, jacobian_factor, slope = robust(function, f_scale, residual)
        squares = slope[:, None] * squares
        residual, jacobian = residual * residual_factor, jacobian * jacobian_factor[:, None]
    columns = jnp.concatenate([jacobian, residual[:, None]], axis=1)
    # The points that a tile lacks, numbered past the last, are rows of zeros.
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
        Numbers of points; N where a tile lacks one. B depends on N, not on the groups, and is
        never less than needed: the last tiles may be empty.
    tile_groups : (used,) array
        Group of each tile that is not empty, ascending.
    """
    n = len(groups)
    # With this many rows the tiles that are not full waste a quarter at most.
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
    """One factor for each label, from several in a row."""
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
    """R (..., n, n) of the rows (..., k, n), of which there are n at least."""
    if np.all(np.isfinite(rows)):
        return np.linalg.qr(rows, mode="r")
    return np.full((*rows.shape[:-2], rows.shape[-1], rows.shape[-1]), np.nan)
