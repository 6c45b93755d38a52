"""The posterior: calibration by simulation, least squares, wall times, shards of angles.

    python benchmarks/posterior.py calibration --runs 120
    python benchmarks/posterior.py time --frames 1001
    python benchmarks/posterior.py shards --frames 100
    python benchmarks/posterior.py spread

Calibration: truths are drawn from priors, data from the model at the truths, and draws from the
posterior of each data set. The rank of a truth among these draws is evenly distributed if the
posterior is right (S. Talts et al., arXiv:1804.06788).

Spread: K contrasts are drawn from a normal distribution and measured with an error of 1. Pulls of
their estimates are compared: those for the most probable spread, with the errors if this spread was
known and with the mean square deviation over all spreads, which is what a fit reports; and the
means over all spreads, which the posterior has. All integrals but that over the spread are in
closed form.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import chisquare, kstest

import homodyne_fit as hf
from homodyne_fit.fitting.fit import fit
from homodyne_fit.fitting.options import AntiDegeneracy, MultiStart, SearchOptions
from homodyne_fit.fitting.settings import FitSettings
from homodyne_fit.posterior.sampling import sample_posterior
from homodyne_fit.posterior.settings import PosteriorSettings, Prior, SamplingOptions

GAP = 2e6
PHI = (0.0, 45.0, 90.0)

# Mean, standard deviation and bounds of normal priors.
PRIORS = {
    "D0": (2e4, 4e3, 5e3, 4e4),
    "alpha": (-0.2, 0.1, -1.0, 1.0),
    "gamma_dot_t0": (4e-4, 6e-5, 1e-4, 1e-3),
    "beta": (0.2, 0.1, -1.0, 1.0),
    "phi0": (3.0, 2.0, -10.0, 10.0),
    "contrast": (0.3, 0.03, 0.0, 1.0),
    "offset": (1.0, 0.01, 0.5, 1.5),
}

FIXED = {"D_offset": 0.0, "gamma_dot_t_offset": 0.0}

# Draws among which a truth is ranked, and bins of the ranks.
RANKED = 99
BINS = 10


def settings(mode: str, **given) -> FitSettings:
    search = SearchOptions(
        anti_degeneracy=AntiDegeneracy(per_angle_mode=mode),
        multi_start=MultiStart(enable=False),
        uncertainty=given.pop("uncertainty", "white"),
    )
    return FitSettings(model="laminar_flow", gap=GAP, fixed=FIXED, search=search, **given)


def truth_from_priors(rng: np.random.Generator) -> dict[str, float]:
    drawn = {}
    for name, (mu, sigma, lower, upper) in PRIORS.items():
        while not lower < (value := rng.normal(mu, sigma)) < upper:
            pass
        drawn[name] = value
    return drawn


def ranks_of_run(seed: int, frames: int, noise: float) -> tuple[dict[str, int], float, float]:
    """Rank of each truth among draws, k̂, and the seconds of the posterior."""
    rng = np.random.default_rng([seed, 1])
    truth = truth_from_priors(rng)
    physics = {name: truth[name] for name in PRIORS if name not in ("contrast", "offset")}
    data = hf.simulate(
        {**physics, **FIXED},
        phi=PHI,
        gap=GAP,
        n_frames=frames,
        contrast=truth["contrast"],
        offset=truth["offset"],
        noise=noise,
        seed=10**6 + seed,
    )
    bounds = {name: limits for name, (_, _, *limits) in PRIORS.items()}
    given = settings("averaged", bounds=bounds, initial=physics)
    priors = {name: Prior("TruncatedNormal", mu, sd) for name, (mu, sd, *_) in PRIORS.items()}
    options = SamplingOptions(seed=2 * 10**6 + seed, num_samples=1000, num_chains=2)
    began = time.perf_counter()
    posterior = sample_posterior(data, fit(data, given), PosteriorSettings(options, priors))
    seconds = time.perf_counter() - began
    ranks = {}
    for name, value in truth.items():
        draws = posterior.values[name].reshape(-1, *posterior.values[name].shape[2:])
        draws = draws if draws.ndim == 1 else draws[:, 0]
        few = rng.choice(draws, RANKED, replace=False)
        ranks[name] = int(np.count_nonzero(few < value))
    return ranks, posterior.summary.diagnostics.pareto_k, seconds


def calibration(runs: int, frames: int, noise: float) -> None:
    found, ks, seconds, nuts = [], [], [], 0
    for seed in range(runs):
        ranks, k, took = ranks_of_run(seed, frames, noise)
        found.append(ranks)
        ks.append(k)
        seconds.append(took)
        nuts += k >= 0.7
        if (seed + 1) % 10 == 0:
            print(f"{seed + 1} of {runs} runs", flush=True)
    title = f"{runs} runs, {len(PHI)} angles, {frames} frames, noise {noise:g}"
    table = Table(title=title)
    for heading in ("truth", "mean rank / expected", "chi2 of 10 bins, p", "KS p", "bins"):
        table.add_column(heading)
    for name in PRIORS:
        ranks = np.array([each[name] for each in found])
        counts = np.bincount(ranks * BINS // (RANKED + 1), minlength=BINS)
        shares = (ranks + np.random.default_rng(0).random(len(ranks))) / (RANKED + 1)
        table.add_row(
            name,
            f"{ranks.mean() / (RANKED / 2):.3f}",
            f"{chisquare(counts).pvalue:.2f}",
            f"{kstest(shares, 'uniform').pvalue:.2f}",
            " ".join(map(str, counts)),
        )
    Console(width=120).print(table)
    print(
        f"Pareto k: median {np.median(ks):.2f}, largest {max(ks):.2f}, 0.7 or more in {nuts} runs "
        f"(NUTS); median {np.median(seconds):.1f} s for fit and posterior"
    )


def timing(frames: int, samplers: list[str]) -> None:
    physics = {"D0": 8000.0, "alpha": -0.2, "gamma_dot_t0": 1e-3, "beta": 0.2, "phi0": 3.0}
    data = hf.simulate({**physics, **FIXED}, phi=PHI, gap=GAP, n_frames=frames, noise=0.05)
    result = fit(data, settings("individual", uncertainty="speckle"))
    for sampler in samplers:
        options = SamplingOptions(sampler=sampler)
        began = time.perf_counter(), time.process_time()
        posterior = sample_posterior(data, result, PosteriorSettings(options))
        wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        summary = posterior.summary
        table = Table(
            title=f"{sampler}: {len(PHI)} × {frames} × {frames}, 4 × 1000 draws, {wall:.1f} s, "
            f"{cpu:.1f} s CPU, {summary.diagnostics.evaluations:,} evaluations"
        )
        for heading in ("parameter", "(mean − fit) / stderr", "sd / stderr", "R-hat", "ESS"):
            table.add_column(heading)
        for name, estimate in result.parameters.items():
            if name in summary.quantities:
                q = summary.quantities[name]
                shift = (q.mean - estimate.value) / estimate.stderr
                row = f"{shift:+.3f}", f"{q.sd / estimate.stderr:.3f}", f"{q.r_hat:.3f}"
                table.add_row(name, *row, f"{q.ess:.0f}")
        Console(width=120).print(table)
        print(f"k = {summary.diagnostics.pareto_k:.2f}, problems: {list(summary.problems)}")


def shards(frames: int) -> None:
    # Angles of a shard must tell the shear rate from the direction of the flow.
    phi = tuple(np.linspace(0.0, 172.5, 24))
    physics = {"D0": 8000.0, "alpha": -0.2, "gamma_dot_t0": 1e-3, "beta": 0.2, "phi0": 3.0}
    data = hf.simulate({**physics, **FIXED}, phi=phi, gap=GAP, n_frames=frames, noise=0.05)
    for mode in ("averaged", "individual"):
        result = fit(data, settings(mode, uncertainty="speckle"))
        for n_shards in (2, 8):
            options = SamplingOptions(shards=n_shards)
            consensus = sample_posterior(data, result, PosteriorSettings(options)).summary.consensus
            table = Table(
                title=f"{mode}, {n_shards} shards of 24 angles × {frames} frames, "
                f"{consensus['seconds']:.1f} s"
            )
            for heading in ("parameter", "mean off by, SD", "SD ratio"):
                table.add_column(heading)
            for name, each in consensus["parameters"].items():
                table.add_row(name, f"{each['shift']:+.3f}", f"{each['sd_ratio']:.3f}")
            Console(width=120).print(table)
            print(f"Pareto k of the shards: {[round(k, 2) for k in consensus['pareto_k']]}")


def spread(runs: int) -> None:
    """Pulls of K contrasts by the most probable spread, and by all spreads."""
    tau = np.geomspace(1e-4, 300.0, 400)
    rng = np.random.default_rng(0)
    table = Table(
        title=f"{runs} simulations, contrasts measured ± 1, prior of the spread: median 10"
    )
    for heading in ("angles", "true spread", "spread taken as known", "fit", "posterior"):
        table.add_column(heading)
    for k, true in itertools.product((3, 8, 20), (0.0, 0.3, 1.0, 2.0, 5.0)):
        truth = true * rng.standard_normal((runs, k))
        measured = truth + rng.standard_normal((runs, k))
        mean = measured.mean(axis=1, keepdims=True)
        squares = np.sum((measured - mean) ** 2, axis=1, keepdims=True)
        # The share of a deviation from the mean that is kept is τ²/(1 + τ²).
        most_probable = np.maximum(0.0, 1 - (k - 1) / squares)
        log_posterior = np.log(tau) - np.log1p((tau / 10) ** 2) - (k - 1) / 2 * np.log1p(tau**2)
        log_posterior = log_posterior - squares / (2 * (1 + tau**2))
        weights = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        shares = tau**2 / (1 + tau**2)
        first, second = (weights @ shares**power for power in (1, 2))
        line = [str(k), f"{true:g}"]
        first, second = first[:, None], second[:, None]
        # Estimate, mean share, and mean square deviation from the share of the estimate.
        for share, kept, square in (
            (most_probable, most_probable, 0.0),
            (most_probable, first, second - 2 * first * most_probable + most_probable**2),
            (first, first, second - first**2),
        ):
            deviation = measured - mean
            variance = kept * (1 - 1 / k) + 1 / k + square * deviation**2
            pull = np.abs((mean + share * deviation - truth) / np.sqrt(variance))
            within = "/".join(f"{100 * np.mean(pull < level):.0f}" for level in (1, 1.96))
            line.append(f"{within}, {np.sqrt(np.mean(pull**2)):.2f}")
        table.add_row(*line)
    Console(width=120).print(table)
    print("pulls within 1 / 1.96 in %, and their rms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("calibration", "time", "shards", "spread"))
    parser.add_argument("--runs", type=int, help="default: 120; 4000 of spreads")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--samplers", default="importance,nuts")
    args = parser.parse_args()
    # A coarse simulation may have an angle at which nothing happens.
    warnings.simplefilter("default")
    if args.what == "calibration":
        calibration(args.runs or 120, args.frames or 40, args.noise)
    elif args.what == "time":
        timing(args.frames or 1001, args.samplers.split(","))
    elif args.what == "spread":
        spread(args.runs or 4000)
    else:
        shards(args.frames or 100)


if __name__ == "__main__":
    main()
