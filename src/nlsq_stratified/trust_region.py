r"""Bounded nonlinear least squares that never sees a point.

Each step minimises the Gauss-Newton model of the cost

.. math:: m(s) = g^T s + \tfrac12 s^T H s

inside the intersection of two boxes: the bounds on the parameters, and a trust region
:math:`|d_i s_i| \le \Delta` in units scaled by :math:`d = \sqrt{\operatorname{diag} H}`
(J. J. Moré, *The Levenberg-Marquardt algorithm: implementation and theory*, 1978, for the
scaling; the box in place of the ellipsoid makes the two constraints one). With R a square root
of the scaled Hessian and :math:`b = -R^{-T} g`, the model is :math:`\tfrac12 |R s - b|^2` up to
a constant: a linear least-squares problem in a box of p unknowns, which an active-set method
solves exactly. Parameters therefore land on their bounds, not near them.

The natural measure of what is left to gain is the decrease that the model predicts when only
the bounds hold. A decrease of :math:`\tfrac12 \epsilon^2 \sigma^2`, with
:math:`\sigma^2 = 2\,\mathrm{cost}/(N - p)`, moves the solution by :math:`\epsilon` standard
errors; below that the fit has converged for every practical purpose, whatever N is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import lsq_linear

from nlsq_stratified.normal_equations import NormalEquations

__all__ = ["TrustRegionResult", "solve"]

EPS = np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False)
class TrustRegionResult:
    """Where the search ended, and how.

    Attributes
    ----------
    x : (p,) float64
    state : NormalEquations
        Cost, gradient and Hessian at `x`.
    success : bool
        True when one of the convergence tests holds.
    message : str
        Which test held, or why the search stopped without one.
    nit, nfev : int
        Accepted steps, and evaluations of the cost (each one pass over the data).
    cost_initial : float
    active : (p,) int
        -1 where x sits at its lower bound and the cost would fall below it, 1 likewise above,
        else 0.
    """

    x: NDArray[np.float64]
    state: NormalEquations
    success: bool
    message: str
    nit: int
    nfev: int
    cost_initial: float
    active: NDArray[np.int64]


def solve(
    evaluate: Callable[[NDArray[np.float64]], NormalEquations],
    x0: ArrayLike,
    lower: ArrayLike = -np.inf,
    upper: ArrayLike = np.inf,
    *,
    tolerance: float = 1e-4,
    ftol: float = 1e-15,
    xtol: float = 1e-12,
    gtol: float = 0.0,
    max_nfev: int = 100,
) -> TrustRegionResult:
    """Minimise a sum of squares within bounds.

    Parameters
    ----------
    evaluate : callable
        Parameters (p,) to `NormalEquations`. A cost that is not finite rejects a trial step.
    x0 : (p,) array
        Start; moved into the bounds if outside.
    lower, upper : float or (p,) array
    tolerance : float
        Converged when the solution is this close, in standard errors.
    ftol : float
        Converged when a step can lower the cost by no more than this fraction of it.
    xtol : float
        Converged when an accepted step moves x by less than this fraction of its scaled norm.
    gtol : float
        Converged when no gradient component that is free to act exceeds this value.
    max_nfev : int
        Evaluations allowed.

    Raises
    ------
    ValueError
        If the cost at the start is not finite, or bounds are not ordered.
    """
    x = np.array(x0, dtype=np.float64)
    lower, upper = (np.broadcast_to(np.asarray(b, np.float64), x.shape) for b in (lower, upper))
    if np.any(lower > upper):
        raise ValueError(f"a lower bound exceeds the upper one: {lower} > {upper}")
    x = np.clip(x, lower, upper)
    state = evaluate(x)
    if not state.finite:
        raise ValueError(f"the model is not finite at the start {x.tolist()}")
    cost_initial, nit, nfev = state.cost, 0, 1
    radius, small_step = np.inf, False

    while True:
        d, factor = state.scaled_factor()
        bounded, bounded_gain = _step(d, factor, state.gradient, lower - x, upper - x, np.inf)
        active = _active(x, state.gradient, lower, upper)
        variance = 2 * state.cost / max(1, state.n_points - len(x))
        if np.max(np.abs(state.gradient[active == 0]), initial=0.0) <= gtol:
            message, success = "the gradient vanishes", True
        elif bounded_gain <= 0.5 * tolerance**2 * variance:
            message, success = f"within {tolerance:g} standard errors of the minimum", True
        elif bounded_gain <= ftol * state.cost:
            message, success = "no step can lower the cost by a resolvable amount", True
        elif small_step:
            message, success = "the steps have become too small to matter", True
        elif nfev >= max_nfev:
            message, success = f"stopped after {nfev} evaluations without converging", False
        else:
            message, success = "", False
        if message:
            return TrustRegionResult(
                x, state, success, message, nit, nfev, cost_initial, active
            )

        if not np.isfinite(radius):
            radius = max(np.linalg.norm(d * x), 1.0)
        while nfev < max_nfev:
            step, gain = bounded, bounded_gain
            if np.max(np.abs(d * step)) > radius:
                step, gain = _step(d, factor, state.gradient, lower - x, upper - x, radius)
            trial_x = np.clip(x + step, lower, upper)
            trial = evaluate(trial_x)
            nfev += 1
            actual = state.cost - trial.cost if trial.finite else -np.inf
            length = np.max(np.abs(d * step))
            if actual < 0.25 * gain:
                radius = 0.25 * length
            elif actual > 0.75 * gain:
                radius = max(radius, 2 * length)
            small_step = length <= xtol * (xtol + np.linalg.norm(d * x))
            if actual > 0:
                x, state, nit = trial_x, trial, nit + 1
                break
            if small_step:
                break


def _step(
    d: NDArray[np.float64],
    factor: NDArray[np.float64],
    gradient: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    radius: float,
) -> tuple[NDArray[np.float64], float]:
    """Minimise the quadratic model in the box; return the step and the decrease it predicts.

    `lower` and `upper` are the distances to the bounds, `radius` the trust radius in scaled
    units.
    """
    scaled_gradient = gradient / d
    # R has rows √λ·v, so R⁻ᵀg has entries (v·g)/√λ; rows without curvature carry no gradient.
    norms = np.einsum("ij,ij->i", factor, factor)
    b = -(factor @ scaled_gradient) / np.where(norms > 0, norms, 1.0)
    low = np.maximum(lower * d, -radius)
    high = np.minimum(upper * d, radius)
    free = high > low
    step = np.zeros_like(gradient)
    if np.any(free):
        solution = lsq_linear(factor[:, free], b, (low[free], high[free]), method="bvls")
        step[free] = solution.x
    gain = -(scaled_gradient @ step) - 0.5 * np.sum((factor @ step) ** 2)
    return step / d, float(gain)


def _active(
    x: NDArray[np.float64],
    gradient: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Mark parameters that sit at a bound with the cost falling beyond it."""
    below = (x <= lower) & (gradient > 0)
    above = (x >= upper) & (gradient < 0)
    return above.astype(np.int64) - below.astype(np.int64)
