r"""The result of a fit with weighted points, and how it differs from that of least squares.

The score s of least squares, with the Hessian H, and the weighted score t are linear in the same
residuals. So is the difference of the two estimates, :math:`d = H^{-1} s - G^{-1} t`, of which the
joint covariance of s and t gives the covariance. Its expectation is 0 if the model describes the
data; where it does not, the two, which weigh lags and ages differently, are drawn to different
values (J. A. Hausman, *Econometrica* 46, 1251, 1978).

A model that is not linear adds to the difference. The steps after the first show how much, since
there are none of a linear model; the covariance of the test allows for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from homodyne_fit.fitting.adequacy import SAFETY
from homodyne_fit.fitting.result import Estimate, FitResult, finite_or_none
from homodyne_fit.fitting.score_noise import inverse_hessian
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.fitting.uncertainty import assemble_result
from homodyne_fit.fitting.weighted_fit import NOT_CONVERGED, Weighted
from homodyne_fit.fitting.weighting import Difference, Value, Weighting
from homodyne_fit.model.parameters import RATES, SCALING
from homodyne_fit.model.rates import rates

__all__ = ["if_worth_it", "weighted_result"]

Floats = NDArray[np.float64]

# A difference of so many standard errors of least squares is none.
NEGLIGIBLE = 0.1

# What a curved model may add to a difference, of what the steps after the first change.
CURVED = 2.0

# Left to the data, points are weighted if at most this part of the errors of the physics remains,
# and if p of the test of the model is not smaller.
WORTH_IT = 0.9
PLAUSIBLE = 0.01

# Eigenvalues of the covariance of the difference that count, of the largest.
RESOLVED = 1e-6


def if_worth_it(weighted: Weighted) -> Weighted | str:
    """A weighted estimate, or in words why least squares is the better choice."""
    comparison = _Comparison(weighted)
    left = comparison.part_of_errors
    if left > WORTH_IT:
        change = f"{100 * abs(1 - left):.0f} % {'smaller' if left < 1 else 'larger'}"
        return f"the errors would be {change}, which is not worth it"
    _, _, probability = comparison.hausman_test()
    if probability < PLAUSIBLE:
        return (
            "the estimates would differ from those of least squares by more than the noise "
            f"explains (p = {probability:.1g}), so the model does not describe all lags alike"
        )
    return weighted


def weighted_result(
    weighted: Weighted | str, result: FitResult, *, automatic: bool = False
) -> FitResult:
    """The result at a weighted estimate, or that of least squares and why there is no other."""
    if isinstance(weighted, str) or not result.success:
        reason = weighted if isinstance(weighted, str) else NOT_CONVERGED
        weighting = Weighting(used=False, note=reason, automatic=automatic)
        return replace(result, weighting=weighting)
    solution, noise = weighted.solution, weighted.noise
    found = assemble_result(
        solution,
        weighted.in_space,
        weighted.unlimited,
        noise,
        result.adequacy,
        result.goodness,
        result.info,
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = _errors(found) / _errors(result)
    uncertainty = replace(found.uncertainty, widening=result.uncertainty.widening * gain)
    comparison = _Comparison(weighted)
    statistic, degrees, probability = comparison.hausman_test()
    weighting = Weighting(
        used=True,
        automatic=automatic,
        steps=weighted.point.steps,
        differences=comparison.differences(result, found),
        statistic=statistic,
        degrees_of_freedom=degrees,
        p_value=probability,
        least_squares={
            name: (estimate.value, finite_or_none(estimate.stderr))
            for name, estimate in zip(result.names, _estimates(result), strict=True)
        },
    )
    return replace(found, uncertainty=uncertainty, weighting=weighting)


def _estimates(result: FitResult) -> tuple[Estimate, ...]:
    """Of all names."""
    return (*result.parameters.values(), *result.contrast, *result.offset)


def _errors(result: FitResult) -> Floats:
    return np.array([estimate.stderr for estimate in _estimates(result)])


@dataclass(frozen=True, eq=False)
class _Comparison:
    """The difference d of two estimates, by coordinates and z, and its covariance.

    Attributes
    ----------
    estimate : Weighted
    """

    estimate: Weighted

    @property
    def weighted(self) -> Solution:
        """The weighted estimate."""
        return self.estimate.solution

    @property
    def difference(self) -> Floats:
        """Least squares minus weighted."""
        start = self.estimate.search.start
        y, point = start.space.complete(start.result.x), self.estimate.point
        return self._change(y - point.y, start.joint.z - point.z)

    @property
    def curvature(self) -> Floats:
        """What the steps after the first changed, which is 0 of a linear problem."""
        first, point = self.estimate.after_first_step, self.estimate.point
        return self._change(first.y - point.y, first.z - point.z)

    def _change(self, y: Floats, z: Floats) -> Floats:
        return np.concatenate([y[self.weighted.space.searched], z])

    @cached_property
    def covariances(self) -> tuple[Floats, Floats, Floats]:
        """Of the difference, and of the estimates of least squares and with weights."""
        c = self.weighted.joint.n_physics + 2
        ours, theirs = slice(c), slice(c, None)
        noise, solutions = self.estimate.noise, (self.estimate.plain, self.weighted)
        variance = noise.variance
        inverses = []
        for solution in solutions:
            directions, inverse = inverse_hessian(solution)
            outward = directions @ inverse.root
            inverses.append(outward @ outward.T)
        plain, weighted = inverses[0], variance * inverses[1]
        of_plain = plain @ noise.covariance_between(self.weighted, theirs, theirs, 2) @ plain
        of_weighted = weighted @ noise.covariance_between(self.weighted, ours, ours, 0) @ weighted
        cross = plain @ noise.covariance_between(self.weighted, theirs, ours, 1) @ weighted
        return of_plain + of_weighted - cross - cross.T, of_plain, of_weighted

    @property
    def part_of_errors(self) -> float:
        """Errors with weights over those of least squares, the mean of mean rates and direction."""
        _, *both = self.covariances
        variances = np.array(
            [[row @ covariance @ row for covariance in both] for row in self._physics().values()]
        )
        known = variances[np.all(variances > 0, axis=1)]
        return (
            float(np.exp(0.5 * np.mean(np.log(known[:, 1] / known[:, 0])))) if len(known) else 1.0
        )

    def hausman_test(self) -> tuple[float, int, float]:
        """Statistic, degrees of freedom and p of all that is free, of the scaling its means."""
        rows = np.vstack([self._free_coordinates(), *self._mean_scaling().values()])
        along = rows @ self.difference
        covariance, of_plain = (rows @ each @ rows.T for each in self.covariances[:2])
        errors = np.sqrt(np.diag(of_plain))
        free = errors > 0
        units = np.outer(errors[free], errors[free])
        scaled = SAFETY * covariance[np.ix_(free, free)] / units
        scaled += NEGLIGIBLE**2 * of_plain[np.ix_(free, free)] / units
        curvature = CURVED * (rows @ self.curvature)[free] / errors[free]
        scaled += np.outer(curvature, curvature)
        values, vectors = np.linalg.eigh(scaled)
        kept = values > RESOLVED * np.max(values, initial=0.0)
        inward = vectors[:, kept].T @ (along[free] / errors[free])
        statistic, degrees = float(np.sum(inward**2 / values[kept])), int(np.count_nonzero(kept))
        return statistic, degrees, float(chdtrc(degrees, statistic)) if degrees else 1.0

    def differences(self, before: FitResult, after: FitResult) -> tuple[Difference, ...]:
        """Of mean rates, direction of the flow, and means of contrast and offset."""
        found = []
        covariance, of_plain, _ = self.covariances
        for name, (unit, row, values) in self._quantities(before, after).items():
            variance = row @ of_plain @ row
            if not variance > 0:
                continue
            error = np.sqrt(max(0.0, row @ covariance @ row) + NEGLIGIBLE**2 * variance)
            sigmas = float((values[0][0] - values[1][0]) / error)
            found.append(Difference(name, unit, values[0], values[1], sigmas))
        return tuple(found)

    def _quantities(
        self, before: FitResult, after: FitResult
    ) -> dict[str, tuple[str, Floats, list[Value]]]:
        """Unit, derivatives by coordinates and z, and both values and errors."""
        both, results, physics = (before, after), {}, self._physics()
        for rate in after.rates:
            of_both = [r.mean_J() if rate.key == RATES[0] else r.mean_gamma_dot() for r in both]
            values = [(value, finite_or_none(error)) for value, error in of_both]
            results[f"mean {rate.symbol}"] = rate.unit, physics[rate.key], values
        if "phi0" in physics:
            phi0 = [r.parameters["phi0"] for r in both]
            values = [(each.value, finite_or_none(each.stderr)) for each in phi0]
            results["phi0"] = phi0[0].unit, physics["phi0"], values
        for kind, row in self._mean_scaling().items():
            means = [r.mean_scaling(kind) for r in both]
            results[f"mean {kind}"] = "", row, [(v, finite_or_none(e)) for v, e in means]
        return results

    def _physics(self) -> dict[str, Floats]:
        """Derivatives of the mean rates, and of phi0 if it is free, by coordinates and z."""
        solution = self.weighted
        space, y, m = solution.space, solution.result.x, len(solution.joint.z)
        objective = solution.objective
        times = np.arange(objective.n_frames) * objective.dt
        _, jacobians = rates(objective.model, space.complete(y), times, space.tau, objective.dt)
        means = jacobians[:, :, space.searched].mean(axis=1)
        names: tuple[str, ...] = RATES if objective.model.has_flow else RATES[:1]
        rows: dict[str, Floats] = dict(zip(names, means, strict=False))
        if objective.model.has_flow:
            index = objective.model.parameters.index("phi0")
            if space.searched[index]:
                rows["phi0"] = space.jacobian(y)[index]
        return {name: np.append(row, np.zeros(m)) for name, row in rows.items()}

    def _free_coordinates(self) -> Floats:
        """Rows that pick the coordinates that are not at a limit."""
        return np.eye(len(self.difference))[: len(self.weighted.free)][self.weighted.free]

    def _mean_scaling(self) -> dict[str, Floats]:
        """Rows of the mean contrast and the mean offset."""
        joint = self.weighted.joint
        physics = np.zeros((2, joint.n_physics))
        means = joint.scaling.matrix.reshape(2, joint.scaling.n_angles, -1).mean(axis=1)
        return dict(zip(SCALING, np.hstack([physics, means]), strict=True))
