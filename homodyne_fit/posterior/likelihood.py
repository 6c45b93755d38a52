r"""The likelihood of the physics, adjusted to the noise of speckles and photons.

With the cost C(y), contrast and offset at their best, the log likelihood of independent points is
:math:`-C/\sigma^2`. Neighbouring points share noise, so that it is too narrow.
With H the Hessian and V the covariance of the score, both with contrast and offset eliminated, the
estimate has the covariance :math:`H^{-1} V H^{-1}` instead of :math:`\sigma^2 H^{-1}`. The rise of
the cost is scaled so that this is the curvature,

.. math:: \ell(y) = -r(\delta)\,\frac{C(y) - C(\hat y)}{\sigma^2}, \qquad
          r(\delta) = \sigma^2 \frac{\delta^T H V^{-1} H \delta}{\delta^T H \delta},
          \qquad \delta = y - \hat y,

the vertical adjustment of R. Chandler and S. Bate, *Biometrika* 94, 167 (2007): where the cost is
no parabola it keeps its shape, at the scale that the noise has, and priors come on top of it.

Let P hold the directions in which H is :math:`\sigma^2`, :math:`P^T H P = \sigma^2`. Then
:math:`W = P^T V P/\sigma^4` is 1 for independent points, and with :math:`u = P^T H \delta/\sigma^2`
the ratio is :math:`r = u^T W^{-1} u / u^T u`. Directions that the data leave open are not in P.

Contrast and offset are linear: at given y they are normal. Their mean is z(y) of least squares and
a term linear in u, their covariance :math:`R^{-T} \hat S R^{-1}` with
:math:`R R^T = H_{zz}(y)/\sigma^2`: for independent points that term
vanishes and Ŝ is 1. With :math:`G = V_{zy} - V_{zz} H_{zz}^{-1} H_{zy}` both follow from the joint
normal distribution of the scores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import numpy as np
from numpy.typing import NDArray

from homodyne_fit.errors import InputError
from homodyne_fit.fitting.residuals import Residuals
from homodyne_fit.fitting.result import Uncertainty
from homodyne_fit.fitting.score_noise import NoiseOfPoints, noise_of_points
from homodyne_fit.fitting.search.samples import Sample
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.scaling import ScalingMap
from nlsq_stratified import solve

__all__ = ["Adjustment", "Center", "adjustment_of", "find_center", "posterior_space"]

Floats = NDArray[np.float64]

# Distance from the minimum, in standard errors of independent points.
TOLERANCE = 0.01

MOST_NFEV = 100

# Curvature, relative to the largest one of unit diagonal, of a direction that the data leave open.
OPEN = 1e-10


@dataclass(frozen=True, eq=False)
class Center:
    """The minimum of the cost without bounds of contrast and offset and without a penalty.

    Attributes
    ----------
    solution : Solution
    noise : NoiseOfPoints
    """

    solution: Solution
    noise: NoiseOfPoints

    @property
    def objective(self) -> TwoTimeObjective:
        return self.solution.objective

    @property
    def space(self) -> SearchSpace:
        return self.solution.space

    @property
    def y(self) -> Floats:
        return self.solution.result.x


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Adjustment:
    """What turns the cost of independent points into the likelihood; see the head of this module.

    Attributes
    ----------
    y : (m,) array
        ŷ.
    cost, variance : float
        C(ŷ) and σ².
    to_white : (l, m) array
        From δ to u.
    precision : (l, l) array
        W⁻¹.
    shift : (mz, l) array
        From u to what is added to z(y).
    scaling_precision : (mz, mz) array
        Ŝ⁻¹.
    """

    y: Floats
    cost: float
    variance: float
    to_white: Floats
    precision: Floats
    shift: Floats
    scaling_precision: Floats


def posterior_space(space: SearchSpace) -> SearchSpace:
    """The space of the posterior: the forms of the rates that the fit took.

    Of a rate that the data do not reject to be constant the exponent is free all the same, as in
    the standard errors of the fit.
    """
    fixed = space.fixed.copy()
    for law in space.power_laws:
        if law + 1 in space.assumed:
            fixed[law + 1] = np.nan
        if law + 2 in space.assumed:
            fixed[law + 2] = 0.0
    return replace(space, fixed=fixed, limited=frozenset(), held={})


def unlimited(scaling: ScalingMap) -> ScalingMap:
    """A map without limits and without a penalty."""
    infinite = np.full(len(scaling.constant), np.inf)
    return replace(scaling, lower=-infinite, upper=infinite, penalty_weights=(0.0, 0.0))


def find_center(
    sample: Sample,
    objective: TwoTimeObjective,
    space: SearchSpace,
    start: Floats,
    uncertainty: Uncertainty,
    threads: int | None = None,
) -> Center:
    """Minimise from coordinates of the space of a posterior.

    Parameters
    ----------
    sample : Sample
        All points.
    objective : TwoTimeObjective
    space : SearchSpace
    start : (m,) array
    uncertainty : Uncertainty
        The noise that a fit found.
    threads : int, optional
        One for each processor when None.

    Raises
    ------
    InputError
        If the model is not finite at the start.
    """
    objective = replace(objective, scaling=unlimited(objective.scaling))
    lower, upper = space.limits
    start = np.clip(start, lower, upper)
    try:
        found = solve(
            sample.cost_function(objective, space),
            start,
            lower,
            upper,
            tolerance=TOLERANCE,
            max_nfev=MOST_NFEV,
            sizes=space.sizes(start),
        )
    except ValueError as error:
        raise InputError(f"the posterior cannot start from the fit: {error}") from error
    # What the data know does not depend on bounds.
    found = replace(found, active=np.zeros_like(found.active))
    solution = sample.solution(objective, space, found)
    speckle = uncertainty.speckle
    residuals = None if speckle is None else Residuals.at(solution, sample)
    noise = noise_of_points(solution, solution, residuals, uncertainty.model, threads)
    if noise.speckle is not None:
        noise = replace(noise, speckle=speckle)
    return Center(solution, noise)


def adjustment_of(center: Center) -> Adjustment:
    """The adjustment of the likelihood at its maximum."""
    joint, variance = center.solution.joint, center.noise.variance
    m = joint.n_physics
    h, v = joint.equations.hessian, center.noise.score_covariance(center.solution)
    h_zz, h_zy = h[m:, m:], h[m:, :m]
    along = np.linalg.solve(h_zz, h_zy)
    reduced = h[:m, :m] - h_zy.T @ along
    project = np.concatenate([np.eye(m), -along.T], axis=1)
    v_reduced = project @ v @ project.T
    basis = _whitening(reduced, variance)
    w = basis.T @ v_reduced @ basis / variance**2
    precision = np.linalg.inv((w + w.T) / 2)
    to_white = basis.T @ reduced / variance
    g = (v @ project.T)[m:]
    inverse = np.linalg.inv(h_zz)
    coupling = inverse @ g @ basis
    shift = coupling @ precision / variance
    s = inverse @ v[m:, m:] @ inverse - coupling @ precision @ coupling.T / variance**2
    root = np.linalg.cholesky(h_zz / variance)
    relative = root.T @ s @ root
    return Adjustment(
        center.y,
        joint.equations.cost,
        variance,
        to_white,
        precision,
        shift,
        np.linalg.inv((relative + relative.T) / 2),
    )


def _whitening(hessian: Floats, variance: float) -> Floats:
    """P (m, l) with Pᵀ H P = σ², over the directions that the data know."""
    size = np.sqrt(np.maximum(np.diag(hessian), 0.0))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(hessian / np.outer(size, size))
    known = values > OPEN
    return vectors[:, known] / size[:, None] * np.sqrt(variance / values[known])
