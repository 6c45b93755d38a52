"""Normal equations of the physics, contrast and offset at their best."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import NDArray

from homodyne_fit.model.scaling import ScalingMap
from nlsq_stratified import NormalEquations

__all__ = ["JointEquations", "eliminate", "joint_matrix"]


# Rounding error of a sum of squares made from moments, relative to the terms that cancel in it.
ROUNDING = 4 * np.finfo(float).eps


@dataclass(frozen=True, eq=False)
class JointEquations:
    """The normal equations in physics and z together, at the best z.

    Attributes
    ----------
    scaling : ScalingMap
    z : (m,) array
    limits : (2K,) int
        -1 or 1 where a contrast or offset is held at its lower or upper limit.
    free : (m, f) array
        Orthonormal directions in which z can move.
    equations : NormalEquations
        In the p physics parameters, then z; the penalty included.
    sum_of_squares : float
        Of the residuals, without weights.
    local : (K, p + 2, p + 2) array
        The Hessian of each angle in the physics and its contrast and offset, without weights.
    weights : (K,) array
    rounding : float
        What rounding may add to `sum_of_squares`.
    """

    scaling: ScalingMap
    z: NDArray[np.float64]
    limits: NDArray[np.int64]
    free: NDArray[np.float64]
    equations: NormalEquations
    sum_of_squares: float
    local: NDArray[np.float64]
    weights: NDArray[np.float64]
    rounding: float

    @property
    def score_covariance(self) -> NDArray[np.float64]:
        """The Hessian (p + m, p + m) of the residuals, the penalty left out, weights squared.

        This is what the noise of the points does to the gradient.
        """
        return joint_matrix(self.weights[:, None, None] ** 2 * self.local, self.scaling.matrix)

    @property
    def n_physics(self) -> int:
        """p."""
        return len(self.equations.gradient) - len(self.z)

    def noise_variance(self, physics: NDArray[np.bool_]) -> float:
        """Variance of a point, given which of the physics is free; not below that of rounding."""
        unknowns = np.count_nonzero(physics) + self.free.shape[1]
        squares = max(self.sum_of_squares, self.rounding)
        return squares / max(1, self.equations.n_points - unknowns)

    def reduced(self) -> NormalEquations:
        """Normal equations in the physics alone: z follows at its best."""
        joint, p = self.equations, self.n_physics
        hessian = joint.hessian[:p, :p]
        if joint.finite:
            cross = joint.hessian[:p, p:] @ self.free
            inner = self.free.T @ joint.hessian[p:, p:] @ self.free
            hessian = hessian - cross @ np.linalg.pinv(inner, hermitian=True) @ cross.T
        return NormalEquations(
            joint.cost, joint.gradient[:p], hessian, joint.n_points, joint.rounding
        )

    def after_step(self, step: NDArray[np.float64], *, follow: bool) -> JointEquations:
        """The quadratic model after a small step (p,) of the physics; z follows it, or stays."""
        if not np.any(step):
            return self
        hessian, p = self.equations.hessian, self.n_physics
        along = np.zeros_like(self.z)
        if follow:
            inner = self.free.T @ hessian[p:, p:] @ self.free
            pull = self.free.T @ hessian[p:, :p] @ step
            along = -self.free @ (np.linalg.pinv(inner, hermitian=True) @ pull)
        gradient = self.equations.gradient + hessian @ np.concatenate([step, along])
        return replace(self, z=self.z + along, equations=replace(self.equations, gradient=gradient))

    def free_directions(self, physics: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Directions (p + m, f) of physics and z that are free, given which physics is."""
        p = self.n_physics
        basis = np.zeros((p + len(self.z), np.count_nonzero(physics) + self.free.shape[1]))
        basis[np.flatnonzero(physics), np.arange(np.count_nonzero(physics))] = 1.0
        basis[p:, np.count_nonzero(physics) :] = self.free
        return basis


def eliminate(
    moments: NDArray[np.float64],
    reference: NDArray[np.float64],
    scaling: ScalingMap,
    weights: NDArray[np.float64] | None = None,
    z: NDArray[np.float64] | None = None,
) -> JointEquations:
    """Solve for z and assemble the joint normal equations there.

    Parameters
    ----------
    moments : (K, p + 3, p + 3) array
        Of the columns [∂f/∂θ, f, 1, c2 - reference].
    reference : (K,) array
    scaling : ScalingMap
    weights : (K,) array, optional
        Of the squared residuals of each angle; 1 when None.
    z : (m,) array, optional
        Assemble the equations at this z instead.
    """
    n_angles, size = moments.shape[:2]
    p = size - 3
    n_points = int(np.rint(np.nan_to_num(moments[:, p + 1, p + 1].sum())))
    weights = np.ones(n_angles) if weights is None else weights
    of_scaling = weights[:, None, None] * moments[:, p : p + 2, p : p + 2]

    def residual_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coefficients (K, p + 3) of the columns in contrast f + offset − c2."""
        contrast, offset = values.reshape(2, n_angles)
        residual = np.zeros((n_angles, size))
        residual[:, p], residual[:, p + 1], residual[:, p + 2] = contrast, offset - reference, -1.0
        return residual

    def on_residual(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Columns times contrast f + offset − c2, (K, p + 2), and squares of that, (K,)."""
        residual = residual_of(values)
        products = np.einsum("kij,kj->ki", moments, residual)
        return products[:, : p + 2], np.maximum(0.0, np.einsum("ki,ki->k", residual, products))

    limits, free = np.zeros(2 * n_angles, dtype=np.int64), np.eye(scaling.matrix.shape[1])
    if z is None:
        rest = (weights[:, None] * on_residual(scaling.constant)[0][:, p:]).T.ravel()
        z, limits, free = _limited_solution(
            _in_z(of_scaling, scaling.matrix) + scaling.penalty, -scaling.matrix.T @ rest, scaling
        )
    values = scaling.values(z)
    products, squares = on_residual(values)
    # Columns of the residual's Jacobian: contrast ∂f/∂θ, f, 1.
    factors = np.ones((n_angles, p + 2))
    factors[:, :p] = values[:n_angles, None]
    local = moments[:, : p + 2, : p + 2] * factors[:, :, None] * factors[:, None, :]
    hessian = joint_matrix(weights[:, None, None] * local, scaling.matrix)
    slopes = weights[:, None] * factors * products
    gradient = np.concatenate(
        [slopes[:, :p].sum(axis=0), scaling.matrix.T @ slopes[:, p:].T.ravel()]
    )
    deviations = scaling.penalty_root @ z
    hessian[p:, p:] += scaling.penalty
    gradient[p:] += scaling.penalty_root.T @ deviations
    cost = 0.5 * float(weights @ squares + deviations @ deviations)
    # Squares of residuals are differences of sums of squares, of numbers that are rounded, too.
    terms = np.abs(residual_of(values))
    rounding = ROUNDING * np.einsum("ki,kij,kj->k", terms, np.abs(moments), terms)
    rounding += moments[:, p + 1, p + 1] * (np.finfo(float).eps * reference) ** 2
    equations = NormalEquations(cost, gradient, hessian, n_points, 0.5 * float(weights @ rounding))
    totals = float(squares.sum()), float(rounding.sum())
    return JointEquations(scaling, z, limits, free, equations, totals[0], local, weights, totals[1])


def joint_matrix(local: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the angles of (K, p + 2, p + 2), the last two columns in terms of z."""
    p = local.shape[1] - 2
    hessian = np.empty((p + matrix.shape[1],) * 2)
    hessian[:p, :p] = local[:, :p, :p].sum(axis=0)
    hessian[:p, p:] = local[:, :p, p:].transpose(1, 2, 0).reshape(p, len(matrix)) @ matrix
    hessian[p:, :p] = hessian[:p, p:].T
    hessian[p:, p:] = _in_z(local[:, p:, p:], matrix)
    return hessian


def _in_z(of_scaling: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ_k B_kᵀ (…)_k B_k, (m, m), with B_k the rows of contrast and offset of angle k."""
    b = matrix.reshape(2, len(of_scaling), matrix.shape[1])
    return matrix.T @ np.einsum("kij,jkm->ikm", of_scaling, b).reshape(matrix.shape)


def _limited_solution(
    normal: NDArray[np.float64], right: NDArray[np.float64], scaling: ScalingMap
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Minimise ½ zᵀ normal z − rightᵀ z within the limits of contrast and offset.

    Returns z, which limits hold it, and the directions that they leave it.
    """
    matrix, none = scaling.matrix, np.zeros(len(scaling.matrix), dtype=np.int64)
    if not (np.all(np.isfinite(normal)) and np.all(np.isfinite(right))):
        return np.full_like(right, np.nan), none, np.eye(len(right))
    diagonal = np.sqrt(np.diag(normal))
    d = np.where(diagonal > 0, diagonal, 1.0)
    values, vectors = np.linalg.eigh(normal / np.outer(d, d))
    resolution = max(1, len(d)) * np.finfo(float).eps
    root = np.where(values > resolution, np.sqrt(np.maximum(values, resolution)), np.inf)
    inverse = vectors / root / d[:, None]
    z = inverse @ (inverse.T @ right)
    slack = 1e-14 * np.maximum(1.0, np.abs(scaling.upper))
    reached = scaling.constant + matrix @ z
    if np.all((reached >= scaling.lower - slack) & (reached <= scaling.upper + slack)):
        return z, none, np.eye(len(z))
    # In x = F(z − z_free), F the root of `normal`, the limits ask for the shortest x in a
    # polyhedron G x ≥ h: a nonnegative least-squares problem (C. Lawson and R. Hanson, *Solving
    # least squares problems*, chapter 23). Directions that the data leave open get a little
    # curvature, so that a limit can be reached along them.
    root = np.sqrt(np.maximum(values, resolution))
    inverse = vectors / root / d[:, None]
    g = np.vstack([matrix @ inverse, -matrix @ inverse])
    h = np.concatenate([scaling.lower - reached, reached - scaling.upper])
    size = np.linalg.norm(h)
    target = np.zeros(len(right) + 1)
    target[-1] = 1.0
    multipliers, _ = scipy.optimize.nnls(np.vstack([g.T, h / size]), target)
    excess = np.vstack([g.T, h / size]) @ multipliers - target
    z = z - inverse @ (excess[:-1] / excess[-1]) * size
    half = len(matrix)
    limits = (multipliers[half:] > 0).astype(np.int64) - (multipliers[:half] > 0)
    held = limits != 0
    if not np.any(held):
        return z, limits, np.eye(len(z))
    # On the limits to the last bit.
    bound = np.where(limits < 0, scaling.lower, scaling.upper) - scaling.constant
    z = z + np.linalg.pinv(matrix[held]) @ (bound - matrix @ z)[held]
    free = scipy.linalg.null_space(matrix[held])
    # Values that share their freedom with one on a limit are on it, too.
    still = np.linalg.norm(matrix @ free, axis=1) <= 1e-9 * np.linalg.norm(matrix, axis=1)
    reached = scaling.constant + matrix @ z
    limits = np.where(still & (np.abs(reached - scaling.upper) <= slack), 1, limits)
    limits = np.where(still & (np.abs(reached - scaling.lower) <= slack), -1, limits)
    return z, limits, free
