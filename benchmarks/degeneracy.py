"""How far each scaling mode is from the truth, over regimes, spreads and seeds.

Simulated measurements with white noise: slow, middle and fast decay, weak and strong flow, 3 to 23
angles; contrasts that differ by 0, 5 or 20 % and offsets by 0 or 2 % from angle to angle. Every
mode fits the same data. For the time averages of J and of the shear rate, phi0 and the contrasts:
bias, root-mean-square error, and how often the true value lies within 1 and 1.96 standard errors.

    .venv/bin/python benchmarks/degeneracy.py [--seeds 20] [--workers 2] [--output results.json]
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FRAMES, DT, Q, GAP, PHI0, NOISE, CONTRAST = 80, 0.1, 0.0054, 2e6, 3.0, 0.02, 0.3
DURATION = (FRAMES - 1) * DT


@dataclass(frozen=True)
class Regime:
    """What a measurement looks like: q² ∫J, ½ q h ∫γ̇ at cos = 1, and the number of angles."""

    decay: float
    flow: float
    angles: int


REGIMES = {
    "slow decay, strong flow, 8 angles": Regime(0.3, 10.0, 8),
    "middle decay, strong flow, 8 angles": Regime(2.0, 10.0, 8),
    "fast decay, strong flow, 8 angles": Regime(20.0, 10.0, 8),
    "middle decay, weak flow, 8 angles": Regime(2.0, 1.5, 8),
    "middle decay, strong flow, 3 angles": Regime(2.0, 10.0, 3),
    "middle decay, strong flow, 23 angles": Regime(2.0, 10.0, 23),
}
CONTRAST_SPREADS = (0.0, 0.05, 0.20)
OFFSET_SPREADS = (0.0, 0.02)
MODES = ("individual", "averaged", "constant", "fourier", "hierarchical", "auto")
QUANTITIES = ("mean J", "mean γ̇", "phi0", "contrast")


def rates(regime: Regime) -> tuple[np.ndarray, np.ndarray]:
    """J(t) and the shear rate: half a power law, half constant, scaled to the regime."""
    t = np.maximum(np.arange(FRAMES) * DT, DT / 2)
    transport, shear = t**-0.3 + 1.0, t**0.2 + 1.0
    transport *= regime.decay / (Q**2 * np.trapezoid(transport, dx=DT))
    shear *= regime.flow / (0.5 * Q * GAP * np.trapezoid(shear, dx=DT))
    return transport, shear


def measurement(regime: Regime, contrast_spread: float, offset_spread: float, seed: int):  # type: ignore[no-untyped-def]
    """Return the data and the true contrasts."""
    from homodyne_fit.dataset import TwoTimeData

    rng = np.random.default_rng(seed)
    k = regime.angles
    phi = np.arange(k) * 180.0 / k
    contrast = CONTRAST * (1 + contrast_spread * rng.normal(size=k))
    offset = 1 + offset_spread * rng.normal(size=k)
    steps = [np.concatenate([[0], np.cumsum((r[1:] + r[:-1]) / 2 * DT)]) for r in rates(regime)]
    ds, dg = (np.abs(s[None] - s[:, None]) for s in steps)
    x = 0.5 * Q * GAP * np.cos(np.deg2rad(PHI0 - phi))[:, None, None] * dg
    f = np.exp(-(Q**2) * ds) * np.sinc(x / np.pi) ** 2
    noise = np.triu(rng.normal(0.0, NOISE, f.shape), 1)
    c2 = offset[:, None, None] + contrast[:, None, None] * f + noise + noise.swapaxes(1, 2)
    return TwoTimeData(c2, phi, np.full(k, Q), DT, "simulated"), contrast


def run(task: tuple[str, float, float, int]) -> list[dict[str, Any]]:
    """Fit one measurement in every mode; return errors and standard errors."""
    from homodyne_fit.fit import FitSettings, fit
    from homodyne_fit.layers.settings import AntiDegeneracy

    name, contrast_spread, offset_spread, seed = task
    regime = REGIMES[name]
    data, contrast = measurement(regime, contrast_spread, offset_spread, seed)
    true_j, true_shear = (float(r.mean()) for r in rates(regime))
    records = []
    for mode in MODES:
        if mode == "fourier" and regime.angles < 5:
            continue
        layers = AntiDegeneracy(per_angle_mode=mode)
        began = time.perf_counter()
        result = fit(data, FitSettings(gap=GAP, anti_degeneracy=layers, threads=1))
        (j, j_error), (shear, shear_error) = result.mean_J(), result.mean_gamma_dot()
        phi0 = result.parameters["phi0"]
        records.append(
            {
                "cell": [name, contrast_spread, offset_spread],
                "seed": seed,
                "mode": mode,
                "used": result.objective.scaling.mode,
                "success": result.success,
                "seconds": time.perf_counter() - began,
                "error": {
                    "mean J": [j / true_j - 1],
                    "mean γ̇": [shear / true_shear - 1],
                    "phi0": [phi0.value - PHI0],
                    "contrast": [
                        e.value / c - 1 for e, c in zip(result.contrast, contrast, strict=True)
                    ],
                },
                "stderr": {
                    "mean J": [j_error / true_j],
                    "mean γ̇": [shear_error / true_shear],
                    "phi0": [phi0.stderr],
                    "contrast": [
                        e.stderr / c for e, c in zip(result.contrast, contrast, strict=True)
                    ],
                },
            }
        )
    return records


def summary(records: list[dict[str, Any]], quantity: str) -> dict[str, float]:
    """Bias, RMS error and coverage of one quantity over the seeds of a cell and mode."""
    errors = np.concatenate([r["error"][quantity] for r in records])
    stderr = np.concatenate([r["stderr"][quantity] for r in records])
    has_error = np.isfinite(stderr)
    pulls = np.abs(errors[has_error] / stderr[has_error])
    return {
        "bias": float(np.mean(errors)),
        "rms": float(np.sqrt(np.mean(errors**2))),
        "within 1": float(np.mean(pulls < 1)) if len(pulls) else np.nan,
        "within 1.96": float(np.mean(pulls < 1.96)) if len(pulls) else np.nan,
        "no error": float(np.mean(~has_error)),
    }


def report(records: list[dict[str, Any]]) -> None:
    """Print the tables in Markdown."""
    cells: dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for record in records:
        cells[tuple(record["cell"])][record["mode"]].append(record)
    for quantity in QUANTITIES:
        unit, scale = ("°", 1) if quantity == "phi0" else ("%", 100)
        print(f"\n## {quantity}: RMS error (bias) in {unit}, coverage of 68 and 95 % intervals\n")
        print("| regime | spread of contrast, offset |", " | ".join(MODES), "|")
        print("|---|---|" + "---|" * len(MODES))
        for cell, modes in cells.items():
            row = []
            for mode in MODES:
                if mode not in modes:
                    row.append("–")
                    continue
                s = summary(modes[mode], quantity)
                row.append(
                    f"{scale * s['rms']:.3g} ({scale * s['bias']:+.2g}) "
                    f"{100 * s['within 1']:.0f}/{100 * s['within 1.96']:.0f}"
                )
            print(f"| {cell[0]} | {100 * cell[1]:g} %, {100 * cell[2]:g} % |", " | ".join(row), "|")
    print("\n## Against the best mode of each cell: RMS error over that of the best\n")
    print("| quantity | mode | median | worst | worst cell |")
    print("|---|---|---|---|---|")
    for quantity, mode in itertools.product(QUANTITIES, MODES):
        ratios = []
        for cell, modes in cells.items():
            if mode in modes:
                rms = {m: summary(r, quantity)["rms"] for m, r in modes.items() if m != "constant"}
                own = summary(modes[mode], quantity)["rms"]
                ratios.append((own / min(rms.values()), cell))
        worst = max(ratios)
        where = f"{worst[1][0]}, {100 * worst[1][1]:g} %, {100 * worst[1][2]:g} %"
        median = np.median([ratio for ratio, _ in ratios])
        print(f"| {quantity} | {mode} | {median:.2f} | {worst[0]:.2f} | {where} |")
    print("\n## Over all cells\n")
    print("| mode | not converged | seconds, median |", " | ".join(QUANTITIES), "|")
    print("|---|---|---|" + "---|" * len(QUANTITIES))
    for mode in MODES:
        own = [r for r in records if r["mode"] == mode]
        coverage = [summary(own, quantity) for quantity in QUANTITIES]
        print(
            f"| {mode} | {sum(not r['success'] for r in own)} of {len(own)} "
            f"| {np.median([r['seconds'] for r in own]):.2f} |",
            " | ".join(f"{100 * s['within 1']:.0f}/{100 * s['within 1.96']:.0f}" for s in coverage),
            "|",
        )


def main() -> None:
    """Run all cells and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--regimes", nargs="*", default=list(REGIMES), help="by their beginning")
    parser.add_argument("--output", type=Path, help="all records, as JSON")
    parser.add_argument("--read", type=Path, help="print the tables of such a file")
    options = parser.parse_args()
    if options.read:
        return report(json.loads(options.read.read_text()))
    names = [name for name in REGIMES if name.startswith(tuple(options.regimes))]
    tasks = list(itertools.product(names, CONTRAST_SPREADS, OFFSET_SPREADS, range(options.seeds)))
    context = multiprocessing.get_context("spawn")
    records: list[dict[str, Any]] = []
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        for done, found in enumerate(pool.map(run, tasks), 1):
            records += found
            print(f"\r{done}/{len(tasks)}", end="", file=sys.stderr, flush=True)
    if options.output:
        options.output.write_text(json.dumps(records))
    report(records)
    return None


if __name__ == "__main__":
    main()
