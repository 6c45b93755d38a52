"""Layer 1: how contrast and offset may differ between the angles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, override

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.layers.evidence import ScalingPrior, fit_scaling_prior
from homodyne_fit.fitting.layers.layer import Layer, NoiseOf, PreliminaryFit
from homodyne_fit.fitting.score_noise import NoiseOfPoints, newton_step
from homodyne_fit.fitting.search.solution import SearchPoint, Solution
from homodyne_fit.fitting.shared_pair import SharedPairTest, shared_pair_test
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.scaling import ScalingMap

__all__ = ["Reparametrization"]


# Log evidence from which on the angles differ. Where they do not, the most probable spread is above
# zero half of the time all the same, and letting them differ then costs accuracy.
REJECTED = 1.0

# One shared pair is kept if such deviations from it, or larger ones, are more probable than this.
IMPROBABLE = 1e-3

# Decrease of χ² by a step, below which a solution is near enough to the minimum to be tested.
NEAR_MINIMUM = 1.0

# Builds the map of one of the modes of `scaling_map`.
BuildMap = Callable[..., ScalingMap]


@dataclass
class Reparametrization(Layer):
    """The scaling map of a mode.

    ``auto`` starts with one pair for all angles and asks at the minimum whether the angles differ:
    the evidence, which takes the points to be independent, and where that says so a Wald test by
    the noise found, which neighbouring points share. ``sequential`` fits each angle by itself and
    then holds its pair.

    Attributes
    ----------
    mode : str
        A per_angle_mode of `homodyne_fit.fitting.options.AntiDegeneracy`.
    build : callable
        `scaling_map` for the data at hand, as ``build(mode, held=…)``.
    held : (2K,) array
        Contrasts and offsets that the mode ``constant`` holds.
    shrink : bool
        Whether ``auto`` lets the angles differ by no more than they seem to at first, layer 3
        going on from there; if not, layer 3 has another penalty or none.
    """

    name = "reparametrization"

    mode: str
    build: BuildMap
    held: NDArray[np.float64]
    shrink: bool = True
    relaxed: ScalingPrior | None = None
    tested: ScalingPrior | None = None
    wald: SharedPairTest | None = None
    noise_of: NoiseOf | None = None

    @override
    def before_sample(self, tolerance: float, noise_of: NoiseOf) -> None:
        self.noise_of = noise_of

    @override
    def prepare(
        self, objective: TwoTimeObjective, start: SearchPoint, preliminary_fit: PreliminaryFit
    ) -> tuple[TwoTimeObjective, SearchPoint]:
        if self.mode == "sequential":
            scaling = self._each_alone(objective, start, preliminary_fit)
        elif self.mode in ("individual", "hierarchical"):
            scaling = replace(self.build("individual"), mode=self.mode)
        elif self.mode == "auto":
            scaling = replace(self.build("averaged"), mode="auto: averaged")
        else:
            scaling = self.build(self.mode, held=self.held)
        return replace(objective, scaling=scaling), start

    @override
    def next_objective(self, solution: Solution) -> TwoTimeObjective | None:
        if self.mode != "auto" or self.relaxed is not None or len(solution.objective.phi) < 2:
            return None
        apart = self._apart(solution)
        self.tested, self.wald = fit_scaling_prior(apart.joint, apart.free, apart.variance), None
        if self.tested.log_evidence <= REJECTED or not _is_near_minimum(solution):
            return None
        if self.noise_of is not None:
            self.wald = shared_pair_test(apart, self.noise_of(solution))
            if self.wald.probability > IMPROBABLE:
                return None
        self.relaxed, individual = self.tested, apart.objective
        if not self.shrink:
            return individual
        spreads = np.array([self.tested.contrast, self.tested.offset])
        weights = solution.variance / spreads**2
        return replace(individual, scaling=individual.scaling.penalised(*weights))

    @override
    def conclude(self, solution: Solution, noise: NoiseOfPoints) -> None:
        if self.tested is not None and self.tested.log_evidence > REJECTED:
            self.wald = shared_pair_test(self._apart(solution), noise)

    def _apart(self, solution: Solution) -> Solution:
        """The same point, each angle having a pair that nothing draws to the others."""
        each = replace(self.build("individual"), mode="auto: hierarchical")
        individual = replace(solution.objective, scaling=each)
        joint = solution.joint_equations_of(individual, solution.scaling)
        # A limit holds the angles that would rather be beyond it.
        limits = solution.joint.limits
        held = limits * joint.equations.gradient[joint.n_physics :] < 0
        joint = replace(joint, free=np.eye(len(joint.z))[:, ~held])
        return replace(solution, objective=individual, joint=joint)

    def _each_alone(
        self, objective: TwoTimeObjective, start: SearchPoint, preliminary_fit: PreliminaryFit
    ) -> ScalingMap:
        n_angles = len(objective.phi)
        values = np.empty(2 * n_angles)
        alone = replace(objective, scaling=self.build("individual"))
        for k, weights in enumerate(np.eye(n_angles)):
            one_angle = replace(alone, weights=weights)
            solution = preliminary_fit(one_angle, start, all_points=True)
            values[[k, n_angles + k]] = solution.scaling[[k, n_angles + k]]
        return replace(self.build("constant", held=values), mode="sequential")

    @override
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = {"mode": self.mode}
        if self.mode == "hierarchical" and not self.shrink:
            return report | {"effect": _EFFECTS["individual"]}
        if self.tested is None:
            return report | {"effect": _EFFECTS[self.mode]}
        test = self.tested
        return report | {
            "test": {
                "chi2_decrease": test.chi2,
                "degrees_of_freedom": test.degrees,
                "log_evidence": test.log_evidence,
                "wald": self.wald and self.wald.to_json(),
            },
            "effect": self._effect(test),
        }

    def _effect(self, test: ScalingPrior) -> str:
        if self.wald is None:
            return (
                "the angles keep one shared pair: a spread over them changes the log evidence by "
                f"{test.log_evidence:.3g}"
            )
        numbers = (
            f"pairs of their own deviate from a shared one by a χ² of {self.wald.statistic:.4g} "
            f"with {self.wald.degrees_of_freedom} degrees of freedom (p = "
            f"{self.wald.probability:.2g})"
        )
        if self.relaxed is None:
            return f"the angles keep one shared pair: {numbers}"
        if self.wald.probability > IMPROBABLE:
            return f"the angles may share one pair, though a part of the data denied it: {numbers}"
        return f"the angles differ: {numbers}"


def _is_near_minimum(solution: Solution) -> bool:
    """Whether a step would hardly lower χ²: elsewhere residuals are more than noise."""
    decrease = -float(solution.equations.gradient @ newton_step(solution))
    return decrease <= NEAR_MINIMUM * solution.variance


_EFFECTS = {
    "auto": "one shared pair: there is one angle",
    "individual": "none: each angle has its own contrast and offset, freely",
    "averaged": "one contrast and one offset for all angles",
    "constant": "contrasts and offsets held",
    "fourier": "contrast and offset are Fourier series in the angle",
    "hierarchical": "each angle has its own contrast and offset, from a common distribution",
    "sequential": "contrast and offset held at what each angle gives alone",
}
