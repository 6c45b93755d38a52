"""Layer 2: the physics first, with contrast and offset held; then everything."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, override

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.layers.layer import Layer, Rehearse
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.scaling import ScalingMap

__all__ = ["HierarchicalStages"]


@dataclass
class HierarchicalStages(Layer):
    """A first fit of the physics alone, on a sample, whose answer starts the search.

    Attributes
    ----------
    held : ScalingMap
        Contrasts and offsets at their quantile estimates.
    """

    name = "hierarchical"

    held: ScalingMap
    stage: dict[str, Any] = field(default_factory=dict)

    @override
    def prepare(
        self, objective: TwoTimeObjective, y: NDArray[np.float64], rehearse: Rehearse
    ) -> tuple[TwoTimeObjective, NDArray[np.float64]]:
        position, y = rehearse(replace(objective, scaling=self.held), y)
        result = position.result
        self.stage = {
            "cost_before": result.cost_initial,
            "cost_after": position.joint.equations.cost,
            "evaluations": result.nfev,
        }
        return objective, y

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
