r"""How well a fit describes the data, in the numbers that are usually asked for.

With residuals r of angle k, the fit takes up part of the noise. In coordinates in which the Hessian
of the fit is 1, :math:`T_k` leads to the parameters, contrast and offset of the angle,
:math:`H_k` is the sum of products of two derivatives over its points, :math:`V_k` the covariance of
its score, and :math:`\omega_k` its weight. Of points with the variances v, linear propagation gives

.. math:: E \sum r^2 = \sum v - 2 \omega_k \,\mathrm{tr}(T_k^T V_k T_k)
    + \mathrm{tr}(T_k^T H_k T_k M), \qquad M = \sum_k \omega_k^2 T_k^T V_k T_k,

which is :math:`(n - p) v` in sum where the points are independent and weighted alike. χ² over its
degrees of freedom is the sum of squares over this. The variances are those of the noise model, of
which the amplitudes are found in differences of neighbouring residuals, where a misfit hardly
shows.

Information criteria that take the points to be independent reward a parameter for what it takes up
of the noise that points share. Of a direction in which the variance of an estimate is widened by
w², that is w² times as much. So each of the free parameters,

.. math:: p = \sum_k \omega_k \mathrm{tr}(T_k^T H_k T_k),

of which those that a learned spread shrinks count less than one each, costs w² times as much:
:math:`t = \mathrm{tr} M / \sigma^2` in sum, and n points say as much as n p/t independent ones.
But for a constant of the data the criteria of Akaike and of Schwarz are

.. math:: n \ln \frac{\sum r^2}{n} + 2t \quad\text{and}\quad
    n \ln \frac{\sum r^2}{n} + t \ln \frac{n p}{t}.

K. Takeuchi, *Suri Kagaku* 153, 12 (1976): the trace in place of the number of parameters.
C. Varin, P. Vidoni, *Biometrika* 92, 519 (2005), and X. Gao, P. X.-K. Song, *J. Am. Stat. Assoc.*
105, 1531 (2010): criteria of likelihoods that take dependent observations to be independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.options import UncertaintyModel
from homodyne_fit.fitting.residuals import Residuals
from homodyne_fit.fitting.score_noise import NoiseOfPoints, from_whitened
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.noise.differences import MIXED
from homodyne_fit.noise.point_covariance import point_variances, speckle_contrast
from homodyne_fit.noise.scores import block_model

__all__ = ["Goodness", "criteria_differences", "goodness_of_fit"]

Floats = NDArray[np.float64]

# Free parameters that one fit must have more for their own cost to be known.
LEAST_MORE = 0.5


@dataclass(frozen=True, eq=False)
class Goodness:
    """How far data and fit are apart, of K angles.

    Attributes
    ----------
    n_points : (K,) array
    squares : (K,) array
        Sums of squared residuals.
    variation : (K,) array
        Sums of squares of the data about the mean of the angle.
    expected : (K,) array
        What `squares` would be on average by the noise alone; NaN where the noise is not known.
    noise_model : {'speckle', 'white'}
        Of which `expected` is made.
    n_free : float
        Free parameters p.
    penalty : float
        The same, each times the square of how much the noise that points share widens its error: t.
    of_pseudo_data : bool
        Whether the residuals are those of a robust loss, in which outliers are drawn to the fit.
        Such data are those of one fit alone, so that no criterion compares it to others.
    """

    n_points: Floats
    squares: Floats
    variation: Floats
    expected: Floats
    noise_model: UncertaintyModel
    n_free: float
    penalty: float
    of_pseudo_data: bool = False

    @classmethod
    def unknown(cls, n_angles: int) -> Goodness:
        """Of a result that was made before these numbers were computed."""
        none = np.full(n_angles, np.nan)
        return cls(none, none, none, none, "white", np.nan, np.nan)

    @property
    def is_known(self) -> bool:
        """Whether there are any numbers."""
        return bool(np.all(np.isfinite(self.squares)))

    @property
    def reduced_chi2(self) -> float:
        """Sum of squares over what the noise makes of it; NaN where the noise is not known."""
        return _ratio(np.sum(self.squares), np.sum(self.expected))

    @property
    def reduced_chi2_of_angles(self) -> Floats:
        """The same of each angle, (K,)."""
        return np.array([_ratio(*pair) for pair in zip(self.squares, self.expected, strict=True)])

    @property
    def rms(self) -> float:
        """Root mean square residual."""
        return float(np.sqrt(_ratio(np.sum(self.squares), np.sum(self.n_points))))

    @property
    def rms_of_angles(self) -> Floats:
        """The same of each angle, (K,)."""
        pairs = zip(self.squares, self.n_points, strict=True)
        return np.sqrt([_ratio(*pair) for pair in pairs])

    @property
    def nrmse(self) -> float:
        """Root mean square residual over the standard deviation of the data of an angle."""
        return float(np.sqrt(_ratio(np.sum(self.squares), np.sum(self.variation))))

    @property
    def n_independent(self) -> float:
        """Independent points that would say as much, on average over what is free."""
        return float(np.sum(self.n_points)) * _ratio(self.n_free, self.penalty)

    @property
    def aic(self) -> float:
        """Criterion of Akaike, to compare fits to the same points; NaN where it is not known."""
        return self._deviance + 2 * self.penalty

    @property
    def bic(self) -> float:
        """Criterion of Schwarz, to compare fits to the same points; NaN where it is not known."""
        independent = self.n_independent
        return self._deviance + self.penalty * (np.log(independent) if independent > 0 else np.nan)

    @property
    def _deviance(self) -> float:
        """n ln(Σ r²/n)."""
        n, mean = float(np.sum(self.n_points)), self.rms**2
        return n * float(np.log(mean)) if mean > 0 and not self.of_pseudo_data else np.nan

    def to_json(self) -> dict[str, Any]:
        """As in ``parameters.json``; null where a number is not known."""
        numbers = {
            "reduced_chi2": self.reduced_chi2,
            "rms": self.rms,
            "nrmse": self.nrmse,
            "n_free": self.n_free,
            "penalty": self.penalty,
            "n_independent": self.n_independent,
            "aic": self.aic,
            "bic": self.bic,
        }
        arrays = {
            "n_points": self.n_points,
            "squares": self.squares,
            "variation": self.variation,
            "expected": self.expected,
        }
        return {
            "noise_model": self.noise_model,
            "of_pseudo_data": self.of_pseudo_data,
            **{name: _or_none(value) for name, value in numbers.items()},
            "angles": {name: [_or_none(x) for x in array] for name, array in arrays.items()},
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Goodness:
        """Back from `to_json`."""
        arrays = {
            name: np.array([np.nan if x is None else x for x in array], dtype=np.float64)
            for name, array in stored["angles"].items()
        }
        numbers = {
            name: np.nan if stored[name] is None else stored[name] for name in ("n_free", "penalty")
        }
        return cls(
            **arrays,
            noise_model=stored["noise_model"],
            n_free=numbers["n_free"],
            penalty=numbers["penalty"],
            of_pseudo_data=stored.get("of_pseudo_data", False),
        )


def criteria_differences(first: Goodness, other: Goodness) -> tuple[float, float]:
    """ΔAIC and ΔBIC of another fit to the same points, negative where it is the better one.

    NaN where they are not known, as where one of the fits has a robust loss.

    Both are counted in the noise of independent points: χ² is divided by w², and n/w² points count.
    w² is that of the parameters which one of the two has more, or, where they have as many, the
    mean of the fit that is closer to the data.
    """
    n = float(np.sum(first.n_points))
    more, costs = other.n_free - first.n_free, other.penalty - first.penalty
    closer = min(first, other, key=lambda one: one.rms)
    widening = _ratio(closer.penalty, closer.n_free)
    if abs(more) >= LEAST_MORE and costs / more >= 1:
        widening = costs / more
    comparable = not (first.of_pseudo_data or other.of_pseudo_data)
    if not (comparable and first.rms > 0 and other.rms > 0 and widening > 0):
        return np.nan, np.nan
    fit = 2 * n * np.log(other.rms / first.rms) / widening
    return float(fit + 2 * more), float(fit + more * np.log(n / widening))


def _ratio(value: float, by: float) -> float:
    return float(value / by) if by > 0 else np.nan


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def goodness_of_fit(
    solution: Solution, noise: NoiseOfPoints, residuals: Residuals | None
) -> Goodness:
    """Judge a solution of least squares.

    Parameters
    ----------
    solution : Solution
    noise : NoiseOfPoints
        Found there.
    residuals : Residuals or None
        None where the data agree with the model to rounding, or the model is not finite.
    """
    # Sums over the points of products of f, 1 and c2 − reference.
    moments = solution.sums[:, -3:, -3:]
    objective = solution.objective
    contrast, offset = solution.scaling.reshape(2, -1)
    reference = objective.reference
    r = np.stack([contrast, offset - reference, -np.ones_like(reference)], axis=1)
    squares = np.maximum(0.0, np.einsum("ki,kij,kj->k", r, moments, r))
    pseudo = objective.pseudo_data is not None
    n_points = moments[:, 1, 1].copy()
    variation = moments[:, 2, 2] - moments[:, 1, 2] ** 2 / np.maximum(n_points, 1.0)
    model: UncertaintyModel = "white" if noise.speckle is None else "speckle"
    unknown = np.full(len(n_points), np.nan)
    if not (solution.joint.equations.finite and np.all(np.isfinite(squares))):
        return Goodness(n_points, squares, variation, unknown, model, np.nan, np.nan, pseudo)
    joint, to_angles = solution.joint, from_whitened(solution)[1]
    hessians = _between(to_angles, joint.local)
    n_free = float(np.einsum("k,kii->", joint.weights, hessians))
    expected, penalty = unknown, n_free
    if residuals is not None:
        if noise.speckle is None:
            variances, scores = _of_independent_points(residuals, n_points)
        else:
            variances = _point_variances(residuals, noise)
            scores = noise.score_covariances_of_angles(solution)
        absorbed = _between(to_angles, scores)
        m = np.einsum("k,kij->ij", joint.weights**2, absorbed)
        expected = variances - 2 * joint.weights * np.einsum("kii->k", absorbed)
        expected += np.einsum("kij,ji->k", hessians, m)
        if noise.speckle is not None:
            penalty = float(np.trace(m)) / solution.variance
    return Goodness(n_points, squares, variation, expected, model, n_free, penalty, pseudo)


def _between(to_angles: Floats, matrices: Floats) -> Floats:
    """T_kᵀ (…)_k T_k, (K, f, f)."""
    return np.swapaxes(to_angles, 1, 2) @ matrices @ to_angles


def _of_independent_points(residuals: Residuals, n_points: Floats) -> tuple[Floats, Floats]:
    """Sums of variances (K,), and covariances of the scores, of independent points."""
    mixed, cells = residuals.near.observed[:, MIXED], residuals.near.cells
    # A mixed difference has four times the variance of a point.
    variance = np.divide(mixed, 4 * cells, out=np.full(len(cells), np.nan), where=cells > 0)
    return n_points * variance, variance[:, None, None] * residuals.solution.joint.local


def _point_variances(residuals: Residuals, noise: NoiseOfPoints) -> Floats:
    """Sums of the variances of the points by speckles and photons, (K,)."""
    assert noise.speckle is not None
    solution = residuals.solution
    objective, y, blocks = solution.objective, solution.result.x, residuals.blocks
    contrasts, offsets = solution.scaling.reshape(2, -1)
    beta, powers = speckle_contrast(contrasts, offsets), noise.speckle.powers
    model = block_model(objective, y, blocks)
    decays = (model.at(k).decay for k in range(len(beta)))
    terms = np.stack(
        [
            np.einsum("cij,ij->c", point_variances(np.asarray(b), f), counts)
            for b, f, counts in zip(beta, decays, residuals.counts, strict=True)
        ],
        axis=1,
    )
    return np.einsum("ck,ck->k", powers, terms)
