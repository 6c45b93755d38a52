"""The controller: asks each layer in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.coordinates import SearchSpace
from homodyne_fit.evaluation import Place, Position
from homodyne_fit.layers.layer import Layer, Rehearse
from homodyne_fit.objective import TwoTimeObjective

__all__ = ["Controller"]


class Controller:
    """Layers in the order in which they act."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers

    def prepare(
        self, objective: TwoTimeObjective, y: NDArray[np.float64], rehearse: Rehearse
    ) -> tuple[TwoTimeObjective, NDArray[np.float64]]:
        """Let every layer change objective and start."""
        for layer in self.layers:
            objective, y = layer.prepare(objective, y, rehearse)
        return objective, y

    def begin(self, tolerance: float) -> None:
        """Tell every layer that other data are taken up."""
        for layer in self.layers:
            layer.begin(tolerance)

    def check(
        self,
        space: SearchSpace,
        objective: TwoTimeObjective,
        y: NDArray[np.float64],
        sums: NDArray[np.float64],
    ) -> None:
        """Let every layer look at a step."""
        for layer in self.layers:
            layer.check(space, objective, y, sums)

    def restart(self, position: Position) -> Place | None:
        """Where the first layer that wants another search wants it."""
        answers = (layer.restart(position) for layer in self.layers)
        return next((answer for answer in answers if answer is not None), None)

    def revise(self, position: Position) -> TwoTimeObjective | None:
        """The objective of the first layer that wants to go on with another one."""
        answers = (layer.revise(position) for layer in self.layers)
        return next((answer for answer in answers if answer is not None), None)

    def failure(self) -> str | None:
        """Why the fit is to end here and not to count as converged, or None."""
        reasons = (layer.failure() for layer in self.layers)
        return next((reason for reason in reasons if reason is not None), None)

    def report(self) -> dict[str, Any]:
        """What each layer did."""
        return {layer.name: layer.report() for layer in self.layers}
