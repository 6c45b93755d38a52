"""Curve fits whose errors are correlated: sigma is the covariance matrix of all points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular

from nlsq_stratified.chunk_data import real_numbers
from nlsq_stratified.normal_equations import FactoredEquations
from nlsq_stratified.objectives.curve import ModelObjective, ResidualAndJacobian, triangular_sums

__all__ = ["CorrelatedObjective", "Rows", "covariance_root"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Residuals and Jacobian of some points; adding two of them joins their rows."""

    residual: NDArray[np.float64]
    jacobian: NDArray[np.float64]

    def __add__(self, other: Rows) -> Rows:
        return Rows(
            np.concatenate([self.residual, other.residual]),
            np.concatenate([self.jacobian, other.jacobian]),
        )

    @property
    def n_points(self) -> int:
        return len(self.residual)

    @property
    def finite(self) -> bool:
        return bool(np.all(np.isfinite(self.residual)) and np.all(np.isfinite(self.jacobian)))


@dataclass(frozen=True, eq=False)
class CorrelatedObjective(ModelObjective):
    """Least squares of ``L⁻¹ (f - y)``, where ``L Lᵀ`` is the covariance of the points.

    Whitening mixes the points of all chunks, so it needs the residuals of all points in memory:
    N p numbers, fewer than the N² numbers of the covariance.

    Attributes
    ----------
    f : callable
    root : (N, N) array
        L, in the order of the points. A loss of whitened residuals depends on this order, so it
        must be the same for all chunks.
    order : (N,) array of int, optional
        The points in the order in which the chunks take them; the natural order when None.
    loss, f_scale, jac : str, float, callable
        As in `CurveObjective`.
    """

    f: Callable[..., Any]
    root: NDArray[np.float64]
    order: NDArray[np.int64] | None = None
    loss: str = "linear"
    f_scale: float = 1.0
    jac: Callable[..., Any] | None = None
    rows: ResidualAndJacobian = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", ResidualAndJacobian(self.f, self.jac))

    def _sent(self) -> list[Any]:
        # The N² numbers of the covariance are not sent: the rows of a chunk do not need them.
        return [self.f, np.empty((0, 0)), None, self.loss, self.f_scale, self.jac]

    def chunk_sums(self, params: NDArray[np.float64], chunk: tuple[NDArray[Any], ...]) -> Rows:
        """Residuals and Jacobian of one chunk ``(x, y)`` at `params` (p,)."""
        with jax.enable_x64(True):
            x, y = chunk
            rows = self.rows(*self._arguments(params, x), jnp.asarray(y, jnp.float64))
            return Rows(*jax.device_get(rows))

    def whitened(self, residual: NDArray[np.float64]) -> NDArray[np.float64]:
        """``L⁻¹ r`` for the residuals r of all points, in their order."""
        return solve_triangular(self.root, residual, lower=True)

    def normal_equations(self, params: NDArray[np.float64], sums: Rows) -> FactoredEquations:
        """Whiten all points together and factor."""
        residual, jacobian = sums.residual, sums.jacobian
        if sums.finite:
            columns = np.empty((len(residual), jacobian.shape[1] + 1))
            columns[slice(None) if self.order is None else self.order] = np.concatenate(
                [jacobian, residual[:, None]], axis=1
            )
            columns = solve_triangular(self.root, columns, lower=True)
            jacobian, residual = columns[:, :-1], columns[:, -1]
        with jax.enable_x64(True):
            rows = jnp.asarray(residual), jnp.asarray(jacobian)
            sums_of_all = triangular_sums(self.loss, self.f_scale, len(residual), *rows)
            cost, triangle, majorant = jax.device_get(sums_of_all)
        return FactoredEquations(float(cost), triangle, len(residual), majorant)


def covariance_root(sigma: ArrayLike) -> NDArray[np.float64]:
    """Cholesky factor of the covariance (N, N), checked to be symmetric and positive definite."""
    matrix = np.asarray(real_numbers("sigma", sigma), dtype=np.float64)
    if not np.all(np.isfinite(matrix)):
        raise ValueError("sigma holds values that are not finite")
    if not np.allclose(matrix, matrix.T, rtol=1e-10, atol=1e-10 * np.max(np.abs(matrix))):
        raise ValueError("sigma of two dimensions must be a symmetric covariance matrix")
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise ValueError("the covariance matrix sigma is not positive definite") from None
