"""Better starts: from some of the chunks, from many starts, from a monotone loss."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from nlsq.global_optimization import center_samples_around_p0, get_sampler, scale_samples_to_bounds
from numpy.typing import NDArray

from nlsq_stratified.chunk_pass import Pass
from nlsq_stratified.fit_options import FitOptions
from nlsq_stratified.reduction import ChunkSequence

__all__ = ["best_start", "monotone_start", "sample_size", "staged_start"]

# Accuracy of a preliminary fit, in standard errors.
STAGE_TOLERANCE = 0.3

# Each stage of a progressive fit takes so many times the chunks of the stage before.
STAGE_GROWTH = 4

# Largest number of evaluations in one stage.
STAGE_NFEV = 100

# A loss function for which the pull of a point does not fade with its distance.
MONOTONE = "soft_l1"

# Starts of a multi-start fit that are refined on the sample.
REFINED_STARTS = 3

# Largest number of evaluations of the sample for each of them.
REFINEMENT_NFEV = 20

# Half width of the region in which starts are drawn for a parameter without bounds, in units of
# its start value or of 1, whichever is larger.
UNBOUNDED_SPAN = 10.0


def sample_size(data: ChunkSequence) -> int:
    """Chunks in the sample on which starts are compared."""
    return max(1, len(data) // STAGE_GROWTH**2)


def staged_start(full: Pass, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit one chunk, then 4, 16, ...; return where the last stage before all chunks ends."""
    count = 1
    while count < len(full.data):
        stage = full.first(count)
        start = stage.minimise(start, tolerance=STAGE_TOLERANCE, max_nfev=STAGE_NFEV).x
        count *= STAGE_GROWTH
    return start


def monotone_start(full: Pass, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit with a loss whose pull does not fade with distance; return the better of both points.

    A redescending loss has local minima wherever some points agree, and its gradient vanishes far
    from the data; so its search begins at the estimate of a monotone loss (R. Maronna, D. Martin
    and V. Yohai, *Robust statistics*, 2006, section 5.5).
    """
    end = full.with_loss(MONOTONE).minimise(start, tolerance=STAGE_TOLERANCE).x
    cost_at_start, cost_at_end = full.cost(start), full.cost(end)
    return start if cost_at_start <= cost_at_end else end


def best_start(
    sample: Pass, start: NDArray[np.float64], options: FitOptions
) -> NDArray[np.float64]:
    """Draw starts as NLSQ does, evaluate them on the sample, refine the best, return the best."""
    lower, upper = sample.lower, sample.upper
    span = UNBOUNDED_SPAN * np.maximum(1.0, np.abs(start))
    low, high = np.maximum(lower, start - span), np.minimum(upper, start + span)
    low, high = (np.where(np.isfinite(b), b, s) for b, s in ((lower, low), (upper, high)))
    unit = get_sampler(options.sampler)(options.n_starts, len(start))
    box = jnp.asarray(low), jnp.asarray(high)
    if options.center_on_p0:
        drawn = center_samples_around_p0(unit, jnp.asarray(start), options.scale_factor, *box)
    else:
        drawn = scale_samples_to_bounds(unit, *box)
    candidates = [start, *np.clip(np.asarray(drawn, dtype=np.float64), lower, upper)]
    sample.may_be_not_finite = True  # such a candidate is passed over; it is no error
    costs = [sample.cost(candidate) for candidate in candidates]
    order = [i for i in np.argsort(costs, kind="stable") if np.isfinite(costs[i])]
    refined = [
        sample.minimise(candidates[i], tolerance=STAGE_TOLERANCE, max_nfev=REFINEMENT_NFEV)
        for i in order[:REFINED_STARTS]
    ]
    return min(refined, key=lambda fit: fit.state.cost).x if refined else start
