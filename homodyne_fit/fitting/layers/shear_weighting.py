"""Layer 5: more weight for the angles that look along the flow."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, override

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.layers.layer import Layer, PreliminaryFit
from homodyne_fit.fitting.search.solution import SearchPoint, Solution
from homodyne_fit.kernel.objective import TwoTimeObjective

__all__ = ["ShearWeighting"]

# Degrees that phi0 may move before the weights follow.
REFRESH = 0.1


@dataclass
class ShearWeighting(Layer):
    """Weights ``min + (1 − min) |cos(φ0 − φ)|^alpha`` of the angles, with a mean of 1.

    Attributes
    ----------
    phi0 : float
        Direction of the flow at the start, degrees.
    min_weight : float
        At right angles to the flow, before the mean is made 1.
    alpha : float
    """

    name = "shear_weighting"

    phi0: float
    min_weight: float = 0.3
    alpha: float = 1.0
    refreshed: int = 0
    weights: NDArray[np.float64] = field(default_factory=lambda: np.ones(0))

    @override
    def prepare(
        self, objective: TwoTimeObjective, start: SearchPoint, preliminary_fit: PreliminaryFit
    ) -> tuple[TwoTimeObjective, SearchPoint]:
        return self._weighted(objective, self.phi0), start

    @override
    def next_objective(self, solution: Solution) -> TwoTimeObjective | None:
        phi0 = float(solution.parameters[-1])
        if abs(phi0 - self.phi0) <= REFRESH:
            return None
        self.phi0, self.refreshed = phi0, self.refreshed + 1
        return self._weighted(solution.objective, phi0)

    def _weighted(self, objective: TwoTimeObjective, phi0: float) -> TwoTimeObjective:
        cosine = np.abs(np.cos(np.deg2rad(phi0 - objective.phi)))
        weights = self.min_weight + (1 - self.min_weight) * cosine**self.alpha
        self.weights = weights / weights.mean()
        return replace(objective, weights=self.weights)

    @override
    def report(self) -> dict[str, Any]:
        low, high = self.weights.min(), self.weights.max()
        if high - low < 1e-6:
            effect = "none: all angles look along the flow alike"
        else:
            effect = f"weights of {low:.3g} to {high:.3g}, refreshed {self.refreshed} times"
        return {"effect": effect, "weights": self.weights.tolist(), "refreshed": self.refreshed}
