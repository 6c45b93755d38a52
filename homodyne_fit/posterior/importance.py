r"""Importance sampling: independent draws of a Student t distribution, weighted by the posterior.

The tails of the proposal are heavier than those of a normal posterior. Weights are smoothed by the
generalised Pareto distribution of their tail, whose shape k̂ says whether they can be trusted: below
0.7 (A. Vehtari, D. Simpson, A. Gelman, Y. Yao and J. Gabry, *J. Mach. Learn. Res.* 25, 72 (2024)).
Where the posterior is no normal distribution the proposal is fitted anew to weighted draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import gammaln, logsumexp

from homodyne_fit.posterior.gaussian import Gaussian
from homodyne_fit.posterior.statistics import smoothed
from homodyne_fit.posterior.target import Target

__all__ = ["PARETO_K", "ImportanceDraws", "draw_by_importance", "resampled"]

Floats = NDArray[np.float64]

# Degrees of freedom of the proposal.
DEGREES = 7.0

# Largest k̂ of weights that can be trusted.
PARETO_K = 0.7

# Largest k̂ with which a proposal is not fitted anew.
RELIABLE = 0.5

# Rounds that fit the proposal to the posterior, and the draws of each for every unknown.
MOST_ROUNDS = 6
PER_UNKNOWN = 400

# Efficiency from which the proposal is good enough.
EFFICIENT = 0.5

# Kernels of a fitted proposal at most.
MOST_KERNELS = 200

# Effective draws, and draws at most, for each draw that is wanted.
SPARE, OVERSAMPLING = 1.1, 2.0

# Share of the first proposal, of the mode, that is kept in later ones.
DEFENSIVE = 0.2


@dataclass(frozen=True, eq=False)
class Kernels:
    """A mixture in equal parts of Student t distributions of one shape.

    Attributes
    ----------
    centers : (c, d) array
    root : (d, d) array
    """

    centers: Floats
    root: Floats

    def log_density(self, xi: Floats) -> Floats:
        """(n,)."""
        d = xi.shape[1]
        constant = gammaln((DEGREES + d) / 2) - gammaln(DEGREES / 2)
        constant -= 0.5 * d * np.log(DEGREES * np.pi) + np.linalg.slogdet(self.root)[1]
        inverse = np.linalg.inv(self.root).T
        squares = cdist(xi @ inverse, self.centers @ inverse, "sqeuclidean")
        logs = -(DEGREES + d) / 2 * np.log1p(squares / DEGREES)
        return constant + logsumexp(logs, axis=1) - np.log(len(self.centers))


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mixture of mixtures, each with its share."""

    parts: list[tuple[float, Kernels]]

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """(n, d)."""
        counts = rng.multinomial(n, [share for share, _ in self.parts])
        drawn = []
        for count, (_, part) in zip(counts, self.parts, strict=True):
            w = rng.standard_normal((count, part.centers.shape[1]))
            w *= np.sqrt(DEGREES / rng.chisquare(DEGREES, count))[:, None]
            drawn.append(
                part.centers[rng.integers(len(part.centers), size=count)] + w @ part.root.T
            )
        return rng.permutation(np.concatenate(drawn))

    def log_density(self, xi: Floats) -> Floats:
        """(n,)."""
        logs = [np.log(share) + part.log_density(xi) for share, part in self.parts]
        return np.asarray(logsumexp(np.stack(logs), axis=0))


@dataclass(frozen=True, eq=False)
class ImportanceDraws:
    """Weighted draws.

    Attributes
    ----------
    xi : (n, d) array
    sums : (n, K, 3) array
    scaling : (n, 2K) array
    log_ratios : (n,) array
        Of the posterior to the proposal, but for a constant; −inf beyond a bound.
    log_weights : (n,) array
        These, smoothed; the weights add up to 1.
    pareto_k : float
    """

    xi: Floats
    sums: Floats
    scaling: Floats
    log_ratios: Floats
    log_weights: Floats
    pareto_k: float

    @classmethod
    def of(cls, xi: Floats, sums: Floats, scaling: Floats, log_ratios: Floats) -> ImportanceDraws:
        """With the weights of these ratios."""
        return cls(xi, sums, scaling, log_ratios, *smoothed(log_ratios))

    def and_also(self, more: ImportanceDraws) -> ImportanceDraws:
        """These and further draws from the same proposal."""
        names = ("xi", "sums", "scaling", "log_ratios")
        pairs = ((getattr(self, name), getattr(more, name)) for name in names)
        return ImportanceDraws.of(*map(np.concatenate, pairs))

    @property
    def effective(self) -> float:
        """Number of draws with equal weights that would be as good."""
        weights = np.exp(self.log_weights)
        return float(1 / np.sum(weights**2))


# From ξ (n, d) and contrasts and offsets (n, 2K), whether all bounds are kept: (n,).
Within = Callable[[Floats, Floats], NDArray[np.bool_]]


def draw_by_importance(
    target: Target, start: Gaussian, wanted: int, within: Within, rng: np.random.Generator
) -> ImportanceDraws:
    """Weighted draws, from a proposal that is fitted first where the normal one is not good enough.

    As many as are worth the number wanted with equal weights, but at most twice as many; those that
    showed the proposal to be good enough are among them.

    Parameters
    ----------
    start : Gaussian
        At the mode.
    wanted : int
    within : callable
        Tells draws within all bounds.
    """
    first = Kernels(start.mean[None], start.root)
    proposal, few = Proposal([(1.0, first)]), PER_UNKNOWN * len(start.mean)
    for _ in range(MOST_ROUNDS):
        trial = _weighted(target, proposal, few, within, rng)
        if trial.pareto_k < RELIABLE and trial.effective > EFFICIENT * few:
            enough = min(SPARE * few / trial.effective, OVERSAMPLING) * wanted
            missing = math.ceil(enough) - few
            if missing <= 0:
                return trial
            return trial.and_also(_weighted(target, proposal, missing, within, rng))
        if trial.effective < 2 * len(start.mean):
            break  # too few draws to fit a proposal to
        proposal = Proposal([(DEFENSIVE, first), (1 - DEFENSIVE, _around(trial, rng))])
    return _weighted(target, proposal, math.ceil(OVERSAMPLING * wanted), within, rng)


def _weighted(
    target: Target, proposal: Proposal, n: int, within: Within, rng: np.random.Generator
) -> ImportanceDraws:
    xi = proposal.draw(n, rng)
    sums = target.sums(xi)
    scaling = target.scaling(xi, sums, rng)
    ratios = target.log_densities(xi, sums) - proposal.log_density(xi)
    ratios[~within(xi, scaling) | ~np.isfinite(ratios)] = -np.inf
    return ImportanceDraws.of(xi, sums, scaling, ratios)


def _around(draws: ImportanceDraws, rng: np.random.Generator) -> Kernels:
    """Kernels around weighted draws, with the mean and covariance of these.

    The centers are drawn together as much as the kernels widen them (M. West, *J. R. Stat. Soc. B*
    55, 409 (1993)), whose width is that of Silverman's rule.
    """
    weights = np.exp(draws.log_weights)
    d, mean = draws.xi.shape[1], weights @ draws.xi
    deviations = (draws.xi - mean) * np.sqrt(weights)[:, None]
    covariance = deviations.T @ deviations
    size = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(size, size))
    root = size[:, None] * vectors * np.sqrt(np.maximum(values, 1e-12))
    count = int(np.clip(draws.effective, 1, MOST_KERNELS))
    width = (4 / ((d + 2) * count)) ** (1 / (d + 4)) if count > 1 else 1.0
    width = min(width, 1.0)
    centers = draws.xi[resampled(draws, count, rng)]
    return Kernels(mean + np.sqrt(1 - width**2) * (centers - mean), width * root)


def resampled(draws: ImportanceDraws, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """n positions, each as often as its weight says but for less than 1, in random order."""
    cumulated = np.cumsum(np.exp(draws.log_weights))
    points = (np.arange(n) + rng.random()) / n * cumulated[-1]
    positions = np.minimum(np.searchsorted(cumulated, points), len(cumulated) - 1)
    return rng.permutation(positions)
