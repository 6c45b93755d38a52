r"""Nonlinear least squares within bounds, from sums over points alone.

Each step minimises the damped Gauss-Newton model of the cost (Levenberg and Marquardt),

.. math:: m(s) = g^T s + \tfrac12 s^T H s + \tfrac12 \lambda |C s|^2,

inside the box that the bounds on the parameters leave for s. C² is the diagonal of H (for a robust
loss, of a Hessian that bounds H from above and does not vanish where all points are outliers). λ
changes as in H. B. Nielsen, *Damping parameter in Marquardt's method*, IMM-REP-1999-05. With R a
square root of the Hessian and :math:`b = -R^{-T} g`, the model is
:math:`\tfrac12 |R s - b|^2 + \tfrac12 \lambda |C s|^2` up to a constant: a linear least-squares
problem in a box of p unknowns, which an active-set method solves exactly. Parameters at a bound are
therefore exactly at it.

The search has converged when the undamped model allows only a very small decrease of the cost
within the bounds. With :math:`\sigma^2 = 2\,\mathrm{cost}/(N - p)`, a decrease of :math:`\tfrac12
\epsilon^2 \sigma^2` moves the solution by :math:`\epsilon` standard errors, for any N. The test
uses an upper bound for the decrease that follows from the gradient and the bounds (by convexity),
so that a point is not taken for a minimum because a step failed.

If a parameter has no effect to first order (for example an angle at which the model is stationary),
the Gauss-Newton Hessian JᵀJ lacks the curvature that comes from the residuals, and its steps are
wrong. If the search gets stuck, the Hessian is therefore computed from differences of the gradient,
with p evaluations for each further step.

If the gradient jumps, steps along it end on the other side of a kink. `kinks` explains how the
search goes down along a kink, and how it recognises a minimum there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.normal_equations import Equations
from nlsq_stratified.solver.quadratic_model import QuadraticModel
from nlsq_stratified.solver.search import (
    LARGEST_KINK,
    PATIENCE,
    Evaluations,
    Search,
    TrustRegionResult,
    residual_variance,
)

__all__ = ["TrustRegionResult", "solve", "solve_many"]

# Longest last step that is taken on trust, in units of the tolerance.
TRUSTED = 30.0

# Damping, relative to the curvature, that is too small to change a step.
LEAST_DAMPING = 1e-14

# Largest number of parameters for a Hessian from differences of the gradient.
MOST_DIFFERENCED = 20

# Number of trial steps without progress, with that Hessian, after which the search ends.
PATIENCE_DIFFERENCED = 5

# Largest number of trial steps with that Hessian; Newton's method needs few.
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
        Start; moved into the bounds if it is outside.
    lower, upper : float or (p,) array
    tolerance : float
        Converged when the minimum is at most this far away, in standard errors.
    ftol : float
        Converged when a step can lower the cost by at most this fraction of it.
    xtol : float
        Converged when a step, scaled by the curvature, is shorter than this fraction of x.
    gtol : float
        Converged when no component of the gradient exceeds this value, except at active bounds.
    max_nfev : int
        Largest number of evaluations.
    x_scale : float or (p,) array, optional
        Characteristic size of each parameter, for the damping; when None, from the curvature.
    sizes : (p,) array, optional
        Change of each parameter that has an effect of order one; infinite if not known. With it,
        steps are also damped for a parameter without effect to first order.
    callback : callable
        Called as ``callback(nit, x, state, nfev)`` after each accepted step. It can raise
        StopIteration to end the search.
    trust_last_step : bool
        Save the last evaluation: if the gain of the step before shows that the next step leads to
        within `tolerance`, take it without evaluating the cost after it.

    Raises
    ------
    ValueError
        If the cost at the start is not finite, or a lower bound exceeds the upper bound.
    """
    tests = _Tests(tolerance, ftol, xtol, gtol, trust_last_step)
    search = _search(x0, lower, upper, max_nfev, tests, x_scale, sizes, callback)
    return _evaluated(lambda points: [evaluate(x) for x in points], [search])[0]


def solve_many(
    evaluate: Callable[[NDArray[np.float64]], Sequence[Equations]],
    starts: ArrayLike,
    lower: ArrayLike = -np.inf,
    upper: ArrayLike = np.inf,
    *,
    tolerance: float = 1e-4,
    ftol: float = 1e-16,
    xtol: float = 1e-12,
    max_nfev: int = 100,
) -> list[TrustRegionResult]:
    """`solve` from many starts (s, p), all of which take their next evaluation together.

    Parameters
    ----------
    evaluate : callable
        Parameters (n, p) of the searches that go on, to the `Equations` of each.
    max_nfev : int
        Largest number of evaluations of each search.
    """
    searches = [
        _search(
            start,
            lower,
            upper,
            max_nfev,
            _Tests(tolerance, ftol, xtol, gtol=0.0, trust_last_step=False),
        )
        for start in np.asarray(starts, np.float64)
    ]
    return _evaluated(lambda points: evaluate(np.array(points)), searches)


def _evaluated[R](
    evaluate: Callable[[list[NDArray[np.float64]]], Sequence[Equations]],
    searches: Sequence[Evaluations[R]],
) -> list[R]:
    """The results of searches, evaluated in rounds: each time all of them that go on."""
    results: dict[int, R] = {}
    points = {i: next(search) for i, search in enumerate(searches)}
    while points:
        states = evaluate(list(points.values()))
        for i, state in zip(list(points), states, strict=True):
            try:
                points[i] = searches[i].send(state)
            except StopIteration as end:
                results[i] = end.value
                del points[i]
    return [results[i] for i in range(len(searches))]


def _search(
    x0: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    max_nfev: int,
    tests: _Tests,
    x_scale: ArrayLike | None = None,
    sizes: ArrayLike | None = None,
    callback: Callable[[int, NDArray[np.float64], Equations, int], None] | None = None,
) -> Evaluations[TrustRegionResult]:
    x = np.array(x0, dtype=np.float64)
    lower, upper = (np.broadcast_to(np.asarray(b, np.float64), x.shape) for b in (lower, upper))
    if np.any(lower > upper):
        raise ValueError(f"a lower bound exceeds the upper one: {lower} > {upper}")
    start = np.clip(x, lower, upper)
    state = yield start
    search = Search(start, state, lower, upper, max_nfev, x_scale, sizes)
    return (yield from _run(search, tests, callback))


def _run(
    search: Search,
    tests: _Tests,
    callback: Callable[[int, NDArray[np.float64], Equations, int], None] | None,
) -> Evaluations[TrustRegionResult]:
    progress, differenced = _Progress(search, tests.tolerance), False
    can_difference, stuck = len(search.x) <= MOST_DIFFERENCED, False
    while True:
        equations = search.state
        if differenced:
            if search.nfev + len(search.x) > search.max_nfev:
                return search.out_of_evaluations()
            differences = yield from search.differenced_equations(progress.variance)
            if differences is None:
                if stuck:
                    return (yield from search.stuck(differenced=False))
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
        search.begin(model)
        if message := tests.trusted(model, search, progress.variance):
            return search.result(True, message, model.step(search.damping))
        nit = search.nit
        taken = yield from search.descend(model, tests.xtol, progress.last)
        if (not taken or progress.stalled(search)) and (
            yield from search.follow_kink(progress.variance)
        ):
            jump = f"{search.distance():.2g} standard errors"
            return search.result(True, f"at a kink, where the gradient jumps by {jump}")
        taken = search.nit > nit
        if search.nfev >= search.max_nfev:
            return search.out_of_evaluations()
        if taken and (message := _report(callback, search, progress)):
            return search.result(False, message)
        stuck = not taken or progress.stalled(search)
        other_model = not differenced and can_difference
        if stuck and not other_model:
            result = yield from search.stuck(differenced)
            if result.success or not differenced or search.distance() > LARGEST_KINK:
                return result
            # Differences across a kink are no curvature: back to the Gauss-Newton model, for good.
            differenced = can_difference = False
            search.restart_damping()
            progress.restart(search, PATIENCE)
        elif other_model and (stuck or search.misled(model, progress.variance)):
            differenced = True
            search.restart_damping()
            progress.restart(search, PATIENCE_DIFFERENCED, MOST_DIFFERENCED_STEPS)


def _report(
    callback: Callable[[int, NDArray[np.float64], Equations, int], None] | None,
    search: Search,
    progress: _Progress,
) -> str:
    """Record a step and call the callback; return its reason to stop, or an empty string."""
    progress.record(search)
    if callback is None:
        return ""
    try:
        callback(search.nit, search.x.copy(), search.state, search.nfev)
    except StopIteration as stop:
        return "stopped by the callback" + (f": {stop}" if str(stop) else "")
    return ""


class _Progress:
    """Detects that evaluations no longer lower the cost by an amount that matters.

    This happens at a kink of the model, where the gradient does not vanish, and if the cost has
    more noise than its gradient.
    """

    def __init__(self, search: Search, tolerance: float) -> None:
        self.tolerance = tolerance
        self.restart(search, PATIENCE)

    def restart(self, search: Search, patience: int, most: float = np.inf) -> None:
        """Start to count again; after `most` trials the search is stalled in any case."""
        self.patience, self.cost, self.most = patience, np.inf, search.trials + most
        self.damping = search.damping
        self.record(search)

    def record(self, search: Search) -> None:
        """Record the state after a step, or at the start."""
        self.variance = residual_variance(search.state)
        least = 0.5 * (10 * self.tolerance) ** 2 * self.variance
        gained = self.cost - search.state.cost > least
        # Damping that still falls means longer and longer steps along a direction of low curvature.
        if gained or LEAST_DAMPING < search.damping < 0.5 * self.damping:
            self.cost, self.last = search.state.cost, search.trials
            self.damping = search.damping

    def stalled(self, search: Search) -> bool:
        """Whether there has been no progress for too long."""
        return search.trials - self.last >= self.patience or search.trials >= self.most


class _Tests:
    """The tests of convergence at the current point of the search."""

    def __init__(
        self, tolerance: float, ftol: float, xtol: float, gtol: float, trust_last_step: bool
    ) -> None:
        self.tolerance, self.ftol, self.xtol, self.gtol = tolerance, ftol, xtol, gtol
        self.trust_last_step, self.distance = trust_last_step, np.inf

    def converged(self, model: QuadraticModel, search: Search) -> str:
        """The test that holds, in words, or an empty string."""
        state = search.state
        if np.max(np.abs(state.gradient[search.active == 0]), initial=0.0) <= self.gtol:
            return "the gradient vanishes"
        if state.cost <= state.rounding:
            return "the model agrees with the data to rounding"
        small, least = 0.5 * self.tolerance**2 * residual_variance(state), self.ftol * state.cost
        shortest, damped = self.xtol * model.length(search.x), model.step(search.damping)
        if model.gain(damped) > max(small, least) and model.length(damped) > shortest:
            # The undamped step is longer and gains more.
            return ""
        if model.possible_gain <= small:
            return f"within {self.tolerance:g} standard errors of the minimum"
        if model.length(model.undamped) <= shortest:
            return "the steps have become too small to matter"
        if model.possible_gain <= least:
            return "no step can lower the cost by a resolvable amount"
        return ""

    def trusted(self, model: QuadraticModel, search: Search, variance: float) -> str:
        """A message if a last step can be taken on trust, or an empty string.

        The distance must have fallen quadratically in the step before, and a step that is not
        longer than that one must lead to within the tolerance. A longer step could leave the region
        where the model is good, along a direction that the data hardly determine.
        """
        if not self.trust_last_step:
            return ""
        before, self.distance = self.distance, model.distance(variance)
        if not search.nit:
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
