r"""Bounded nonlinear least squares that never sees a point.

Each step minimises the damped Gauss-Newton model of the cost (Levenberg and Marquardt),

.. math:: m(s) = g^T s + \tfrac12 s^T H s + \tfrac12 \lambda |C s|^2,

inside the box that the bounds on the parameters leave for s. C is the diagonal of square roots of
the curvature, diag H (for a robust loss, of a Hessian that bounds H from above and does not vanish
where all points are outliers); λ follows H. B. Nielsen, *Damping parameter in Marquardt's method*,
IMM-REP-1999-05. With R a square root of the Hessian and :math:`b = -R^{-T} g`, the model is
:math:`\tfrac12 |R s - b|^2 + \tfrac12 \lambda |C s|^2` up to a constant: a linear least-squares
problem in a box of p unknowns, which an active-set method solves exactly. Parameters therefore
land on their bounds, not near them.

The natural measure of what is left to gain is the decrease that the undamped model predicts
within the bounds. A decrease of :math:`\tfrac12 \epsilon^2 \sigma^2`, with
:math:`\sigma^2 = 2\,\mathrm{cost}/(N - p)`, moves the solution by :math:`\epsilon` standard
errors; below that the fit has converged for every practical purpose, whatever N is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import lsq_linear

from nlsq_stratified.normal_equations import Equations

__all__ = ["TrustRegionResult", "solve"]

# Damping at the start, relative to the curvature of each coordinate.
INITIAL_DAMPING = 1e-3

# Relative rounding error of a cost summed over many points. Changes below it say nothing, while
# the gradient still knows the way.
COST_RESOLUTION = 1e-13

# Gradient, relative to the residuals, along directions without curvature: rounding below, more
# than that above.
LOST = 1e-10

# A last step on trust is at most so many times the tolerance long.
TRUSTED = 30.0

# Evaluations without progress after which the search gives up, and how far, in standard errors,
# the gradient may then still point for the end to count as a minimum.
PATIENCE, STALL_DISTANCE = 10, 0.1


@dataclass(frozen=True, eq=False)
class TrustRegionResult:
    """Where the search ended, and how.

    Attributes
    ----------
    x : (p,) float64
    evaluated : (p,) float64
        Where the cost was evaluated last: `x`, but for a last step taken on trust.
    state : Equations
        Cost, gradient and Hessian at `x`; after a step on trust, going by the quadratic model.
    success : bool
        True when one of the convergence tests holds, or when no step lowers the cost any more
        within 0.1 standard errors of where the gradient points (a kink of the model).
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
    evaluated: NDArray[np.float64]
    state: Equations
    success: bool
    message: str
    nit: int
    nfev: int
    cost_initial: float
    active: NDArray[np.int64]


def solve(
    evaluate: Callable[[NDArray[np.float64]], Equations],
    x0: ArrayLike,
    lower: ArrayLike = -np.inf,
    upper: ArrayLike = np.inf,
    *,
    tolerance: float = 1e-4,
    ftol: float = 1e-16,
    xtol: float = 1e-12,
    gtol: float = 0.0,
    max_nfev: int = 100,
    x_scale: ArrayLike | None = None,
    callback: Callable[[int, NDArray[np.float64], Equations, int], None] | None = None,
    trust_last_step: bool = False,
) -> TrustRegionResult:
    """Minimise a sum of squares within bounds.

    Parameters
    ----------
    evaluate : callable
        Parameters (p,) to `Equations`. A cost that is not finite rejects a trial step.
    x0 : (p,) array
        Start; moved into the bounds if outside.
    lower, upper : float or (p,) array
    tolerance : float
        Converged when the solution is this close, in standard errors.
    ftol : float
        Converged when a step can lower the cost by no more than this fraction of it.
    xtol : float
        Converged when a step, scaled by the curvature, is shorter than this fraction of x.
    gtol : float
        Converged when no gradient component that is free to act exceeds this value.
    max_nfev : int
        Evaluations allowed.
    x_scale : float or (p,) array, optional
        Characteristic size of each parameter, in which steps are damped; from the curvature when
        None.
    callback : callable
        Called as ``callback(nit, x, state, nfev)`` after each accepted step; it ends the search
        by raising StopIteration.
    trust_last_step : bool
        Take the step that leads to within `tolerance`, going by how much the one before it
        gained, without evaluating the cost after it: one evaluation less.

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
    damping, growth = INITIAL_DAMPING, 2.0
    progress, distance = _Progress(state, tolerance), np.inf

    def result(
        success: bool, message: str, step: NDArray[np.float64] | None = None
    ) -> TrustRegionResult:
        end, at_end = x, state
        if step is not None:
            end, at_end = np.clip(x + step, lower, upper), state.moved(step)
        return TrustRegionResult(end, x, at_end, success, message, nit, nfev, cost_initial, active)

    while True:
        model = _QuadraticModel(state, lower - x, upper - x, x_scale)
        active = _active(x, state.gradient, lower, upper)
        if message := _converged(model, state, x, active, tolerance, ftol, xtol, gtol):
            if model.lost > LOST and state.n_points > len(x):
                return result(False, "a direction of the parameters is lost to rounding")
            return result(True, message)
        step = model.undamped
        before, distance = distance, model.distance(step, progress.variance)
        trusted = distance <= TRUSTED * tolerance and distance**2 <= tolerance * before
        if trust_last_step and nit > 0 and trusted:
            message = (
                f"within {tolerance:g} standard errors of the minimum, the last {distance:.2g} by "
                "extrapolation"
            )
            return result(True, message, step)
        improved = exhausted = False
        while not improved:
            if nfev >= max_nfev:
                return result(
                    False, f"stopped after {nfev} evaluation{'s' * (nfev > 1)} without converging"
                )
            if exhausted or progress.stalled(nfev):
                left = model.distance(model.undamped, progress.variance)
                return result(
                    bool(left <= STALL_DISTANCE),
                    f"no step lowers the cost any more, {left:.2g} standard errors from where "
                    "the gradient points",
                )
            step = model.step(damping)
            trial_x = np.clip(x + step, lower, upper)
            trial_x = np.where(step <= model.lower, lower, trial_x)
            trial_x = np.where(step >= model.upper, upper, trial_x)
            trial = evaluate(trial_x)
            nfev += 1
            improved = trial.finite and trial.cost <= state.cost * (1 + COST_RESOLUTION)
            if improved:
                gain, actual = model.gain(step), state.cost - trial.cost
                ratio = min(actual / gain, 1.0) if gain > 0 else 1.0
                damping *= max(1 / 3, 1 - (2 * ratio - 1) ** 3)
                growth = 2.0
                x, state, nit = trial_x, trial, nit + 1
                progress.record(state, nfev)
                if callback is not None:
                    try:
                        callback(nit, x.copy(), state, nfev)
                    except StopIteration as stop:
                        return result(False, f"stopped by the callback{_reason(stop)}")
            else:
                exhausted = model.length(step) <= xtol * model.length(x)
                damping, growth = damping * growth, growth * 2


def _reason(stop: StopIteration) -> str:
    return f": {stop}" if str(stop) else ""


class _Progress:
    """Notices when evaluations no longer lower the cost by an amount that matters.

    That happens at a kink of the model, where the gradient never vanishes, and where a cost is
    noisier than its gradient promises.
    """

    def __init__(self, state: Equations, tolerance: float) -> None:
        self.tolerance, self.last = tolerance, 1
        self.cost, self.variance = np.inf, np.inf
        self.record(state, 1)

    def record(self, state: Equations, nfev: int) -> None:
        self.variance = 2 * state.cost / max(1, state.n_points - len(state.gradient))
        if self.cost - state.cost > 0.5 * (10 * self.tolerance) ** 2 * self.variance:
            self.cost, self.last = state.cost, nfev

    def stalled(self, nfev: int) -> bool:
        return nfev - self.last >= PATIENCE


class _QuadraticModel:
    """The Gauss-Newton model at a point x, and its minimum in a box under some damping.

    `lower` and `upper` are what the bounds leave for the step.
    """

    def __init__(
        self,
        state: Equations,
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
        x_scale: ArrayLike | None,
    ) -> None:
        self.factor, self.target = state.linear_problem()
        self.gradient, self.lower, self.upper = state.gradient, lower, upper
        self.curvature = np.linalg.norm(self.factor, axis=0)
        self.scale = np.where(self.curvature > 0, self.curvature, 1.0)
        # Curvature that the damping adds, for each parameter.
        self.damper = np.where(state.majorant > 0, np.sqrt(np.maximum(state.majorant, 0.0)), 1.0)
        if x_scale is not None:
            sizes = np.broadcast_to(np.asarray(x_scale, dtype=np.float64), self.scale.shape)
            self.damper = np.linalg.norm(self.curvature * sizes) / np.sqrt(len(sizes)) / sizes
        left_out = (state.gradient + self.factor.T @ self.target) / self.scale
        self.lost = np.linalg.norm(left_out) / np.sqrt(2 * state.cost) if state.cost else 0.0

    def step(self, damping: float) -> NDArray[np.float64]:
        """Minimum of the damped model in the box."""
        matrix = np.vstack(
            [self.factor / self.scale, np.diag(np.sqrt(damping) * self.damper / self.scale)]
        )
        target = np.concatenate([self.target, np.zeros(len(self.scale))])
        step = np.zeros_like(self.gradient)
        free = self.upper > self.lower
        if np.any(free):
            size, scale = np.linalg.norm(target) or 1.0, self.scale[free]
            lower, upper = self.lower[free], self.upper[free]
            with np.errstate(over="ignore"):
                box = lower * scale / size, upper * scale / size
            best = lsq_linear(matrix[:, free], target / size, box, method="bvls")
            step[free] = best.x * size / scale
            step[free] = np.choose(best.active_mask.astype(int) + 1, [lower, step[free], upper])
        return np.clip(step, self.lower, self.upper)

    @functools.cached_property
    def undamped(self) -> NDArray[np.float64]:
        """Minimum of the model in the box."""
        return self.step(0.0)

    def gain(self, step: NDArray[np.float64]) -> float:
        """Decrease of the cost that the undamped model predicts."""
        return float(-(self.gradient @ step) - 0.5 * np.sum((self.factor @ step) ** 2))

    def distance(self, step: NDArray[np.float64], variance: float) -> float:
        """Length of a step that lowers the model, in standard errors."""
        gain = max(0.0, self.gain(step))
        return float(np.sqrt(2 * gain / variance)) if gain > 0 else 0.0

    def length(self, step: NDArray[np.float64]) -> float:
        """Length scaled by the curvature."""
        return float(np.linalg.norm(self.curvature * step))


def _converged(
    model: _QuadraticModel,
    state: Equations,
    x: NDArray[np.float64],
    active: NDArray[np.int64],
    tolerance: float,
    ftol: float,
    xtol: float,
    gtol: float,
) -> str:
    """Say which convergence test holds, or return an empty string."""
    if np.max(np.abs(state.gradient[active == 0]), initial=0.0) <= gtol:
        return "the gradient vanishes"
    step = model.undamped
    gain = model.gain(step)
    variance = 2 * state.cost / max(1, state.n_points - len(active))
    if gain <= 0.5 * tolerance**2 * variance:
        return f"within {tolerance:g} standard errors of the minimum"
    if model.length(step) <= xtol * model.length(x):
        return "the steps have become too small to matter"
    if gain <= ftol * state.cost:
        return "no step can lower the cost by a resolvable amount"
    return ""


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
