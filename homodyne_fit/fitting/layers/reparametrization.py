"""Layer 1: how contrast and offset may differ between the angles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, override

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.layers.evidence import ScalingPrior, fit_scaling_prior
from homodyne_fit.fitting.layers.layer import Layer, NoiseOf, PreliminaryFit
from homodyne_fit.fitting.score_noise import shared_pair_test
from homodyne_fit.fitting.search.solution import SearchPoint, Solution
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.scaling import ScalingMap

__all__ = ["Reparametrization"]


# Log evidence from which on the angles differ. Where they do not, the most probable spread is above
# zero half of the time all the same, and letting them differ then costs accuracy.
REJECTED = 1.0

# One shared pair is kept if such deviations from it, or larger ones, are more probable than this.
IMPROBABLE = 0.01

# What the Wald test gives.
WALD = ("statistic", "degrees_of_freedom", "probability")

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
    wald: tuple[float, int, float] | None = None
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
        each = replace(self.build("individual"), mode="auto: hierarchical")
        individual = replace(solution.objective, scaling=each)
        joint = solution.joint_equations_of(individual, solution.scaling)
        # A limit holds the angles that would rather be beyond it.
        held = solution.joint.limits * joint.equations.gradient[joint.n_physics :] < 0
        joint = replace(joint, free=np.eye(len(joint.z))[:, ~held])
        self.tested = fit_scaling_prior(joint, solution.free, solution.variance)
        self.wald = None
        if self.tested.log_evidence <= REJECTED:
            return None
        if self.noise_of is not None:
            each_at_shared = replace(solution, objective=individual, joint=joint)
            self.wald = shared_pair_test(each_at_shared, self.noise_of(solution))
            if self.wald[2] > IMPROBABLE:
                return None
        self.relaxed = self.tested
        if not self.shrink:
            return individual
        spreads = np.array([self.tested.contrast, self.tested.offset])
        return replace(individual, scaling=each.penalised(*(solution.variance / spreads**2)))

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
        numbers = (
            f"{test.degrees} more parameters lower χ² by {test.chi2:.4g}, and a spread over the "
            f"angles raises the log evidence by {test.log_evidence:.3g}"
        )
        if self.wald is not None:
            statistic, degrees, probability = self.wald
            numbers = (
                f"pairs of their own deviate from a shared one by a χ² of {statistic:.4g} with "
                f"{degrees} degrees of freedom, probability {probability:.2g}"
            )
        verdict = "keep one shared pair" if self.relaxed is None else "differ"
        return report | {
            "test": {
                "chi2_decrease": test.chi2,
                "degrees_of_freedom": test.degrees,
                "log_evidence": test.log_evidence,
                "wald": self.wald and dict(zip(WALD, self.wald, strict=True)),
            },
            "effect": f"the angles {verdict}: {numbers}",
        }


_EFFECTS = {
    "auto": "one shared pair: there is one angle",
    "individual": "none: each angle has its own contrast and offset, freely",
    "averaged": "one contrast and one offset for all angles",
    "constant": "contrasts and offsets held",
    "fourier": "contrast and offset are Fourier series in the angle",
    "hierarchical": "each angle has its own contrast and offset, from a common distribution",
    "sequential": "contrast and offset held at what each angle gives alone",
}
