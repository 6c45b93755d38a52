"""What ArviZ says of draws and of importance weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from arviz_stats.base.array import array_stats
from numpy.typing import NDArray
from scipy.special import logsumexp

from homodyne_fit.posterior.draws import QUANTILES, Quantity

__all__ = ["quantity_of", "smoothed"]

Floats = NDArray[np.float64]

# Quantiles of which the tail ESS speaks.
TAILS = (0.05, 0.95)

# Weights below which there is no tail to smooth.
FEWEST_WEIGHTS = 10

# ArviZ's annotations do not say what the methods return.
ARVIZ: Any = array_stats


def quantity_of(draws: Floats, effective: float = np.inf) -> Quantity:
    """Of draws (chains, draws), of which weights may have left but so many effective ones."""
    axes = {"chain_axis": 0, "draw_axis": 1}
    r_hat = ess = np.nan
    if np.ptp(draws) > 0:
        r_hat = float(ARVIZ.rhat(draws, **axes))
        bulk = float(ARVIZ.ess(draws, method="bulk", **axes))
        tail = float(ARVIZ.ess(draws, method="tail", prob=TAILS, **axes))
        ess = min(bulk, tail, effective)
    quantiles = tuple(np.quantile(draws, QUANTILES).tolist())
    return Quantity(float(draws.mean()), float(draws.std()), quantiles, r_hat, ess)


def smoothed(ratios: Floats) -> tuple[Floats, float]:
    """Pareto-smoothed log weights that add up to 1, and k̂; infinite without any weight."""
    kept = np.isfinite(ratios)
    log_weights = np.full(len(ratios), -np.inf)
    if np.count_nonzero(kept) < FEWEST_WEIGHTS:
        return log_weights, np.inf
    found, k = ARVIZ.psislw(-ratios[kept])
    log_weights[kept] = found - logsumexp(found)
    return log_weights, float(k)
