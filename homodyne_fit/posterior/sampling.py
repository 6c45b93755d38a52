"""From a fit to its posterior: a page that names the steps."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.storage.stored_matrices import StoredMatrices
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.result import FitResult
from homodyne_fit.fitting.search.samples import Budget, Sample
from homodyne_fit.kernel.stored_chunks import chunks_of
from homodyne_fit.posterior.bounds import Bounds, named_values
from homodyne_fit.posterior.consensus import require_shards, with_consensus
from homodyne_fit.posterior.draws import (
    LARGEST_R_HAT,
    Diagnostics,
    Posterior,
    PosteriorSummary,
    Quantity,
)
from homodyne_fit.posterior.gaussian import Gaussian, at_mode
from homodyne_fit.posterior.importance import (
    PARETO_K,
    ImportanceDraws,
    draw_by_importance,
    resampled,
)
from homodyne_fit.posterior.likelihood import find_center, posterior_space
from homodyne_fit.posterior.settings import PosteriorSettings, prior_problems
from homodyne_fit.posterior.statistics import quantity_of
from homodyne_fit.posterior.target import Target, make_target, spreads_are_learned, start_of
from homodyne_fit.progress import Progress, Step, not_told
from nlsq_stratified.processors import available_processors

__all__ = ["sample_posterior"]

Floats = NDArray[np.float64]

# Share of draws beyond a bound from which the user is told.
NOTED = 0.5

# Share of the draws that must be effective, or within all bounds.
LEAST_EFFICIENT = 0.02

# Effective draws below which a summary is not worth printing.
LEAST_EFFECTIVE = 100


def sample_posterior(
    data: TwoTimeData,
    result: FitResult,
    settings: PosteriorSettings,
    *,
    threads: int | None = None,
    memory: int | None = None,
    progress: Progress = not_told,
) -> Posterior:
    """Draw from the posterior of a fit.

    Parameters
    ----------
    data : TwoTimeData
        Those that were fitted.
    result : FitResult
    settings : PosteriorSettings
    threads : int, optional
        One for each processor when None.
    memory : int, optional
        Bytes; as for the fit.
    progress : callable
        Called with a `Step`.

    Returns
    -------
    Posterior
        Also when the draws did not converge: see its ``summary``.

    Raises
    ------
    InputError
        If the fit did not converge, or settings and data do not fit together.
    """
    if not result.success:
        raise InputError(f"there is no posterior of a fit that failed: {result.info.message}")
    if result.weighting is not None and result.weighting.used:
        raise InputError(
            "there is no posterior of a fit with weighted points yet; take weighting: none"
        )
    if data.sigma is not None:
        raise InputError(
            "there is no posterior of points with a sigma of their own; take data without it"
        )
    if result.robust is not None:
        raise InputError(
            "there is no posterior of a fit with a robust loss: the draws are those of least "
            "squares; take loss: linear"
        )
    problems = [
        *(problem.inside("prior") for problem in prior_problems(settings.priors)),
        *settings.sampling.problems(len(result.contrast)),
    ]
    if problems:
        raise InputError(problems)
    if settings.sampling.shards is not None:
        require_shards(result, settings.sampling.shards)
    n_threads = threads or available_processors()
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(n_threads) as executor:
        run = _Run(data, result, settings, executor, n_threads, memory, progress)
        return run.posterior()


@dataclass(frozen=True, eq=False)
class _Draws:
    """Draws (chains, draws, …) within all bounds."""

    xi: Floats
    scaling: Floats
    log_density: Floats
    diverging: NDArray[np.bool_]
    diagnostics: dict[str, Any]
    effective: float = np.inf


@dataclass(frozen=True, eq=False)
class _Run:
    data: TwoTimeData
    result: FitResult
    settings: PosteriorSettings
    executor: ThreadPoolExecutor
    threads: int
    memory: int | None
    report: Progress

    def posterior(self) -> Posterior:
        began = time.perf_counter()
        options = self.settings.sampling
        rng = np.random.default_rng(options.seed)
        self.report(Step("the maximum of the likelihood"))
        target, start = self._target()
        self.report(Step("the mode of the posterior"))
        gaussian = at_mode(target, start)
        draws = self._sample(target, gaussian, rng)
        posterior = self._described(target, draws, time.perf_counter() - began)
        if options.shards is not None:
            self.report(Step(f"{options.shards} shards of angles"))
            return with_consensus(
                posterior, self.data, self.result, target, self.settings, rng, self.memory
            )
        return posterior

    def _target(self) -> tuple[Target, Floats]:
        """The posterior, and y and spreads where to look for its mode."""
        result, chunks = self.result, chunks_of(self.data, self.memory)
        space = posterior_space(result.space)
        if np.all(np.isfinite(space.fixed)):
            raise InputError("there is no posterior of a fit with all parameters fixed")
        sample = Sample("all points", chunks, self.executor, Budget(2**31, 1))
        y = space.convert(result.coordinates, result.space)
        center = find_center(sample, result.objective, space, y, result.uncertainty, self.threads)
        learned = spreads_are_learned(result)
        target = make_target(
            center,
            result.objective.scaling,
            chunks,
            self.executor,
            self.settings.priors,
            learned=learned,
        )
        return target, start_of(center, result.objective.scaling, learned=learned)

    def _sample(self, target: Target, gaussian: Gaussian, rng: np.random.Generator) -> _Draws:
        options = self.settings.sampling
        within = Bounds(target, self.result.objective.scaling)
        trial = None
        if options.sampler != "nuts":
            self.report(Step("importance sampling"))
            n = options.num_chains * options.num_samples
            trial = draw_by_importance(target, gaussian, n, within, rng)
            enough = trial.effective >= LEAST_EFFICIENT * len(trial.xi)
            if options.sampler == "importance" or (trial.pareto_k < PARETO_K and enough):
                return self._resampled(target, trial, rng)
        return self._by_nuts(target, gaussian, trial, within, rng)

    def _resampled(
        self, target: Target, trial: ImportanceDraws, rng: np.random.Generator
    ) -> _Draws:
        """Draws of equal weight, each chain from weighted draws of its own."""
        options, n = self.settings.sampling, len(trial.xi)
        batches = np.array_split(np.arange(n), options.num_chains)
        chosen = []
        for batch in batches:
            log_weights = trial.log_weights[batch]
            if not np.any(np.isfinite(log_weights)):
                raise InputError(
                    "the posterior: no draw is within the bounds of all parameters, contrasts and "
                    "offsets; widen those that hold the fit"
                )
            part = replace(trial, log_weights=log_weights)
            chosen.append(batch[resampled(part, options.num_samples, rng)])
        at = np.stack(chosen)
        density = target.log_densities(trial.xi, trial.sums)
        return _Draws(
            trial.xi[at],
            trial.scaling[at],
            density[at],
            np.zeros(at.shape, dtype=bool),
            {
                "sampler": "importance",
                "evaluations": n,
                "pareto_k": trial.pareto_k,
                "divergences": 0,
                "discarded": float(np.mean(~np.isfinite(trial.log_weights))),
            },
            trial.effective,
        )

    def _by_nuts(
        self,
        target: Target,
        gaussian: Gaussian,
        trial: ImportanceDraws | None,
        within: Bounds,
        rng: np.random.Generator,
    ) -> _Draws:
        if isinstance(self.data.c2, StoredMatrices):
            raise InputError(
                f"{self.data.source}: NUTS needs all matrices in memory, and these stay on the "
                "disk for want of it; allow more memory, or take sampler: importance"
            )
        from homodyne_fit.posterior.nuts import run_nuts

        options, d = self.settings.sampling, len(gaussian.mean)
        if trial is not None and trial.effective > 2 * d:
            starts = trial.xi[resampled(trial, options.num_chains, rng)]
        else:
            starts = gaussian.from_standard(rng.standard_normal((options.num_chains, d)))
        total = options.num_chains * (options.num_warmup + options.num_samples)
        self.report(Step("compiling NUTS"))
        found = run_nuts(
            target,
            gaussian,
            starts,
            options.num_warmup,
            options.num_samples,
            options.seed,
            lambda done: self.report(Step("NUTS", "step", min(done, total), total)),
        )
        flat = found.xi.reshape(-1, d)
        sums = target.sums(flat)
        scaling, density = target.scaling(flat, sums, rng), target.log_densities(flat, sums)
        kept = within(flat, scaling).reshape(found.diverging.shape)
        fewest = int(kept.sum(axis=1).min())
        if fewest < LEAST_EFFICIENT * options.num_samples:
            raise InputError(
                f"the posterior: only {fewest} draws of a chain are within the bounds of all "
                "parameters, contrasts and offsets; widen those that hold the fit"
            )
        at = np.stack([np.flatnonzero(each)[:fewest] for each in kept])
        chain, shape = np.arange(len(kept))[:, None], kept.shape
        return _Draws(
            found.xi[chain, at],
            scaling.reshape(*shape, -1)[chain, at],
            density.reshape(shape)[chain, at],
            found.diverging[chain, at],
            {
                "sampler": "nuts",
                "evaluations": int(found.steps.sum()),
                "pareto_k": np.inf if trial is None else trial.pareto_k,
                "divergences": int(found.diverging.sum()),
                "discarded": float(1 - kept.mean()),
            },
        )

    def _described(self, target: Target, draws: _Draws, seconds: float) -> Posterior:
        chains, n = draws.log_density.shape
        v = target.bounded_values(draws.xi.reshape(chains * n, -1)).reshape(chains, n, -1)
        values, units = named_values(target, v, draws.scaling)
        quantities = _quantities(values, draws.effective)
        found = draws.diagnostics
        notes = []
        if found["discarded"] > NOTED:
            notes.append(
                f"{100 * found['discarded']:.0f} % of the draws were beyond a bound of a "
                "parameter, contrast or offset, and were left out"
            )
        diagnostics = Diagnostics(
            **found, chains=chains, draws=n, seconds=seconds, notes=tuple(notes)
        )
        summary = PosteriorSummary(diagnostics, quantities, _problems(diagnostics, quantities))
        return Posterior(
            summary,
            values,
            draws.log_density,
            draws.diverging,
            target.objective.phi,
            units,
        )


def _quantities(values: dict[str, Floats], effective: float) -> dict[str, Quantity]:
    quantities = {}
    for name, array in values.items():
        if array.ndim == 2:
            quantities[name] = quantity_of(array, effective)
        else:
            for k in range(array.shape[2]):
                quantities[f"{name}[{k}]"] = quantity_of(array[:, :, k], effective)
    return quantities


def _problems(diagnostics: Diagnostics, quantities: dict[str, Quantity]) -> tuple[str, ...]:
    """Why the draws must not be relied on."""
    problems = []
    if diagnostics.sampler == "importance" and not diagnostics.pareto_k < PARETO_K:
        problems.append(
            f"the importance weights cannot be trusted: Pareto k = {diagnostics.pareto_k:.2f}, "
            f"and at most {PARETO_K} can; take sampler: nuts"
        )
    apart = {n: q.r_hat for n, q in quantities.items() if q.r_hat > LARGEST_R_HAT}
    if apart:
        worst = max(apart, key=lambda name: apart[name])
        problems.append(
            f"the chains disagree: R-hat = {apart[worst]:.3f} for {worst}, more than "
            f"{LARGEST_R_HAT}; take more samples (optimization.mcmc.num_samples)"
        )
    if diagnostics.divergences:
        problems.append(
            f"{diagnostics.divergences} steps of NUTS diverged: there are regions that it does not "
            "reach; give priors or bounds for what the data do not determine, or fix it"
        )
    few = {name: q.ess for name, q in quantities.items() if q.ess < LEAST_EFFECTIVE}
    if few:
        fewest = min(few, key=lambda name: few[name])
        problems.append(
            f"there are only {few[fewest]:.0f} effective draws of {fewest}; take more samples "
            "(optimization.mcmc.num_samples)"
        )
    return tuple(problems)
