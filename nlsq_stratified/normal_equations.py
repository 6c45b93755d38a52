"""The sums over the data from which a least-squares step follows: cost, gradient, Hessian."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Covariance", "Equations", "FactoredEquations", "NormalEquations", "covariance_of"]

# Rounding error of a sum over many points, relative to the diagonal of the Hessian. Curvature
# below it cannot be told from zero.
CURVATURE_RESOLUTION = 50 * np.finfo(float).eps


@dataclass(frozen=True, eq=False)
class NormalEquations:
    """Sums over points at one set of p parameters; the sums of chunks can be added.

    Attributes
    ----------
    cost : float
        Half the sum of squared residuals.
    gradient : (p,) float64
        Gradient of the cost, Jᵀr.
    hessian : (p, p) float64
        Gauss-Newton Hessian of the cost, JᵀJ.
    n_points : int
        Number of residuals.
    rounding : float
        Rounding error of the cost. If the cost is lower, the model agrees with the data exactly.
    """

    cost: float
    gradient: NDArray[np.float64]
    hessian: NDArray[np.float64]
    n_points: int
    rounding: float = 0.0

    def __add__(self, other: NormalEquations) -> NormalEquations:
        return NormalEquations(
            self.cost + other.cost,
            self.gradient + other.gradient,
            self.hessian + other.hessian,
            self.n_points + other.n_points,
            self.rounding + other.rounding,
        )

    def after_step(self, step: NDArray[np.float64]) -> NormalEquations:
        """The equations that the quadratic model predicts after a step (p,)."""
        slope = self.hessian @ step
        gain = float(self.gradient @ step + 0.5 * step @ slope)
        return replace(self, cost=self.cost + gain, gradient=self.gradient + slope)

    @functools.cached_property
    def finite(self) -> bool:
        return bool(
            math.isfinite(self.cost)
            and np.isfinite(self.gradient).all()
            and np.isfinite(self.hessian).all()
        )

    @property
    def majorant(self) -> NDArray[np.float64]:
        """Curvature for each parameter (p,) that damps the steps."""
        return np.diag(self.hessian)

    def linear_problem(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The quadratic model of the cost as a linear least-squares problem.

        Returns
        -------
        factor : (p, p) array
            A square root R of the Hessian, ``RᵀR = H``.
        target : (p,) array
            ``b = -R⁻ᵀg``, so that a step s changes the cost by ``½|Rs - b|² - ½|b|²``.

        The Hessian is scaled to unit diagonal before its eigenvalues are computed, so that the
        loss of digits does not depend on units. Eigenvalues below rounding are dropped.
        """
        diagonal = np.sqrt(np.maximum(np.diag(self.hessian), 0.0))
        d = np.where(diagonal > 0, diagonal, 1.0)
        values, vectors = np.linalg.eigh(self.hessian / np.outer(d, d))
        curved = values > CURVATURE_RESOLUTION
        root = np.sqrt(np.where(curved, values, 0.0))
        target = -(vectors.T @ (self.gradient / d)) / np.where(curved, root, 1.0)
        return root[:, None] * vectors.T * d, np.where(curved, target, 0.0)


@dataclass(frozen=True, eq=False)
class FactoredEquations:
    """The same sums with a triangular factor of the Hessian; factors are added by QR.

    A Hessian has the squared condition number of the Jacobian. Its factor does not, so it can
    tell parameters apart that differ by eight digits in their effect.

    Attributes
    ----------
    cost : float
    triangle : (p + 1, p + 1) float64
        R of the QR factorisation of ``[J, r]``.
    n_points : int
    majorant : (p,) float64
        Curvature for each parameter that damps the steps. For a robust loss it is at least the
        curvature of the cost, and does not vanish where all points are outliers.
    rounding : float
        As in `NormalEquations`.
    """

    cost: float
    triangle: NDArray[np.float64]
    n_points: int
    majorant: NDArray[np.float64]
    rounding: float = 0.0

    def __add__(self, other: FactoredEquations) -> FactoredEquations:
        stacked = np.vstack([self.triangle, other.triangle])
        if np.all(np.isfinite(stacked)):
            triangle = np.linalg.qr(stacked, mode="r")[: len(self.triangle)]
        else:
            triangle = np.full_like(self.triangle, np.nan)
        return FactoredEquations(
            self.cost + other.cost,
            triangle,
            self.n_points + other.n_points,
            self.majorant + other.majorant,
            self.rounding + other.rounding,
        )

    def after_step(self, step: NDArray[np.float64]) -> FactoredEquations:
        """The equations that the quadratic model predicts after a step (p,)."""
        triangle, change = self.triangle.copy(), self.triangle[:, :-1] @ step
        triangle[:, -1] += change
        gain = float(self.gradient @ step + 0.5 * change @ change)
        return replace(self, cost=self.cost + gain, triangle=triangle)

    @property
    def gradient(self) -> NDArray[np.float64]:
        return self.triangle[:, :-1].T @ self.triangle[:, -1]

    @property
    def hessian(self) -> NDArray[np.float64]:
        return self.triangle[:, :-1].T @ self.triangle[:, :-1]

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.cost) and np.all(np.isfinite(self.triangle)))

    def linear_problem(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The quadratic model of the cost; see `NormalEquations.linear_problem`."""
        return self.triangle[:-1, :-1], -self.triangle[:-1, -1]


# The sums over all points, in one of two forms.
type Equations = NormalEquations | FactoredEquations


@dataclass(frozen=True, eq=False)
class Covariance:
    """Covariance of the parameters for a residual variance of one.

    Attributes
    ----------
    root : (p, m) array
        The covariance is ``root @ root.T``. The error of a function of the parameters is
        ``norm(jacobian @ root)``, without the cancellation in a nearly singular covariance.
    null : (p, k) array
        Directions without curvature, one for each column.
    condition : float
        Condition number of the Hessian of the free parameters, scaled to unit diagonal.
    directions, eigenvalues : (m, p) array, (m,) array
        Eigenvectors and eigenvalues of that scaled Hessian, largest first.
    """

    root: NDArray[np.float64]
    null: NDArray[np.float64]
    condition: float
    directions: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]

    @property
    def undetermined(self) -> NDArray[np.bool_]:
        """The parameters (p,) that change along a direction without curvature."""
        return self.lost(np.eye(len(self.null)))

    def lost(self, jacobian: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which functions of the parameters, with derivatives (n, p), are undetermined.

        They change along a direction without curvature, so that their variance is infinite.
        """
        change = np.abs(jacobian @ self.null)
        return np.any(change > 1e-5 * (np.abs(jacobian) @ np.abs(self.null)), axis=1)

    def matrix(self) -> NDArray[np.float64]:
        """Covariance (p, p) with infinite entries for undetermined parameters."""
        covariance = self.root @ self.root.T
        lost = self.undetermined
        covariance[lost, :] = covariance[:, lost] = np.inf
        return covariance


def covariance_of(factor: NDArray[np.float64], free: NDArray[np.bool_]) -> Covariance:
    """Invert the Hessian of the free parameters.

    Parameters
    ----------
    factor : (m, p) array
        Square root of the Hessian.
    free : (p,) bool
        The parameters that can move; the variance of the others is zero.
    """
    p = factor.shape[1]
    norms = np.linalg.norm(factor, axis=0)
    d = np.where(norms > 0, norms, 1.0)
    _, singular, rows = np.linalg.svd((factor / d)[:, free], full_matrices=False)
    flat = singular <= p * np.finfo(float).eps
    directions = np.zeros((len(singular), p))
    directions[:, free] = rows
    root = (directions[~flat] / singular[~flat, None] / d).T
    if not len(singular):
        condition = 1.0
    else:
        condition = np.inf if flat[-1] else float((singular[0] / singular[-1]) ** 2)
    null = np.where(np.abs(directions[flat]) > 1e-6, directions[flat], 0.0)
    return Covariance(root, (null / d).T, condition, directions, singular**2)
