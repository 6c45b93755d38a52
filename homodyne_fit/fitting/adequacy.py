r"""Does the model describe the data? Residuals against what the noise allows.

Mean residuals u over windows in lag and age are linear in the residuals, as is the score s of the
fit, so that both have a joint covariance in closed form (`homodyne_fit.noise.scores`), V of each
angle. What the fit absorbs of the noise is taken off. With A the map from coordinates in which the
Hessian of the fit is 1, over the free directions, to the parameters, contrast and offset of an
angle k, and G the derivatives of its window means by these,

.. math:: u'_k = u_k - G_k A_k w, \qquad w = \sum_k \omega_k A_k^T s_k,

.. math:: \mathrm{Cov}(u'_k, u'_l) = \delta_{kl} V_k^{uu} - B_k S_l^T - S_k B_l^T + B_k M B_l^T,

where :math:`B_k = G_k A_k`, :math:`S_k = \omega_k V_k^{us} A_k` and M is the covariance of w, that
of a prior on the scaling included. Residuals at the solution are u' already, but for the little by
which the search stopped short.

Of independent angles, four numbers judge the model: χ² of each angle, the smallest p of K; χ² of
all of them; χ² of the mean over the angles, where what is common to them adds up; and the largest
of all means in units of its standard error. χ² counts the directions of the covariance, scaled to
unit diagonal, that have more than `RESOLVED` of the largest eigenvalue. p is four times the
smallest.

Noise amplitudes come from differences of residuals, which a misfit does not inflate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtr

from homodyne_fit.fitting.options import UncertaintyModel
from homodyne_fit.fitting.residuals import Residuals
from homodyne_fit.fitting.score_noise import NoiseOfPoints, from_whitened
from homodyne_fit.noise.blocks import Blocks
from homodyne_fit.noise.differences import MIXED
from homodyne_fit.noise.scores import joint_covariances_of_angles
from homodyne_fit.noise.windows import Window, cut_windows, window_weights

__all__ = ["NOT_JUDGED", "SAFETY", "SIGNIFICANT", "Adequacy", "Deviation", "judge_model"]

Floats = NDArray[np.float64]

# p below which the model does not describe the data.
SIGNIFICANT = 1e-3

# Variance over that found, to be safe against errors of the amplitudes of the noise.
SAFETY = 1.15

# p below which a misfit is seen even where points have been smoothed, so that noise is not known.
GROSS = 1e-6

# Blocks of frames, at most.
MOST_BLOCKS = 96

# Eigenvalues of a correlation matrix that count, of the largest.
RESOLVED = 1e-2

# A mean residual is judged where the fit leaves at least this share of its standard error.
LEFT_BY_FIT = 0.02

# Mean residuals below this share of the contrast may be rounding errors.
LEAST_SHARE = 1e-5

NOT_CONVERGED = "the fit did not converge"
EXACT = "the data agree with the model to rounding"
SMOOTHED = "neighbouring points have been smoothed, so that their noise is not known"
TOO_FEW = "there are too few points to tell the noise"


@dataclass(frozen=True)
class Deviation:
    """Residuals that noise hardly explains.

    Attributes
    ----------
    phi : float or None
        Angle, degrees; None for the mean over all angles.
    lags, ages : (float, float)
        From and to, seconds, of t2 − t1 and of (t1 + t2)/2.
    mean : float
        Of data minus fit.
    sigmas : float
        In units of what the noise allows.
    share : float
        Of the contrast.
    """

    phi: float | None
    lags: tuple[float, float]
    ages: tuple[float, float]
    mean: float
    sigmas: float
    share: float


@dataclass(frozen=True)
class Adequacy:
    """Whether the model describes the data.

    Attributes
    ----------
    adequate : bool or None
        None where it cannot be judged; `note` says why.
    p_value : float or None
        How often the noise of a true model makes residuals that are as large.
    worst : Deviation or None
        The window in which the mean residual is largest in units of its standard error.
    note : str
    """

    adequate: bool | None
    p_value: float | None = None
    worst: Deviation | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """As in ``parameters.json``: with lists, which JSON has in place of tuples."""
        stored = asdict(self)
        if self.worst is not None:
            stored["worst"] |= {"lags": list(self.worst.lags), "ages": list(self.worst.ages)}
        return stored

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Adequacy:
        """Back from `to_json`."""
        worst = stored["worst"]
        if worst is not None:
            lags, ages = (tuple(worst[name]) for name in ("lags", "ages"))
            worst = Deviation(**{**worst, "lags": lags, "ages": ages})
        return cls(stored["adequate"], stored["p_value"], worst, stored["note"])


# Of a result that was made before models were judged.
NOT_JUDGED = Adequacy(None, note="the fit was made before models were judged")


def judge_model(
    residuals: Residuals | None,
    noise: NoiseOfPoints,
    model: UncertaintyModel,
    success: bool,
    threads: int | None = None,
) -> Adequacy:
    """Judge the model at the solution.

    Parameters
    ----------
    residuals : Residuals or None
        None where the data agree with the model to rounding, or the model is not finite.
    noise : NoiseOfPoints
        Of which the errors are made.
    model : {'speckle', 'white'}
        The noise that the user asked for.
    success : bool
        Whether the fit converged.
    threads : int, optional
        One for each processor when None.
    """
    if not success:
        return Adequacy(None, note=NOT_CONVERGED)
    if residuals is None:
        return Adequacy(True, note=EXACT)
    if noise.speckle is not None:
        judged = _judged(residuals, noise.speckle.powers, threads, white=False)
        doubtful = noise.speckle.smoothed and (judged.p_value or 0.0) > GROSS
        return Adequacy(None, note=SMOOTHED) if doubtful else judged
    if model == "white":
        return _judged(residuals, _white_powers(residuals), threads, white=True)
    return Adequacy(None, note=TOO_FEW)


def _white_powers(residuals: Residuals) -> Floats:
    """Factors (3, K) of V0, V1 and V2 of independent points."""
    mixed, cells = residuals.near.observed[:, MIXED], residuals.near.cells
    enough = np.all(mixed > 0) and np.all(cells > 0)
    # A mixed difference has four times the variance of a point.
    variance = mixed / (4 * cells) if enough else residuals.solution.variance
    return np.array([0.0, 0.0, 1.0])[:, None] * variance


def _judged(residuals: Residuals, powers: Floats, threads: int | None, *, white: bool) -> Adequacy:
    """The verdict, given the factors (3, K) of V0, V1 and V2."""
    blocks = residuals.blocks.joined(MOST_BLOCKS)
    windows = cut_windows(blocks)
    scores = _window_scores(residuals, blocks, windows, powers, threads, white=white)
    sigmas, means = scores.sigmas, scores.u
    solution = residuals.solution
    contrast = solution.scaling[: len(means) - 1]
    typical = np.append(contrast, np.mean(contrast))
    shares = np.abs(means) / np.maximum(typical, np.finfo(float).tiny)[:, None]
    row, column = np.unravel_index(np.argmax(np.abs(sigmas)), sigmas.shape)
    dt, found = solution.objective.dt, windows[column]
    worst = Deviation(
        phi=float(solution.objective.phi[row]) if row < len(contrast) else None,
        lags=(max(found.lags[0], 1.0) * dt, found.lags[1] * dt),
        ages=(found.ages[0] * dt, found.ages[1] * dt),
        mean=float(means[row, column]),
        sigmas=float(abs(sigmas[row, column])),
        share=float(shares[row, column]),
    )
    p = scores.p_value
    rounding = bool(np.all(shares[sigmas != 0] < LEAST_SHARE))
    return Adequacy(p >= SIGNIFICANT or rounding, p, worst)


def _window_scores(
    residuals: Residuals,
    blocks: Blocks,
    windows: list[Window],
    powers: Floats,
    threads: int | None,
    *,
    white: bool,
) -> _Scores:
    """Mean residuals over the windows, against what the noise and the fit leave of them."""
    solution, joint = residuals.solution, residuals.solution.joint
    sums, counts = (blocks.sums_of(residuals.blocks, r) for r in (residuals.sums, residuals.counts))
    counts = counts + counts.transpose(0, 2, 1)
    weights = window_weights(windows, counts)
    t = len(windows)
    of_powers, slopes = joint_covariances_of_angles(
        solution.objective,
        solution.result.x,
        solution.scaling,
        weights,
        residuals.blocks,
        blocks,
        counts,
        threads,
        residuals.mean_weights(blocks),
        white=white,
    )
    v = np.einsum("ck,ckij->kij", SAFETY * powers, of_powers)
    outward, to_angles = from_whitened(solution)
    omega = joint.weights
    b = slopes @ to_angles
    s = omega[:, None, None] * (v[:, :t, t:] @ to_angles)
    m = np.einsum("k,kia,kij,kjb->ab", omega**2, to_angles, v[:, t:, t:], to_angles, optimize=True)
    z = outward[joint.n_physics :]
    m += solution.variance * z.T @ joint.scaling.penalty @ z
    short = outward.T @ joint.equations.gradient
    u = np.einsum("ktij,kij->kt", weights, sums) + b @ short
    cross = b @ s.transpose(0, 2, 1)
    covariances = v[:, :t, :t] - cross - cross.transpose(0, 2, 1) + b @ m @ b.transpose(0, 2, 1)
    mean_b, mean_s = b.mean(axis=0), s.mean(axis=0)
    cross = mean_b @ mean_s.T
    own = v[:, :t, :t].sum(axis=0) / len(u) ** 2
    of_mean = own - cross - cross.T + mean_b @ m @ mean_b.T
    return _Scores(
        _Judged.of(u, covariances, v[:, :t, :t]),
        _Judged.of(u.mean(axis=0)[None], of_mean[None], own[None]),
    )


@dataclass(frozen=True, eq=False)
class _Judged:
    """Mean residuals against their covariances.

    Attributes
    ----------
    u : (n, t) array
    sigmas : (n, t) array
        In units of their standard errors; 0 where the fit leaves nothing to judge.
    squares, dof : (n,) array
        χ² and its degrees of freedom.
    """

    u: Floats
    sigmas: Floats
    squares: Floats
    dof: NDArray[np.int64]

    @classmethod
    def of(cls, u: Floats, covariances: Floats, before: Floats) -> _Judged:
        """From means (n, t), and their covariances (n, t, t) after and before the fit."""
        variances, whole = (np.einsum("kii->ki", each) for each in (covariances, before))
        judged = variances > LEFT_BY_FIT**2 * whole
        errors = np.sqrt(np.where(judged, variances, 1.0))
        sigmas = np.where(judged, u / errors, 0.0)
        squares, dof = np.zeros(len(u)), np.zeros(len(u), dtype=np.int64)
        for k, keep in enumerate(judged):
            if not np.any(keep):
                continue
            scale = errors[k, keep]
            correlation = covariances[k][np.ix_(keep, keep)] / np.outer(scale, scale)
            values, vectors = np.linalg.eigh(correlation)
            resolved = values > RESOLVED * values[-1]
            along = vectors[:, resolved].T @ sigmas[k, keep]
            squares[k], dof[k] = np.sum(along**2 / values[resolved]), np.count_nonzero(resolved)
        return cls(u, sigmas, squares, dof)


@dataclass(frozen=True, eq=False)
class _Scores:
    """Mean residuals of each angle, and of all together."""

    angles: _Judged
    together: _Judged

    @property
    def u(self) -> Floats:
        """Mean residuals (K + 1, t), those of all angles together last."""
        return np.vstack([self.angles.u, self.together.u])

    @property
    def sigmas(self) -> Floats:
        """The same in units of their standard errors."""
        return np.vstack([self.angles.sigmas, self.together.sigmas])

    @property
    def p_value(self) -> float:
        """Four times the smallest of four."""
        return min(1.0, 4 * min(self._p_values()))

    def _p_values(self) -> Iterator[float]:
        squares, dof = self.angles.squares, self.angles.dof
        yield float(len(dof) * np.min(_tail(squares, dof)))
        yield float(_tail(np.sum(squares, keepdims=True), np.sum(dof, keepdims=True))[0])
        yield float(_tail(self.together.squares, self.together.dof)[0])
        sigmas = np.abs(self.sigmas)
        yield float(2 * np.count_nonzero(sigmas) * ndtr(-sigmas.max()))


def _tail(squares: NDArray, dof: NDArray) -> NDArray:
    """Probability of a larger χ²; 1 of none."""
    return np.where(dof > 0, chdtrc(np.maximum(dof, 1), squares), 1.0)
