"""The verdict on the model: false alarms where it is true, and misfits that it does not see.

Measurements are photon counts from first principles: 1500 pixels at each of 8 angles (or 3), 120
frames of 0.1 s, three modes, and the cells of `coverage.py`. Pixels share nothing. For
each photon rate

- true models: how often a fit is called inadequate, though its model made the data;
- misfits, how often a fit is called adequate: a static fit of a sample under flow; the mode
  `constant`, whose contrast is low by what c2 decays over four frames; one shared pair
  where contrasts differ by 10 %; a rate that falls to a third at half time; and c2 that beats,
  f cos² of four periods in the measurement;
- `fourier` on a sample of one contrast, which it describes: a true model, too;
- speckles of two pixels, of a true model: pairs of pixels see the same intensity.

Searches start at the truth, one search each; one that ends in another minimum is rightly called
inadequate, and counted as an alarm. Real files are fitted by the static model, with the
nominal q = 0.0054 Å⁻¹, by default settings.

    .venv/bin/python benchmarks/adequacy.py [--measurements 50] [--first 0] [--cases ...]
        [--photons 0.02 0.5] [--quick] [--json rows.jsonl] [--real /path/to/data]
    .venv/bin/python benchmarks/adequacy.py --read rows.jsonl [more.jsonl]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import homodyne_fit as hf
from homodyne_fit.model.rates import STATIC
from homodyne_fit.simulation.gaussian_field import field_root, gaussian_intensities
from homodyne_fit.simulation.measurement import Measurement
from homodyne_fit.simulation.speckle import correlate

Floats = NDArray[np.float64]
Row = dict[str, Any]

QUICK = 2  # measurements
BLOCK = 500  # pixels at a time
PERIODS = 4  # of beats in a measurement
SLOWER = 3.0  # by which the rate falls at half time
SPREAD = 0.1  # of the contrasts
GOAL = 0.01  # share of false alarms

# Real matrices, and how to make c2 of their numbers.
REAL = {"bnl_c2_350.npy": (0.0, 1.0, 1.0), "real/horwath_rheo_256.npy": (1.0, 0.2, 0.1)}


def _coverage() -> ModuleType:
    """Cells and measurements of ``coverage.py``; a package of that name may be installed."""
    path = Path(__file__).with_name("coverage.py")
    spec = importlib.util.spec_from_file_location("coverage_of_error_bars", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


COVERAGE = _coverage()


@dataclass(frozen=True)
class Case:
    """What is measured and how it is fitted.

    Attributes
    ----------
    cell : str
    adequate : bool
        Whether the model is true.
    model : str or None
        Of the fit; that of the cell when None.
    sample : str
        'true', 'ageing', 'beats', 'contrasts' or 'large speckles'.
    options : dict
        Of the fit.
    """

    cell: str
    adequate: bool
    model: str | None = None
    sample: str = "true"
    options: dict[str, Any] = field(default_factory=dict)


def _mode(name: str) -> dict[str, Any]:
    return {"per_angle_mode": name}


CASES = {
    **{f"true: {cell}": Case(cell, True) for cell in COVERAGE.CELLS},
    "true: fourier": Case("static", True, options=_mode("fourier")),
    "true: averaged": Case("static", True, options=_mode("averaged")),
    "true: large speckles": Case("static", True, sample="large speckles"),
    "static fit of flow": Case("middle", False, "static"),
    "static fit of strong flow": Case("strong shear", False, "static"),
    "constant": Case("static", False, options=_mode("constant")),
    "averaged, contrasts differ": Case(
        "static", False, sample="contrasts", options=_mode("averaged")
    ),
    "ageing": Case("static", False, sample="ageing"),
    "beats": Case("static", False, sample="beats"),
}


def measured(
    m: Measurement, sample: str, photons: float, seed: Sequence[int], pixels: int
) -> hf.TwoTimeData:
    """Correlate the photons of a sample."""
    transport, shear = m.rates(m.times)
    late = m.times > m.times[-1] / 2
    if sample == "ageing":
        transport = np.where(late, transport / SLOWER, transport)
    spread, turn = (
        np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * m.dt)])
        for rate in (transport, shear)
    )
    matrices = []
    for k, phi in enumerate(m.phi):
        rng = np.random.default_rng([*seed, k])
        along = np.cos(np.deg2rad(m.parameters.get("phi0", 0.0) - phi))
        root = field_root(m.q * m.gap * along * turn, m.q**2 * spread)
        if sample == "beats":
            root = _beating(root, m.times)
        matrices.append(correlate(_counts(rng, root, photons, pixels, sample).T))
    c2 = np.stack(matrices).astype(np.float64)
    if sample == "contrasts":
        signs = np.where(np.arange(len(c2)) % 2, 1 + SPREAD, 1 - SPREAD)
        c2 = 1 + signs[:, None, None] * (c2 - 1)
    return hf.TwoTimeData(c2, np.array(m.phi), np.full(len(m.phi), m.q), m.dt)


def _beating(root: NDArray[np.float32], times: Floats) -> NDArray[np.float32]:
    """The root of the covariance times cos(ω (t − t')), so that f is multiplied by cos²."""
    phase = np.pi * PERIODS * times / times[-1]
    both = np.hstack([root * np.cos(phase)[:, None], root * np.sin(phase)[:, None]])
    values, vectors = np.linalg.eigh((both @ both.T).astype(np.float64))
    return ((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T).astype(np.float32)


def _counts(
    rng: np.random.Generator, root: NDArray[np.float32], photons: float, pixels: int, sample: str
) -> NDArray[np.int64]:
    """Photons (n, pixels)."""
    modes = COVERAGE.MODES
    occupation = np.full(modes, 1 / modes, np.float32)
    copies = 2 if sample == "large speckles" else 1
    blocks = []
    for begin in range(0, pixels, BLOCK):
        own = -(-min(BLOCK, pixels - begin) // copies)
        intensity = gaussian_intensities(rng, root, occupation, own)
        blocks.append(rng.poisson(photons * np.tile(intensity, (1, copies))))
    return np.concatenate(blocks, axis=1)


def run(name: str, photons: float, number: int, pixels: int) -> Row:
    """Simulate a measurement and fit it."""
    case = CASES[name]
    m = COVERAGE.measurement(COVERAGE.CELLS[case.cell])
    seed = [list(CASES).index(name), round(1e6 * photons), number]
    model = case.model or m.model.name
    known = m.parameters if model != "static" else {k: m.parameters[k] for k in STATIC.parameters}
    row: Row = {"case": name, "photons": photons, "number": number, "true": case.adequate}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = measured(m, case.sample, photons, seed, pixels)
        gap = None if model == "static" else COVERAGE.GAP
        options = {"multi_start": False, "threads": 1, **case.options}
        began = time.perf_counter()
        result = hf.fit(data, model, gap=gap, initial=known, **options)
    seconds = time.perf_counter() - began
    return {**row, **verdict(result), "seconds": seconds}


def verdict(result: hf.FitResult) -> Row:
    """What a fit says about its model."""
    scaling = result.objective.scaling.mode
    return {"success": result.success, "scaling": scaling, **result.adequacy.to_json()}


def print_table(rows: Iterable[Row]) -> None:
    """Print, by case and photon rate, how many of the judged are called inadequate."""
    rates = sorted({row["photons"] for row in rows})
    head = ["case", *(f"{rate:g} photons" for rate in rates), "median σ, share of the contrast"]
    print("|", " | ".join(head), "|\n|", " | ".join(["---"] * len(head)), "|")
    for name in CASES:
        cells, worst = [], []
        for rate in rates:
            own = [r for r in rows if r["case"] == name and r["photons"] == rate]
            judged = [r for r in own if r["adequate"] is not None]
            alarms = sum(not r["adequate"] for r in judged)
            unjudged = len(own) - len(judged)
            cells.append(
                f"{alarms}/{len(judged)}" + (f" (+{unjudged} not judged)" * bool(unjudged))
            )
            found = [r["worst"] for r in judged if r["worst"]]
            if found:
                sigmas, shares = ([w[k] for w in found] for k in ("sigmas", "share"))
                worst.append(f"{np.median(sigmas):.1f}, {100 * np.median(shares):.1f} %")
        if any(row["case"] == name for row in rows):
            print("|", " | ".join([name, *cells, "; ".join(worst)]), "|")


def report(rows: list[Row]) -> None:
    """Print how many fits are called inadequate, and the share of false alarms."""
    print("called inadequate / judged\n")
    print_table(rows)
    for rate in sorted({row["photons"] for row in rows}):
        of_rate = [r for r in rows if r["photons"] == rate and r["adequate"] is not None]
        true, false = ([r for r in of_rate if r["true"] is value] for value in (True, False))
        if true:
            alarms = sum(not r["adequate"] for r in true)
            small = [float(np.mean([r["p_value"] < p for r in true])) for p in (0.5, 0.1, 0.01)]
            shares = ", ".join(f"{100 * share:.1f} %" for share in small)
            print(f"\n{rate:g} photons: {alarms} false alarms of {len(true)} (goal {GOAL:.0%}); ")
            print(f"p below 0.5, 0.1, 0.01: {shares}")
        if false:
            missed = sum(bool(r["adequate"]) for r in false)
            print(f"{missed} of {len(false)} misfits missed")


def print_real(folder: Path) -> None:
    """Fit the real matrices of a folder."""
    for name, (base, factor, dt) in REAL.items():
        c2 = base + factor * np.load(folder / name).astype(np.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = hf.fit(
                hf.TwoTimeData(c2[None], np.zeros(1), np.full(1, COVERAGE.Q), dt),
                "static",
                threads=1,
            )
        print(f"\n{name}: {json.dumps(verdict(result), ensure_ascii=False)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measurements", type=int, default=50, help="of each case and rate")
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--photons", nargs="+", type=float, default=list(COVERAGE.PHOTONS))
    parser.add_argument("--pixels", type=int, default=COVERAGE.PIXELS)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} measurements")
    parser.add_argument("--json", type=Path, help="where all rows go, one a line")
    parser.add_argument("--read", type=Path, nargs="+", help="print the tables of such files")
    parser.add_argument("--real", type=Path, help="folder of real matrices to fit as well")
    options = parser.parse_args()
    if options.json and options.json.exists():
        parser.error(f"{options.json} exists")
    rows: list[Row] = []
    if options.read:
        lines = [line for path in options.read for line in path.read_text("utf-8").splitlines()]
        rows = list(map(json.loads, lines))
    else:
        numbers = range(
            options.first, options.first + (QUICK if options.quick else options.measurements)
        )
        # Cases take turns: a run that is stopped leaves rows of all of them.
        for number in numbers:
            for name in options.cases:
                for photons in options.photons:
                    rows.append(run(name, photons, number, options.pixels))
                    if options.json:
                        with options.json.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(rows[-1]) + "\n")
            print(f"\r{number + 1 - options.first}/{len(numbers)}", end="", file=sys.stderr)
        print(file=sys.stderr)
    report(rows)
    if options.real:
        print_real(options.real)


if __name__ == "__main__":
    main()
