"""What the noise of the points does to the score of a fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import NDArray

from homodyne_fit.fitting.options import UncertaintyModel
from homodyne_fit.fitting.residuals import Residuals
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.fitting.unknown_spreads import root_with_unknown_spreads
from homodyne_fit.kernel.elimination import joint_matrix
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.scaling import centering_matrix
from homodyne_fit.noise.amplitudes import SpeckleNoise, find_noise
from homodyne_fit.noise.scores import score_covariances_of_angles
from nlsq_stratified import Covariance, covariance_of

__all__ = [
    "NoiseOfPoints",
    "covariance_at_known_spreads",
    "covariance_of_solution",
    "derivatives_by_coordinates",
    "from_whitened",
    "inverse_hessian",
    "newton_step",
    "noise_of_points",
    "step_of_larger_form",
]

Floats = NDArray[np.float64]

# Singular values, relative to the largest, that are told from zero.
RESOLVED = 1e-10

TOO_FEW_NOTE = (
    "there are too few points to tell the noise of speckles from that of photons; the error bars "
    "take the points to be independent, which makes them too small where speckles outlive a frame"
)


@dataclass(frozen=True, eq=False)
class SpeckleScores:
    """Covariance of the scores by speckles and photons.

    Attributes
    ----------
    of_angles : (3, K, p + 2, p + 2) array
        V0, V1 and V2 of each angle, in the coordinates of the space.
    space : SearchSpace
        That holds no parameter.
    """

    of_angles: Floats
    space: SearchSpace

    @classmethod
    def at(cls, released: Solution, residuals: Residuals, threads: int | None) -> SpeckleScores:
        """Those at a solution in a space that holds no parameter."""
        points, pairs = residuals.points, residuals.blocks.pairs
        of_angles = score_covariances_of_angles(
            released.objective,
            released.result.x,
            released.scaling,
            released.joint.local,
            residuals.blocks,
            None if np.all(points == pairs) else points,
            threads,
            residuals.mean_weights(residuals.blocks),
        )
        return cls(of_angles, released.space)

    def by_coordinates_of(self, solution: Solution) -> Floats:
        """Those by the coordinates of a space that searches less, at its solution.

        Returns
        -------
        (3, K, q + 2, q + 2) array
        """
        to_own = derivatives_by_coordinates(self.space, solution)
        return to_own.T @ self.of_angles @ to_own


def derivatives_by_coordinates(space: SearchSpace, solution: Solution) -> Floats:
    """Of the coordinates of a space, contrast and offset by those of a solution, (c, d)."""
    of_physics = space.derivatives_by(solution.result.x, solution.space)
    return scipy.linalg.block_diag(of_physics, np.eye(2))


@dataclass(frozen=True, eq=False)
class NoiseOfPoints:
    """The noise of the points, and what it does to the score.

    Attributes
    ----------
    variance : float
        Of a residual.
    speckle : SpeckleNoise or None
        None where the points are taken to be independent.
    scores : SpeckleScores or None
        What belongs to `speckle`.
    notes : tuple of str
        What the user should know about the errors.
    """

    variance: float
    speckle: SpeckleNoise | None = None
    scores: SpeckleScores | None = None
    notes: tuple[str, ...] = ()

    @property
    def white(self) -> NoiseOfPoints:
        """The noise of independent points."""
        return NoiseOfPoints(self.variance)

    def score_covariance(self, solution: Solution) -> Floats:
        """Covariance of the gradient of the cost by coordinates and z, (p + m, p + m).

        Weights of the angles count twice in it. A penalty is a prior, as uncertain as it says.
        """
        joint, covariance = solution.joint, self.of_points(solution)
        if np.any(joint.scaling.penalty):
            of_prior = self.variance_of_prior(solution)
            covariance[joint.n_physics :, joint.n_physics :] += of_prior * joint.scaling.penalty
        return covariance

    def variance_of_prior(self, solution: Solution) -> float:
        """A penalty over this is a precision."""
        return self.variance * self.dispersion(solution)

    def dispersion(self, solution: Solution) -> float:
        """Variance of how the angles' contrasts and offsets pull, over that by independent points.

        The mean over the directions in which they deviate from each other. If points are taken to
        be independent, the angles seem to spread by so much more noise than there is.
        """
        joint = solution.joint
        if self.speckle is None or self.scores is None:
            return 1.0
        centred = np.kron(np.eye(2), centering_matrix(joint.scaling.n_angles))
        deviating = scipy.linalg.orth(joint.scaling.matrix.T @ centred, rcond=RESOLVED)
        speckle, white = (
            deviating.T @ matrix[joint.n_physics :, joint.n_physics :] @ deviating
            for matrix in (self.of_points(solution), self.variance * joint.score_covariance)
        )
        if not (speckle.size and np.all(np.isfinite(white)) and np.all(np.diag(white) > 0)):
            return 1.0
        return float(
            np.trace(np.linalg.pinv(white, rcond=RESOLVED, hermitian=True) @ speckle)
        ) / len(white)

    def of_points(self, solution: Solution) -> Floats:
        """`score_covariance` without a penalty."""
        joint = solution.joint
        weighted = joint.weights[:, None, None] ** 2 * self.score_covariances_of_angles(solution)
        return joint_matrix(weighted, joint.scaling.matrix)

    def score_covariances_of_angles(self, solution: Solution) -> Floats:
        """Covariance of the score of each angle by coordinates, contrast and offset.

        (K, p + 2, p + 2), without weights of the angles and without a penalty.
        """
        if self.speckle is None or self.scores is None:
            return self.variance * solution.joint.local
        scores = self.scores.by_coordinates_of(solution)
        return np.einsum("ck,ckij->kij", self.speckle.powers, scores)

    def variances_of_independent_points(self, solution: Solution) -> Floats:
        """Of coordinates and z (p + m,) by least squares, if the points were independent."""
        return np.sum(covariance_at_known_spreads(solution, self.white).root ** 2, axis=1)

    def rise_ratio(self, solution: Solution) -> Callable[[Floats], float]:
        """Rise of χ² over a step of the coordinates (m,), over that of independent points."""
        if self.speckle is None and not solution.joint.scaling.has_learned_spreads:
            return lambda step: 1.0
        m = solution.joint.n_physics
        roots = [
            covariance_of_solution(solution, self).root[:m],
            covariance_at_known_spreads(solution, self.white).root[:m],
        ]

        def ratio(step: Floats) -> float:
            speckle, white = (_squared_length(root, step) for root in roots)
            return speckle / white if white > 0 else 1.0

        return ratio


def _squared_length(root: Floats, step: Floats) -> float:
    """stepᵀ (root rootᵀ)⁻¹ step."""
    norms = np.linalg.norm(root, axis=1)
    units = np.where(norms > 0, norms, 1.0)
    along = np.linalg.lstsq(root / units[:, None], step / units, rcond=None)[0]
    return float(along @ along)


def covariance_of_solution(solution: Solution, noise: NoiseOfPoints) -> Covariance:
    """Covariance of the searched coordinates and z; learned spreads are unknowns of it."""
    known = covariance_at_known_spreads(solution, noise)
    if not solution.joint.scaling.has_learned_spreads:
        return known
    root = root_with_unknown_spreads(
        solution.joint,
        solution.free,
        known.null,
        noise.of_points(solution),
        noise.variance_of_prior(solution),
    )
    return known if root is None else replace(known, root=root)


def covariance_at_known_spreads(solution: Solution, noise: NoiseOfPoints) -> Covariance:
    """Covariance of the searched coordinates and z: H⁻¹ V H⁻¹ with V that of the score.

    H is the Hessian, over the directions that are free. A learned spread is taken as it is.
    """
    directions, inverse = inverse_hessian(solution)
    root = inverse.root
    v = root.T @ directions.T @ noise.score_covariance(solution) @ directions @ root
    values, vectors = np.linalg.eigh((v + v.T) / 2)
    root = root @ vectors * np.sqrt(np.maximum(values, 0.0))
    return replace(inverse, root=directions @ root, null=directions @ inverse.null)


def newton_step(solution: Solution) -> Floats:
    """To where the gradient by coordinates and z vanishes, over the directions that are free."""
    directions, inverse = inverse_hessian(solution)
    outward = directions @ inverse.root
    return -outward @ (outward.T @ solution.equations.gradient)


def step_of_larger_form(larger: Solution, free: Solution) -> Floats:
    """Newton's step where a form of the rates has more parameters, (m + z,).

    Parameters
    ----------
    larger : Solution
        The solution of a smaller form, with the parameters that the larger one has.
    free : Solution
        The same where nothing is held, by whose coordinates the step is told.
    """
    step, m = newton_step(larger), larger.joint.n_physics
    derivatives = free.space.derivatives_by(larger.result.x, larger.space)
    return np.concatenate([derivatives @ step[:m], step[m:]])


def inverse_hessian(solution: Solution) -> tuple[Floats, Covariance]:
    """The free directions, and the inverse Hessian over them."""
    joint = solution.joint
    directions = joint.free_directions(solution.free)
    factor = joint.equations.linear_problem()[0] @ directions
    return directions, covariance_of(factor, np.ones(directions.shape[1], dtype=bool))


def noise_of_points(
    solution: Solution,
    released: Solution,
    residuals: Residuals | None,
    model: UncertaintyModel,
    threads: int | None = None,
) -> NoiseOfPoints:
    """Find the noise of the points.

    That of independent points where there are no residuals, or too few neighbours to tell.

    Parameters
    ----------
    solution : Solution
    released : Solution
        The solution in a space that holds no parameter at a limit.
    residuals : Residuals or None
    model : {'speckle', 'white'}
    threads : int, optional
        One for each processor when None.
    """
    white = NoiseOfPoints(solution.variance)
    if model == "white" or residuals is None:
        return white
    found = find_noise(residuals.near, residuals.further, residuals.far())
    if found is None:
        return replace(white, notes=(TOO_FEW_NOTE,))
    speckle, notes = found
    scores = SpeckleScores.at(released, residuals, threads)
    return replace(white, speckle=speckle, scores=scores, notes=notes)


def from_whitened(solution: Solution) -> tuple[Floats, Floats]:
    """From coordinates in which the Hessian of the fit is 1, over the directions that are free.

    Returns
    -------
    outward : (m + z, f) array
        To the searched coordinates and the unknowns z of the scaling.
    to_angles : (K, m + 2, f) array
        To the searched coordinates, and contrast and offset of each angle.
    """
    directions, inverse = inverse_hessian(solution)
    outward, p = directions @ inverse.root, solution.joint.n_physics
    scaling = solution.joint.scaling.matrix
    scaling = scaling.reshape(2, len(scaling) // 2, -1)
    physics = np.broadcast_to(outward[:p], (scaling.shape[1], *outward[:p].shape))
    of_scaling = np.einsum("skm,mf->ksf", scaling, outward[p:])
    return outward, np.concatenate([physics, of_scaling], axis=1)
