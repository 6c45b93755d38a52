"""Layer 1: how contrast and offset may differ between the angles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, override

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.layers.evidence import fit_scaling_prior
from homodyne_fit.fitting.layers.layer import Layer, NoiseOf, PreliminaryFit
from homodyne_fit.fitting.score_noise import NoiseOfPoints
from homodyne_fit.fitting.search.solution import SearchPoint, Solution
from homodyne_fit.fitting.shared_pair import SharedPairTest, shared_pair_test
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.scaling import ScalingMap

__all__ = ["Reparametrization"]


# Pairs of their own are tried if so large deviations, of independent points, are less probable.
DOUBTFUL = 0.05

# One shared pair is kept if such deviations from it, or larger ones, are more probable than this.
IMPROBABLE = 1e-3

# Modes of the scaling map that ``auto`` chooses between.
SHARED, APART = "auto: averaged", "auto: hierarchical"

# Builds the map of one of the modes of `scaling_map`.
BuildMap = Callable[..., ScalingMap]


@dataclass
class Reparametrization(Layer):
    """The scaling map of a mode.

    ``auto`` starts with one pair for all angles. Where a Wald test, by the noise of independent
    points, says that the angles differ, each gets its own pair. At the minimum of that, a test by
    the noise found, which neighbouring points share, may lead back to one pair: with a wrong one,
    residuals are more than noise. ``sequential`` fits each angle by itself and then
    holds its pair.

    Attributes
    ----------
    mode : str
        A per_angle_mode of `homodyne_fit.fitting.options.AntiDegeneracy`.
    build : callable
        `scaling_map` for the data at hand, as ``build(mode, held=…)``.
    held : (2K,) array
        Contrasts and offsets that the mode ``constant`` holds.
    shrink : bool
        Whether layer 3 draws the pairs of the angles to each other, as far as the data let it.
    """

    name = "reparametrization"

    mode: str
    build: BuildMap
    held: NDArray[np.float64]
    shrink: bool = True
    independent: SharedPairTest | None = None
    wald: SharedPairTest | None = None
    # Whether a test has led back to one pair, and whether one is due on the sample at hand.
    kept: bool = False
    due: bool = True
    noise_of: NoiseOf | None = None

    @override
    def before_sample(self, tolerance: float, noise_of: NoiseOf) -> None:
        self.noise_of, self.due = noise_of, True

    @override
    def prepare(
        self, objective: TwoTimeObjective, start: SearchPoint, preliminary_fit: PreliminaryFit
    ) -> tuple[TwoTimeObjective, SearchPoint]:
        if self.mode == "sequential":
            scaling = self._each_alone(objective, start, preliminary_fit)
        elif self.mode in ("individual", "hierarchical"):
            scaling = replace(self.build("individual"), mode=self.mode)
        elif self.mode == "auto":
            scaling = self._shared()
        else:
            scaling = self.build(self.mode, held=self.held)
        return replace(objective, scaling=scaling), start

    @override
    def next_objective(self, solution: Solution) -> TwoTimeObjective | None:
        if self.mode != "auto" or len(solution.objective.phi) < 2:
            return None
        if solution.objective.scaling.mode == SHARED:
            return self._apart_if_they_differ(solution)
        return self._together_if_they_may_be(solution)

    def _apart_if_they_differ(self, solution: Solution) -> TwoTimeObjective | None:
        """Each angle with its own pair, where independent points would speak for that."""
        apart = self._apart(solution)
        self.independent = shared_pair_test(apart, NoiseOfPoints(apart.variance))
        if self.independent.probability > DOUBTFUL:
            return None
        if self.kept:
            # One pair has been found to do, so that the residuals at its minimum are noise.
            if not (self.due and solution.result.success):
                return None
            self._test(solution)
            if self._may_share:
                return None
        if not self.shrink:
            return apart.objective
        # Pairs drawn to each other are a better start for the physics than free ones.
        prior = fit_scaling_prior(apart.joint, apart.free, apart.variance)
        weights = apart.variance / np.array([prior.contrast, prior.offset]) ** 2
        scaling = apart.objective.scaling.penalised(*weights, learned=True)
        return replace(apart.objective, scaling=scaling)

    def _together_if_they_may_be(self, solution: Solution) -> TwoTimeObjective | None:
        """One pair again, where the noise of the points explains how the angles differ."""
        if not (self.due and solution.result.success):
            return None
        self._test(solution)
        if not self._may_share:
            return None
        self.kept = True
        return replace(solution.objective, scaling=self._shared())

    def _test(self, solution: Solution) -> None:
        assert self.noise_of is not None
        self.wald, self.due = self._deviations(solution, self.noise_of(solution)), False

    def _deviations(self, solution: Solution, noise: NoiseOfPoints) -> SharedPairTest:
        """How far pairs of their own deviate, with none of them kept at a limit."""
        apart = self._apart(solution)
        free = np.eye(len(apart.joint.z))
        return shared_pair_test(replace(apart, joint=replace(apart.joint, free=free)), noise)

    @property
    def _may_share(self) -> bool:
        return self.wald is not None and self.wald.probability > IMPROBABLE

    @override
    def conclude(self, solution: Solution, noise: NoiseOfPoints) -> None:
        if self.independent is not None and self.independent.probability <= DOUBTFUL:
            self.wald = self._deviations(solution, noise)

    def _shared(self) -> ScalingMap:
        """One pair for all angles."""
        return replace(self.build("averaged"), mode=SHARED)

    def _apart(self, solution: Solution) -> Solution:
        """The same point, each angle having a pair that nothing draws to the others."""
        each = replace(self.build("individual"), mode=APART)
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
        if self.independent is None:
            return report | {"effect": _EFFECTS[self.mode]}
        return report | {
            "test": {
                "independent_points": self.independent.to_json(),
                "noise_found": self.wald and self.wald.to_json(),
            },
            "effect": self._effect(self.wald or self.independent),
        }

    def _effect(self, test: SharedPairTest) -> str:
        numbers = (
            f"pairs of their own deviate from a shared one by a χ² of {test.statistic:.4g} with "
            f"{test.degrees_of_freedom} degrees of freedom (p = {test.probability:.2g})"
        )
        if self.wald is None or self._may_share:
            return f"the angles keep one shared pair: {numbers}"
        return f"the angles differ: {numbers}"


_EFFECTS = {
    "auto": "one shared pair: there is one angle",
    "individual": "none: each angle has its own contrast and offset, freely",
    "averaged": "one contrast and one offset for all angles",
    "constant": "contrasts and offsets held",
    "fourier": "contrast and offset are Fourier series in the angle",
    "hierarchical": "each angle has its own contrast and offset, from a common distribution",
    "sequential": "contrast and offset held at what each angle gives alone",
}
