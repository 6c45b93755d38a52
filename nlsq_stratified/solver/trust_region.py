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

Where the gradient jumps, steps that follow it end on the other side of a kink; `kinks` says how the
search goes down along it, and how a minimum on it is told from a point that is none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.normal_equations import Equations
from nlsq_stratified.solver.quadratic_model import QuadraticModel
from nlsq_stratified.solver.search import (
    PATIENCE,
    Search,
    TrustRegionResult,
    residual_variance,
)

__all__ = ["TrustRegionResult", "solve"]

# A last step on trust is at most so many times the tolerance long.
TRUSTED = 30.0

# Damping, relative to the curvature, below which steps do not notice it.
LEAST_DAMPING = 1e-14

# Unknowns up to which the Hessian is taken from differences of the gradient.
MOST_DIFFERENCED = 20

# Trial steps without progress, with the Hessian from differences, after which the search gives up.
PATIENCE_DIFFERENCED = 5

# Trial steps with that Hessian, at the most: Newton's method needs few.
MOST_DIFFERENCED_STEPS = 30


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
    start = np.clip(x, lower, upper)
    search = Search(evaluate, start, lower, upper, max_nfev, x_scale, sizes)
    tests = _Tests(tolerance, ftol, xtol, gtol, trust_last_step)
    return _run(search, tests, callback)


def _run(
    search: Search,
    tests: _Tests,
    callback: Callable[[int, NDArray[np.float64], Equations, int], None] | None,
) -> TrustRegionResult:
    progress, differenced = _Progress(search, tests.tolerance), False
    can_difference, stuck = len(search.x) <= MOST_DIFFERENCED, False
    while True:
        equations = search.state
        if differenced:
            if search.nfev + len(search.x) > search.max_nfev:
                return search.out_of_evaluations()
            if (differences := search.differenced_equations(progress.variance)) is None:
                if stuck:
                    return search.stuck(differenced=False)
                differenced = can_difference = False
                progress.restart(search, PATIENCE_DIFFERENCED)
            else:
                equations = differences
        model = search.model(equations)
        if message := tests.converged(model, search):
            lost = model.lost and search.state.n_points > len(search.x)
            if not lost or differenced or not can_difference:
                failure = "a direction of the parameters is lost to rounding"
                return search.result(not lost, failure if lost else message)
            differenced = True
            continue
        if message := tests.trusted(model, search, progress.variance):
            return search.result(True, message, model.step(search.damping))
        nit = search.nit
        taken = search.descend(model, tests.xtol, progress.last)
        if (not taken or progress.stalled(search)) and search.follow_kink(progress.variance):
            jump = f"{search.distance():.2g} standard errors"
            return search.result(True, f"at a kink, where the gradient jumps by {jump}")
        taken = search.nit > nit
        if search.nfev >= search.max_nfev:
            return search.out_of_evaluations()
        if taken:
            progress.record(search)
            if message := _message_of_callback(callback, search):
                return search.result(False, message)
        stuck = not taken or progress.stalled(search)
        other_model = not differenced and can_difference
        if stuck and not other_model:
            return search.stuck(differenced)
        if other_model and (stuck or search.misled(model.distance(progress.variance))):
            differenced = True
            search.restart_damping()
            progress.restart(search, PATIENCE_DIFFERENCED, MOST_DIFFERENCED_STEPS)


def _message_of_callback(
    callback: Callable[[int, NDArray[np.float64], Equations, int], None] | None, search: Search
) -> str:
    """Call it; why it stops the search, or an empty string."""
    if callback is None:
        return ""
    try:
        callback(search.nit, search.x.copy(), search.state, search.nfev)
    except StopIteration as stop:
        return "stopped by the callback" + (f": {stop}" if str(stop) else "")
    return ""


class _Progress:
    """Notices when evaluations no longer lower the cost by an amount that matters.

    That happens at a kink of the model, where the gradient never vanishes, and where a cost is
    noisier than its gradient promises.
    """

    def __init__(self, search: Search, tolerance: float) -> None:
        self.tolerance = tolerance
        self.restart(search, PATIENCE)

    def restart(self, search: Search, patience: int, most: float = np.inf) -> None:
        """Count from here; `most` trials from here on are one too many."""
        self.patience, self.cost, self.most = patience, np.inf, search.trials + most
        self.damping = search.damping
        self.record(search)

    def record(self, search: Search) -> None:
        """Take note of a step, or of the start."""
        self.variance = residual_variance(search.state)
        least = 0.5 * (10 * self.tolerance) ** 2 * self.variance
        gained = self.cost - search.state.cost > least
        # Steps that grow as they agree with their model lead along a direction of small curvature.
        if gained or LEAST_DAMPING < search.damping < 0.5 * self.damping:
            self.cost, self.last = search.state.cost, search.trials
            self.damping = search.damping

    def stalled(self, search: Search) -> bool:
        """Whether there has been no progress for too long."""
        return search.trials - self.last >= self.patience or search.trials >= self.most


class _Tests:
    """The tests of convergence, each at the point where the search is."""

    def __init__(
        self, tolerance: float, ftol: float, xtol: float, gtol: float, trust_last_step: bool
    ) -> None:
        self.tolerance, self.ftol, self.xtol, self.gtol = tolerance, ftol, xtol, gtol
        self.trust_last_step, self.distance = trust_last_step, np.inf

    def converged(self, model: QuadraticModel, search: Search) -> str:
        """Say which test holds, or return an empty string."""
        state = search.state
        if np.max(np.abs(state.gradient[search.active == 0]), initial=0.0) <= self.gtol:
            return "the gradient vanishes"
        if state.cost <= state.rounding:
            return "the model agrees with the data to rounding"
        if model.possible_gain <= 0.5 * self.tolerance**2 * residual_variance(state):
            return f"within {self.tolerance:g} standard errors of the minimum"
        if model.length(model.undamped) <= self.xtol * model.length(search.x):
            return "the steps have become too small to matter"
        if model.possible_gain <= self.ftol * state.cost:
            return "no step can lower the cost by a resolvable amount"
        return ""

    def trusted(self, model: QuadraticModel, search: Search, variance: float) -> str:
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
