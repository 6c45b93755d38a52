"""What a least-squares step needs to know of the data: cost, gradient and Hessian."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NormalEquations"]


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
    """

    cost: float
    gradient: NDArray[np.float64]
    hessian: NDArray[np.float64]
    n_points: int

    def __add__(self, other: NormalEquations) -> NormalEquations:
        return NormalEquations(
            self.cost + other.cost,
            self.gradient + other.gradient,
            self.hessian + other.hessian,
            self.n_points + other.n_points,
        )

    @property
    def finite(self) -> bool:
        return bool(
            np.isfinite(self.cost)
            and np.all(np.isfinite(self.gradient))
            and np.all(np.isfinite(self.hessian))
        )

    def scaled_factor(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return column scale d and square root R with ``H = (R·d)ᵀ(R·d)``.

        The scale ``d = √diag H`` makes the columns of R unit vectors, which lets the condition
        number reflect the problem rather than the units; a parameter without any influence
        gets d = 1 and a zero column. Eigenvalues below rounding are dropped.
        """
        diagonal = np.sqrt(np.maximum(np.diag(self.hessian), 0.0))
        d = np.where(diagonal > 0, diagonal, 1.0)
        values, vectors = np.linalg.eigh(self.hessian / np.outer(d, d))
        values = np.where(values > len(d) * np.finfo(float).eps, values, 0.0)
        return d, np.sqrt(values)[:, None] * vectors.T

    def covariance(self, free: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Inverse of the Hessian over the free parameters, infinite where there is none.

        Parameters
        ----------
        free : (p,) bool
            Parameters that are not held at a bound.

        Returns
        -------
        (p, p) array
            In units of the variance of a residual. A parameter that is not free, or that takes
            part in a direction without curvature, has infinite variance.
        """
        covariance = np.full_like(self.hessian, np.inf)
        d, factor = self.scaled_factor()
        _, singular, directions = np.linalg.svd(factor[:, free], full_matrices=False)
        flat = singular**2 <= np.count_nonzero(free) * np.finfo(float).eps
        inverse = (directions[~flat].T / singular[~flat] ** 2) @ directions[~flat]
        covariance[np.ix_(free, free)] = inverse / np.outer(d[free], d[free])
        lost = np.flatnonzero(free)[np.any(np.abs(directions[flat]) > 1e-6, axis=0)]
        covariance[lost, :] = covariance[:, lost] = np.inf
        return covariance
