"""Normal equations of the physics, contrast and offset at their best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import NDArray

from homodyne_fit.model.scaling import ScalingMap
from nlsq_stratified import NormalEquations

__all__ = ["JointEquations", "eliminate", "eliminate_each", "joint_matrix", "reduce_each"]


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
        return reduce_each([self])[0]

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
    zs = None if z is None else z[None]
    return eliminate_each(moments[None], reference, scaling, weights, zs)[0]


def eliminate_each(
    moments: NDArray[np.float64],
    reference: NDArray[np.float64],
    scaling: ScalingMap,
    weights: NDArray[np.float64] | None = None,
    z: NDArray[np.float64] | None = None,
) -> list[JointEquations]:
    """`eliminate` for moments (s, K, p + 3, p + 3), and perhaps z (s, m)."""
    n_sets, n_angles, size = moments.shape[:3]
    p, matrix = size - 3, scaling.matrix
    weights = np.ones(n_angles) if weights is None else weights
    of_all = weights[:, None, None]

    def residual_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coefficients (s, K, p + 3) of the columns in contrast f + offset − c2."""
        residual = np.zeros((len(values), n_angles, size))
        residual[..., p], residual[..., p + 1] = np.split(values, 2, axis=1)
        residual[..., p + 1] -= reference
        residual[..., p + 2] = -1.0
        return residual

    def on_residual(residual: NDArray[np.float64]) -> NDArray[np.float64]:
        """All columns times contrast f + offset − c2, (s, K, p + 3)."""
        return (moments @ residual[..., None])[..., 0]

    limits, free = np.zeros((n_sets, 2 * n_angles), dtype=np.int64), np.eye(matrix.shape[1])
    frees = [free] * n_sets
    if z is None:
        rest = on_residual(residual_of(scaling.constant[None]))[..., p : p + 2]
        rest = (weights[:, None] * rest).mT.reshape(n_sets, -1)
        normal = _in_z(of_all * moments[..., p : p + 2, p : p + 2], matrix) + scaling.penalty
        z, limits, frees = _limited_solutions(normal, -rest @ matrix, scaling)
    values = scaling.values(z)
    residual = residual_of(values)
    products = on_residual(residual)
    squares = np.maximum(0.0, np.sum(residual * products, axis=2))
    # Columns of the residual's Jacobian: contrast ∂f/∂θ, f, 1.
    factors = np.ones((n_sets, n_angles, p + 2))
    factors[..., :p] = values[:, :n_angles, None]
    local = moments[..., : p + 2, : p + 2] * factors[..., :, None] * factors[..., None, :]
    hessian = joint_matrix(of_all * local, matrix)
    slopes = weights[:, None] * factors * products[..., : p + 2]
    gradient = np.concatenate(
        [slopes[..., :p].sum(axis=1), slopes[..., p:].mT.reshape(n_sets, -1) @ matrix], axis=1
    )
    deviations = z @ scaling.penalty_root.T
    hessian[:, p:, p:] += scaling.penalty
    gradient[:, p:] += deviations @ scaling.penalty_root
    cost = 0.5 * (squares @ weights + np.sum(deviations**2, axis=1))
    # Squares of residuals are differences of sums of squares, of numbers that are rounded, too.
    terms, counts = np.abs(residual), moments[..., p + 1, p + 1]
    rounding = ROUNDING * np.sum(terms * (np.abs(moments) @ terms[..., None])[..., 0], axis=2)
    rounding += counts * (np.finfo(float).eps * reference) ** 2
    n_points = np.rint(np.nan_to_num(counts.sum(axis=1))).astype(int).tolist()
    return [
        JointEquations(
            scaling,
            z[i],
            limits[i],
            frees[i],
            NormalEquations(
                float(cost[i]),
                gradient[i],
                hessian[i],
                n_points[i],
                0.5 * float(weights @ rounding[i]),
            ),
            float(squares[i].sum()),
            local[i],
            weights,
            float(rounding[i].sum()),
        )
        for i in range(n_sets)
    ]


def reduce_each(joints: Sequence[JointEquations]) -> list[NormalEquations]:
    """`JointEquations.reduced` of equations in the same unknowns."""
    p = joints[0].n_physics if joints else 0
    hessians = [joint.equations.hessian[:p, :p] for joint in joints]
    # Together, as far as as many directions of z are free.
    groups: dict[int, list[int]] = {}
    for i, joint in enumerate(joints):
        if joint.equations.finite:
            groups.setdefault(joint.free.shape[1], []).append(i)
    for group in groups.values():
        hessian = np.array([joints[i].equations.hessian for i in group])
        free = np.array([joints[i].free for i in group])
        cross = hessian[:, :p, p:] @ free
        inner = np.linalg.pinv(free.mT @ hessian[:, p:, p:] @ free, hermitian=True)
        for i, lost in zip(group, cross @ inner @ cross.mT, strict=True):
            hessians[i] = hessians[i] - lost
    equations = [joint.equations for joint in joints]
    return [
        NormalEquations(joint.cost, joint.gradient[:p], hessian, joint.n_points, joint.rounding)
        for joint, hessian in zip(equations, hessians, strict=True)
    ]


def joint_matrix(local: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the angles of (…, K, p + 2, p + 2), the last two columns in terms of z."""
    p = local.shape[-1] - 2
    sets = local.shape[:-3]
    hessian = np.empty((*sets, *(p + matrix.shape[1],) * 2))
    hessian[..., :p, :p] = local[..., :p, :p].sum(axis=-3)
    cross = np.moveaxis(local[..., :p, p:], -3, -1).reshape(*sets, p, len(matrix))
    hessian[..., :p, p:] = cross @ matrix
    hessian[..., p:, :p] = hessian[..., :p, p:].mT
    hessian[..., p:, p:] = _in_z(local[..., p:, p:], matrix)
    return hessian


def _in_z(of_scaling: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ_k B_kᵀ (…)_k B_k, (…, m, m), with B_k the rows of contrast and offset of angle k."""
    b = matrix.reshape(2, of_scaling.shape[-3], matrix.shape[1])
    # Rows of contrast, then of offset.
    rows = of_scaling @ np.moveaxis(b, 1, 0)
    rows = np.moveaxis(rows, -2, -3).reshape(*of_scaling.shape[:-3], *matrix.shape)
    return matrix.T @ rows


def _limited_solutions(
    normal: NDArray[np.float64], right: NDArray[np.float64], scaling: ScalingMap
) -> tuple[NDArray[np.float64], NDArray[np.int64], list[NDArray[np.float64]]]:
    """Minimise ½ zᵀ normal z − rightᵀ z within the limits of contrast and offset.

    Parameters
    ----------
    normal, right : (s, m, m), (s, m) array
    scaling : ScalingMap

    Returns
    -------
    z : (s, m) array
        NaN where the problem is not finite.
    limits : (s, 2K) array
        Which limits hold it.
    free : list of s arrays
        The directions that they leave it.
    """
    n_sets, m = right.shape
    limits, frees = np.zeros((n_sets, len(scaling.matrix)), dtype=np.int64), [np.eye(m)] * n_sets
    finite = np.all(np.isfinite(normal), axis=(1, 2)) & np.all(np.isfinite(right), axis=1)
    normal = np.where(finite[:, None, None], normal, np.eye(m))
    diagonal = np.sqrt(np.diagonal(normal, axis1=1, axis2=2))
    d = np.where(diagonal > 0, diagonal, 1.0)
    values, vectors = np.linalg.eigh(normal / (d[:, :, None] * d[:, None, :]))
    resolution = max(1, m) * np.finfo(float).eps
    root = np.where(values > resolution, np.sqrt(np.maximum(values, resolution)), np.inf)
    inverse = vectors / root[:, None, :] / d[:, :, None]
    z = (inverse @ (inverse.mT @ right[..., None]))[..., 0]
    z[~finite] = np.nan
    slack = 1e-14 * np.maximum(1.0, np.abs(scaling.upper))
    reached = scaling.constant + z @ scaling.matrix.T
    beyond = (reached < scaling.lower - slack) | (reached > scaling.upper + slack)
    # Directions that the data leave open get a little curvature, so that a limit can be reached
    # along them.
    inverse = vectors / np.sqrt(np.maximum(values, resolution))[:, None, :] / d[:, :, None]
    for i in np.flatnonzero(np.any(beyond, axis=1)):
        z[i], limits[i], frees[i] = _on_limits(z[i], inverse[i], scaling, slack)
    return z, limits, frees


def _on_limits(
    z: NDArray[np.float64],
    inverse: NDArray[np.float64],
    scaling: ScalingMap,
    slack: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """The minimum within limits from z, the one without; `inverse` is a root of the inverse.

    In x = F(z − z_free), F the root of the curvature, the limits ask for the shortest x in a
    polyhedron G x ≥ h: a nonnegative least-squares problem (C. Lawson and R. Hanson, *Solving
    least squares problems*, chapter 23).
    """
    matrix = scaling.matrix
    reached = scaling.constant + matrix @ z
    g = np.vstack([matrix @ inverse, -matrix @ inverse])
    h = np.concatenate([scaling.lower - reached, reached - scaling.upper])
    size = np.linalg.norm(h)
    target = np.zeros(len(z) + 1)
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
