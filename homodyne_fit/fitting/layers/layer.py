"""What a layer may do to a fit. Every hook does nothing unless a layer overrides it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.score_noise import NoiseOfPoints
from homodyne_fit.fitting.search.solution import SearchPoint, Solution
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.coordinates import SearchSpace

__all__ = ["Layer", "Layers", "NoiseOf", "PreliminaryFit"]

# The noise of the points at a solution.
NoiseOf = Callable[[Solution], NoiseOfPoints]


class PreliminaryFit(Protocol):
    """A preliminary fit, on a sample of the data or on all of them."""

    def __call__(
        self, objective: TwoTimeObjective, start: SearchPoint, *, all_points: bool = False
    ) -> Solution:
        """Search from a start; return where that ended."""
        ...


class Layer:
    """One defence. It sees objectives and positions, never a point of the data."""

    name: ClassVar[str]

    def prepare(
        self, objective: TwoTimeObjective, start: SearchPoint, preliminary_fit: PreliminaryFit
    ) -> tuple[TwoTimeObjective, SearchPoint]:
        """Before the search: return the objective and the start to go on with."""
        return objective, start

    def before_sample(self, tolerance: float, noise_of: NoiseOf) -> None:
        """Before the searches on a sample of the data or on all of them, to this tolerance.

        `noise_of` finds the noise of the points: on a sample of the data, as if they were
        independent.
        """

    def for_sample(self, objective: TwoTimeObjective, *, all_points: bool) -> TwoTimeObjective:
        """Before the searches on a sample of the data or on all of them: the objective there."""
        return objective

    def after_step(
        self,
        space: SearchSpace,
        objective: TwoTimeObjective,
        y: NDArray[np.float64],
        sums: NDArray[np.float64],
    ) -> None:
        """After each step of a search, with the moments (K, m, m); StopIteration ends it."""

    def next_start(self, solution: Solution) -> SearchPoint | None:
        """After a search: where to search again, or None."""
        return None

    def next_objective(self, solution: Solution) -> TwoTimeObjective | None:
        """After a search that need not be repeated: an objective to go on with, or None."""
        return None

    def failure(self) -> str | None:
        """Why the fit is to end here and not to count as converged, or None."""
        return None

    def conclude(self, solution: Solution, noise: NoiseOfPoints) -> None:
        """At the end, with the noise of all points: look once more at what is reported."""

    def report(self) -> dict[str, Any]:
        """What the layer did, for the result; `effect` says it in words."""
        raise NotImplementedError


class Layers:
    """Layers in the order in which they act."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers

    def prepare(
        self, objective: TwoTimeObjective, start: SearchPoint, preliminary_fit: PreliminaryFit
    ) -> tuple[TwoTimeObjective, SearchPoint]:
        """Let every layer change objective and start."""
        for layer in self.layers:
            objective, start = layer.prepare(objective, start, preliminary_fit)
        return objective, start

    def before_sample(self, tolerance: float, noise_of: NoiseOf) -> None:
        """Tell every layer that other data are taken up."""
        for layer in self.layers:
            layer.before_sample(tolerance, noise_of)

    def for_sample(self, objective: TwoTimeObjective, *, all_points: bool) -> TwoTimeObjective:
        """The objective that all layers want on a sample of the data, or on all of them."""
        for layer in self.layers:
            objective = layer.for_sample(objective, all_points=all_points)
        return objective

    def after_step(
        self,
        space: SearchSpace,
        objective: TwoTimeObjective,
        y: NDArray[np.float64],
        sums: NDArray[np.float64],
    ) -> None:
        """Let every layer look at a step."""
        for layer in self.layers:
            layer.after_step(space, objective, y, sums)

    def next_start(self, solution: Solution) -> SearchPoint | None:
        """Where the first layer that wants another search wants it."""
        answers = (layer.next_start(solution) for layer in self.layers)
        return next((answer for answer in answers if answer is not None), None)

    def next_objective(self, solution: Solution) -> TwoTimeObjective | None:
        """The objective of the first layer that wants to go on with another one."""
        answers = (layer.next_objective(solution) for layer in self.layers)
        return next((answer for answer in answers if answer is not None), None)

    def failure(self) -> str | None:
        """Why the fit is to end here and not to count as converged, or None."""
        reasons = (layer.failure() for layer in self.layers)
        return next((reason for reason in reasons if reason is not None), None)

    def conclude(self, solution: Solution, noise: NoiseOfPoints) -> None:
        """Let every layer look at the end."""
        for layer in self.layers:
            layer.conclude(solution, noise)

    def report(self) -> dict[str, Any]:
        """What each layer did."""
        return {layer.name: layer.report() for layer in self.layers}
