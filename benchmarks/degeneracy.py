"""How far each scaling mode is from the truth, over regimes, spreads and seeds.

Simulated measurements with white noise: slow, middle and fast decay, weak and strong flow, 3 to 23
angles; contrasts that differ by 0, 5 or 20 % and offsets by 0 or 2 % from angle to angle. Every
mode fits the same data. For the time averages of J and of the shear rate, phi0 and the contrasts:
bias, root-mean-square error, and how often the true value lies within 1 and 1.96 standard errors.
With --ablation, each layer off in turn and each alone in place of the modes, with the global
search and from a single start that is 50 % off.

    .venv/bin/python benchmarks/degeneracy.py [--ablation] [--seeds 20] [--output results.json]
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

FRAMES, DT, Q, GAP, PHI0, NOISE, CONTRAST = 64, 0.1, 0.0054, 2e6, 3.0, 0.02, 0.3
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
OFF = {"enable": False}
# What differs from the default: mode auto, layers 2 to 4 on, layer 5 in the search on samples.
ABLATION: dict[str, dict[str, Any]] = {
    "default": {},
    "without 1 (individual)": {"per_angle_mode": "individual"},
    "without 2": {"hierarchical": OFF},
    "without 3": {"regularization": OFF},
    "without 4": {"gradient_monitoring": OFF},
    "without 5": {"shear_weighting": OFF},
    "5 to the end": {"shear_weighting": {"enable": True}},
    "1 alone": {
        "hierarchical": OFF,
        "regularization": OFF,
        "gradient_monitoring": OFF,
        "shear_weighting": OFF,
    },
    "2 alone": {"per_angle_mode": "individual", "gradient_monitoring": OFF},
    "3 alone": {
        "per_angle_mode": "individual",
        "regularization": {"enable": True},
        "hierarchical": OFF,
        "gradient_monitoring": OFF,
    },
    "4 alone": {"per_angle_mode": "individual", "hierarchical": OFF},
    "5 alone": {
        "per_angle_mode": "individual",
        "hierarchical": OFF,
        "gradient_monitoring": OFF,
        "shear_weighting": {"enable": True},
    },
    "none": {"per_angle_mode": "individual", "hierarchical": OFF, "gradient_monitoring": OFF},
}
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
    from homodyne_fit.data.dataset import TwoTimeData

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


def variants(name: str, ablation: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What is compared: arguments of the settings by name; the modes if there is no ablation."""
    from homodyne_fit.fitting.options import AntiDegeneracy, MultiStart, SearchOptions

    if not ablation:
        modes = [m for m in MODES if m != "fourier" or REGIMES[name].angles >= 5]
        chosen = {m: AntiDegeneracy(per_angle_mode=m) for m in modes}
        return {m: {"search": SearchOptions(threads=1, anti_degeneracy=chosen[m])} for m in modes}
    layers = {name: AntiDegeneracy.model_validate(given) for name, given in ablation.items()}
    transport, shear = rates(REGIMES[name])
    start = {
        "D0": 0.75 * transport.mean(),
        "D_offset": 0.75 * transport.mean(),
        "gamma_dot_t0": 0.75 * shear.mean(),
        "gamma_dot_t_offset": 0.75 * shear.mean(),
    }
    alone = MultiStart(enable=False)
    variants: dict[str, dict[str, Any]] = {}
    for name, chosen in layers.items():
        one_start = SearchOptions(threads=1, anti_degeneracy=chosen, multi_start=alone)
        variants[name] = {"search": SearchOptions(threads=1, anti_degeneracy=chosen)}
        variants[f"{name}, one start"] = {"search": one_start, "initial": start}
    return variants


def run(
    task: tuple[str, float, float, int], ablation: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Fit one measurement in every variant; return errors and standard errors."""
    from homodyne_fit.fitting.fit import FitSettings, fit

    name, contrast_spread, offset_spread, seed = task
    regime = REGIMES[name]
    data, contrast = measurement(regime, contrast_spread, offset_spread, seed)
    true_j, true_shear = (float(r.mean()) for r in rates(regime))
    records = []
    for mode, given in variants(name, ablation).items():
        began = time.perf_counter()
        result = fit(data, FitSettings(gap=GAP, **given))
        (j, j_error), (shear, shear_error) = result.mean_J(), result.mean_gamma_dot()
        phi0 = result.parameters["phi0"]
        records.append(
            {
                "cell": [name, contrast_spread, offset_spread],
                "seed": seed,
                "mode": mode,
                "used": result.objective.scaling.mode,
                "restarts": result.info.layers.get("gradient_monitoring", {}).get("restarts", 0),
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
    has_error = np.isfinite(stderr) & (stderr > 0)
    pulls = np.abs(errors[has_error] / stderr[has_error])
    return {
        "bias": float(np.mean(errors)),
        "rms": float(np.sqrt(np.mean(errors**2))),
        "median": float(np.median(np.abs(errors))),
        "within 1": float(np.mean(pulls < 1)) if len(pulls) else np.nan,
        "within 1.96": float(np.mean(pulls < 1.96)) if len(pulls) else np.nan,
        "no error": float(np.mean(~has_error)),
    }


Cells = dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]]


def by_cell(records: list[dict[str, Any]]) -> Cells:
    """Records of each cell and mode."""
    cells: Cells = defaultdict(lambda: defaultdict(list))
    for record in records:
        cells[tuple(record["cell"])][record["mode"]].append(record)
    return cells


def table(header: list[str], rows: Iterable[list[str]]) -> None:
    """Print a table in Markdown."""
    for row in (header, ["---"] * len(header), *rows):
        print("|", " | ".join(row), "|")


def percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.0f}"


def report_cells(cells: Cells, modes: list[str]) -> None:
    """One table for each quantity: cells by modes."""
    for quantity in QUANTITIES:
        unit, scale = ("°", 1) if quantity == "phi0" else ("%", 100)
        print(f"\n## {quantity}: RMS error (bias) in {unit}, coverage of 68 and 95 % intervals\n")
        rows = []
        for (name, contrast, offset), found in cells.items():
            row = [name, f"{100 * contrast:g} %, {100 * offset:g} %"]
            for mode in modes:
                s = summary(found[mode], quantity) if mode in found else None
                row.append(
                    f"{scale * s['rms']:.3g} ({scale * s['bias']:+.2g}) "
                    f"{percent(s['within 1'])}/{percent(s['within 1.96'])}"
                    if s
                    else "–"
                )
            rows.append(row)
        table(["regime", "spread of contrast, offset", *modes], rows)


def report_best(cells: Cells, modes: list[str]) -> None:
    """Every mode against the best one of each cell."""
    print("\n## RMS error over that of the best mode of the cell\n")
    rows = []
    for quantity, mode in itertools.product(QUANTITIES, modes):
        ratios = []
        for cell, found in cells.items():
            if mode in found:
                rms = {m: summary(r, quantity)["rms"] for m, r in found.items()}
                ratios.append((rms[mode] / min(rms.values()), cell))
        worst, (name, contrast, offset) = max(ratios)
        where = f"{name}, {100 * contrast:g} %, {100 * offset:g} %"
        median = np.median([ratio for ratio, _ in ratios])
        within = np.mean([ratio < 1.1 for ratio, _ in ratios])
        rows.append(
            [quantity, mode, f"{median:.2f}", f"{worst:.2f}", where, f"{percent(float(within))} %"]
        )
    table(["quantity", "mode", "median", "worst", "worst cell", "cells within 10 %"], rows)


def report_all(records: list[dict[str, Any]], modes: list[str]) -> None:
    """One line for each mode."""
    print("\n## Over all cells: RMS error in % (phi0 in °), coverage of 68 and 95 % intervals\n")
    rows = []
    for mode in modes:
        own = [r for r in records if r["mode"] == mode]
        row = [
            mode,
            f"{sum(not r['success'] for r in own)} of {len(own)}",
            str(sum(r["restarts"] for r in own)),
            f"{np.median([r['seconds'] for r in own]):.2f}",
        ]
        for quantity in QUANTITIES:
            s, scale = summary(own, quantity), 1 if quantity == "phi0" else 100
            coverage = f"{percent(s['within 1'])}/{percent(s['within 1.96'])}"
            row.append(f"{scale * s['median']:.3g} / {scale * s['rms']:.3g}, {coverage}")
        rows.append(row)
    quantities = [f"{quantity}: median / RMS" for quantity in QUANTITIES]
    table(["mode", "not converged", "restarts", "s, median", *quantities], rows)


def report(records: list[dict[str, Any]]) -> None:
    """Print the tables."""
    cells, modes = by_cell(records), list(dict.fromkeys(r["mode"] for r in records))
    if set(modes) <= set(MODES):
        report_cells(cells, modes)
        report_best(cells, modes)
    report_all(records, modes)


def main() -> None:
    """Run all cells and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ablation", action="store_true", help="layers off and alone")
    parser.add_argument("--layers", nargs="*", help="with --ablation: these rows alone")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--regimes", nargs="*", default=list(REGIMES), help="by their beginning")
    parser.add_argument(
        "--spreads",
        type=float,
        nargs="*",
        help="pairs of contrast and offset spread, in place of all combinations",
    )
    parser.add_argument("--output", type=Path, help="all records, as JSON")
    parser.add_argument("--read", type=Path, help="print the tables of such a file")
    options = parser.parse_args()
    if options.read:
        return report(json.loads(options.read.read_text()))
    names = [name for name in REGIMES if name.startswith(tuple(options.regimes))]
    spreads = list(itertools.product(CONTRAST_SPREADS, OFFSET_SPREADS))
    if options.spreads:
        spreads = list(zip(options.spreads[::2], options.spreads[1::2], strict=True))
    tasks = [
        (name, *spread, seed)
        for name, spread, seed in itertools.product(names, spreads, range(options.seeds))
    ]
    context = multiprocessing.get_context("spawn")
    records: list[dict[str, Any]] = []
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        chosen = ABLATION if options.ablation else {}
        chosen = {name: chosen[name] for name in options.layers or chosen}
        found_all = pool.map(partial(run, ablation=chosen), tasks)
        for done, found in enumerate(found_all, 1):
            records += found
            print(f"\r{done}/{len(tasks)}", end="", file=sys.stderr, flush=True)
    if options.output:
        options.output.write_text(json.dumps(records))
    report(records)
    return None


if __name__ == "__main__":
    main()
