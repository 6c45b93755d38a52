r"""From least squares to the estimates of points that are weighted by their noise.

The weighted estimate is where the sum of the angles' weighted scores vanishes,

.. math:: \sum_k \omega_k N_k T_k^T \sum_{i<j} Z_{k,ij} r_{k,ij} - P z/\sigma^2 = 0,

with the weights Z of `homodyne_fit.noise.weights` at the noise that least squares found, ω the
weights of the angles, T the map from the searched coordinates and the unknowns z of the scaling to
the coordinates, contrast and offset of an angle, and P the penalty, which is a prior. Newton's
method solves it from the solution of least squares. With its slope G, the information, in place of
the Hessian, the covariance of the estimate is :math:`G^{-1} V G^{-T}`, V the covariance of the
score by `homodyne_fit.noise.speckle`, that of weights W = Z.

**Hausman's test.** Least squares with its score s and Hessian H, and the weighted score t, are
linear in the same residuals. So is the difference of the two estimates,
:math:`d = H^{-1} s - G^{-1} t`, of which the joint covariance of s and t gives the covariance. Its
expectation is 0 if the model describes the data; where it does not, the two, which weigh lags and
ages differently, are drawn to different values (J. A. Hausman, *Econometrica* 46, 1251, 1978).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from homodyne_fit.fitting.adequacy import SAFETY
from homodyne_fit.fitting.result import Estimate, FitResult, finite_or_none
from homodyne_fit.fitting.score_noise import (
    NoiseOfPoints,
    inverse_hessian,
)
from homodyne_fit.fitting.search.samples import Sample
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.fitting.uncertainty import assemble_result
from homodyne_fit.fitting.weighting import Difference, Value, Weighting
from homodyne_fit.kernel.elimination import joint_matrix
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.parameters import RATES, SCALING
from homodyne_fit.model.rates import rates
from homodyne_fit.noise.amplitudes import SpeckleNoise
from homodyne_fit.noise.blocks import Blocks
from homodyne_fit.noise.residual_sums import ResidualSums
from homodyne_fit.noise.weighted_scores import ScoreModel, WeightedScores, blocks_for_weights
from nlsq_stratified.solver.box import solve_in_box

__all__ = ["Weighted", "weigh_points", "weighted_result"]

Floats = NDArray[np.float64]

# Newton steps at most; the first leaves some per cent of itself, the second as much of that.
MOST_STEPS = 20

# Shares of a step that are tried.
SHARES = 0.5 ** np.arange(6)

# A difference of so many standard errors of least squares is none.
NEGLIGIBLE = 0.1

# What a curved model may add to a difference, of what the steps after the first change.
CURVED = 2.0

# Eigenvalues of the covariance of the difference that count, of the largest.
RESOLVED = 1e-6

# Outside of a limit by more than rounding, of the size of the limit.
SLACK = 1e-9

NOT_CONVERGED = "the least-squares fit did not converge"
NO_NOISE = "the noise of speckles and photons could not be found"
NO_PHOTONS = "the noise of photons cannot be told"
OTHER_NOISE = "the noise is not that of speckles and photons"
BEYOND_BOUNDS = "the weighted estimate of {} is beyond the bounds"
NO_SOLUTION = "Newton's method found no weighted estimate near that of least squares"


def weigh_points(
    solution: Solution,
    noise: NoiseOfPoints,
    sample: Sample,
    tolerance: float,
    threads: int | None = None,
) -> Weighted | str:
    """The weighted estimate, or in words why there is none.

    Parameters
    ----------
    solution : Solution
        Of least squares.
    noise : NoiseOfPoints
        The noise found there.
    sample : Sample
        All points.
    tolerance : float
        Distance from the solution at which the steps end, in standard errors.
    threads : int, optional
        One for each processor when None.
    """
    if not solution.result.success:
        return NOT_CONVERGED
    if noise.speckle is None:
        return NO_NOISE
    if noise.speckle.smoothed:
        return NO_PHOTONS
    if noise.notes:
        return OTHER_NOISE
    return _Search.of(solution, noise, noise.speckle, sample, threads).solve(tolerance)


def weighted_result(weighted: Weighted | str, result: FitResult) -> FitResult:
    """The result at a weighted estimate, or that of least squares and why there is no other."""
    if isinstance(weighted, str) or not result.success:
        reason = weighted if isinstance(weighted, str) else NOT_CONVERGED
        return replace(result, weighting=Weighting(used=False, note=reason))
    solution, noise = weighted.solution, weighted.noise
    opened, released = (
        weighted.unlimited(space) for space in (solution.space.opened, solution.space.released)
    )
    found = assemble_result(solution, released, opened, noise, result.adequacy, result.info)
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = _errors(found) / _errors(result)
    uncertainty = replace(found.uncertainty, widening=result.uncertainty.widening * gain)
    comparison = _Comparison(weighted)
    statistic, degrees, probability = comparison.hausman_test()
    weighting = Weighting(
        used=True,
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


@dataclass(frozen=True, eq=False)
class _Point:
    """Where the steps are.

    Attributes
    ----------
    y : (p,) array
        All coordinates.
    active : (p,) int
        −1 or 1 where one is at its lower or upper limit.
    z : (m,) array
        Unknowns of the scaling.
    sums, counts : (K, B, B) array
        Of the residuals there, and of points, in both orders.
    steps : int
    """

    y: Floats
    active: NDArray[np.int64]
    z: Floats
    sums: Floats
    counts: Floats
    steps: int


@dataclass(frozen=True, eq=False)
class _WeightedNoise(NoiseOfPoints):
    """What the noise does to the weighted score, in the units of a sum of squares.

    Attributes
    ----------
    weighted : WeightedScores
        With covariances, in a space that holds no parameter.
    """

    weighted: WeightedScores | None = None

    @property
    def white(self) -> NoiseOfPoints:
        """The noise for which the weights would be the best."""
        return _NoiseOfWeights(self.variance)

    def score_covariance(self, solution: Solution) -> Floats:
        """Of the gradient by coordinates and z, (p + m, p + m)."""
        c = solution.joint.n_physics + 2
        return self.variance**2 * self.covariance_between(solution, slice(c), slice(c), -1)

    def variances_of_independent_points(self, solution: Solution) -> Floats:
        """Of coordinates and z (p + m,) by least squares, if the points were independent."""
        joint = solution.joint
        # The Hessians of the angles are still those of least squares.
        hessian = joint_matrix(joint.weights[:, None, None] * joint.local, joint.scaling.matrix)
        hessian[joint.n_physics :, joint.n_physics :] += joint.scaling.penalty
        equations = replace(joint.equations, hessian=hessian)
        plain = replace(solution, joint=replace(joint, equations=equations))
        return NoiseOfPoints(self.variance).variances_of_independent_points(plain)

    def covariance_between(
        self, solution: Solution, rows: slice, columns: slice, power: int
    ) -> Floats:
        """Of two scores, given which columns of `WeightedScores.covariances` are theirs.

        A prior adds the penalty in units of the variance to a `power`: to −1 where both scores are
        weighted, 0 where one is, and 1 where both are those of least squares.
        """
        assert self.weighted is not None
        joint = solution.joint
        of_angles = self.weighted.among(solution.objective.searched).covariances[:, rows, columns]
        covariance = _sum_of_angles(joint.weights**2, _to_angles(solution), of_angles)
        p = joint.n_physics
        covariance[p:, p:] += joint.scaling.penalty * self.variance**power
        return covariance


@dataclass(frozen=True, eq=False)
class _NoiseOfWeights(NoiseOfPoints):
    """The noise for which the information is the inverse covariance."""

    def score_covariance(self, solution: Solution) -> Floats:
        """Of the gradient by coordinates and z."""
        return self.variance * solution.equations.hessian


def _length(step: Floats, solution: Solution) -> float:
    """Of a step, in units of its standard errors and the deviation of a point."""
    return float(np.sqrt(max(0.0, step @ solution.equations.hessian @ step)))


def _to_angles(solution: Solution) -> Floats:
    """From coordinates and z to coordinates, contrast and offset of an angle, (K, c, p + m)."""
    joint = solution.joint
    p, matrix = joint.n_physics, joint.scaling.matrix
    of_scaling = matrix.reshape(2, len(matrix) // 2, -1).swapaxes(0, 1)
    maps = np.zeros((len(of_scaling), p + 2, p + matrix.shape[1]))
    maps[:, np.arange(p), np.arange(p)] = 1.0
    maps[:, p:, p:] = of_scaling
    return maps


def _sum_of_angles(factors: Floats, to_angles: Floats, of_angles: Floats) -> Floats:
    """Σ ω Tᵀ (…) T of factors (K,), T (K, c, m) and matrices (K, c, c), (m, m)."""
    return np.einsum("k,kia,kij,kjb->ab", factors, to_angles, of_angles, to_angles, optimize=True)


@dataclass(frozen=True, eq=False)
class _Search:
    """The weighted equations near a solution of least squares.

    Attributes
    ----------
    start : Solution
    space : SearchSpace
        That of the start, with what it holds at limits searched.
    noise : NoiseOfPoints
    speckle : SpeckleNoise
    sample : Sample
    blocks : Blocks
    threads : int or None
    """

    start: Solution
    space: SearchSpace
    noise: NoiseOfPoints
    speckle: SpeckleNoise
    sample: Sample
    blocks: Blocks
    threads: int | None

    @classmethod
    def of(
        cls,
        solution: Solution,
        noise: NoiseOfPoints,
        speckle: SpeckleNoise,
        sample: Sample,
        threads: int | None,
    ) -> _Search:
        """With blocks of frames that are short at the solution."""
        space = replace(solution.space, held={})
        blocks = blocks_for_weights(solution.objective, solution.result.x)
        return cls(solution, space, noise, speckle, sample, blocks, threads)

    def solve(self, tolerance: float) -> Weighted | str:
        """Newton's method from least squares; in words why there is no solution."""
        point = self._first_point()
        solution, after_first_step = self._equations(point), point
        for _ in range(MOST_STEPS):
            if not solution.equations.finite:
                return NO_SOLUTION
            step, active = self._step(solution)
            if _length(step, solution) <= tolerance * np.sqrt(self.noise.variance):
                return Weighted.at(self, replace(point, active=active), after_first_step)
            moved = self._moved(point, solution, step)
            if isinstance(moved, str):
                return moved
            point, solution = moved
            if point.steps == 1:
                after_first_step = point
        return NO_SOLUTION

    def _moved(
        self, point: _Point, solution: Solution, step: Floats
    ) -> tuple[_Point, Solution] | str:
        """After a step, or as much of it as brings the solution nearer; in words why none does.

        The distance left is that of a step with the slope from before (P. Deuflhard, *Newton
        Methods for Nonlinear Problems*, 2004, section 3.3).
        """
        length, m = _length(step, solution), solution.joint.n_physics
        reason = NO_SOLUTION
        for share in SHARES:
            y = point.y.copy()
            y[self.space.searched] += share * step[:m]
            z = point.z + share * step[m:]
            if beyond := self._beyond_bounds(y, z):
                reason = BEYOND_BOUNDS.format(beyond)
                continue
            trial = self._point(y, point.active, z, point.steps + 1)
            reached = self._equations(trial)
            if not reached.equations.finite:
                continue
            equations = replace(reached.equations, hessian=solution.equations.hessian)
            left = replace(reached, joint=replace(reached.joint, equations=equations))
            if _length(self._step(left)[0], left) <= (1 - share / 2) * length:
                return trial, reached
        return reason

    def _equations(self, point: _Point) -> Solution:
        """The point with its weighted equations, in the space of the search."""
        return self.weighted(point, self.space, self.scores(point, self.space))

    def _first_point(self) -> _Point:
        """The solution of least squares."""
        space, active = self.start.space, np.zeros(len(self.space.fixed), dtype=np.int64)
        active[space.searched] = self.start.result.active
        for index, value in space.held.items():
            active[index] = -1 if value <= self.space.lower[index] else 1
        y = space.complete(self.start.result.x)
        return self._point(y, active, self.start.joint.z, 0)

    def _step(self, solution: Solution) -> tuple[Floats, NDArray[np.int64]]:
        """Newton's step within the limits of the coordinates, and which of them hold it then.

        A contrast or offset that least squares left at its limit stays there.
        """
        joint, y = solution.joint, solution.result.x
        directions = joint.free_directions(np.ones(len(y), dtype=bool))
        factor, target = joint.equations.linear_problem()
        lower, upper = (np.full(directions.shape[1], limit) for limit in (-np.inf, np.inf))
        low, high = solution.space.limits
        lower[: len(y)], upper[: len(y)] = np.minimum(low - y, 0.0), np.maximum(high - y, 0.0)
        along = solve_in_box(factor @ directions, target, lower, upper)
        active = np.zeros(len(self.space.fixed), dtype=np.int64)
        sides = (along >= upper).astype(np.int64) - (along <= lower)
        active[solution.space.searched] = sides[: len(y)]
        return directions @ along, active

    def at(self, point: _Point, space: SearchSpace) -> Solution:
        """The point in a space of the same coordinates, with the equations of least squares."""
        start = self.start
        objective, y = start.objective.in_coordinates(space), point.y[space.searched]
        sums = self.sample.sums(objective, space, y)
        joint = objective.joint_equations(sums, point.z)
        joint = replace(joint, limits=start.joint.limits, free=start.joint.free)
        result = replace(start.result, x=y, evaluated=y, active=point.active[space.searched])
        return Solution(objective, space, result, sums, joint)

    def weighted(self, point: _Point, space: SearchSpace, scores: WeightedScores) -> Solution:
        """The same with the weighted equations, in the units of a sum of squares."""
        solution = self.at(point, space)
        joint, variance = solution.joint, self.noise.variance
        to_angles, p = _to_angles(solution), joint.n_physics
        own = scores.among(solution.objective.searched)
        hessian = variance * _sum_of_angles(joint.weights, to_angles, own.slopes)
        gradient = -variance * np.einsum("k,kia,ki->a", joint.weights, to_angles, own.scores)
        root = joint.scaling.penalty_root
        hessian[p:, p:] += root.T @ root
        gradient[p:] += root.T @ (root @ joint.z)
        equations = replace(
            joint.equations,
            gradient=gradient,
            # Where single points are missing it is not quite symmetric.
            hessian=(hessian + hessian.T) / 2,
        )
        return replace(solution, joint=replace(joint, equations=equations))

    def _point(self, y: Floats, active: NDArray[np.int64], z: Floats, steps: int) -> _Point:
        contrast, offset = self.start.joint.scaling.values(z).reshape(2, -1)
        objective = self.start.objective.in_coordinates(self.space)
        residuals = ResidualSums(objective, contrast, offset, self.blocks)
        sums, counts = self.sample.reduce(residuals, y[self.space.searched])
        return _Point(y, active, z, sums, counts + counts.transpose(0, 2, 1), steps)

    def scores(
        self, point: _Point, space: SearchSpace, *, with_covariances: bool = False
    ) -> WeightedScores:
        """By the searched coordinates of a space."""
        objective = self.start.objective.in_coordinates(space)
        model = ScoreModel.at(
            objective,
            point.y[space.searched],
            objective.scaling.values(point.z),
            self.blocks,
            self.speckle,
            point.counts,
            self.threads,
        )
        return model.scores(point.sums, with_covariances=with_covariances)

    def _beyond_bounds(self, y: Floats, z: Floats) -> str:
        """What is beyond its bounds, by name; empty if nothing is."""
        space, scaling = self.space, self.start.joint.scaling
        law = space.first_law_out_of_bounds(space.to_parameters(y[space.searched]))
        if law is not None:
            return space.model.parameters[law]
        values = scaling.constant + scaling.matrix @ z
        slack = SLACK * np.maximum(1.0, np.abs(scaling.upper))
        outside = (values < scaling.lower - slack) | (values > scaling.upper + slack)
        kinds = zip(SCALING, outside.reshape(2, -1), strict=True)
        return next((kind for kind, beyond in kinds if np.any(beyond)), "")


@dataclass(frozen=True, eq=False)
class Weighted:
    """The weighted estimate.

    Attributes
    ----------
    search : _Search
    point, after_first_step : _Point
    scores : WeightedScores
        In the space that holds no parameter.
    solution : Solution
        With the weighted equations in place of those of least squares, times the variance of a
        point.
    """

    search: _Search
    point: _Point
    after_first_step: _Point
    scores: WeightedScores
    solution: Solution

    @classmethod
    def at(cls, search: _Search, point: _Point, after_first_step: _Point) -> Weighted:
        """At a point, where what is still at a limit is held again."""
        held = {i: float(point.y[i]) for i in search.start.space.held if point.active[i]}
        space = replace(search.space, held=held)
        scores = search.scores(point, space.opened, with_covariances=True)
        solution = search.weighted(point, space, scores)
        return cls(search, point, after_first_step, scores, solution)

    @cached_property
    def noise(self) -> _WeightedNoise:
        """What the noise of the points does to the weighted score."""
        noise = self.search.noise
        return _WeightedNoise(
            noise.variance, noise.speckle, None, noise.notes, weighted=self.scores
        )

    def in_space(self, space: SearchSpace) -> Solution:
        """The same point in a space that searches more of the same coordinates."""
        return self.search.weighted(self.point, space, self.scores)

    def unlimited(self, space: SearchSpace) -> Solution:
        """`in_space`, with nothing kept at a limit; see `Sample.unlimited`."""
        free = self.in_space(space)
        active = np.zeros_like(free.result.active)
        return replace(free, result=replace(free.result, active=active))

    @property
    def plain(self) -> Solution:
        """The solution with the equations of least squares."""
        return self.search.at(self.point, self.solution.space)


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
    def covariances(self) -> tuple[Floats, Floats]:
        """Of the difference, and of the estimate of least squares."""
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
        of_plain = plain @ noise.covariance_between(self.weighted, theirs, theirs, 1) @ plain
        of_weighted = weighted @ noise.covariance_between(self.weighted, ours, ours, -1) @ weighted
        cross = plain @ noise.covariance_between(self.weighted, theirs, ours, 0) @ weighted
        return of_plain + of_weighted - cross - cross.T, of_plain

    def hausman_test(self) -> tuple[float, int, float]:
        """Statistic, degrees of freedom and p of all that is free, of the scaling its means."""
        rows = np.vstack([self._free_coordinates(), *self._mean_scaling().values()])
        along = rows @ self.difference
        covariance, of_plain = (rows @ each @ rows.T for each in self.covariances)
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
        covariance, of_plain = self.covariances
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
        solution, both = self.weighted, (before, after)
        space, y, m = solution.space, solution.result.x, len(solution.joint.z)
        objective, results = solution.objective, {}
        _, jacobians = rates(
            objective.model, space.complete(y), after.times, space.tau, objective.dt
        )
        for rate, jacobian in zip(after.rates, jacobians, strict=False):
            mean = np.append(jacobian[:, space.searched].mean(axis=0), np.zeros(m))
            of_both = [r.mean_J() if rate.key == RATES[0] else r.mean_gamma_dot() for r in both]
            values = [(value, finite_or_none(error)) for value, error in of_both]
            results[f"mean {rate.symbol}"] = rate.unit, mean, values
        if "phi0" in after.parameters and not after.parameters["phi0"].fixed:
            index = list(after.parameters).index("phi0")
            row = np.append(space.jacobian(y)[index], np.zeros(m))
            phi0 = [r.parameters["phi0"] for r in both]
            values = [(each.value, finite_or_none(each.stderr)) for each in phi0]
            results["phi0"] = phi0[0].unit, row, values
        for kind, row in self._mean_scaling().items():
            results[f"mean {kind}"] = "", row, [_mean_of(r, kind) for r in both]
        return results

    def _free_coordinates(self) -> Floats:
        """Rows that pick the coordinates that are not at a limit."""
        return np.eye(len(self.difference))[: len(self.weighted.free)][self.weighted.free]

    def _mean_scaling(self) -> dict[str, Floats]:
        """Rows of the mean contrast and the mean offset."""
        joint = self.weighted.joint
        physics = np.zeros((2, joint.n_physics))
        means = joint.scaling.matrix.reshape(2, joint.scaling.n_angles, -1).mean(axis=1)
        return dict(zip(SCALING, np.hstack([physics, means]), strict=True))


def _mean_of(result: FitResult, kind: str) -> Value:
    """Mean of contrast or offset over the angles, and its standard error."""
    rows = [row for row, name in enumerate(result.names) if name.startswith(f"{kind}[")]
    value = float(np.mean([_estimates(result)[row].value for row in rows]))
    if np.any(result.undetermined[rows]):
        return value, None
    return value, float(np.linalg.norm(result.root[rows].mean(axis=0)))
