"""Layer 4: notices that the physics has lost its effect, and starts again elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, override

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.layers.layer import Layer
from homodyne_fit.fitting.search.solution import SearchPoint, Solution
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.coordinates import SearchSpace

__all__ = ["GradientMonitor"]


# Standard deviation of the logarithm of the factor by which a restart changes the rates.
KICK = 1.5


@dataclass
class GradientMonitor(Layer):
    """Compares the gradients by the physics and by the scaling, step by step.

    Contrast and offset are eliminated, so their gradient vanishes at every step. What is compared
    is what a joint search would see: the gradients at the new physics and the contrast and offset
    of the step before, each by the relative change of its variable. A collapse is a ratio below
    the threshold some checks in a row, or a search that ends where no parameter of the physics
    has an effect. Where no restart leads to a lower cost, the search goes on from where it was.

    Attributes
    ----------
    ratio_threshold : float
    consecutive_triggers : int
    response : str
        ``restart``, ``warn`` or ``abort``.
    max_restarts : int
    seed : int
        Of the perturbation.
    """

    name = "gradient_monitoring"

    ratio_threshold: float = 0.01
    consecutive_triggers: int = 5
    response: str = "restart"
    max_restarts: int = 3
    seed: int = 0
    checks: int = 0
    lowest: float = np.inf
    events: list[dict[str, Any]] = field(default_factory=list)
    _in_a_row: int = 0
    _collapsed: bool = False
    _before: tuple[object, NDArray[np.float64]] | None = None
    _left: Solution | None = None
    _returned: bool = False

    @property
    def restarts(self) -> int:
        """Restarts so far."""
        return sum(event["response"] == "restart" for event in self.events)

    @override
    def after_step(
        self,
        space: SearchSpace,
        objective: TwoTimeObjective,
        y: NDArray[np.float64],
        sums: NDArray[np.float64],
    ) -> None:
        if self._returned:
            return
        before, z = self._before, objective.joint_equations(sums).z
        self._before = objective.scaling, z
        if before is None or before[0] is not objective.scaling or not len(z):
            return
        held = objective.joint_equations(sums, z=before[1]).equations.gradient
        physics = np.linalg.norm(held[: len(y)] * space.natural_scales(y))
        scaling = np.linalg.norm(held[len(y) :] * np.maximum(np.abs(before[1]), 1e-3))
        ratio = float(physics / (scaling + np.finfo(float).tiny))
        self.checks, self.lowest = self.checks + 1, min(self.lowest, ratio)
        self._in_a_row = self._in_a_row + 1 if ratio < self.ratio_threshold else 0
        if self._in_a_row >= self.consecutive_triggers:
            self._in_a_row = 0
            trigger = f"gradient ratio {ratio:.2g} after {self.checks} checks"
            self._collapse(trigger)
            if self._collapsed:
                raise StopIteration(trigger)

    @override
    def next_start(self, solution: Solution) -> SearchPoint | None:
        if not self._collapsed and solution.without_effect:
            self._collapse("the physics has no effect where the search ended")
        collapsed, self._collapsed, self._before = self._collapsed, False, None
        if not collapsed or self.response != "restart":
            return self._back_to_better(solution)
        if self._left is None or _lower(solution, self._left):
            self._left = solution
        rng, base = np.random.default_rng([self.seed, self.restarts]), solution.space.without_held
        parameters = solution.parameters
        for i in base.power_laws:
            parameters[i] *= np.exp(rng.normal(0.0, KICK))
        parameters = np.where(np.isfinite(parameters), parameters, base.lower)
        parameters = np.clip(parameters, base.lower, base.upper)
        parameters = np.where(np.isnan(base.fixed), parameters, base.fixed)
        return SearchPoint(base, base.to_coordinates(parameters))

    def _back_to_better(self, solution: Solution) -> SearchPoint | None:
        """Where a search was broken off, if the ones in its place found nothing better."""
        left, self._left = self._left, None
        if left is None or not _lower(left, solution):
            return None
        self._returned = True
        return left.point

    @override
    def failure(self) -> str | None:
        if self.response != "abort" or not self.events:
            return None
        return f"the gradient monitor ended the fit: {self.events[0]['trigger']}"

    def _collapse(self, trigger: str) -> None:
        """Record it; go on as if nothing had happened after too many restarts."""
        exhausted = self.response == "restart" and self.restarts >= self.max_restarts
        response = "none: restarts used up" if exhausted else self.response
        self.events.append({"trigger": trigger, "response": response})
        self._collapsed = not exhausted and self.response != "warn"

    @override
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = {
            "checks": self.checks,
            "lowest_ratio": self.lowest if np.isfinite(self.lowest) else None,
            "events": self.events,
            "restarts": self.restarts,
        }
        if not self.events:
            return report | {"effect": "none: the gradient did not collapse"}
        return report | {
            "effect": "; ".join(f"{e['trigger']}: {e['response']}" for e in self.events)
        }


def _lower(solution: Solution, other: Solution) -> bool:
    """Whether the cost is, of the same objective."""
    same = solution.joint.scaling is other.joint.scaling
    return same and solution.joint.equations.cost < other.joint.equations.cost
