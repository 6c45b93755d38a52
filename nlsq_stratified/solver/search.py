"""The state of a search, the steps that it can try, and its result.

What needs the cost is a generator: it yields the parameters at which it wants the equations, and is
sent them (reverse communication). Many searches can therefore be evaluated together.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.normal_equations import Equations, NormalEquations
from nlsq_stratified.solver.kinks import KinkModel, VisitedPoints
from nlsq_stratified.solver.quadratic_model import QuadraticModel

__all__ = ["Evaluations", "Search", "TrustRegionResult", "residual_variance"]

# Damping at the start, relative to the curvature of each parameter.
INITIAL_DAMPING = 1e-3

# The same where a step to the minimum of the quadratic model changes each parameter by less than
# this share of its size: damping would slow the search along directions that the data hardly
# determine.
SMALL_STEP = 0.1
SMALL_STEP_DAMPING = 1e-6

# The same if the curvature of the cost is below its majorant, as with a robust loss: steps from the
# curvature alone may then be far too long.
INITIAL_DAMPING_ROBUST = 1.0

# Smallest curvature that damps a parameter, relative to the largest curvature that it has had.
REMEMBERED = 1e-3

# Relative rounding error of a cost that is a sum over many points. Smaller changes of the cost are
# ignored; the gradient is still accurate enough to continue.
COST_RESOLUTION = 1e-13

# Number of trial steps without progress after which the search changes its model of the cost.
PATIENCE = 10

# Number of trial steps that are enough to reach a near minimum with steps of weak damping.
LONG_SEARCH = 40

# Distance of a near minimum, standard errors.
NEAR = 10.0

# Strong damping, relative to the curvature.
STRONG_DAMPING = 1.0

# If the search is stuck and the minimum of the model is at most so far away, in standard errors,
# the fit has succeeded.
STALL_DISTANCE = 0.1

# Largest jump of the gradient at a kink, as a distance in standard errors. At a larger kink the fit
# has failed, since standard errors mean nothing there.
LARGEST_KINK = 2.0

# Largest distance, in standard errors, of points whose gradients are used to find kinks.
KINK_RADIUS = 1.0

# Smallest decrease of the cost that is progress along a kink, as a distance in standard errors.
KINK_PROGRESS = 0.03

# Smallest singular value of the scaled Jacobian that differences of the gradient can resolve.
LEAST_DIFFERENCED = 1e-6

# Length of the differences of the gradient, in standard errors.
DIFFERENCE = 0.1

# Upper bound for that length, relative to a parameter or to the width of its bounds.
RELATIVE_DIFFERENCE = 1e-3

# Yields parameters (p,), is sent the equations there, and returns an R.
type Evaluations[R] = Generator[NDArray[np.float64], Equations, R]


@dataclass(frozen=True, eq=False)
class TrustRegionResult:
    """Where the search ended, and how.

    Attributes
    ----------
    x : (p,) float64
    evaluated : (p,) float64
        Where the cost was evaluated last. It differs from `x` only after a last step on trust.
    state : Equations
        Cost, gradient and Hessian at `x`; after a last step on trust, from the quadratic model.
    success : bool
        True if one of the convergence tests holds at `x`; at a minimum on a kink of the model; or
        if no step lowers the cost any more and the minimum of the quadratic model within the bounds
        is at most 0.1 standard errors away.
    message : str
        The test that holds, or why the search stopped without one.
    nit, nfev : int
        Accepted steps, and evaluations of the cost (each one pass over the data).
    cost_initial : float
    active : (p,) int
        -1 if x is at its lower bound and the cost would fall further below it, 1 likewise at the
        upper bound, else 0.
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


class Search:
    """The state of a search: x, the equations there, the damping, and the evaluations so far."""

    def __init__(
        self,
        x: NDArray[np.float64],
        state: Equations,
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
        max_nfev: int,
        x_scale: ArrayLike | None = None,
        sizes: ArrayLike | None = None,
    ) -> None:
        self.lower, self.upper, self.max_nfev = lower, upper, max_nfev
        self.x_scale = x_scale
        self.sizes = None if sizes is None else np.asarray(sizes, dtype=np.float64)
        if not state.finite:
            raise ValueError(f"the model is not finite at the start {x.tolist()}")
        self.x, self.state = x, state
        self.cost_initial, self.nit, self.nfev = self.state.cost, 0, 1
        self.trials, self.last_step = 0, np.zeros_like(x)
        self.visited = VisitedPoints()
        self.largest_majorant = np.zeros_like(x)
        self.restart_damping()

    @property
    def active(self) -> NDArray[np.int64]:
        """Parameters at a bound beyond which the cost would fall; see `TrustRegionResult`."""
        below = (self.x <= self.lower) & (self.state.gradient > 0)
        above = (self.x >= self.upper) & (self.state.gradient < 0)
        return above.astype(np.int64) - below.astype(np.int64)

    def restart_damping(self) -> None:
        """Set the damping to its value at the start of a search."""
        self.damping, self.growth = _initial_damping(self.state), 2.0

    def begin(self, model: QuadraticModel) -> None:
        """Before the first trial, damp less where the step to the minimum of the model is small."""
        if self.trials or self.sizes is None:
            return
        if np.all(np.abs(model.undamped) <= SMALL_STEP * self.sizes):
            self.damping = min(self.damping, SMALL_STEP_DAMPING)

    def model(self, equations: Equations) -> QuadraticModel:
        """The model of the cost at x.

        The curvature for a parameter may vanish where its effect is stationary. The curvature that
        damps steps is therefore not far below the largest one so far (J. Moré, *Lecture Notes in
        Mathematics* 630, 105, 1978), nor below that of the other parameters, each times its size.
        """
        self.largest_majorant = np.maximum(self.largest_majorant, equations.majorant)
        majorant = np.maximum(equations.majorant, REMEMBERED * self.largest_majorant)
        if self.sizes is not None:
            sized = np.isfinite(self.sizes)
            largest = np.max(majorant[sized] * self.sizes[sized] ** 2, initial=0.0)
            majorant = np.maximum(majorant, REMEMBERED * largest / self.sizes**2)
        lower, upper = self.lower - self.x, self.upper - self.x
        return QuadraticModel(equations, lower, upper, majorant, self.x_scale)

    def distance(self) -> float:
        """Distance of the minimum of the Gauss-Newton model, in standard errors."""
        return self.model(self.state).distance(residual_variance(self.state))

    def kink_model(self, variance: float, radius: float) -> KinkModel | None:
        """The model from the visited points within a radius, in standard errors.

        None if there are no such points, or if a direction is lost to rounding.
        """
        model, state = self.model(self.state), self.state
        slopes, levels = self.visited.pieces(
            self.x,
            state.cost,
            state.gradient,
            model.factor,
            model.damper,
            radius * math.sqrt(variance),
            variance,
        )
        if model.lost or len(levels) == 1:
            return None
        unit = max(variance, model.possible_gain)
        return KinkModel(model.factor, model.damper, slopes, levels, model.lower, model.upper, unit)

    def follow_kink(self, variance: float) -> Evaluations[bool]:
        """Go down along a kink; return whether the search is at a minimum there.

        A step that fails adds a point, which makes the model of the kink better.
        """
        self.restart_damping()
        last = self.trials
        while True:
            close = self.kink_model(variance, STALL_DISTANCE)
            at_minimum = close is not None and close.distance(variance) <= STALL_DISTANCE
            if at_minimum and self.distance() <= LARGEST_KINK:
                return True
            model = self.kink_model(variance, KINK_RADIUS)
            if model is not None and model.distance(variance) <= STALL_DISTANCE:
                model = close  # with the points further away, no step goes down
            out_of_trials = self.trials - last >= PATIENCE or self.nfev >= self.max_nfev
            if model is None or out_of_trials:
                return False
            cost = self.state.cost
            taken = yield from self.step(model)
            if taken and cost - self.state.cost > 0.5 * KINK_PROGRESS**2 * variance:
                last = self.trials
            self.growth = 2.0

    def descend(self, model: QuadraticModel, xtol: float, since: int) -> Evaluations[bool]:
        """Damp the step of the model more and more, until it lowers the cost.

        Return False if there was no such step in `PATIENCE` trials since trial `since`, or if the
        step became too short to matter.
        """
        shortest = xtol * model.length(self.x)
        while self.nfev < self.max_nfev:
            if (yield from self.step(model)):
                return True
            if self.trials - since >= PATIENCE or model.length(self.last_step) <= shortest:
                return False
        return False

    def step(self, model: QuadraticModel | KinkModel) -> Evaluations[bool]:
        """Try a damped step, change the damping, and return whether the step was taken."""
        self.last_step = step = model.step(self.damping)
        trial_x = np.clip(self.x + step, self.lower, self.upper)
        trial_x = np.where(step <= model.lower, self.lower, trial_x)
        trial_x = np.where(step >= model.upper, self.upper, trial_x)
        trial = yield trial_x
        self.nfev, self.trials = self.nfev + 1, self.trials + 1
        if trial.finite:
            self.visited.add(trial_x, trial.cost, trial.gradient)
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

    def differenced_equations(self, variance: float) -> Evaluations[NormalEquations | None]:
        """The equations at x with a Hessian from differences of the gradient, made positive.

        None if the gradient is not finite near x, or if differences would lose a direction that the
        factor of the Gauss-Newton Hessian resolves. Negative curvature is replaced by its absolute
        value (Y. Dauphin et al., *NeurIPS*, 2014): steps then lead away from a saddle.
        """
        if _least_singular_value(self.state) < LEAST_DIFFERENCED:
            return None
        hessian = self.state.hessian.copy()
        diagonal = np.sqrt(np.maximum(np.diag(hessian), 0.0))
        width = np.where(np.isfinite(self.upper - self.lower), self.upper - self.lower, 1.0)
        for j in np.flatnonzero(self.upper > self.lower):
            length = RELATIVE_DIFFERENCE * (abs(self.x[j]) + min(1.0, width[j]))
            if diagonal[j] > 0:
                length = min(length, DIFFERENCE * math.sqrt(variance) / diagonal[j])
            shifted = self.x.copy()
            shifted[j] += length if self.x[j] + length <= self.upper[j] else -length
            shift = shifted[j] - self.x[j]
            other = yield shifted
            self.nfev += 1
            if not (shift and other.finite):
                return None
            hessian[:, j] = (other.gradient - self.state.gradient) / shift
        hessian = 0.5 * (hessian + hessian.T)
        size = np.sqrt(np.maximum(np.abs(np.diag(hessian)), diagonal**2))
        size = np.where(size > 0, size, 1.0)
        values, vectors = np.linalg.eigh(hessian / np.outer(size, size))
        positive = (vectors * np.abs(values)) @ vectors.T * np.outer(size, size)
        state = self.state
        return NormalEquations(state.cost, state.gradient, positive, state.n_points, state.rounding)

    def result(
        self, success: bool, message: str, step: NDArray[np.float64] | None = None
    ) -> TrustRegionResult:
        """The result here, or after a last step."""
        end, state = self.x, self.state
        if step is not None:
            end, state = np.clip(end + step, self.lower, self.upper), state.after_step(step)
        return TrustRegionResult(
            x=end,
            evaluated=self.x,
            state=state,
            success=success,
            message=message,
            nit=self.nit,
            nfev=self.nfev,
            cost_initial=self.cost_initial,
            active=self.active,
        )

    def misled(self, model: QuadraticModel, variance: float) -> bool:
        """Whether the model is bad: with a good one the search would have ended long ago."""
        damped = self.trials > LONG_SEARCH and self.damping > STRONG_DAMPING
        return damped and model.distance(variance) < NEAR

    def stuck(self, differenced: bool) -> Evaluations[TrustRegionResult]:
        """The result if no step lowers the cost any more."""
        distance, variance = self.distance(), residual_variance(self.state)
        if differenced and distance > STALL_DISTANCE:
            equations = yield from self.differenced_equations(variance)
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
        """The result if no more evaluations are allowed."""
        plural = "s" * (self.nfev > 1)
        return self.result(
            False, f"stopped after {self.nfev} evaluation{plural} without converging"
        )


def _initial_damping(state: Equations) -> float:
    curvature = np.diag(state.hessian)
    return INITIAL_DAMPING_ROBUST if np.any(curvature < 0.5 * state.majorant) else INITIAL_DAMPING


def residual_variance(state: Equations) -> float:
    """Variance of a residual, at least that of a rounding error."""
    spare = max(1, state.n_points - len(state.gradient))
    return 2 * max(state.cost, state.rounding) / spare


def _least_singular_value(state: Equations) -> float:
    """Smallest singular value above rounding of the factor, with its columns scaled to norm 1."""
    factor = state.linear_problem()[0]
    norms = np.linalg.norm(factor, axis=0)
    values = np.linalg.svd(factor / np.where(norms > 0, norms, 1.0), compute_uv=False)
    resolved = values[values > len(values) * np.finfo(float).eps]
    return float(resolved.min(initial=1.0))
