r"""How far contrasts and offsets spread over the angles: learned by evidence.

With :math:`c_k \sim N(\bar c, \tau_c^2)`, :math:`o_k \sim N(\bar o, \tau_o^2)`, flat priors on the
means and on the physics, and the quadratic model of the cost at hand, contrasts, offsets and
physics integrate out in closed form. With :math:`\lambda = 1/\tau^2`, costs in units of the noise
variance and A the Hessian of cost and penalties together,

.. math:: -\ln p(c_2 | \tau_c, \tau_o) = \min(\text{cost} + \text{penalty}) + \tfrac12 \ln\det A
          + (K - 1)(\ln \tau_c + \ln \tau_o).

At its minimum :math:`(K - 1)\tau^2 = \sum(\hat c_k - \bar c)^2 + \mathrm{tr}(A^{-1} Q)`, Q the form
of that sum: the fixed point of expectation maximisation with the joint covariance of physics and
scaling (A. Dempster, N. Laird and D. Rubin, *J. R. Stat. Soc. B* 39, 1, 1977). A quasi-Newton
search finds it where τ is small and the fixed-point iteration crawls.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from homodyne_fit.kernel.elimination import JointEquations
from homodyne_fit.model.scaling import centering_matrix

__all__ = ["ScalingPrior", "fit_scaling_prior"]

# Spreads that are tried, relative to the mean contrast or offset.
NARROWEST = 1e-5
WIDEST = 3.0
# Points of the grid between them.
GRID = 9
# Points of the grid, from the narrowest on, that are searched apart from the others.
FLAT = 3

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
    n_angles, p = joint.scaling.n_angles, joint.n_physics
    of_each = centering_matrix(n_angles)
    forms = [np.kron(np.diag(which), of_each) for which in ((1.0, 0), (0, 1.0))]
    joint = replace(joint, free=_means_and_deviations(joint))
    directions = joint.free_directions(physics)
    with np.errstate(divide="ignore", invalid="ignore"):
        hessian = directions.T @ joint.equations.hessian @ directions / variance
    values = joint.scaling.values(joint.z)
    means = np.maximum(np.abs([np.mean(half) for half in np.split(values, 2)]), 1e-3)
    if not (variance > 0 and np.all(np.isfinite(hessian))):
        # Without numbers there is nothing to weigh a spread against.
        contrast, offset = (NARROWEST * means).tolist()
        return ScalingPrior(contrast, offset, 0.0, 0.0)
    curvature = np.diag(hessian)
    largest = max(float(curvature.max()), np.finfo(float).tiny)
    scale = np.sqrt(np.where(curvature > NO_EFFECT * largest, curvature, largest))
    hessian = hessian / np.outer(scale, scale) + 1e-13 * np.eye(len(scale))
    gradient = directions.T @ joint.equations.gradient / variance / scale
    to_values = joint.scaling.matrix @ directions[p:] / scale
    inner = [to_values.T @ form @ to_values for form in forms]
    slopes = [to_values.T @ form @ values for form in forms]
    squares = [values @ form @ values for form in forms]

    def evaluate(log_tau: NDArray[np.float64]) -> tuple[float, NDArray[np.float64], float]:
        """Minus the log evidence, its derivatives, and the squared distance to the minimum."""
        precision = np.exp(-2 * log_tau)
        a = hessian + sum(w * q for w, q in zip(precision, inner, strict=True))
        b = gradient + sum(w * s for w, s in zip(precision, slopes, strict=True))
        # The penalty may be ten orders of magnitude above the rest.
        size = np.sqrt(np.diag(a))
        factor = _cholesky(a / np.outer(size, size))
        step = -scipy.linalg.cho_solve(factor, b / size) / size
        penalty = 0.5 * float(precision @ squares)
        log_determinant = 2 * (np.log(np.diag(factor[0])).sum() + np.log(size).sum())
        value = penalty + 0.5 * b @ step + 0.5 * log_determinant + (n_angles - 1) * log_tau.sum()
        spread = [
            square
            + 2 * slope @ step
            + step @ q @ step
            + np.trace(scipy.linalg.cho_solve(factor, q / np.outer(size, size)))
            for square, slope, q in zip(squares, slopes, inner, strict=True)
        ]
        return float(value), (n_angles - 1) - precision * spread, float(-b @ step)

    lower, upper = np.log(NARROWEST * means), np.log(WIDEST * means)
    # Where a spread is too narrow to matter the evidence is flat, and a search would not leave.
    axes, searches = np.linspace(lower, upper, GRID), []
    for wide in itertools.product((False, True), repeat=2):
        halves = [axes[FLAT:, i] if w else axes[:FLAT, i] for i, w in enumerate(wide)]
        start = min(itertools.product(*halves), key=lambda point: evaluate(np.array(point))[0])
        search = scipy.optimize.minimize(
            lambda point: evaluate(point)[:2],
            np.array(start),
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(lower, upper, strict=True)),
            options={"ftol": 1e-14, "gtol": 1e-8},
        )
        searches.append(search)
    best = min(searches, key=lambda search: search.fun).x
    value, _, squared_distance = evaluate(best)
    return ScalingPrior(
        contrast=float(np.exp(best[0])),
        offset=float(np.exp(best[1])),
        log_evidence=evaluate(lower)[0] - value,
        distance=float(np.sqrt(max(0.0, squared_distance))),
    )


def _cholesky(matrix: NDArray[np.float64]) -> Any:
    """`cho_factor` of a matrix of unit diagonal that rounding may have made indefinite."""
    least = len(matrix) * np.finfo(float).eps
    while True:
        try:
            return scipy.linalg.cho_factor(matrix + least * np.eye(len(matrix)))
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
