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

The natural measure of what is left to gain is the decrease that the undamped model allows within
the bounds. A decrease of :math:`\tfrac12 \epsilon^2 \sigma^2`, with
:math:`\sigma^2 = 2\,\mathrm{cost}/(N - p)`, moves the solution by :math:`\epsilon` standard
errors; below that the fit has converged for every practical purpose, whatever N is. What counts is
an upper bound on the decrease that follows from the gradient and the bounds alone (by convexity),
so that a step which was not found, or did not help, is never taken for a minimum.

Where a parameter has no effect to first order (an angle at which the model is stationary, say) the
Gauss-Newton Hessian JᵀJ lacks the curvature that the residuals give, and its steps lead astray. If
the search gets stuck, the Hessian is therefore taken from differences of the gradient: p
evaluations for each further step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.normal_equations import Equations, NormalEquations
from nlsq_stratified.solver.box import possible_decrease, solve_in_box
from nlsq_stratified.solver.kinks import NearbyGradients

__all__ = ["TrustRegionResult", "solve"]

# Damping at the start, relative to the curvature of each coordinate; and that where the cost curves
# less than its majorant, as with a robust loss, whose own curvature may lead far astray.
INITIAL_DAMPING, INITIAL_DAMPING_ROBUST = 1e-3, 1.0

# Share of the largest curvature by a parameter below which its damping never falls.
REMEMBERED = 1e-3

# Relative rounding error of a cost summed over many points. Changes below it say nothing, while
# the gradient still knows the way.
COST_RESOLUTION = 1e-13

# Gradient, relative to the residuals, along directions without curvature: rounding below, more
# than that above.
LOST = 1e-10

# A last step on trust is at most so many times the tolerance long.
TRUSTED = 30.0

# Trial steps without progress after which the search changes its model of the cost; and those with
# the other model after which it gives up.
PATIENCE, PATIENCE_DIFFERENCED = 10, 5

# Trial steps with the other model, at the most: Newton's method needs few.
MOST_DIFFERENCED_STEPS = 30

# Trial steps after which a minimum that the model sees so near, in standard errors, should have
# been reached, were its steps not damped so much.
LONG_SEARCH, NEAR, STRONG_DAMPING = 40, 10.0, 1.0

# How far, in standard errors, the minimum of the model may be away from where the search got stuck
# for that to count as a minimum.
STALL_DISTANCE = 0.1

# How far, in standard errors, the gradients on both sides of a kink may point away from a minimum
# there. Beyond, the end is no success: standard errors mean nothing at such a kink.
LARGEST_KINK = 2.0

# Unknowns up to which the Hessian is taken from differences of the gradient, and how long these
# differences are: in standard errors, and relative to a parameter or to the width of its bounds.
MOST_DIFFERENCED = 20
# Least singular value of the scaled Jacobian that differences of the gradient still tell.
LEAST_DIFFERENCED = 1e-6
DIFFERENCE, RELATIVE_DIFFERENCE = 0.1, 1e-3


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
        True when one of the convergence tests holds at `x`, or when no step lowers the cost any
        more and the minimum of the quadratic model within the bounds is at most 0.1 standard
        errors away (a kink of the model).
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
    sizes: ArrayLike | None = None,
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
    sizes : (p,) array, optional
        By how much each parameter must change to make a difference of order one; infinite where
        that is not known. A parameter without effect to first order is then damped all the same.
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
    search = _Search(evaluate, np.clip(x, lower, upper), lower, upper, max_nfev)
    search.x_scale, search.sizes = x_scale, None if sizes is None else np.asarray(sizes, float)
    tests = _Tests(tolerance, ftol, xtol, gtol, trust_last_step)
    return _run(search, tests, callback)


def _run(
    search: _Search,
    tests: _Tests,
    callback: Callable[[int, NDArray[np.float64], Equations, int], None] | None,
) -> TrustRegionResult:
    progress, differenced = _Progress(search, tests.tolerance), False
    while True:
        equations = search.state
        if differenced:
            if search.nfev + len(search.x) > search.max_nfev:
                return search.out_of_evaluations()
            if (equations := search.differenced_equations(progress.variance)) is None:
                return search.stuck(differenced=False)
        model = search.model(equations)
        if message := tests.converged(model, search):
            if not model.lost or search.state.n_points <= len(search.x):
                return search.result(True, message)
            if differenced or len(search.x) > MOST_DIFFERENCED:
                return search.result(False, "a direction of the parameters is lost to rounding")
            differenced = True
            continue
        if message := tests.trusted(model, search, progress.variance):
            return search.result(True, message, model.step(search.damping))
        taken = search.descend(model, tests.xtol, progress.last)
        if not taken or progress.stalled(search):
            distance = search.distance()
            if (along := search.model_along_kink(progress.variance)) is not None:
                at_kink = along.distance(progress.variance) <= STALL_DISTANCE and not along.lost
                if at_kink and distance <= LARGEST_KINK:
                    return search.result(
                        True,
                        f"at a kink, where the gradient jumps by {distance:.2g} standard errors",
                    )
                search.restart_damping()
                taken = search.descend(along, tests.xtol, search.trials) or taken
        if search.nfev >= search.max_nfev:
            return search.out_of_evaluations()
        if taken:
            progress.record(search)
            if callback is not None:
                try:
                    callback(search.nit, search.x.copy(), search.state, search.nfev)
                except StopIteration as stop:
                    return search.result(False, f"stopped by the callback{_reason(stop)}")
        stuck = not taken or progress.stalled(search)
        other_model = not differenced and len(search.x) <= MOST_DIFFERENCED
        if stuck and not other_model:
            return search.stuck(differenced)
        if other_model and (stuck or search.misled(model.distance(progress.variance))):
            differenced = True
            search.restart_damping()
            progress.restart(search, PATIENCE_DIFFERENCED, MOST_DIFFERENCED_STEPS)


class _Search:
    """Where the search is: x, the equations there, the damping, and what it has cost so far."""

    def __init__(
        self,
        evaluate: Callable[[NDArray[np.float64]], Equations],
        x: NDArray[np.float64],
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
        max_nfev: int,
    ) -> None:
        self.evaluate, self.lower, self.upper, self.max_nfev = evaluate, lower, upper, max_nfev
        self.x_scale: ArrayLike | None = None
        self.sizes: NDArray[np.float64] | None = None
        self.x, self.state = x, evaluate(x)
        if not self.state.finite:
            raise ValueError(f"the model is not finite at the start {x.tolist()}")
        self.cost_initial, self.nit, self.nfev = self.state.cost, 0, 1
        self.trials, self.last_step = 0, np.zeros_like(x)
        self.nearby = NearbyGradients()
        self.largest_majorant = np.zeros_like(x)
        self.restart_damping()

    @property
    def active(self) -> NDArray[np.int64]:
        """Marks parameters that sit at a bound with the cost falling beyond it."""
        below = (self.x <= self.lower) & (self.state.gradient > 0)
        above = (self.x >= self.upper) & (self.state.gradient < 0)
        return above.astype(np.int64) - below.astype(np.int64)

    def restart_damping(self) -> None:
        """Damp as at the start of a search."""
        self.damping, self.growth = _initial_damping(self.state), 2.0

    def model(self, equations: Equations) -> _QuadraticModel:
        """The model of the cost at x.

        The curvature that damps it remembers the largest one met so far (J. Moré, *Lecture Notes
        in Mathematics* 630, 105, 1978), since that by a parameter may vanish where its effect is
        stationary. For the same reason it is not far below that by other parameters, each in its
        size.
        """
        self.largest_majorant = np.maximum(self.largest_majorant, equations.majorant)
        majorant = np.maximum(equations.majorant, REMEMBERED * self.largest_majorant)
        if self.sizes is not None:
            sized = np.isfinite(self.sizes)
            largest = np.max(majorant[sized] * self.sizes[sized] ** 2, initial=0.0)
            majorant = np.maximum(majorant, REMEMBERED * largest / self.sizes**2)
        lower, upper = self.lower - self.x, self.upper - self.x
        return _QuadraticModel(equations, lower, upper, majorant, self.x_scale)

    def distance(self) -> float:
        """Of the minimum of the Gauss-Newton model, in standard errors."""
        return self.model(self.state).distance(_variance(self.state))

    def model_along_kink(self, variance: float) -> _QuadraticModel | None:
        """The model with the shortest combination of the gradients nearby, or None."""
        model = self.model(self.state)
        gradient = self.nearby.shortest(
            self.x,
            self.state.gradient,
            model.factor,
            self.active == 0,
            model.damper,
            STALL_DISTANCE * math.sqrt(variance),
        )
        if gradient is None:
            return None
        state = self.state
        equations = NormalEquations(
            state.cost, gradient, state.hessian, state.n_points, state.rounding
        )
        return self.model(equations)

    def descend(self, model: _QuadraticModel, xtol: float, since: int) -> bool:
        """Damp the step of the model until it lowers the cost.

        False if it has not within `PATIENCE` trials, counted from trial `since` on, or before it
        was too short to matter.
        """
        shortest = xtol * model.length(self.x)
        while self.nfev < self.max_nfev:
            if self.step(model):
                return True
            if self.trials - since >= PATIENCE or model.length(self.last_step) <= shortest:
                return False
        return False

    def step(self, model: _QuadraticModel) -> bool:
        """Try a damped step; whether it was taken. The damping follows what came of it."""
        self.last_step = step = model.step(self.damping)
        trial_x = np.clip(self.x + step, self.lower, self.upper)
        trial_x = np.where(step <= model.lower, self.lower, trial_x)
        trial_x = np.where(step >= model.upper, self.upper, trial_x)
        trial = self.evaluate(trial_x)
        self.nfev, self.trials = self.nfev + 1, self.trials + 1
        if trial.finite:
            self.nearby.add(trial_x, trial.gradient)
        resolution = max(COST_RESOLUTION * self.state.cost, self.state.rounding)
        if not (trial.finite and trial.cost <= self.state.cost + resolution):
            self.damping, self.growth = self.damping * self.growth, self.growth * 2
            return False
        gain, actual = model.gain(step), self.state.cost - trial.cost
        ratio = min(actual / gain, 1.0) if gain > resolution else 1.0
        self.damping *= max(1 / 3, 1 - (2 * ratio - 1) ** 3)
        self.growth = 2.0
        self.x, self.state, self.nit = trial_x, trial, self.nit + 1
        return True

    def differenced_equations(self, variance: float) -> NormalEquations | None:
        """The equations at x with a Hessian from differences of the gradient, made positive.

        None where the gradient is not finite nearby, and where a direction that the factor of the
        Gauss-Newton Hessian still tells would be lost in differences. Along directions of negative
        curvature its absolute value stands (Y. Dauphin et al., *NeurIPS*, 2014): steps then lead
        away from a saddle.
        """
        if _least_told(self.state) < LEAST_DIFFERENCED:
            return None
        hessian = self.state.hessian.copy()
        diagonal = np.sqrt(np.maximum(np.diag(hessian), 0.0))
        width = np.where(np.isfinite(self.upper - self.lower), self.upper - self.lower, 1.0)
        for j in np.flatnonzero(self.upper > self.lower):
            length = RELATIVE_DIFFERENCE * (abs(self.x[j]) + min(1.0, width[j]))
            if diagonal[j] > 0:
                length = min(length, DIFFERENCE * math.sqrt(variance) / diagonal[j])
            there = self.x.copy()
            there[j] += length if self.x[j] + length <= self.upper[j] else -length
            shift = there[j] - self.x[j]
            other = self.evaluate(there)
            self.nfev += 1
            if not (shift and other.finite):
                return None
            hessian[:, j] = (other.gradient - self.state.gradient) / shift
        hessian = 0.5 * (hessian + hessian.T)
        size = np.sqrt(np.maximum(np.abs(np.diag(hessian)), diagonal**2))
        size = np.where(size > 0, size, 1.0)
        values, vectors = np.linalg.eigh(hessian / np.outer(size, size))
        positive = (vectors * np.abs(values)) @ vectors.T * np.outer(size, size)
        return NormalEquations(
            self.state.cost,
            self.state.gradient,
            positive,
            self.state.n_points,
            self.state.rounding,
        )

    def result(
        self, success: bool, message: str, step: NDArray[np.float64] | None = None
    ) -> TrustRegionResult:
        """End here, or a last step on."""
        end, state = self.x, self.state
        if step is not None:
            end, state = np.clip(end + step, self.lower, self.upper), state.after_step(step)
        return TrustRegionResult(
            end,
            self.x,
            state,
            success,
            message,
            self.nit,
            self.nfev,
            self.cost_initial,
            self.active,
        )

    def misled(self, distance: float) -> bool:
        """Whether the search should have ended long ago, had its model been good."""
        return self.trials > LONG_SEARCH and self.damping > STRONG_DAMPING and distance < NEAR

    def stuck(self, differenced: bool) -> TrustRegionResult:
        """End here, as no step helps any more."""
        distance, variance = self.distance(), _variance(self.state)
        if differenced and distance > STALL_DISTANCE:
            equations = self.differenced_equations(variance)
            model = None if equations is None else self.model(equations)
            if model is not None and not model.lost:
                curved = model.distance(variance)
                distance = curved if curved <= STALL_DISTANCE else distance
        return self.result(
            bool(distance <= STALL_DISTANCE),
            f"no step lowers the cost any more, {distance:.2g} standard errors from where the "
            "gradient points",
        )

    def out_of_evaluations(self) -> TrustRegionResult:
        """End here, as no more evaluations are allowed."""
        plural = "s" * (self.nfev > 1)
        return self.result(
            False, f"stopped after {self.nfev} evaluation{plural} without converging"
        )


def _initial_damping(state: Equations) -> float:
    curvature = np.diag(state.hessian)
    return INITIAL_DAMPING_ROBUST if np.any(curvature < 0.5 * state.majorant) else INITIAL_DAMPING


def _variance(state: Equations) -> float:
    """Variance of a residual; where the residuals are rounding errors, that of these."""
    spare = max(1, state.n_points - len(state.gradient))
    return 2 * max(state.cost, state.rounding) / spare


def _least_told(state: Equations) -> float:
    """Least singular value, above rounding, of the factor with columns of unit norm."""
    factor = state.linear_problem()[0]
    norms = np.linalg.norm(factor, axis=0)
    values = np.linalg.svd(factor / np.where(norms > 0, norms, 1.0), compute_uv=False)
    told = values[values > len(values) * np.finfo(float).eps]
    return float(told.min(initial=1.0))


def _reason(stop: StopIteration) -> str:
    return f": {stop}" if str(stop) else ""


class _Progress:
    """Notices when evaluations no longer lower the cost by an amount that matters.

    That happens at a kink of the model, where the gradient never vanishes, and where a cost is
    noisier than its gradient promises.
    """

    def __init__(self, search: _Search, tolerance: float) -> None:
        self.tolerance = tolerance
        self.restart(search, PATIENCE)

    def restart(self, search: _Search, patience: int, most: float = np.inf) -> None:
        """Count from here; `most` trials from here on are one too many."""
        self.patience, self.cost, self.most = patience, np.inf, search.trials + most
        self.record(search)

    def record(self, search: _Search) -> None:
        """Take note of a step, or of the start."""
        self.variance = _variance(search.state)
        least = 0.5 * (10 * self.tolerance) ** 2 * self.variance
        if self.cost - search.state.cost > least:
            self.cost, self.last = search.state.cost, search.trials

    def stalled(self, search: _Search) -> bool:
        """Whether there has been no progress for too long."""
        return search.trials - self.last >= self.patience or search.trials >= self.most


class _QuadraticModel:
    """The Gauss-Newton model at a point x, and its minimum in a box under some damping.

    `lower` and `upper` are what the bounds leave for the step, `majorant` is the curvature that
    steps are damped with.
    """

    def __init__(
        self,
        state: Equations,
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
        majorant: NDArray[np.float64],
        x_scale: ArrayLike | None,
    ) -> None:
        self.factor, self.target = state.linear_problem()
        self.gradient, self.lower, self.upper = state.gradient, lower, upper
        self.curvature = np.linalg.norm(self.factor, axis=0)
        self.scale = np.where(self.curvature > 0, self.curvature, 1.0)
        # Curvature that the damping adds, for each parameter.
        self.damper = np.where(majorant > 0, np.sqrt(np.maximum(majorant, 0.0)), 1.0)
        if x_scale is not None:
            sizes = np.broadcast_to(np.asarray(x_scale, dtype=np.float64), self.scale.shape)
            self.damper = np.linalg.norm(self.curvature * sizes) / np.sqrt(len(sizes)) / sizes
        left_out = (state.gradient + self.factor.T @ self.target) / self.scale
        # Gradients are sums of products of which each factor has its rounding error.
        rounding = 10 * math.sqrt(np.finfo(float).eps * state.rounding)
        self.lost = np.linalg.norm(left_out) > LOST * math.sqrt(2 * state.cost) + rounding

    def step(self, damping: float) -> NDArray[np.float64]:
        """Minimum of the damped model in the box."""
        matrix = np.vstack([self.factor, np.diag(np.sqrt(damping) * self.damper)])
        target = np.concatenate([self.target, np.zeros_like(self.damper)])
        return solve_in_box(matrix, target, self.lower, self.upper)

    @functools.cached_property
    def undamped(self) -> NDArray[np.float64]:
        """Minimum of the model in the box."""
        return self.step(0.0)

    def gain(self, step: NDArray[np.float64]) -> float:
        """Decrease of the cost that the undamped model predicts."""
        return float(-(self.gradient @ step) - 0.5 * np.sum((self.factor @ step) ** 2))

    @functools.cached_property
    def possible_gain(self) -> float:
        """Decrease of the cost that the model allows within the bounds, at the most."""
        beyond = possible_decrease(self.factor, self.target, self.lower, self.upper, self.undamped)
        return max(0.0, self.gain(self.undamped)) + beyond

    def distance(self, variance: float) -> float:
        """Of the minimum of the model within the bounds, in standard errors, at the most."""
        if self.possible_gain == 0:
            return 0.0
        return math.sqrt(2 * self.possible_gain / variance) if variance > 0 else math.inf

    def length(self, step: NDArray[np.float64]) -> float:
        """Length scaled by the curvature."""
        return float(np.linalg.norm(self.curvature * step))

    def damped_length(self, step: NDArray[np.float64]) -> float:
        """Length scaled as it is damped."""
        return float(np.linalg.norm(self.damper * step))


class _Tests:
    """The tests of convergence, each at the point where the search is."""

    def __init__(
        self, tolerance: float, ftol: float, xtol: float, gtol: float, trust_last_step: bool
    ) -> None:
        self.tolerance, self.ftol, self.xtol, self.gtol = tolerance, ftol, xtol, gtol
        self.trust_last_step, self.distance = trust_last_step, np.inf

    def converged(self, model: _QuadraticModel, search: _Search) -> str:
        """Say which test holds, or return an empty string."""
        state = search.state
        if np.max(np.abs(state.gradient[search.active == 0]), initial=0.0) <= self.gtol:
            return "the gradient vanishes"
        if state.cost <= state.rounding:
            return "the model agrees with the data to rounding"
        if model.possible_gain <= 0.5 * self.tolerance**2 * _variance(state):
            return f"within {self.tolerance:g} standard errors of the minimum"
        if model.length(model.undamped) <= self.xtol * model.length(search.x):
            return "the steps have become too small to matter"
        if model.possible_gain <= self.ftol * state.cost:
            return "no step can lower the cost by a resolvable amount"
        return ""

    def trusted(self, model: _QuadraticModel, search: _Search, variance: float) -> str:
        """Say so if a last step can be taken on trust.

        It can if the distance falls quadratically, going by the step before, and if a step that is
        no longer than that one leads to within the tolerance. Along a direction that the data
        hardly fix the model is good no further than it has been tried.
        """
        before, self.distance = self.distance, model.distance(variance)
        if not (self.trust_last_step and search.nit):
            return ""
        if self.distance > TRUSTED * self.tolerance or self.distance**2 > self.tolerance * before:
            return ""
        step = model.step(search.damping)
        left = model.possible_gain - model.gain(step)
        longest = model.damped_length(search.last_step)
        if left > 0.5 * self.tolerance**2 * variance or model.damped_length(step) > longest:
            return ""
        return (
            f"within {self.tolerance:g} standard errors of the minimum, the last "
            f"{self.distance:.2g} by extrapolation"
        )
