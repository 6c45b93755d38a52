r"""Contrast and offset: eliminated exactly, in every mode, by linear algebra on the moments.

The model is linear in the scaling, :math:`c_2 = \text{contrast}_k f_k + \text{offset}_k`. A mode
is a matrix B with ``(contrast, offset) = constant + B z``, and perhaps a quadratic penalty on z.
At given physics the best z within the limits of contrast and offset solves a small linear
least-squares problem, and the cost as a function of the physics alone has the gradient of the
full cost and, to Gauss-Newton order, the Schur complement of its Hessian: variable projection
(G. Golub and V. Pereyra, *Inverse Problems* 19, R1, 2003; the Hessian in L. Kaufman's form, *BIT*
15, 49, 1975). Along a limit that holds, z cannot move.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import null_space
from scipy.optimize import nnls

from homodyne_fit.errors import InputError
from nlsq_stratified import NormalEquations

# Rounding error of a sum of squares made from moments, relative to that of the data.
ROUNDING = 16 * np.finfo(float).eps

__all__ = ["JointEquations", "ScalingMap", "eliminate", "scaling_map", "spread_form"]


@dataclass(frozen=True, eq=False)
class ScalingMap:
    """``(contrast_1..K, offset_1..K) = constant + matrix @ z`` within limits.

    Attributes
    ----------
    mode : str
    matrix : (2K, m) array
    constant : (2K,) array
    lower, upper : (2K,) array
        Limits of the contrasts and offsets.
    penalty_weights : (float, float)
        The cost gains ``½ (w_c Σ(c_k − c̄)² + w_o Σ(o_k − ō)²)``.
    """

    mode: str
    matrix: NDArray[np.float64]
    constant: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    penalty_weights: tuple[float, float] = (0.0, 0.0)

    @cached_property
    def penalty_root(self) -> NDArray[np.float64]:
        """D (2K, m) with ``½ |D z|²`` the penalty.

        Squares of differences, since the difference of squares would lose the digits in which
        angles of a strong penalty differ.
        """
        parts = self.matrix.reshape(2, self.n_angles, -1)
        deviations = parts - parts.mean(axis=1, keepdims=True)
        return (np.sqrt(self.penalty_weights)[:, None, None] * deviations).reshape(
            self.matrix.shape
        )

    @property
    def penalty(self) -> NDArray[np.float64]:
        """Curvature that the penalty adds, (m, m)."""
        return self.penalty_root.T @ self.penalty_root

    def penalty_at(self, values: NDArray[np.float64]) -> float:
        """What the cost gains at contrasts, then offsets, (2K,)."""
        parts = values.reshape(2, self.n_angles)
        squares = np.sum((parts - parts.mean(axis=1, keepdims=True)) ** 2, axis=1)
        return 0.5 * float(np.dot(self.penalty_weights, squares))

    @property
    def n_angles(self) -> int:
        """K."""
        return len(self.matrix) // 2

    def values(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Contrasts, then offsets, (2K,): on their limits where these hold."""
        return np.clip(self.constant + self.matrix @ z, self.lower, self.upper)

    def penalised(self, contrast: float, offset: float) -> ScalingMap:
        """The same map with other penalty weights."""
        return replace(self, penalty_weights=(float(contrast), float(offset)))

    def only(self, angles: NDArray[np.int64]) -> ScalingMap:
        """The map of some of the angles, without the z that do not matter to them."""
        rows = np.concatenate([angles, self.n_angles + angles])
        matrix = self.matrix[rows]
        return replace(
            self,
            matrix=matrix[:, np.any(matrix, axis=0)],
            constant=self.constant[rows],
            lower=self.lower[rows],
            upper=self.upper[rows],
        )


def spread_form(n_angles: int) -> NDArray[np.float64]:
    """C with ``vᵀ C v = Σ(v_k − v̄)²``, (K, K)."""
    return np.eye(n_angles) - 1 / n_angles


def scaling_map(
    mode: str,
    *,
    phi: NDArray[np.float64],
    contrast: tuple[float, float],
    offset: tuple[float, float],
    held: NDArray[np.float64] | None = None,
    order: int = 2,
) -> ScalingMap:
    """Build the map of a mode.

    Parameters
    ----------
    mode : {'individual', 'averaged', 'constant', 'fourier'}
        A pair for each angle, one pair for all, the pairs `held`, or a Fourier series in φ.
    phi : (K,) array
        Degrees.
    contrast, offset : (lower, upper)
        Limits.
    held : (2K,) array
        Contrasts, then offsets, of the mode 'constant'.
    order : int
        Of the Fourier series: ``1, cos φ, sin φ, … cos(order φ), sin(order φ)``.

    Raises
    ------
    InputError
        If there are fewer angles than coefficients of the series.
    """
    n_angles = len(phi)
    constant = np.zeros(2 * n_angles)
    if mode == "averaged":
        matrix = np.kron(np.eye(2), np.ones((n_angles, 1)))
    elif mode == "constant":
        assert held is not None
        matrix, constant = np.zeros((2 * n_angles, 0)), held
    elif mode == "fourier":
        if n_angles < 1 + 2 * order:
            raise InputError(
                f"a Fourier series of order {order} needs at least {1 + 2 * order} angles, "
                f"the data have {n_angles}: lower fourier_order or take another per_angle_mode"
            )
        harmonics = np.deg2rad(phi)[:, None] * np.arange(1, order + 1)
        series = [np.ones((n_angles, 1)), np.cos(harmonics), np.sin(harmonics)]
        matrix = np.kron(np.eye(2), np.concatenate(series, axis=1))
    else:
        matrix = np.eye(2 * n_angles)
    lower, upper = (np.repeat([contrast[i], offset[i]], n_angles) for i in (0, 1))
    return ScalingMap(mode, np.asarray(matrix, np.float64), constant, lower, upper)


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
    def squared(self) -> NDArray[np.float64]:
        """The Hessian (p + m, p + m) of the residuals, the penalty left out, weights squared.

        This is what the noise of the points does to the gradient.
        """
        return _joint_hessian(self.weights[:, None, None] ** 2 * self.local, self.scaling.matrix)

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

    def moved(self, step: NDArray[np.float64], *, follow: bool) -> JointEquations:
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

    def movable(self, physics: NDArray[np.bool_]) -> NDArray[np.float64]:
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

    def on_residual(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Columns times contrast f + offset − c2, (K, p + 2), and squares of that, (K,)."""
        contrast, offset = values.reshape(2, n_angles)
        residual = np.zeros((n_angles, size))
        residual[:, p], residual[:, p + 1], residual[:, p + 2] = contrast, offset - reference, -1.0
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
    hessian = _joint_hessian(weights[:, None, None] * local, scaling.matrix)
    slopes = weights[:, None] * factors * products
    gradient = np.concatenate(
        [slopes[:, :p].sum(axis=0), scaling.matrix.T @ slopes[:, p:].T.ravel()]
    )
    deviations = scaling.penalty_root @ z
    hessian[p:, p:] += scaling.penalty
    gradient[p:] += scaling.penalty_root.T @ deviations
    cost = 0.5 * float(weights @ squares + deviations @ deviations)
    # Squares of residuals are differences of sums of squares, of numbers that are rounded, too.
    rounding = ROUNDING * np.abs(moments[:, p + 2, p + 2])
    rounding += moments[:, p + 1, p + 1] * (np.finfo(float).eps * reference) ** 2
    equations = NormalEquations(cost, gradient, hessian, n_points, 0.5 * float(weights @ rounding))
    totals = float(squares.sum()), float(rounding.sum())
    return JointEquations(scaling, z, limits, free, equations, totals[0], local, weights, totals[1])


def _joint_hessian(local: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
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
    multipliers, _ = nnls(np.vstack([g.T, h / size]), target)
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
    free = null_space(matrix[held])
    # Values that share their freedom with one on a limit are on it, too.
    still = np.linalg.norm(matrix @ free, axis=1) <= 1e-9 * np.linalg.norm(matrix, axis=1)
    reached = scaling.constant + matrix @ z
    limits = np.where(still & (np.abs(reached - scaling.upper) <= slack), 1, limits)
    limits = np.where(still & (np.abs(reached - scaling.lower) <= slack), -1, limits)
    return z, limits, free
