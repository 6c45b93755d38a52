"""Which forms of the rates a fit chooses, and what the choice does to J(t) and γ̇(t).

Measurements are photon counts from first principles, as in `coverage.py`, of which this takes
detector and regimes. In each regime the rates that made the data have one of three forms, with the
same integrals: constant; power laws; and power laws of which a constant part makes up a half. Each
is fitted with `constant_parts` auto, free and zero, without a start. Told are

- how often auto chooses the form of J and of γ̇ that made the data, a simpler one, or a larger one;
- the rms error of J and γ̇ at 10, 50 and 90 % of the measurement, relative to the true values;
- how often the 68 % and 95 % intervals at these times hold the true values.

A form simpler than the true one is no mistake where the data cannot tell: the rms errors judge.

    .venv/bin/python benchmarks/rate_forms.py [--measurements 10] [--photons 0.5] [--first 0]
        [--json rows.jsonl]
    .venv/bin/python benchmarks/rate_forms.py --read rows.jsonl [more.jsonl]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from adequacy import COVERAGE
from threadpoolctl import threadpool_limits

import homodyne_fit as hf
from homodyne_fit.simulation.measurement import Measurement, from_first_principles

Row = dict[str, Any]

CELLS = ("slow", "middle", "fast", "strong shear")
SETTINGS = ("auto", "free", "zero")
TIMES = (0.1, 0.5, 0.9)  # of the measurement
LEVELS = (1.0, 1.96)

# Exponents of J and of γ̇, and the share of the constant part at mid-measurement.
FORMS = {
    "constant": ((0.0, 0.0), 0.0),
    "power law": ((-0.3, 0.3), 0.0),
    "power law with a constant part": ((1.0, 1.5), 0.5),
}


def measurement(cell: str, form: str) -> Measurement:
    """What is measured: rates of a form, with the integrals of a cell."""
    m = COVERAGE.measurement(COVERAGE.CELLS[cell])
    exponents, share = FORMS[form]
    parameters, names = dict(m.parameters), m.model.parameters
    times = np.maximum(m.times, m.dt / 2)
    for law, exponent, mean in zip((0, 3), exponents, m.rates(m.times).mean(axis=1), strict=True):
        shape = times**exponent
        middle = (m.times[-1] / 2) ** exponent
        constant = share / (1 - share) * middle if share else 0.0
        prefactor = mean / float(np.mean(shape + constant))
        values = prefactor, exponent, prefactor * constant
        parameters |= dict(zip(names[law : law + 3], values, strict=True))
    return replace(m, parameters=parameters)


def run(case: tuple[str, str, float, int]) -> list[Row]:
    """Simulate a measurement and fit it with each setting."""
    cell, form, photons, number = case
    m = measurement(cell, form)
    place = [CELLS.index(cell), list(FORMS).index(form), round(1e6 * photons), number, 7]
    seed = int(np.random.SeedSequence(place).generate_state(1)[0])
    detector = {
        "pixels": COVERAGE.PIXELS,
        "modes": COVERAGE.MODES,
        "mean_counts": photons,
    }
    at = np.array(TIMES) * m.times[-1]
    truth = dict(zip(("J", "gamma_dot"), m.rates(at).tolist(), strict=True))
    rows = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        c2 = from_first_principles(m, particles=None, seed=seed, workers=1, **detector)
        data = hf.TwoTimeData(c2, np.array(m.phi), np.full(len(m.phi), m.q), m.dt)
        for setting in SETTINGS:
            began = time.perf_counter()
            result = hf.fit(data, gap=COVERAGE.GAP, threads=1, constant_parts=setting)
            rates = {rate.key: [each.tolist() for each in rate.at(at)] for rate in result.rates}
            rows.append(
                {
                    "cell": cell,
                    "form": form,
                    "photons": photons,
                    "number": number,
                    "setting": setting,
                    "success": result.success,
                    "chosen": result.info.rate_forms.get("chosen"),
                    "truth": truth,
                    "rates": rates,
                    "passes": result.info.passes,
                    "seconds": time.perf_counter() - began,
                }
            )
    return rows


def chosen_counts(rows: Iterable[Row], key: str) -> str:
    """Right, simpler and larger."""
    order = list(FORMS)
    differences = [
        order.index(row["chosen"][key]) - order.index(row["form"]) for row in rows if row["chosen"]
    ]
    counts = [sum(np.sign(d) == sign for d in differences) for sign in (0, -1, 1)]
    return " / ".join(map(str, counts))


def errors(rows: Sequence[Row], key: str) -> list[str]:
    """Rms relative error at each time, and the shares of intervals that hold."""
    fits = [row for row in rows if row["success"]]
    truth = np.array([row["truth"][key] for row in fits])
    values, sigmas = (np.array([row["rates"][key][i] for row in fits], float) for i in (0, 1))
    rms = np.sqrt(np.mean((values / truth - 1) ** 2, axis=0))
    size = np.abs(values - truth) / sigmas
    held = "/".join(f"{100 * np.mean(size <= level):.0f}" for level in LEVELS)
    return [" / ".join(f"{100 * each:.2g}" for each in rms), held]


def report(rows: list[Row]) -> None:
    """Print what was chosen, and the errors."""
    head = ["regime", "form of the data", "photons"]
    head += ["J: right / simpler / larger", "γ̇: right / simpler / larger"]
    cases = sorted({(r["cell"], r["form"], r["photons"]) for r in rows})
    lines = []
    for cell, form, photons in cases:
        own = [
            r
            for r in rows
            if (r["cell"], r["form"], r["photons"]) == (cell, form, photons)
            and r["setting"] == "auto"
        ]
        counts = [chosen_counts(own, key) for key in ("J", "gamma_dot")]
        lines.append([cell, form, f"{photons:g}", *counts])
    COVERAGE.table(head, lines)
    print("\nrms error in % of the true value at 10 / 50 / 90 % of the measurement,")
    print("and how many of the intervals hold it, 68/95 %\n")
    lines = []
    everything = [(form, photons) for form, photons in {(f, p) for _, f, p in cases}]
    groups = [*cases, *(("all", form, photons) for form, photons in sorted(everything))]
    for cell, form, photons in groups:
        for setting in SETTINGS:
            own = [
                r
                for r in rows
                if (r["form"], r["photons"], r["setting"]) == (form, photons, setting)
                and cell in (r["cell"], "all")
            ]
            figures = [text for key in ("J", "gamma_dot") for text in errors(own, key)]
            failed = sum(not r["success"] for r in own)
            seconds = f"{np.median([r['seconds'] for r in own]):.1f}"
            lines.append([cell, form, f"{photons:g}", setting, *figures, str(failed), seconds])
    head = ["regime", "form of the data", "photons", "constant_parts", "J", "held", "γ̇", "held"]
    COVERAGE.table([*head, "not converged", "s"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measurements", type=int, default=10, help="of each regime and form")
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    parser.add_argument("--photons", nargs="+", type=float, default=[0.1, 2.0])
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where all rows go, one a line")
    parser.add_argument("--read", type=Path, nargs="+", help="print the tables of such files")
    options = parser.parse_args()
    if options.json and options.json.exists():
        parser.error(f"{options.json} exists")
    rows: list[Row] = []
    if options.read:
        lines = [line for path in options.read for line in path.read_text("utf-8").splitlines()]
        rows = list(map(json.loads, lines))
    else:
        numbers = range(options.first, options.first + options.measurements)
        # Cases take turns: a run that is stopped leaves rows of all of them.
        cases = [
            (cell, form, photons, number)
            for number, cell, form, photons in product(
                numbers, options.cells, FORMS, options.photons
            )
        ]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
            futures = [pool.submit(run, case) for case in cases]
            for done, future in enumerate(as_completed(futures), 1):
                rows += future.result()
                if options.json:
                    with options.json.open("a", encoding="utf-8") as file:
                        file.writelines(json.dumps(row) + "\n" for row in future.result())
                print(f"\r{done}/{len(cases)}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    report(rows)


if __name__ == "__main__":
    main()
