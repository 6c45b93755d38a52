"""Layer 2: the physics first, with contrast and offset held; then everything."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, override

from homodyne_fit.fitting.layers.layer import Layer, PreliminaryFit
from homodyne_fit.fitting.search.solution import SearchPoint
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.scaling import ScalingMap

__all__ = ["HierarchicalStages"]


@dataclass
class HierarchicalStages(Layer):
    """A first fit of the physics alone, on a sample, whose answer starts the search.

    Attributes
    ----------
    held : ScalingMap
        Contrasts and offsets as c2 at short and long lags has them.
    """

    name = "hierarchical"

    held: ScalingMap
    stage: dict[str, Any] = field(default_factory=dict)

    @override
    def prepare(
        self, objective: TwoTimeObjective, start: SearchPoint, preliminary_fit: PreliminaryFit
    ) -> tuple[TwoTimeObjective, SearchPoint]:
        solution = preliminary_fit(replace(objective, scaling=self.held), start)
        result = solution.result
        self.stage = {
            "cost_before": result.cost_initial,
            "cost_after": solution.joint.equations.cost,
            "evaluations": result.nfev,
        }
        return objective, solution.point.without_held()

    @override
    def report(self) -> dict[str, Any]:
        before, after = self.stage["cost_before"], self.stage["cost_after"]
        if after < before:
            effect = (
                f"physics alone lowered the cost of the sample from {before:.6g} to {after:.6g}"
            )
        else:
            effect = "none: the start was at the minimum of the physics alone"
        return {"effect": effect, **self.stage}
