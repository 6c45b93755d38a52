r"""Consensus Monte Carlo over shards of angles, and its error against the posterior of all data.

Each shard has the posterior of its own angles, with the prior to the power of one over the number
of shards. Draws θ_s of the shards combine to :math:`(\sum Q_s)^{-1} \sum Q_s θ_s`, with
:math:`Q_s` the inverse covariance of shard s (S. Scott et al., *Int. J. Manag. Sci. Eng. Manag.*
11, 78 (2016)): exact where all of them are normal. The noise of different angles is independent,
which the product of the shards' posteriors asks for; that of different frames is not.

θ are the coordinates of the search and, where all angles share one contrast and one offset, these.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.errors import InputError, counted
from homodyne_fit.fitting.result import FitResult, Uncertainty
from homodyne_fit.fitting.search.samples import Budget, Sample
from homodyne_fit.kernel.stored_chunks import chunks_of
from homodyne_fit.posterior.bounds import Bounds, named_values
from homodyne_fit.posterior.draws import Posterior
from homodyne_fit.posterior.gaussian import at_mode
from homodyne_fit.posterior.importance import draw_by_importance, resampled
from homodyne_fit.posterior.likelihood import find_center
from homodyne_fit.posterior.settings import PosteriorSettings
from homodyne_fit.posterior.target import Target, make_target, start_of

__all__ = ["combined", "require_shards", "shards_of", "with_consensus"]

Floats = NDArray[np.float64]

# Angles from which shear rate and direction of a flow follow, without their mirror image.
FEWEST_WITH_FLOW = 3


def require_shards(result: FitResult, n_shards: int) -> None:
    """Raise an `InputError` if shards of the angles would not determine what they share."""
    if result.objective.scaling.mode == "fourier":
        raise InputError(
            "shards of angles are not possible in the per_angle_mode 'fourier': some of the angles "
            "do not determine a series in φ"
        )
    fewest = len(result.objective.phi) // n_shards
    unknown = result.model.has_flow and not result.parameters["phi0"].fixed
    if unknown and fewest < FEWEST_WITH_FLOW:
        most = len(result.objective.phi) // FEWEST_WITH_FLOW
        advice = f"take at most {most} shards" if most > 1 else "take the posterior of all data"
        raise InputError(
            f"shards: a shard would have {counted(fewest, 'angle')}, and fewer than "
            f"{FEWEST_WITH_FLOW} cannot tell shear rate and direction of the flow apart; {advice}"
        )


def shards_of(phi: Floats, n_shards: int) -> list[NDArray[np.int64]]:
    """Positions of the angles of each shard: each has angles all around."""
    order = np.argsort(phi, kind="stable")
    return [np.sort(order[i::n_shards]) for i in range(n_shards)]


def combined(draws: Sequence[Floats]) -> Floats:
    """The consensus (n, d) of the draws (n, d) of all shards."""
    precisions = [np.linalg.inv(np.cov(each.T).reshape(each.shape[1], -1)) for each in draws]
    pulls = sum(each @ q for each, q in zip(draws, precisions, strict=True))
    return np.linalg.solve(np.sum(precisions, axis=0), np.asarray(pulls).T).T


def with_consensus(
    posterior: Posterior,
    data: TwoTimeData,
    result: FitResult,
    target: Target,
    settings: PosteriorSettings,
    rng: np.random.Generator,
    memory: int | None = None,
) -> Posterior:
    """Add draws by consensus, and how they differ from a posterior.

    Parameters
    ----------
    posterior : Posterior
        Of all data.
    data : TwoTimeData
    result : FitResult
    target : Target
        The density of that posterior.
    settings : PosteriorSettings
        Its number of shards is known.
    memory : int, optional
        Bytes; as for the fit.
    """
    began = time.perf_counter()
    n_shards = settings.sampling.shards
    assert n_shards is not None
    shards, of_shards, reliable = shards_of(data.phi, n_shards), [], []
    for angles in shards:
        draws, k = _draws_of(angles, data, result, target, settings, n_shards, rng, memory)
        of_shards.append(draws)
        reliable.append(k)
    theta = combined(of_shards)
    values = _values(target, theta)
    compared = {name: _compared(posterior.values[name], each) for name, each in values.items()}
    by_shift = max(compared, key=lambda name: abs(compared[name]["shift"]))
    by_sd = max(compared, key=lambda name: abs(compared[name]["sd_ratio"] - 1))
    consensus: dict[str, Any] = {
        "shards": n_shards,
        "angles": [data.phi[angles].tolist() for angles in shards],
        "pareto_k": [k if np.isfinite(k) else None for k in reliable],
        "seconds": time.perf_counter() - began,
        "parameters": compared,
        "largest_shift": abs(compared[by_shift]["shift"]),
        "worst_mean": by_shift,
        "largest_sd_error": abs(compared[by_sd]["sd_ratio"] - 1),
        "worst_sd": by_sd,
    }
    summary = replace(posterior.summary, consensus=consensus)
    return replace(posterior, summary=summary, consensus=values)


def _draws_of(
    angles: NDArray[np.int64],
    data: TwoTimeData,
    result: FitResult,
    target: Target,
    settings: PosteriorSettings,
    n_shards: int,
    rng: np.random.Generator,
    memory: int | None,
) -> tuple[Floats, float]:
    """Draws θ (n, d) of one shard, and k̂ of their weights."""
    form, executor = target.density.form, target.executor
    chunks = chunks_of(data.select_angles(angles), memory)
    sample = Sample("a shard", chunks, executor, Budget(2**31, 1))
    objective = result.objective.select_angles(angles)
    center = find_center(
        sample,
        objective,
        target.space,
        target.center.y,
        _uncertainty_of(result.uncertainty, angles),
    )
    learned = form.learned and len(angles) > 1
    scaling = objective.scaling
    if form.learned and not learned:
        scaling = scaling.penalised(0.0, 0.0)
    shard = make_target(
        center,
        scaling,
        chunks,
        executor,
        settings.priors,
        learned=learned,
        prior_share=1 / n_shards,
    )
    options = settings.sampling
    n = options.num_chains * options.num_samples
    gaussian = at_mode(shard, start_of(center, scaling, learned=learned))
    within = Bounds(shard, scaling)
    drawn = draw_by_importance(shard, gaussian, n, within, rng)
    if not np.any(np.isfinite(drawn.log_weights)):
        at = ", ".join(f"{phi:g}°" for phi in data.phi[angles])
        raise InputError(
            f"shards: no draw of the angles {at} is within the bounds of all parameters; take "
            "fewer shards, or widen the bounds"
        )
    kept = resampled(drawn, n, rng)
    y = shard.bounded_values(drawn.xi[kept])[:, : form.n_physics]
    if target.objective.scaling.mode == "averaged":
        pair = drawn.scaling[kept][:, [0, len(angles)]]
        y = np.concatenate([y, pair], axis=1)
    return y, drawn.pareto_k


def _uncertainty_of(uncertainty: Uncertainty, angles: NDArray[np.int64]) -> Uncertainty:
    if uncertainty.speckle is None:
        return uncertainty
    speckle = uncertainty.speckle
    return replace(uncertainty, speckle=replace(speckle, pixels=speckle.pixels[angles]))


def _values(target: Target, theta: Floats) -> dict[str, Floats]:
    """Parameters and rates by name, (n,), of θ."""
    lower, upper = target.space.limits
    y = np.clip(theta[:, : len(lower)], lower, upper)
    k = len(target.objective.q)
    scaling = np.zeros((1, len(y), 2 * k))
    values, _ = named_values(target, y[None], scaling)
    named = {name: each[0] for name, each in values.items() if each.ndim == 2}
    return named


def _compared(exact: Floats, draws: Floats) -> dict[str, float]:
    """Mean and SD of a consensus, and how they differ from those of the posterior."""
    mean, sd, exact_sd = float(draws.mean()), float(draws.std()), float(exact.std())
    return {
        "mean": mean,
        "sd": sd,
        "shift": (mean - float(exact.mean())) / exact_sd,
        "sd_ratio": sd / exact_sd,
    }
