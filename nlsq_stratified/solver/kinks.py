r"""The cost near kinks, where its gradient jumps.

At a minimum on a kink the gradient does not vanish, and steps that follow it end on the other side
of the kink. Near a point x the cost is therefore modelled by the largest of several quadratic
functions, one for each point :math:`x_i` visited close to x (C. Lukšan and J. Vlček, *Mathematical
Programming* 83, 373, 1998). With cost :math:`c_i` and gradient :math:`g_i` there, and one Hessian
:math:`H = R^T R` for all,

.. math:: m(s) = \max_i \; c_i + g_i^T (s - s_i) + \tfrac12 (s - s_i)^T H (s - s_i),
          \qquad s_i = x_i - x.

All share the quadratic term, so its minimum in a box, damped or not, is a least-distance problem:
the shortest vector that satisfies linear inequalities, found by nonnegative least squares (C.
Lawson and R. Hanson, *Solving least squares problems*, chapter 23). If that minimum is not lower
than the cost at x, a convex combination of gradients near x vanishes, and no step lowers the cost
by more than the gain within the distance of these points (A. Goldstein, *Mathematical Programming*
13, 14, 1977).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

__all__ = ["KinkModel", "VisitedPoints"]

# Largest number of points that are remembered.
MOST_REMEMBERED = 30

# A function that exceeds the cost at x by more than this, in units of the variance, is left out:
# the cost is concave between its point and x.
CONCAVE = 1e-3

# Curvature of the level in the least-distance problem. It makes the relative error of a decrease d,
# in units of `KinkModel.unit`, d LEVEL_CURVATURE² / 2.
LEVEL_CURVATURE = 1e-2

# Damping, relative to the curvature, that is too small to change a step, but keeps steps finite
# along directions without curvature.
LEAST_DAMPING = 1e-10


class VisitedPoints:
    """The last points that a search has visited, with cost and gradient."""

    def __init__(self) -> None:
        self._visited: deque[tuple[NDArray[np.float64], float, NDArray[np.float64]]] = deque(
            maxlen=MOST_REMEMBERED
        )

    def add(self, x: NDArray[np.float64], cost: float, gradient: NDArray[np.float64]) -> None:
        """Remember cost and gradient (p,) at x (p,)."""
        self._visited.append((x, cost, gradient))

    def pieces(
        self,
        x: NDArray[np.float64],
        cost: float,
        gradient: NDArray[np.float64],
        factor: NDArray[np.float64],
        weights: NDArray[np.float64],
        radius: float,
        unit: float,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Slopes (p, k) and levels (k,) at x of the quadratic functions; the first belongs to x.

        Parameters
        ----------
        x, gradient : (p,) array
        cost : float
        factor : (m, p) array
            Square root R of the Hessian.
        weights : (p,) array
            A point is used if ``norm(weights * (point - x)) <= radius``.
        radius : float
        """
        slopes, levels = [gradient], [0.0]
        for point, point_cost, slope in self._visited:
            away = point - x
            if not 0 < np.linalg.norm(weights * away) <= radius:
                continue
            curved = factor @ away
            level = point_cost - cost - slope @ away + 0.5 * curved @ curved
            if level > CONCAVE * unit:
                continue
            slopes.append(slope - factor.T @ curved)
            levels.append(min(float(level), 0.0))
        return np.column_stack(slopes), np.array(levels)


@dataclass(frozen=True, eq=False)
class KinkModel:
    """The maximum of several quadratic functions of a step, and its damped minimum in a box.

    Attributes
    ----------
    factor : (m, p) array
        Square root R of the Hessian of all functions.
    damper : (p,) array
        Square roots of the curvature that damping adds.
    slopes, levels : (p, k) array, (k,) array
        Slopes and values of the functions at the step 0, values relative to the cost there.
    lower, upper : (p,) array
        Bounds of the step.
    unit : float
        Unit of a decrease of the cost.
    """

    factor: NDArray[np.float64]
    damper: NDArray[np.float64]
    slopes: NDArray[np.float64]
    levels: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    unit: float

    def step(self, damping: float) -> NDArray[np.float64]:
        """Minimum of the damped model in the box."""
        norms = np.linalg.norm(self.factor, axis=0)
        least = LEAST_DAMPING * np.where(norms > 0, norms, self.damper) ** 2
        damped = np.diag(np.sqrt(damping * self.damper**2 + least))
        root = np.linalg.qr(np.vstack([self.factor, damped]))[1]
        to_step = scipy.linalg.solve_triangular(root, np.eye(len(root))) * math.sqrt(self.unit)
        below, above = np.isfinite(self.lower), np.isfinite(self.upper)
        rows = np.vstack([-self.slopes.T @ to_step / self.unit, to_step[below], -to_step[above]])
        level_column = np.zeros((len(rows), 1))
        level_column[: len(self.levels)] = 1 / LEVEL_CURVATURE
        rows = np.hstack([rows, level_column])
        levels = self.levels / self.unit + LEVEL_CURVATURE**-2
        limits = np.concatenate([levels, self.lower[below], -self.upper[above]])
        sizes = np.linalg.norm(rows, axis=1)
        problem = np.vstack([rows.T, limits]) / np.where(sizes > 0, sizes, 1.0)
        target = np.zeros(len(problem))
        target[-1] = 1.0
        excess = problem @ scipy.optimize.nnls(problem, target)[0] - target
        return np.clip(to_step @ (-excess[:-2] / excess[-1]), self.lower, self.upper)

    def gain(self, step: NDArray[np.float64]) -> float:
        """Decrease of the cost that the undamped model predicts."""
        curved = self.factor @ step
        return -float(np.max(self.slopes.T @ step + self.levels) + 0.5 * curved @ curved)

    def distance(self, variance: float) -> float:
        """Distance of the minimum of the undamped model, in standard errors."""
        return math.sqrt(2 * max(0.0, self.gain(self.step(0.0))) / variance)
