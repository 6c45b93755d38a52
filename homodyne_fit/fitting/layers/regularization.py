"""Layer 3: a penalty on contrasts and offsets that spread over the angles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, override

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.layers.evidence import ScalingPrior, fit_scaling_prior
from homodyne_fit.fitting.layers.layer import Layer, NoiseOf, PreliminaryFit
from homodyne_fit.fitting.search.solution import SearchPoint, Solution
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.scaling import TYPICAL_SPREAD, ScalingMap, centering_matrix

__all__ = ["Regularization"]


# The weights are settled when the answer would move by less than this, in standard errors.
SETTLED = 0.01
# Revisions from which on the weights go half of the way only, as they may alternate.
DAMPED_FROM = 2
# Revisions of one objective after which they are taken as they are.
MAX_REVISIONS = 20


@dataclass
class Regularization(Layer):
    """Adds ``½ λ Σ(v_k − v̄)²`` for contrasts and for offsets to the cost.

    ``evidence`` learns λ = σ²/τ² for both, σ² being the variance of independent points that would
    let the angles spread as the noise found does. ``cv`` penalises the squared coefficient of
    variation of each: λ = strength · Σr² / (K v̄²). ``l2`` takes λ = strength for the contrasts
    alone.

    Attributes
    ----------
    method : str
        ``evidence``, ``cv`` or ``l2``.
    strength : float
        Of ``cv`` and ``l2``.
    noise : float
        Standard deviation of a point, roughly, to begin with.
    typical : (float, float)
        Contrast and offset, roughly, likewise.
    """

    name = "regularization"

    method: str
    strength: float
    noise: float
    typical: tuple[float, float]
    distance: float = SETTLED
    searches: int = 0
    revisions: int = 0
    settled: bool = False
    spreads: ScalingPrior | None = None
    noise_of: NoiseOf | None = None
    dispersion: float | None = None
    weights: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))

    @override
    def prepare(
        self, objective: TwoTimeObjective, start: SearchPoint, preliminary_fit: PreliminaryFit
    ) -> tuple[TwoTimeObjective, SearchPoint]:
        if not _can_spread(objective.scaling):
            return objective, start
        if self.method == "l2":
            weights = np.array([self.strength, 0.0])
        elif self.method == "evidence":
            spread = np.array(TYPICAL_SPREAD) * self.typical
            weights = self.noise**2 / np.maximum(spread, 1e-6) ** 2
        else:
            return objective, start
        return self._penalised(objective, weights), start

    @override
    def before_sample(self, tolerance: float, noise_of: NoiseOf) -> None:
        # What is settled on a sample is looked at again on all points.
        self.settled, self.distance, self.searches = False, max(SETTLED, tolerance), 0
        self.noise_of, self.dispersion = noise_of, None

    @override
    def next_objective(self, solution: Solution) -> TwoTimeObjective | None:
        objective = solution.objective
        if not _can_spread(objective.scaling):
            self.weights, self.spreads = np.zeros(2), None
            return None
        if self.settled:
            return None
        if self.method == "evidence":
            plain = objective.scaling.penalised(0.0, 0.0)
            joint = solution.joint_equations_of(replace(objective, scaling=plain), solution.joint.z)
            joint = replace(joint, free=solution.joint.free)
            variance = solution.variance * self._dispersion(solution)
            self.spreads = fit_scaling_prior(joint, solution.free, variance)
            tau = np.array([self.spreads.contrast, self.spreads.offset])
            weights, near = variance / tau**2, self.spreads.distance <= self.distance
            if self.searches >= DAMPED_FROM:
                weights = np.sqrt(weights * self.weights)
        elif self.method == "l2":
            weights = np.array([self.strength, 0.0])
            near = np.array_equal(weights, self.weights)
        else:
            means = np.mean(solution.scaling.reshape(2, -1), axis=1)
            n_angles = objective.scaling.n_angles
            weights = self.strength * solution.joint.sum_of_squares / (n_angles * means**2)
            near = bool(np.allclose(weights, self.weights, rtol=1e-3))
        self.revisions, self.searches = self.revisions + 1, self.searches + 1
        self.weights = weights
        self.settled = near or self.searches >= MAX_REVISIONS
        return None if near else self._penalised(objective, weights)

    def _dispersion(self, solution: Solution) -> float:
        """By how much the noise of the points widens the spread of the angles; found once."""
        if self.dispersion is None:
            if self.noise_of is None or not solution.result.success:
                return 1.0
            self.dispersion = self.noise_of(solution).dispersion(solution)
        return self.dispersion

    def _penalised(
        self, objective: TwoTimeObjective, weights: NDArray[np.float64]
    ) -> TwoTimeObjective:
        self.weights = weights
        learned = self.method == "evidence"
        return replace(objective, scaling=objective.scaling.penalised(*weights, learned=learned))

    @override
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = {"method": self.method, "revisions": self.revisions}
        report["weights"] = dict(zip(("contrast", "offset"), self.weights.tolist(), strict=True))
        if not np.any(self.weights):
            return report | {"effect": "none: contrast and offset cannot spread in this mode"}
        if self.spreads is None:
            return report | {"effect": f"a penalty by {self.method} on the spread over the angles"}
        spread = {"contrast": self.spreads.contrast, "offset": self.spreads.offset}
        effect = "learned spread over the angles: contrast {contrast:.3g}, offset {offset:.3g}"
        report["log_evidence"] = self.spreads.log_evidence
        return report | {"spread": spread, "effect": effect.format(**spread)}


def _can_spread(scaling: ScalingMap) -> bool:
    """Whether z can make the angles differ."""
    form = np.kron(np.eye(2), centering_matrix(scaling.n_angles))
    return bool(np.any(np.abs(form @ scaling.matrix) > 1e-12))
