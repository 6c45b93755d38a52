"""Coverage of error bars: do 68 % of the intervals of a fit hold the truth, and 95 % likewise?

Measurements are photon counts from first principles, in the limit of infinitely many particles:
1500 pixels at each angle, 120 frames of 0.1 s, three modes (a contrast of 1/3), q = 0.0054 Å⁻¹, a
gap of 2e6 Å, angles spread evenly over 180°. Pixels share nothing, and each measurement has speckle
of its own: none is seen at two photon rates. Both rates are power laws of which a fifth is
constant: J ∝ t^-0.3, γ̇ ∝ t^0.3; phi0 is 5°. Cells differ in how far the matrices decay and in the
number of angles. Each measurement is fitted with default settings, given the gap and no start.

A pull is the deviation of a fit from the truth over its standard error. Judged are the mean J, the
mean shear rate, phi0 and the contrast (its mean over the angles), of fits that converged with a
positive and finite standard error, in cells in which the median standard error is less than 30 % of
the true value: errors beyond that are not those of a linear problem. The cell decides, not the fit:
errors follow the estimates, that of a rate in proportion, so that fits with small errors are those
that came out low. A table gives the number judged, the shares within 1 and 1.96 standard
errors, the rms pull, and the median size of a pull (0.67 for a normal distribution), which a few
outliers do not change. The last table pools the cells, and sets them against goals.

In the cell "angles differ", which is run only by name, the contrast of each angle is drawn from a
normal distribution with a spread of 4 %, and fits learn the spread (`hierarchical`). A table gives
the pulls of single contrasts there.

With ``--weighting speckle`` each measurement is fitted once more, its points weighted, with the
errors of that; more tables give the rms errors of these fits over those of least squares, on the
same measurements, and how often the test of the model by their difference is significant.

    .venv/bin/python benchmarks/coverage.py [--measurements 100] [--first 0] [--cells middle ...]
        [--photons 0.02 0.5] [--uncertainty white] [--weighting speckle] [--workers 2] [--quick]
        [--json rows.jsonl]
    .venv/bin/python benchmarks/coverage.py --read rows.jsonl [more.jsonl]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import homodyne_fit as hf
from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC
from homodyne_fit.simulation.measurement import (
    Measurement,
    from_first_principles,
    speckle_contrast,
)

Q, GAP, DT, FRAMES = 0.0054, 2e6, 0.1, 120  # Å⁻¹, Å, s
PIXELS, MODES = 1500, 3
PHOTONS = (0.02, 0.1, 0.5, 5.0)  # in a pixel and frame
ALPHA, BETA, PHI0 = -0.3, 0.3, 5.0
CONSTANT = 0.2  # share of a rate, averaged over the measurement
QUICK = 3  # measurements

QUANTITIES = ("J", "γ̇", "phi0", "contrast")
JUDGED = 0.3  # standard error over true value
LEVELS = (1.0, 1.96)  # standard errors
# Goals: shares of intervals that hold the truth, and the rms pull.
GOALS = {"68 %": (0.62, 0.74), "95 %": (0.91, 0.98), "rms": (0.9, 1.15)}

# What the error bars assume.
SETTINGS = ("white", "speckle")
# In place of that, of a fit with weighted points.
WEIGHTED = "weighted"
SIGNIFICANT = (0.05, 0.01)  # p of the test by the difference from least squares


@dataclass(frozen=True)
class Cell:
    """A regime: number of angles, q² ∫J dt, and ½ q h ∫γ̇ dt, None without flow.

    Contrasts differ by the spread, relative to their mean.
    """

    angles: int
    decay: float
    phase: float | None
    spread: float = 0.0


CELLS = {
    "static": Cell(8, 4.0, None),
    "slow": Cell(8, 1.0, 3.0),
    "middle": Cell(8, 4.0, 10.0),
    "middle, 3 angles": Cell(3, 4.0, 10.0),
    "fast": Cell(8, 16.0, 20.0),
    "weak shear": Cell(8, 4.0, 1.5),
    "strong shear": Cell(8, 2.0, 30.0),
    "strong, 3 angles": Cell(3, 2.0, 30.0),
    "angles differ": Cell(8, 4.0, 10.0, spread=0.04),
}
USUAL = [name for name, cell in CELLS.items() if not cell.spread]

Row = dict[str, Any]


def power_law(integral: float, exponent: float) -> tuple[float, ...]:
    """Prefactor, exponent and constant part of a rate with this integral over the measurement."""
    times = np.arange(FRAMES) * DT
    shape = np.maximum(times, DT / 2) ** exponent
    prefactor = (1 - CONSTANT) * integral / np.trapezoid(shape, dx=DT)
    return float(prefactor), exponent, float(CONSTANT * integral / times[-1])


def measurement(cell: Cell) -> Measurement:
    """What is measured in a cell."""
    values = power_law(cell.decay / Q**2, ALPHA)
    if cell.phase is not None:
        values += (*power_law(cell.phase / (0.5 * Q * GAP), BETA), PHI0)
    model = STATIC if cell.phase is None else LAMINAR_FLOW
    parameters = dict(zip(model.parameters, values, strict=True))
    phi = tuple(180.0 * k / cell.angles for k in range(cell.angles))
    return Measurement(parameters, Q, phi, GAP, DT, FRAMES)


def fit(data: hf.TwoTimeData, model: str, errors: str, mode: str) -> hf.Analysis:
    """A fit with default settings but for its errors and the scaling mode, on one thread."""
    given = {"gap": None if model == "static" else GAP, "threads": 1, "per_angle_mode": mode}
    if errors == WEIGHTED:
        return hf.fit(data, model, weighting="speckle", **given)
    return hf.fit(data, model, uncertainty=errors, **given)


def estimates(
    m: Measurement, contrasts: NDArray[np.float64], result: hf.FitResult
) -> dict[str, list[float | None]]:
    """Truth, value and standard error of each quantity; no standard error where none is finite."""
    transport, shear = m.rates(m.times).mean(axis=1)
    found = {"J": (transport, *result.mean_J())}
    if m.model.has_flow:
        phi0 = result.parameters["phi0"]
        found["γ̇"] = (shear, *result.mean_gamma_dot())
        found["phi0"] = (m.parameters["phi0"], phi0.value, phi0.stderr)
    found["contrast"] = (contrasts.mean(), *mean_contrast(result))
    if np.ptp(contrasts) > 0:
        for k, (truth, each) in enumerate(zip(contrasts, result.contrast, strict=True)):
            found[f"contrast[{k}]"] = (truth, each.value, each.stderr)
    return {
        name: [float(number) if math.isfinite(number) else None for number in numbers]
        for name, numbers in found.items()
    }


def mean_contrast(result: hf.FitResult) -> tuple[float, float]:
    """Mean over the angles, and its standard error; NaN where one is at a bound."""
    rows = [i for i, name in enumerate(result.names) if name.startswith("contrast[")]
    value = float(np.mean([e.value for e in result.contrast]))
    if any(result.undetermined[rows]) or any(e.at_bound for e in result.contrast):
        return value, math.nan
    return value, float(np.linalg.norm(result.root[rows].mean(axis=0)))


def run(case: tuple[str, float, int], settings: Sequence[str]) -> list[Row]:
    """Simulate a measurement and fit it, once for each setting: a row for each fit."""
    cell, photons, number = case
    m = measurement(CELLS[cell])
    place = [list(CELLS).index(cell), round(1e6 * photons), number]
    seed = int(np.random.SeedSequence(place).generate_state(1)[0])
    drawn = np.random.default_rng(seed).standard_normal(len(m.phi))
    contrasts = speckle_contrast(MODES, None) * (1 + CELLS[cell].spread * drawn)
    mode = "hierarchical" if CELLS[cell].spread else "auto"
    rows = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = {"pixels": PIXELS, "modes": 1 / contrasts, "mean_counts": photons}
        c2 = from_first_principles(m, particles=None, seed=seed, workers=1, **detector)
        data = hf.TwoTimeData(c2, np.array(m.phi), np.full(len(m.phi), m.q), m.dt)
        for uncertainty in settings:
            row: Row = {"cell": cell, "photons": photons, "number": number, "errors": uncertainty}
            began = time.perf_counter()
            try:
                result = fit(data, m.model.name, uncertainty, mode)
                row |= {
                    "success": result.success,
                    "message": result.info.message,
                    "scaling": result.objective.scaling.mode,
                    "estimates": estimates(m, contrasts, result),
                }
                if result.weighting is not None:
                    row["weighting"] = result.weighting.to_json()
            except Exception as error:  # noqa: BLE001 (whatever a fit raises is counted)
                row["exception"] = f"{type(error).__name__}: {error}"
            rows.append({**row, "seconds": time.perf_counter() - began})
    return rows


def pulls(rows: Iterable[Row], quantity: str) -> list[float]:
    """Of the rows in which the quantity is judged."""
    found = []
    for own in groups(rows, "cell", "photons", "errors").values():
        estimates = [row["estimates"][quantity] for row in own if has_estimate(row, quantity)]
        errors = [error or math.inf for _, _, error in estimates]
        if estimates and np.median(errors) < JUDGED * abs(estimates[0][0]):
            found += [(value - truth) / error for truth, value, error in estimates if error]
    return found


def has_estimate(row: Row, quantity: str) -> bool:
    """Whether a fit converged and has the quantity."""
    return bool(row.get("success")) and quantity in row.get("estimates", {})


@dataclass(frozen=True)
class Coverage:
    """What some pulls say: shares within `LEVELS`, rms, and the median size."""

    judged: int
    within: tuple[float, ...]
    rms: float
    median: float

    @classmethod
    def of(cls, pulls: Sequence[float]) -> Coverage | None:
        """None of no pulls."""
        if not pulls:
            return None
        size = np.abs(pulls)
        within = tuple(float(np.mean(size <= level)) for level in LEVELS)
        rms = float(np.sqrt(np.mean(size**2)))
        return cls(len(size), within, rms, float(np.median(size)))

    def __str__(self) -> str:
        low, high = (f"{100 * share:.0f}" for share in self.within)
        return f"{self.judged}: {low}/{high}, {self.rms:.2f} ({self.median:.2f})"

    def missed(self) -> list[str]:
        """Goals that these pulls do not meet."""
        values = dict(zip(GOALS, (*self.within, self.rms), strict=True))
        return [name for name, (low, high) in GOALS.items() if not low <= values[name] <= high]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    for row in (header, ["---"] * len(header), *rows):
        print("|", " | ".join(row), "|")


def groups(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by some of their entries: cells in their order, photons and settings sorted."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    cells = list(CELLS)
    for row in sorted(rows, key=lambda r: (cells.index(r["cell"]), r["photons"], r["errors"])):
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def print_cells(names: Iterable[str]) -> None:
    lines = []
    for name in names:
        cell = CELLS[name]
        phase = "static model" if cell.phase is None else f"{cell.phase:g}"
        lines.append([name, str(cell.angles), f"{cell.decay:g}", phase])
    table(["cell", "angles", "q² ∫J dt", "½ q h ∫γ̇ dt"], lines)


def print_each_cell(rows: list[Row]) -> None:
    lines = []
    for (cell, photons, errors), own in groups(rows, "cell", "photons", "errors").items():
        counts = [
            len(own),
            sum("exception" in row for row in own),
            sum(row.get("success") is False for row in own),
        ]
        found = [str(Coverage.of(pulls(own, quantity)) or "") for quantity in QUANTITIES]
        seconds = f"{np.median([row['seconds'] for row in own]):.1f}"
        lines.append([cell, f"{photons:g}", errors, *map(str, counts), *found, seconds])
    header = ["cell", "photons", "errors", "fits", "exceptions", "not converged"]
    table([*header, *QUANTITIES, "s"], lines)


def print_contrasts(rows: list[Row]) -> None:
    """Print pulls of single contrasts where they differ."""
    lines = []
    for (cell, photons, errors), own in groups(rows, "cell", "photons", "errors").items():
        names = [f"contrast[{k}]" for k in range(CELLS[cell].angles)]
        found = [pull for name in names for pull in pulls(own, name)]
        if found:
            lines.append([cell, f"{photons:g}", errors, str(Coverage.of(found))])
    if lines:
        print("\nSingle contrasts\n")
        table(["cell", "photons", "errors", "contrast of an angle"], lines)


def print_exceptions(rows: list[Row]) -> None:
    raised = Counter(row["exception"] for row in rows if "exception" in row)
    for said, times in raised.most_common():
        print(f"\n{times} × {said}")


def print_all_cells(rows: list[Row]) -> None:
    """Print what is judged of all cells by photon rate, and the goals that are missed."""
    lines = []
    for (photons, errors), own in sorted(groups(rows, "photons", "errors").items()):
        for name in (*QUANTITIES, "all"):
            names = QUANTITIES if name == "all" else (name,)
            asked = sum(each in row.get("estimates", {}) for row in own for each in names)
            line = [f"{photons:g}", errors, name]
            coverage = Coverage.of([pull for each in names for pull in pulls(own, each)])
            if coverage is None:
                lines.append([*line, f"0 of {asked}", "", "", "", "", ""])
                continue
            shares = [f"{100 * share:.0f}" for share in coverage.within]
            sizes = [f"{coverage.rms:.2f}", f"{coverage.median:.2f}"]
            missed = (", ".join(coverage.missed()) or "none") if name == "all" else ""
            lines.append([*line, f"{coverage.judged} of {asked}", *shares, *sizes, missed])
    header = ["photons", "errors", "quantity", "judged", "68 %", "95 %", "rms", "median"]
    table([*header, "goals missed"], lines)


def print_gains(rows: list[Row]) -> None:
    """Print rms errors of weighted fits over those of least squares, on the same measurements."""
    lines = []
    for (cell, photons), own in groups(rows, "cell", "photons").items():
        fits = {(row["errors"], row["number"]): row for row in own if row.get("success")}
        both = [
            (fits["speckle", number], fits[WEIGHTED, number])
            for errors, number in fits
            if errors == WEIGHTED and ("speckle", number) in fits
        ]
        used = [pair for pair in both if pair[1]["weighting"]["used"]]
        if not used:
            continue
        p = np.array([weighted["weighting"]["p_value"] for _, weighted in used])
        rejected = "/".join(f"{100 * np.mean(p < level):.0f}" for level in SIGNIFICANT)
        ratios = [gain(used, quantity) for quantity in QUANTITIES]
        of_weighted = [weighted for _, weighted in used]
        held = Coverage.of([each for name in QUANTITIES for each in pulls(of_weighted, name)])
        number = f"{len(used)} of {len(both)}"
        lines.append([cell, f"{photons:g}", number, *ratios, str(held or ""), rejected])
    levels = "/".join(f"{level:g}" for level in SIGNIFICANT)
    header = ["cell", "photons", "weighted", *QUANTITIES, "weighted pulls", f"p < {levels}, %"]
    table(header, lines)


def gain(pairs: Sequence[tuple[Row, Row]], quantity: str) -> str:
    """Rms error of the second fit of each pair over that of the first, where both are judged.

    The median ratio of their standard errors, and their number, follow.
    """
    deviations, ratios = [], []
    if not all(pulls(of_pairs, quantity) for of_pairs in zip(*pairs, strict=True)):
        return ""
    for pair in pairs:
        found = [row["estimates"].get(quantity, (None,) * 3) for row in pair]
        if all(error for _, _, error in found):
            deviations.append([value - truth for truth, value, _ in found])
            ratios.append(found[1][2] / found[0][2])
    if not deviations:
        return ""
    first, second = np.sqrt(np.mean(np.square(deviations), axis=0))
    return f"{second / first:.2f}, {np.median(ratios):.2f} ({len(deviations)})"


def report(rows: list[Row]) -> None:
    """Print the cells, what each gave, exceptions, and all together against the goals."""
    print_cells(cell for (cell,) in groups(rows, "cell"))
    print("\njudged: within 1 / 1.96 standard errors in %, rms pull (median size)\n")
    print_each_cell(rows)
    print_contrasts(rows)
    print_exceptions(rows)
    goals = ", ".join(f"{name}: {low:g} to {high:g}" for name, (low, high) in GOALS.items())
    print(f"\nAll cells; goals for all quantities together: {goals}\n")
    print_all_cells(rows)
    if any(row["errors"] == WEIGHTED for row in rows):
        print("\nWeighted over least squares: rms errors, error bars (fits with both judged)\n")
        print_gains(rows)


def measure(options: argparse.Namespace) -> list[Row]:
    """Run all cases; rows go to the file of ``--json`` as they come."""
    numbers = range(options.first, options.first + options.measurements)
    # Cells take turns: a run that is stopped leaves rows of all of them.
    cases = [
        (cell, photons, number)
        for number in numbers
        for cell, photons in product(options.cells, options.photons)
    ]
    settings = [*options.uncertainty, *[WEIGHTED] * (options.weighting == "speckle")]
    context = multiprocessing.get_context("spawn")
    rows: list[Row] = []
    with ProcessPoolExecutor(min(options.workers, len(cases)), mp_context=context) as pool:
        futures = [pool.submit(run, case, settings) for case in cases]
        for done, future in enumerate(as_completed(futures), 1):
            rows += future.result()
            if options.json:
                with options.json.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in future.result())
            print(f"\r{done}/{len(cases)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--measurements", type=int, default=100, help="in each cell and photon rate"
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    parser.add_argument("--cells", nargs="+", default=USUAL, choices=CELLS)
    parser.add_argument("--photons", nargs="+", type=float, default=list(PHOTONS))
    parser.add_argument("--uncertainty", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--weighting", choices=["none", "speckle"], default="none")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} measurements")
    parser.add_argument("--json", type=Path, help="where all rows go, one a line")
    parser.add_argument("--read", type=Path, nargs="+", help="print the tables of such files")
    options = parser.parse_args()
    if options.quick:
        options.measurements = QUICK
    if options.json and options.json.exists():
        parser.error(f"{options.json} exists")
    if options.read:
        lines = [line for path in options.read for line in path.read_text("utf-8").splitlines()]
        rows = list(map(json.loads, lines))
    else:
        rows = measure(options)
    report(rows)


if __name__ == "__main__":
    main()
