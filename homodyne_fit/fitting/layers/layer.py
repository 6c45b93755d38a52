"""What a layer may do to a fit. Every hook does nothing unless a layer overrides it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.search.samples import Place, Position
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.coordinates import SearchSpace

__all__ = ["Layer", "Rehearse", "Controller"]


class Rehearse(Protocol):
    """A preliminary fit, on a sample of the data or on all of them."""

    def __call__(
        self, objective: TwoTimeObjective, y: NDArray[np.float64], *, everything: bool = False
    ) -> tuple[Position, NDArray[np.float64]]:
        """Search from y; return where that ended, and the y of that for the next search."""
        ...


class Layer:
    """One defence. It sees objectives and positions, never a point of the data."""

    name: ClassVar[str]

    def prepare(
        self, objective: TwoTimeObjective, y: NDArray[np.float64], rehearse: Rehearse
    ) -> tuple[TwoTimeObjective, NDArray[np.float64]]:
        """Before the search: return the objective and the start to go on with."""
        return objective, y

    def begin(self, tolerance: float) -> None:
        """Before the searches on a sample of the data or on all of them, to this tolerance."""

    def check(
        self,
        space: SearchSpace,
        objective: TwoTimeObjective,
        y: NDArray[np.float64],
        sums: NDArray[np.float64],
    ) -> None:
        """After each step of a search, with the moments (K, m, m); StopIteration ends it."""

    def restart(self, position: Position) -> Place | None:
        """After a search: where to search again, or None."""
        return None

    def revise(self, position: Position) -> TwoTimeObjective | None:
        """After a search that need not be repeated: an objective to go on with, or None."""
        return None

    def failure(self) -> str | None:
        """Why the fit is to end here and not to count as converged, or None."""
        return None

    def report(self) -> dict[str, Any]:
        """What the layer did, for the result; `effect` says it in words."""
        raise NotImplementedError


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
