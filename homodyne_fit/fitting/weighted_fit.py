r"""From least squares to the estimates of points that are weighted by their noise.

The weighted estimate is where the sum of the angles' weighted scores vanishes,

.. math:: \sum_k \omega_k N_k T_k^T \sum_{i<j} Z_{k,ij} r_{k,ij} - P z/\sigma^2 = 0,

with the weights Z of `homodyne_fit.noise.weights` at the noise that least squares found, ω the
weights of the angles, T the map from the searched coordinates and the unknowns z of the scaling to
the coordinates, contrast and offset of an angle, and P a penalty, which is a prior. That of least
squares is larger, by how much wider the noise makes the angles spread than independent points would
(`NoiseOfPoints.dispersion`): here the weights know of the noise. Newton's method solves the
equation from the solution of least squares. With its slope G, the information, in place of
the Hessian, the covariance of the estimate is :math:`G^{-1} V G^{-T}`, V the covariance of the
score by `homodyne_fit.noise.speckle`, that of weights W = Z.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.score_noise import NoiseOfPoints, derivatives_by_coordinates
from homodyne_fit.fitting.search.samples import Sample
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.kernel.elimination import joint_matrix
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.parameters import SCALING
from homodyne_fit.noise.amplitudes import SpeckleNoise
from homodyne_fit.noise.blocks import Blocks
from homodyne_fit.noise.residual_sums import ResidualSums
from homodyne_fit.noise.weighted_scores import ScoreModel, WeightedScores, blocks_for_weights
from nlsq_stratified.solver.box import solve_in_box

__all__ = ["NOT_CONVERGED", "Weighted", "WeightedNoise", "weigh_points"]

Floats = NDArray[np.float64]

# Newton steps at most; the first leaves some per cent of itself, the second as much of that.
MOST_STEPS = 20

# A share of a step is good enough if the distance that is left falls by this part of it.
LEAST_GAIN = 1 / 8

# Shares of a step that are tried.
SHARES = 0.5 ** np.arange(6)

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
class WeightedNoise(NoiseOfPoints):
    """What the noise does to the weighted score, in the units of a sum of squares.

    Attributes
    ----------
    weighted : WeightedScores
        With covariances, by the coordinates of `space`.
    space : SearchSpace
        That holds no parameter.
    of_least_squares : float
        The penalty of least squares over that of the weighted equations.
    """

    weighted: WeightedScores | None = None
    space: SearchSpace | None = None
    of_least_squares: float = 1.0

    @property
    def white(self) -> NoiseOfPoints:
        """The noise for which the weights would be the best."""
        return _NoiseOfWeights(self.variance)

    def of_points(self, solution: Solution) -> Floats:
        """Of the gradient by coordinates and z, (p + m, p + m), without a penalty."""
        c = solution.joint.n_physics + 2
        return self.variance**2 * self._between_of_points(solution, slice(c), slice(c))

    def variances_of_independent_points(self, solution: Solution) -> Floats:
        """Of coordinates and z (p + m,) by least squares, if the points were independent."""
        joint = solution.joint
        # The Hessians of the angles are still those of least squares.
        hessian = joint_matrix(joint.weights[:, None, None] * joint.local, joint.scaling.matrix)
        penalty = self.of_least_squares * joint.scaling.penalty
        hessian[joint.n_physics :, joint.n_physics :] += penalty
        equations = replace(joint.equations, hessian=hessian)
        plain = replace(solution, joint=replace(joint, equations=equations))
        return NoiseOfPoints(self.variance).variances_of_independent_points(plain)

    def covariance_between(
        self, solution: Solution, rows: slice, columns: slice, plain: int
    ) -> Floats:
        """Of two scores, given which columns of `WeightedScores.covariances` are theirs.

        `plain` of them are those of least squares. A prior adds what its precision P/σ² is in their
        units: as it is for weighted ones, times its variance by their penalty for each other one.
        """
        joint, covariance = solution.joint, self._between_of_points(solution, rows, columns)
        p, of_prior = joint.n_physics, self.variance * self.of_least_squares
        covariance[p:, p:] += joint.scaling.penalty / self.variance * of_prior**plain
        return covariance

    def _between_of_points(self, solution: Solution, rows: slice, columns: slice) -> Floats:
        """`covariance_between` without a penalty."""
        assert self.weighted is not None
        assert self.space is not None
        own = self.weighted.by_others(derivatives_by_coordinates(self.space, solution))
        of_angles = own.covariances[:, rows, columns]
        return _sum_of_angles(solution.joint.weights**2, _to_angles(solution), of_angles)


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
    dispersion : float
        The penalty of least squares over that of the weighted equations.
    threads : int or None
    """

    start: Solution
    space: SearchSpace
    noise: NoiseOfPoints
    speckle: SpeckleNoise
    sample: Sample
    blocks: Blocks
    dispersion: float
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
        dispersion = noise.dispersion(solution)
        return cls(solution, space, noise, speckle, sample, blocks, dispersion, threads)

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
            if _length(self._step(left)[0], left) <= (1 - LEAST_GAIN * share) * length:
                return trial, reached
        return reason

    def _equations(self, point: _Point) -> Solution:
        """The point with its weighted equations, in the space of the search."""
        return self.weighted(point, self.space, self.scores(point, self.space), self.space)

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
        """The point in a space, with the equations of least squares."""
        start = self.start
        objective, y = start.objective.in_coordinates(space), self._coordinates(point, space)
        sums = self.sample.sums(objective, space, y)
        joint = objective.joint_equations(sums, point.z)
        joint = replace(joint, limits=start.joint.limits, free=start.joint.free)
        result = replace(start.result, x=y, evaluated=y, active=point.active[space.searched])
        return Solution(objective, space, result, sums, joint)

    def _coordinates(self, point: _Point, space: SearchSpace) -> Floats:
        """The searched coordinates of the point in another space."""
        return space.convert(point.y[self.space.searched], self.space)

    def weighted(
        self, point: _Point, space: SearchSpace, scores: WeightedScores, of_space: SearchSpace
    ) -> Solution:
        """The same with the weighted equations, in the units of a sum of squares.

        `scores` are those by the coordinates of a space that searches no less.
        """
        solution = self.at(point, space)
        joint, variance = solution.joint, self.noise.variance
        to_angles, p = _to_angles(solution), joint.n_physics
        own = scores.by_others(derivatives_by_coordinates(of_space, solution))
        hessian = variance * _sum_of_angles(joint.weights, to_angles, own.slopes)
        gradient = -variance * np.einsum("k,kia,ki->a", joint.weights, to_angles, own.scores)
        contrast, offset = joint.scaling.penalty_weights
        scaling = joint.scaling.penalised(
            contrast / self.dispersion, offset / self.dispersion, learned=joint.scaling.learned
        )
        root = scaling.penalty_root
        hessian[p:, p:] += root.T @ root
        gradient[p:] += root.T @ (root @ joint.z)
        equations = replace(
            joint.equations,
            gradient=gradient,
            # Where single points are missing it is not quite symmetric.
            hessian=(hessian + hessian.T) / 2,
        )
        objective = replace(solution.objective, scaling=scaling)
        joint = replace(joint, scaling=scaling, equations=equations)
        return replace(solution, objective=objective, joint=joint)

    def _point(self, y: Floats, active: NDArray[np.int64], z: Floats, steps: int) -> _Point:
        contrast, offset = self.start.joint.scaling.values(z).reshape(2, -1)
        objective = self.start.objective.in_coordinates(self.space)
        residuals = ResidualSums(objective, contrast, offset, self.blocks)
        sums, counts, *_ = self.sample.reduce(residuals, y[self.space.searched])
        return _Point(y, active, z, sums, counts + counts.transpose(0, 2, 1), steps)

    def scores(
        self, point: _Point, space: SearchSpace, *, with_covariances: bool = False
    ) -> WeightedScores:
        """By the searched coordinates of a space, contrast and offset."""
        objective = self.start.objective.in_coordinates(space)
        model = ScoreModel.at(
            objective,
            self._coordinates(point, space),
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
        By the coordinates of `opened`.
    opened : SearchSpace
        That holds no parameter.
    solution : Solution
        With the weighted equations in place of those of least squares, times the variance of a
        point.
    """

    search: _Search
    point: _Point
    after_first_step: _Point
    scores: WeightedScores
    opened: SearchSpace
    solution: Solution

    @classmethod
    def at(cls, search: _Search, point: _Point, after_first_step: _Point) -> Weighted:
        """At a point, where what is still at a limit is held again."""
        held = {i: float(point.y[i]) for i in search.start.space.held if point.active[i]}
        space = replace(search.space, held=held)
        opened = space.opened
        scores = search.scores(point, opened, with_covariances=True)
        solution = search.weighted(point, space, scores, opened)
        return cls(search, point, after_first_step, scores, opened, solution)

    @cached_property
    def noise(self) -> WeightedNoise:
        """What the noise of the points does to the weighted score."""
        noise = self.search.noise
        return WeightedNoise(
            noise.variance,
            noise.speckle,
            None,
            noise.notes,
            self.scores,
            self.opened,
            self.search.dispersion,
        )

    def in_space(self, space: SearchSpace) -> Solution:
        """The same point in a space that searches no more than `opened`."""
        return self.search.weighted(self.point, space, self.scores, self.opened)

    def unlimited(self, space: SearchSpace) -> Solution:
        """`in_space`, with nothing kept at a limit; see `Sample.unlimited`."""
        free = self.in_space(space)
        active = np.zeros_like(free.result.active)
        return replace(free, result=replace(free.result, active=active))

    @property
    def plain(self) -> Solution:
        """The solution with the equations of least squares."""
        return self.search.at(self.point, self.solution.space)
