"""Layer 5: more weight for the angles that look along the flow.

These angles know most of the flow, so the weights help a search to find it. They cost precision
where the noise is the same at all angles (Gauss and Markov): unless they are asked for, all angles
count alike as soon as all points are searched.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, override

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.errors import counted
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
    kept : bool
        Whether the weights stay on all points; if not, they serve the search on samples.
    """

    name = "shear_weighting"

    phi0: float
    min_weight: float = 0.3
    alpha: float = 1.0
    kept: bool = True
    refreshed: int = 0
    samples_searched: int = 0
    weights: NDArray[np.float64] = field(default_factory=lambda: np.ones(0))

    @override
    def prepare(
        self, objective: TwoTimeObjective, start: SearchPoint, preliminary_fit: PreliminaryFit
    ) -> tuple[TwoTimeObjective, SearchPoint]:
        return self._weighted(objective, self.phi0), start

    @override
    def for_sample(self, objective: TwoTimeObjective, *, all_points: bool) -> TwoTimeObjective:
        if not all_points:
            self.samples_searched += 1
        elif not self.kept:
            return replace(objective, weights=np.ones_like(objective.weights))
        return objective

    @override
    def next_objective(self, solution: Solution) -> TwoTimeObjective | None:
        released = not self.kept and np.all(solution.objective.weights == 1)
        if released:
            return None
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
        low, high, times = self.weights.min(), self.weights.max(), counted(self.refreshed, "time")
        if high - low < 1e-6:
            effect = "none: all angles look along the flow alike"
        elif self.kept:
            effect = f"weights of {low:.3g} to {high:.3g}, refreshed {times}"
        elif self.samples_searched:
            effect = (
                f"weights of {low:.3g} to {high:.3g} in the search on samples, refreshed {times}; "
                "on all points all angles count alike"
            )
        else:
            effect = "none after the screening of starts: all points were searched at once"
        return {
            "effect": effect,
            "weights": self.weights.tolist(),
            "refreshed": self.refreshed,
            "kept": self.kept,
        }
