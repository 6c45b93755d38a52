"""What a layer may do to a fit. Every hook does nothing unless a layer overrides it."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.coordinates import SearchSpace
from homodyne_fit.evaluation import Place, Position
from homodyne_fit.objective import TwoTimeObjective

__all__ = ["Layer", "Rehearse"]


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
