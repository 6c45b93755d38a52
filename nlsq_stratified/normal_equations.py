"""What a least-squares step needs to know of the data: cost, gradient and Hessian."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Covariance", "Equations", "FactoredEquations", "NormalEquations", "covariance_of"]

# Rounding error of a sum over many points, relative to the diagonal of the Hessian. A direction
# with less curvature than this has none that can be resolved.
CURVATURE_RESOLUTION = 50 * np.finfo(float).eps


@dataclass(frozen=True, eq=False)
class NormalEquations:
    """Sums over points at one set of p parameters; they add, so chunks do.

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
        What rounding may add to the cost; at a cost below, the model agrees with the data exactly.
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
        """As the quadratic model has them after a step (p,)."""
        slope = self.hessian @ step
        gain = float(self.gradient @ step + 0.5 * step @ slope)
        return replace(self, cost=self.cost + gain, gradient=self.gradient + slope)

    @property
    def finite(self) -> bool:
        """Whether every number is."""
        return bool(
            np.isfinite(self.cost)
            and np.all(np.isfinite(self.gradient))
            and np.all(np.isfinite(self.hessian))
        )

    @property
    def majorant(self) -> NDArray[np.float64]:
        """Curvature by each parameter (p,) that steps are damped with."""
        return np.diag(self.hessian)

    def linear_problem(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The quadratic model of the cost as a linear least-squares problem.

        Returns
        -------
        factor : (p, p) array
            A square root R of the Hessian, ``RᵀR = H``.
        target : (p,) array
            ``b = -R⁻ᵀg``, so that a step s changes the cost by ``½|Rs - b|² - ½|b|²``.

        The eigenvalues are taken of the Hessian scaled to unit diagonal, so that the loss of
        digits reflects the problem rather than the units; those below rounding are dropped.
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
    """The same sums with the Hessian kept as a triangular factor, which adds by QR.

    A Hessian squares the condition number of the Jacobian; its factor does not, so parameters
    that differ by eight digits in their effect are still told apart.

    Attributes
    ----------
    cost : float
    triangle : (p + 1, p + 1) float64
        R of the QR factorisation of ``[J, r]``.
    n_points : int
    majorant : (p,) float64
        Curvature by each parameter that steps are damped with. For a robust loss it bounds that
        of the cost from above, and does not vanish where all points are outliers.
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
        """As the quadratic model has them after a step (p,)."""
        triangle, change = self.triangle.copy(), self.triangle[:, :-1] @ step
        triangle[:, -1] += change
        gain = float(self.gradient @ step + 0.5 * change @ change)
        return replace(self, cost=self.cost + gain, triangle=triangle)

    @property
    def gradient(self) -> NDArray[np.float64]:
        """Gradient of the cost (p,)."""
        return self.triangle[:, :-1].T @ self.triangle[:, -1]

    @property
    def hessian(self) -> NDArray[np.float64]:
        """Gauss-Newton Hessian of the cost (p, p)."""
        return self.triangle[:, :-1].T @ self.triangle[:, :-1]

    @property
    def finite(self) -> bool:
        """Whether every number is."""
        return bool(np.isfinite(self.cost) and np.all(np.isfinite(self.triangle)))

    def linear_problem(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The quadratic model of the cost, as `NormalEquations.linear_problem` gives it."""
        return self.triangle[:-1, :-1], -self.triangle[:-1, -1]


# What the solver works with: the sums over all points, in either form.
type Equations = NormalEquations | FactoredEquations


@dataclass(frozen=True, eq=False)
class Covariance:
    """How far parameters can move for one unit of residual variance.

    Attributes
    ----------
    root : (p, m) array
        The covariance is ``root @ root.T``. Errors propagate as ``norm(jacobian @ root)``,
        without the cancellation that a nearly singular covariance would suffer.
    null : (p, k) array
        Directions without curvature, one a column.
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
        """Parameters (p,) that take part in a direction without curvature."""
        return self.lost(np.eye(len(self.null)))

    def lost(self, jacobian: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which functions of the parameters, given by their derivatives (n, p), are undetermined.

        Those that change along a direction without curvature: their variance is infinite.
        """
        change = np.abs(jacobian @ self.null)
        return np.any(change > 1e-5 * (np.abs(jacobian) @ np.abs(self.null)), axis=1)

    def matrix(self) -> NDArray[np.float64]:
        """Covariance (p, p) with infinite entries for what is not determined."""
        covariance = self.root @ self.root.T
        lost = self.undetermined
        covariance[lost, :] = covariance[:, lost] = np.inf
        return covariance


def covariance_of(factor: NDArray[np.float64], free: NDArray[np.bool_]) -> Covariance:
    """Invert a Hessian over some of its parameters.

    Parameters
    ----------
    factor : (m, p) array
        Square root of the Hessian.
    free : (p,) bool
        The parameters that can move; the others do not spread.
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
