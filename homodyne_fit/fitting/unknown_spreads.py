r"""Errors where the spread of contrasts and offsets over the angles was learned.

The fit ends at the minimum :math:`\hat x` for the most probable spreads :math:`\hat\tau`. Other
spreads are probable, too: with a prior of :math:`\tau`, their evidence gives
:math:`p(\tau | c_2)`. At given spreads the minimum is at :math:`x(\tau)`, with the covariance
:math:`C(\tau) = A^{-1} V A^{-1}`, A being the Hessian of cost and penalties there and V the
covariance of the score. So the mean square of the deviation of what is reported is

.. math:: E_\tau\!\left[C(\tau) + (x(\tau) - \hat x)(x(\tau) - \hat x)^T\right].

To the second order around a maximum of the evidence this is the correction of R. E. Kass,
D. Steffey, *J. Am. Stat. Assoc.* 84, 717 (1989), for estimates whose prior is itself estimated
(C. N. Morris, *J. Am. Stat. Assoc.* 78, 47 (1983)). But where the angles differ by no more than the
error of one of them, the evidence often has its maximum at :math:`\tau = 0`, where nothing depends
on :math:`\ln\tau`, and is far from normal everywhere else. Therefore the mean is taken over nodes
in :math:`\ln\tau`: equal steps along the principal axes of the curvature at the mode of

.. math:: \ln p(\ln\tau | c_2) = \ln p(c_2 | \tau)
          + \sum_i \left[\ln\tau_i - \ln(1 + \tau_i^2/s_i^2)\right] + \text{const}.

The sum over equal steps converges as fast as that of Gauss and Hermite for a normal distribution,
and faster for one with long tails (L. N. Trefethen, J. A. C. Weideman, *SIAM Rev.* 56, 385 (2014)).

The prior is a half-Cauchy distribution with a typical spread :math:`s_i` as its median, as in
`homodyne_fit.posterior`: flat where the data tell anything (A. Gelman, *Bayesian Anal.* 1, 515
(2006)). Everything is linear in the equations at the solution; no point is looked at again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.layers.evidence import Evidence, lowest_minimum, spread_limits
from homodyne_fit.kernel.elimination import JointEquations
from homodyne_fit.model.scaling import LEAST_MEAN, TYPICAL_SPREAD

__all__ = ["root_with_unknown_spreads"]

Floats = NDArray[np.float64]

# Nodes along each axis, and the step from one to the next in standard deviations by the curvature.
NODES = 9
STEP = 1.25

# Standard deviation of ln τ that counts at most.
BROADEST = 4.0

# Nodes of less than this part of the largest weight are left out.
LEAST_WEIGHT = 1e-4


def root_with_unknown_spreads(
    joint: JointEquations,
    physics: NDArray[np.bool_],
    null: Floats,
    of_points: Floats,
    variance: float,
) -> Floats | None:
    """Square root (p + m, f) of the mean square deviation of physics and z.

    Parameters
    ----------
    joint : JointEquations
        At the solution or near it, with the penalty of the most probable spreads.
    physics : (p,) bool
        The physics parameters that can move.
    null : (p + m, n) array
        Directions that the equations leave open.
    of_points : (p + m, p + m) array
        Covariance of the gradient of the cost by the noise of the points.
    variance : float
        A penalty over this is a precision.

    Returns
    -------
    root : (p + m, f) array or None
        None where there is no noise to weigh spreads against.
    """
    evidence = Evidence.of(_without_penalty(joint), physics, variance)
    if evidence is None:
        return None
    evidence = _closed(evidence, null)
    contrast, offset = joint.scaling.values(joint.z).reshape(2, -1).mean(axis=1)
    sizes = np.maximum(np.abs([contrast, offset]), LEAST_MEAN)
    posterior = _PosteriorOfSpreads(evidence, np.log(np.array(TYPICAL_SPREAD) * sizes))
    lower, upper = spread_limits(joint)
    most_probable = 0.5 * np.log(variance / np.array(joint.scaling.penalty_weights))[None]
    mode = lowest_minimum(posterior, np.clip(most_probable, lower, upper), lower, upper)
    nodes, weights = _nodes(posterior, mode, lower, upper)

    inverse, minimum = evidence.minima(nodes)
    # The equations of a larger form of the rates are those at the minimum of a smaller one.
    deviation = minimum - evidence.minima(most_probable)[1]
    of_prior = np.tensordot(np.exp(-2 * nodes), evidence.forms, axes=1)
    v = evidence.outward.T @ of_points @ evidence.outward / variance**2 + of_prior
    squares = inverse @ v @ inverse + deviation[:, :, None] * deviation[:, None, :]
    mean_square = np.tensordot(weights, squares, axes=1)
    # In coordinates in which A is 1 at the mode all directions are of one size.
    to_unit = evidence.inverse_roots(mode[None])[0][0]
    back = np.linalg.inv(to_unit)
    values, vectors = np.linalg.eigh(back.T @ mean_square @ back)
    return evidence.outward @ to_unit.T @ vectors * np.sqrt(np.maximum(values, 0.0))


@dataclass(frozen=True, eq=False)
class _PosteriorOfSpreads:
    """Minus the logarithm of the posterior density of ln τ.

    Attributes
    ----------
    evidence : Evidence
    typical : (2,) array
        ln of the medians of the prior.
    """

    evidence: Evidence
    typical: Floats

    def values(self, log_tau: Floats) -> Floats:
        """Values (s,) at ln τ (s, 2)."""
        of_prior = np.logaddexp(0.0, 2 * (log_tau - self.typical)) - log_tau
        return self.evidence.values(log_tau) + of_prior.sum(axis=1)

    def derivatives(self, log_tau: Floats) -> tuple[Floats, Floats]:
        """First (s, 2) and second (s, 2, 2) derivatives."""
        first, second = self.evidence.derivatives(log_tau)
        share = 1 / (1 + np.exp(-2 * (log_tau - self.typical)))
        second[:, [0, 1], [0, 1]] += 4 * share * (1 - share)
        return first + 2 * share - 1, second


def _nodes(
    posterior: _PosteriorOfSpreads, mode: Floats, lower: Floats, upper: Floats
) -> tuple[Floats, Floats]:
    """ln τ (s, 2) around the mode (2,) and within limits, and their weights (s,)."""
    curvature = posterior.derivatives(mode[None])[1][0]
    values, vectors = np.linalg.eigh(curvature)
    axes = STEP * vectors / np.sqrt(np.maximum(values, BROADEST**-2))
    steps = np.arange(NODES) - NODES // 2
    nodes = mode + np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) @ axes.T
    nodes = nodes[np.all((nodes >= lower) & (nodes <= upper), axis=1)]
    minus_log = posterior.values(nodes)
    weights = np.exp(minus_log.min() - minus_log)
    kept = weights > LEAST_WEIGHT
    return nodes[kept], weights[kept] / weights[kept].sum()


def _without_penalty(joint: JointEquations) -> JointEquations:
    """The equations of the points alone."""
    p, root = joint.n_physics, joint.scaling.penalty_root
    hessian, gradient = joint.equations.hessian.copy(), joint.equations.gradient.copy()
    hessian[p:, p:] -= root.T @ root
    gradient[p:] -= root.T @ (root @ joint.z)
    return replace(joint, equations=replace(joint.equations, hessian=hessian, gradient=gradient))


def _closed(evidence: Evidence, null: Floats) -> Evidence:
    """With some curvature along directions (p + m, n) that the equations leave open."""
    if not null.shape[1]:
        return evidence
    along = np.linalg.qr(np.linalg.pinv(evidence.outward) @ null)[0]
    return replace(evidence, hessian=evidence.hessian + along @ along.T)
