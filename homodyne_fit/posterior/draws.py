"""Draws of a posterior by name, how good they are, and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["QUANTILES", "Diagnostics", "Posterior", "PosteriorSummary", "Quantity"]

Floats = NDArray[np.float64]

# Probabilities of the quantiles of a summary: the median, and intervals of 68 and 95 %.
QUANTILES = (0.025, 0.16, 0.5, 0.84, 0.975)

# Largest R̂ of draws that have converged.
LARGEST_R_HAT = 1.01


@dataclass(frozen=True)
class Quantity:
    """What the draws say of one number.

    Attributes
    ----------
    mean, sd : float
    quantiles : tuple of float
        At `QUANTILES`.
    r_hat, ess : float
        Rank-normalised split R̂, and the effective number of draws, of bulk or tail, the smaller.
    """

    mean: float
    sd: float
    quantiles: tuple[float, ...]
    r_hat: float
    ess: float

    def to_json(self) -> dict[str, Any]:
        """As in ``parameters.json``."""
        named = {f"q{100 * p:g}": q for p, q in zip(QUANTILES, self.quantiles, strict=True)}
        numbers = {"mean": self.mean, "sd": self.sd, **named, "r_hat": self.r_hat, "ess": self.ess}
        return {name: _or_none(value) for name, value in numbers.items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Quantity:
        """Back from `to_json`."""
        numbers = {name: np.nan if x is None else float(x) for name, x in stored.items()}
        quantiles = tuple(numbers[f"q{100 * p:g}"] for p in QUANTILES)
        return cls(numbers["mean"], numbers["sd"], quantiles, numbers["r_hat"], numbers["ess"])


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


@dataclass(frozen=True)
class Diagnostics:
    """How the posterior was sampled.

    Attributes
    ----------
    sampler : {'importance', 'nuts'}
    chains, draws : int
        Of importance sampling, independent batches and draws of each.
    evaluations : int
        Of the density, gradients included.
    pareto_k : float
        k̂ of the importance weights that were tried first.
    divergences : int
        Of NUTS, after its warm-up.
    discarded : float
        Share of the draws that were beyond a bound.
    seconds : float
    notes : tuple of str
        What the user should know.
    """

    sampler: str
    chains: int
    draws: int
    evaluations: int
    pareto_k: float
    divergences: int
    discarded: float
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PosteriorSummary:
    """What the draws say, without the draws.

    Attributes
    ----------
    diagnostics : Diagnostics
    quantities : dict of str to Quantity
        Parameters, spreads, rates at mid-measurement, ``contrast[k]`` and ``offset[k]``.
    problems : tuple of str
        Why the draws must not be relied on.
    consensus : dict
        How consensus Monte Carlo over shards compares; empty where it was not asked for.
    """

    diagnostics: Diagnostics
    quantities: dict[str, Quantity]
    problems: tuple[str, ...]
    consensus: dict[str, Any] = field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Whether the draws have converged."""
        return not self.problems

    @property
    def largest_r_hat(self) -> float:
        """Of all quantities."""
        finite = [q.r_hat for q in self.quantities.values() if np.isfinite(q.r_hat)]
        return max(finite, default=np.nan)

    def to_json(self) -> dict[str, Any]:
        """As in ``parameters.json``."""
        d = self.diagnostics
        return {
            "success": self.success,
            "problems": list(self.problems),
            "sampler": d.sampler,
            "chains": d.chains,
            "draws": d.draws,
            "evaluations": d.evaluations,
            "pareto_k": _or_none(d.pareto_k),
            "divergences": d.divergences,
            "discarded": d.discarded,
            "largest_r_hat": _or_none(self.largest_r_hat),
            "seconds": d.seconds,
            "notes": list(d.notes),
            "quantities": {name: each.to_json() for name, each in self.quantities.items()},
            "consensus": self.consensus,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> PosteriorSummary:
        """Back from `to_json`."""
        k = stored["pareto_k"]
        diagnostics = Diagnostics(
            stored["sampler"],
            stored["chains"],
            stored["draws"],
            stored["evaluations"],
            np.inf if k is None else k,
            stored["divergences"],
            stored["discarded"],
            stored["seconds"],
            tuple(stored["notes"]),
        )
        quantities = {name: Quantity.from_json(each) for name, each in stored["quantities"].items()}
        return cls(diagnostics, quantities, tuple(stored["problems"]), stored["consensus"])


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of a posterior.

    Attributes
    ----------
    summary : PosteriorSummary
    values : dict of str to array
        (chains, draws), or (chains, draws, K) for contrast and offset.
    log_density : (chains, draws) array
        Of the draws, but for a constant.
    diverging : (chains, draws) bool
    phi : (K,) array
        Degrees.
    units : dict of str to str
    consensus : dict of str to (draws,) array
        Draws of consensus Monte Carlo, where it was asked for.
    """

    summary: PosteriorSummary
    values: dict[str, Floats]
    log_density: Floats
    diverging: NDArray[np.bool_]
    phi: Floats
    units: dict[str, str]
    consensus: dict[str, Floats] = field(default_factory=dict)
