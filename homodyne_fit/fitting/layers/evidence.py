r"""How far contrasts and offsets spread over the angles: learned by evidence.

With :math:`c_k \sim N(\bar c, \tau_c^2)`, :math:`o_k \sim N(\bar o, \tau_o^2)`, flat priors on the
means and on the physics, and the quadratic model of the cost at hand, contrasts, offsets and
physics integrate out in closed form. With :math:`\lambda = 1/\tau^2`, costs in units of the noise
variance and A the Hessian of cost and penalties together,

.. math:: -\ln p(c_2 | \tau_c, \tau_o) = \min(\text{cost} + \text{penalty}) + \tfrac12 \ln\det A
          + (K - 1)(\ln \tau_c + \ln \tau_o).

At its minimum :math:`(K - 1)\tau^2 = \sum(\hat c_k - \bar c)^2 + \mathrm{tr}(A^{-1} Q)`, Q the form
of that sum: the fixed point of expectation maximisation with the joint covariance of physics and
scaling (A. Dempster, N. Laird and D. Rubin, *J. R. Stat. Soc. B* 39, 1, 1977). Newton's method in
:math:`t = \ln\tau` finds it where τ is small and the fixed-point iteration crawls. With
:math:`\hat s` the step to the minimum, :math:`e_i = \sum(\hat v - \bar v)^2` there of contrasts and
of offsets, and :math:`g_i` half its derivatives by the step,

.. math:: \frac{\partial}{\partial t_i}(-\ln p) = K - 1 - \lambda_i (e_i + \mathrm{tr}(A^{-1} Q_i)),

.. math:: \frac{\partial^2}{\partial t_i \partial t_j}(-\ln p)
          = 2 \delta_{ij} \lambda_i (e_i + \mathrm{tr}(A^{-1} Q_i))
          - 2 \lambda_i \lambda_j (2 g_i^T A^{-1} g_j + \mathrm{tr}(A^{-1} Q_i A^{-1} Q_j)).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.elimination import JointEquations
from homodyne_fit.model.scaling import LEAST_MEAN, centering_matrix

__all__ = ["Evidence", "ScalingPrior", "fit_scaling_prior", "lowest_minimum", "spread_limits"]

Floats = NDArray[np.float64]

# Spreads that are tried, relative to the mean contrast or offset.
NARROWEST = 1e-5
WIDEST = 3.0
# Points of the grid between them.
GRID = 9
# Points of the grid, from the narrowest on, that are searched apart from the others.
FLAT = 3

# Longest step of a search, and the decrease of minus the log evidence that ends it.
LONGEST_STEP = 2.0
LEAST_DECREASE = 1e-10
# Curvature that counts at least.
FLATTEST = 1e-12
# Steps of a search, and factor by which one that does not go down is shortened.
MOST_STEPS = 60
SHORTENED = 0.25

# Curvature, relative to the largest, of what has no effect.
NO_EFFECT = 1e-30


@dataclass(frozen=True)
class ScalingPrior:
    """The most probable spreads of contrast and offset over the angles.

    Attributes
    ----------
    contrast, offset : float
        Standard deviation over the angles.
    log_evidence : float
        Log of the probability ratio between these spreads and none.
    distance : float
        From here to the minimum for these spreads, in standard errors.
    """

    contrast: float
    offset: float
    log_evidence: float
    distance: float


def fit_scaling_prior(
    joint: JointEquations, physics: NDArray[np.bool_], variance: float
) -> ScalingPrior:
    """Maximise the evidence in the quadratic model of the cost.

    Parameters
    ----------
    joint : JointEquations
        Of K >= 2 angles, without a penalty.
    physics : (p,) bool
        The physics parameters that can move.
    variance : float
        Of the noise of a point.
    """
    evidence = Evidence.of(joint, physics, variance)
    lower, upper = spread_limits(joint)
    if evidence is None:
        # Without numbers there is nothing to weigh a spread against.
        contrast, offset = np.exp(lower).tolist()
        return ScalingPrior(contrast, offset, 0.0, 0.0)
    axes = np.linspace(lower, upper, GRID)
    grid = np.stack(np.meshgrid(*axes.T, indexing="ij"), axis=-1)
    on_grid = evidence.values(grid.reshape(-1, 2)).reshape(GRID, GRID)
    # Where a spread is too narrow to matter the evidence is flat, and a search would not leave.
    parts, starts = (slice(FLAT), slice(FLAT, None)), []
    for quarter in itertools.product(parts, repeat=2):
        of_quarter = grid[quarter].reshape(-1, 2)
        starts.append(of_quarter[np.argmin(on_grid[quarter])])
    best = lowest_minimum(evidence, np.array(starts), lower, upper)
    (value, narrow), (squared_distance, _) = evidence.values_and_distances(np.array([best, lower]))
    return ScalingPrior(
        contrast=float(np.exp(best[0])),
        offset=float(np.exp(best[1])),
        log_evidence=float(narrow - value),
        distance=float(np.sqrt(squared_distance)),
    )


def spread_limits(joint: JointEquations) -> tuple[Floats, Floats]:
    """ln τ of the narrowest and of the widest spreads that are tried, both (2,)."""
    means = joint.scaling.values(joint.z).reshape(2, -1).mean(axis=1)
    means = np.maximum(np.abs(means), LEAST_MEAN)
    return np.log(NARROWEST * means), np.log(WIDEST * means)


class LogDensity(Protocol):
    """Minus the logarithm of a density of ln τ."""

    def values(self, log_tau: Floats) -> Floats:
        """Values (s,) at ln τ (s, 2)."""
        ...

    def derivatives(self, log_tau: Floats) -> tuple[Floats, Floats]:
        """First (s, 2) and second (s, 2, 2) derivatives."""
        ...


@dataclass(frozen=True, eq=False)
class Evidence:
    """Minus the log evidence as a function of ln τ, in coordinates in which A is of order one.

    Attributes
    ----------
    outward : (p + m, f) array
        From these coordinates to steps of physics and z.
    hessian, gradient : (f, f), (f,) array
        Of the cost, in units of the noise variance.
    forms, slopes, squares : (2, f, f), (2, f), (2,) array
        Q of contrasts and of offsets: its curvature, half its gradient, and its value.
    n_angles : int
    """

    outward: Floats
    hessian: Floats
    gradient: Floats
    forms: Floats
    slopes: Floats
    squares: Floats
    n_angles: int

    @classmethod
    def of(
        cls, joint: JointEquations, physics: NDArray[np.bool_], variance: float
    ) -> Evidence | None:
        """Of equations without a penalty; None where they are not finite.

        Parameters
        ----------
        joint : JointEquations
        physics : (p,) bool
            The physics parameters that can move.
        variance : float
            Of the noise of a point.
        """
        n_angles, p = joint.scaling.n_angles, joint.n_physics
        of_each = centering_matrix(n_angles)
        forms = [np.kron(np.diag(which), of_each) for which in ((1.0, 0), (0, 1.0))]
        joint = replace(joint, free=_means_and_deviations(joint))
        directions = joint.free_directions(physics)
        with np.errstate(divide="ignore", invalid="ignore"):
            hessian = directions.T @ joint.equations.hessian @ directions / variance
        if not (variance > 0 and np.all(np.isfinite(hessian))):
            return None
        curvature = np.diag(hessian)
        largest = max(float(curvature.max()), np.finfo(float).tiny)
        scale = np.sqrt(np.where(curvature > NO_EFFECT * largest, curvature, largest))
        outward = directions / scale
        values, to_values = joint.scaling.values(joint.z), joint.scaling.matrix @ outward[p:]
        return cls(
            outward,
            hessian / np.outer(scale, scale) + 1e-13 * np.eye(len(scale)),
            outward.T @ joint.equations.gradient / variance,
            forms=np.array([to_values.T @ form @ to_values for form in forms]),
            slopes=np.array([to_values.T @ form @ values for form in forms]),
            squares=np.array([values @ form @ values for form in forms]),
            n_angles=n_angles,
        )

    def values(self, log_tau: Floats) -> Floats:
        """Values (s,) at ln τ (s, 2)."""
        return self.values_and_distances(log_tau)[0]

    def values_and_distances(self, log_tau: Floats) -> tuple[Floats, Floats]:
        """Values (s,) at ln τ (s, 2), and squared distances (s,) to the minima of the cost."""
        root, size, b = self._system(log_tau)
        along = np.linalg.solve(root, (b / size)[..., None])[..., 0]
        squared_distance = np.sum(along**2, axis=1)
        log_determinant = 2 * (
            np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1) + np.log(size).sum(axis=1)
        )
        of_prior = 0.5 * np.exp(-2 * log_tau) @ self.squares
        of_prior += (self.n_angles - 1) * log_tau.sum(axis=1)
        return of_prior + 0.5 * (log_determinant - squared_distance), squared_distance

    def derivatives(self, log_tau: Floats) -> tuple[Floats, Floats]:
        """First (s, 2) and second (s, 2, 2) derivatives."""
        inverse, step = self.minima(log_tau)
        on_step = np.einsum("qij,sj->sqi", self.forms, step)
        spreads = self.squares + 2 * step @ self.slopes.T + np.einsum("sqi,si->sq", on_step, step)
        on_forms = inverse[:, None] @ self.forms
        spreads += np.trace(on_forms, axis1=2, axis2=3)
        precision = np.exp(-2 * log_tau)
        slopes = self.slopes + on_step
        bends = 2 * slopes @ inverse @ slopes.mT
        bends += np.einsum("sqij,srji->sqr", on_forms, on_forms)
        second = -2 * precision[:, :, None] * precision[:, None, :] * bends
        second[:, [0, 1], [0, 1]] += 2 * precision * spreads
        return (self.n_angles - 1) - precision * spreads, second

    def minima(self, log_tau: Floats) -> tuple[Floats, Floats]:
        """A⁻¹ (s, f, f), and steps (s, f) to the minima of the cost, at ln τ (s, 2)."""
        inverse_root, b = self.inverse_roots(log_tau)
        inverse = inverse_root.mT @ inverse_root
        return inverse, -(inverse @ b[..., None])[..., 0]

    def inverse_roots(self, log_tau: Floats) -> tuple[Floats, Floats]:
        """G (s, f, f) with GᵀG = A⁻¹, and the gradient (s, f), at ln τ (s, 2)."""
        root, size, b = self._system(log_tau)
        return np.linalg.inv(root) / size[:, None, :], b

    def _system(self, log_tau: Floats) -> tuple[Floats, Floats, Floats]:
        """Cholesky factor (s, f, f) of A scaled to unit diagonal, the scale, and the gradient."""
        precision = np.exp(-2 * log_tau)
        a = self.hessian + np.tensordot(precision, self.forms, axes=1)
        # The penalty may be ten orders of magnitude above the rest.
        size = np.sqrt(np.diagonal(a, axis1=1, axis2=2))
        root = _cholesky(a / (size[:, :, None] * size[:, None, :]))
        return root, size, self.gradient + precision @ self.slopes


def lowest_minimum(density: LogDensity, starts: Floats, lower: Floats, upper: Floats) -> Floats:
    """The lowest of the minima (2,) to which Newton's method leads from starts (s, 2).

    Curvature that is negative counts as positive (Y. Dauphin et al., *NeurIPS*, 2014).
    """
    t, share = starts, np.ones((len(starts), 1))
    value = density.values(t)
    for _ in range(MOST_STEPS):
        slope, curvature = density.derivatives(t)
        at_limit = ((t <= lower) & (slope > 0)) | ((t >= upper) & (slope < 0))
        slope = np.where(at_limit, 0.0, slope)
        curvature = np.where(at_limit[:, :, None] | at_limit[:, None, :], np.eye(2), curvature)
        values, vectors = np.linalg.eigh(curvature)
        along = (slope[:, None, :] @ vectors)[:, 0] / np.maximum(np.abs(values), FLATTEST)
        step = -(vectors @ along[..., None])[..., 0]
        step /= np.maximum(1.0, np.max(np.abs(step), axis=1, keepdims=True) / LONGEST_STEP)
        trial = np.clip(t + share * step, lower, upper)
        if np.all(np.sum(slope * (t - trial), axis=1) < LEAST_DECREASE):
            break
        tried = density.values(trial)
        lower_there = (tried < value)[:, None]
        t, value = np.where(lower_there, trial, t), np.minimum(value, tried)
        share = np.where(lower_there, 1.0, SHORTENED * share)
    return t[np.argmin(value)]


def _cholesky(matrices: Floats) -> Floats:
    """Factors of matrices (s, f, f) of unit diagonal that rounding may have made indefinite."""
    least = matrices.shape[1] * np.finfo(float).eps
    while True:
        try:
            return np.linalg.cholesky(matrices + least * np.eye(matrices.shape[1]))
        except np.linalg.LinAlgError:
            least *= 10


def _means_and_deviations(joint: JointEquations) -> NDArray[np.float64]:
    """Directions in which z is free, each of them one that a single penalty acts on, or none.

    Then the penalties are nearly diagonal, however strong, and drown no digits of the data.
    """
    on_values = joint.scaling.matrix @ joint.free
    form = np.kron(np.diag([1.0, 2.0]), centering_matrix(joint.scaling.n_angles))
    marked = on_values.T @ form @ on_values
    return joint.free @ np.linalg.eigh(marked)[1]
