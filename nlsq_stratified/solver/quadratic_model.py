"""The damped Gauss-Newton model of a cost, and its minimum in a box."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.normal_equations import Equations
from nlsq_stratified.solver.box import possible_decrease, solve_in_box

__all__ = ["QuadraticModel"]

# Largest rounding error of the gradient along directions without curvature, relative to the
# residuals. A larger gradient means that the curvature of a direction is lost to rounding.
LOST = 1e-10


class QuadraticModel:
    """The Gauss-Newton model at a point x, and its damped minimum in a box.

    `lower` and `upper` are the bounds of the step; `majorant` is the curvature that damps steps.
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
        # Gradients are sums of products, and both factors have rounding errors.
        rounding = 10 * math.sqrt(np.finfo(float).eps * state.rounding)
        self.lost = np.linalg.norm(left_out) > LOST * math.sqrt(2 * state.cost) + rounding
        self._steps: dict[float, NDArray[np.float64]] = {}

    def step(self, damping: float) -> NDArray[np.float64]:
        """Minimum of the damped model in the box."""
        if damping not in self._steps:
            self._steps[damping] = self._minimum(damping)
        return self._steps[damping]

    def _minimum(self, damping: float) -> NDArray[np.float64]:
        if damping == 0:
            return solve_in_box(self.factor, self.target, self.lower, self.upper)
        matrix = np.vstack([self.factor, np.diag(np.sqrt(damping) * self.damper)])
        target = np.concatenate([self.target, np.zeros(len(self.damper))])
        return solve_in_box(matrix, target, self.lower, self.upper)

    @property
    def undamped(self) -> NDArray[np.float64]:
        return self.step(0.0)

    def gain(self, step: NDArray[np.float64]) -> float:
        """Decrease of the cost that the undamped model predicts."""
        curved = self.factor @ step
        return float(-(self.gradient @ step) - 0.5 * curved @ curved)

    @functools.cached_property
    def possible_gain(self) -> float:
        """Upper bound for the decrease of the cost that the model allows within the bounds."""
        beyond = possible_decrease(self.factor, self.target, self.lower, self.upper, self.undamped)
        return max(0.0, self.gain(self.undamped)) + beyond

    def distance(self, variance: float) -> float:
        """Upper bound for the distance of the minimum within the bounds, in standard errors."""
        if self.possible_gain == 0:
            return 0.0
        return math.sqrt(2 * self.possible_gain / variance) if variance > 0 else math.inf

    def length(self, step: NDArray[np.float64]) -> float:
        """Length scaled by the curvature."""
        return float(np.linalg.norm(self.curvature * step))

    def damped_length(self, step: NDArray[np.float64]) -> float:
        """Length scaled as it is damped."""
        return float(np.linalg.norm(self.damper * step))
