"""What the noise of the points does to the score of a fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from homodyne_fit.fitting.options import UncertaintyModel
from homodyne_fit.fitting.search.samples import Sample, Samples
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.kernel.elimination import joint_matrix
from homodyne_fit.kernel.tiles import TILE
from homodyne_fit.model.scaling import centering_matrix
from homodyne_fit.noise.amplitudes import Absorbed, SpeckleNoise, find_noise
from homodyne_fit.noise.blocks import Blocks
from homodyne_fit.noise.neighbours import Neighbours, NeighbourSums, PresentPairs
from homodyne_fit.noise.scores import blocks_of, score_covariances_of_angles
from nlsq_stratified import Covariance, covariance_of

__all__ = [
    "NoiseOfPoints",
    "covariance_of_solution",
    "enough_points",
    "noise_of_points",
    "shared_pair_test",
]

Floats = NDArray[np.float64]

TOO_FEW_NOTE = (
    "there are too few points to tell the noise of speckles from that of photons; the error bars "
    "take the points to be independent, which makes them too small where speckles outlive a frame"
)

# Eigenvalues of a covariance, relative to the largest, that are told from zero.
RESOLVED = 1e-8

# Cells of an angle that tell N well enough: to one or two per cent.
ENOUGH_CELLS = 50_000


@dataclass(frozen=True, eq=False)
class NoiseOfPoints:
    """The noise of the points, and what it does to the score.

    Attributes
    ----------
    variance : float
        Of a residual.
    speckle : SpeckleNoise or None
        None where the points are taken to be independent.
    blocks : Blocks or None
        Of frames, short against the correlation time.
    present : (K, B, B) array or None
        Points in each pair of blocks, in both orders; None where none is missing.
    notes : tuple of str
        What the user should know about the errors.
    """

    variance: float
    speckle: SpeckleNoise | None = None
    blocks: Blocks | None = None
    present: Floats | None = None
    notes: tuple[str, ...] = ()

    @property
    def white(self) -> NoiseOfPoints:
        """The noise of independent points."""
        return NoiseOfPoints(self.variance)

    def score_covariance(self, solution: Solution) -> Floats:
        """Covariance of the gradient of the cost by coordinates and z, (p + m, p + m).

        Weights of the angles count twice in it. A penalty is a prior, as uncertain as it says.
        """
        joint = solution.joint
        penalty = np.zeros_like(joint.equations.hessian)
        penalty[joint.n_physics :, joint.n_physics :] = self.variance * joint.scaling.penalty
        if self.speckle is None:
            return self.variance * joint.score_covariance + penalty
        of_angles = np.einsum("ck,ckij->kij", self.speckle.powers, self._of_angles(solution))
        weighted = joint.weights[:, None, None] ** 2 * of_angles
        return joint_matrix(weighted, joint.scaling.matrix) + penalty

    def rise_ratio(self, solution: Solution) -> Callable[[Floats], float]:
        """How much less a step of the coordinates (m,) raises χ² than with independent points."""
        if self.speckle is None:
            return lambda step: 1.0
        m = solution.joint.n_physics
        roots = [covariance_of_solution(solution, noise).root[:m] for noise in (self, self.white)]

        def ratio(step: Floats) -> float:
            speckle, white = (_squared_length(root, step) for root in roots)
            return speckle / white if white > 0 else 1.0

        return ratio

    def _of_angles(self, solution: Solution) -> Floats:
        assert self.blocks is not None
        return score_covariances_of_angles(
            solution.objective,
            solution.result.x,
            solution.scaling,
            solution.joint.local,
            self.blocks,
            self.present,
        )


def _squared_length(root: Floats, step: Floats) -> float:
    """stepᵀ (root rootᵀ)⁻¹ step."""
    norms = np.linalg.norm(root, axis=1)
    units = np.where(norms > 0, norms, 1.0)
    along = np.linalg.lstsq(root / units[:, None], step / units, rcond=None)[0]
    return float(along @ along)


def covariance_of_solution(solution: Solution, noise: NoiseOfPoints) -> Covariance:
    """Covariance of the searched coordinates and z: H⁻¹ V H⁻¹ with V that of the score.

    H is the Hessian, over the directions that are free.
    """
    directions, inverse = _inverse_hessian(solution)
    root = inverse.root
    v = root.T @ directions.T @ noise.score_covariance(solution) @ directions @ root
    values, vectors = np.linalg.eigh((v + v.T) / 2)
    root = root @ vectors * np.sqrt(np.maximum(values, 0.0))
    return replace(inverse, root=directions @ root, null=directions @ inverse.null)


def _inverse_hessian(solution: Solution) -> tuple[Floats, Covariance]:
    """The free directions, and the inverse Hessian over them."""
    joint = solution.joint
    directions = joint.free_directions(solution.free)
    factor = joint.equations.linear_problem()[0] @ directions
    return directions, covariance_of(factor, np.ones(directions.shape[1], dtype=bool))


def noise_of_points(
    solution: Solution, sample: Sample, model: UncertaintyModel, few: Sample | None = None
) -> NoiseOfPoints:
    """Find the noise of the points of a sample at a solution.

    That of independent points where the data agree with the model to rounding, or have too few
    neighbours to tell.

    Parameters
    ----------
    solution : Solution
    sample : Sample
        The points that the solution is a fit to.
    model : {'speckle', 'white'}
    few : Sample, optional
        Some of the points, enough to find pixels and photons; all of them when None.
    """
    white, joint = NoiseOfPoints(solution.variance), solution.joint
    exact = joint.sum_of_squares <= joint.rounding
    if model == "white" or exact or not joint.equations.finite:
        return white
    objective, y = solution.objective, solution.result.x
    blocks = blocks_of(objective, y)
    present = None
    n = objective.n_frames
    points = joint.local[:, -1, -1]
    if np.any(np.rint(points) < n * (n - 1) // 2):
        present = sample.reduce(PresentPairs(blocks), y)
    noise = replace(white, blocks=blocks, present=present)
    contrast, offset = solution.scaling.reshape(2, -1)
    neighbours = NeighbourSums(objective, contrast, offset)
    sums = Neighbours.of((few or sample).reduce(neighbours, y))
    absorbed = _absorbed(solution, noise._of_angles(solution), sums.cells / points)
    found = find_noise(sums, absorbed)
    if found is None:
        return replace(white, notes=(TOO_FEW_NOTE,))
    speckle, notes = found
    return replace(noise, speckle=speckle, notes=notes)


def enough_points(samples: Samples, n_angles: int) -> Sample:
    """The smallest sample that tells the number of pixels of each angle; else all points."""
    enough = ENOUGH_CELLS * n_angles
    sizes = ((sample.tiles * TILE**2, sample) for sample in samples.growing)
    return next((sample for size, sample in sizes if size >= enough), samples.all_points)


def shared_pair_test(solution: Solution, noise: NoiseOfPoints) -> tuple[float, int, float]:
    """Wald test of one contrast and one offset for all angles.

    Parameters
    ----------
    solution : Solution
        Where each angle has a pair of its own, evaluated at the best shared pair.
    noise : NoiseOfPoints

    Returns
    -------
    statistic, degrees, probability : float, int, float
        dᵀ Cov(d)⁻¹ d of the deviations d of the free pairs from their means, its degrees of
        freedom, and how probable a larger one is if the angles share a pair.
    """
    joint = solution.joint
    directions, inverse = _inverse_hessian(solution)
    outward, p = directions @ inverse.root, joint.n_physics
    step = -outward @ (outward.T @ joint.equations.gradient)
    centred = np.kron(np.eye(2), centering_matrix(joint.scaling.n_angles))
    deviations = centred @ step[p:]
    root = centred @ covariance_of_solution(solution, noise).root[p:]
    norms = np.linalg.norm(root, axis=1)
    units = np.where(norms > 0, norms, 1.0)
    values, vectors = np.linalg.eigh((root / units[:, None]) @ (root / units[:, None]).T)
    kept = values > RESOLVED * values[-1]
    along = vectors[:, kept].T @ (deviations / units)
    statistic, degrees = float(np.sum(along**2 / values[kept])), int(np.count_nonzero(kept))
    return statistic, degrees, float(chdtrc(degrees, statistic)) if degrees else 1.0


def _absorbed(solution: Solution, scores: Floats, share: Floats) -> Absorbed:
    """What the fit absorbs of the noise, given the score covariances (3, K, p + 2, p + 2)."""
    joint = solution.joint
    directions, inverse = _inverse_hessian(solution)
    outward, p = directions @ inverse.root, joint.n_physics
    scaling = joint.scaling.matrix.reshape(2, len(share), -1)
    # From coordinates in which the Hessian is 1 to physics, contrast and offset of an angle.
    to_angles = np.concatenate(
        [
            np.broadcast_to(outward[:p], (len(share), *outward[:p].shape)),
            np.einsum("skm,mf->ksf", scaling, outward[p:]),
        ],
        axis=1,
    )
    return Absorbed(
        np.einsum("kif,ckij,kjg->ckfg", to_angles, scores, to_angles, optimize=True),
        np.einsum("kif,kij,kjg->kfg", to_angles, joint.local, to_angles, optimize=True),
        joint.weights,
        share,
    )
