"""Fits without start or bounds, of random truths in a wide box, against fits from the truth.

Each truth is a sample, a geometry and a camera drawn at random: 1 to 23 angles, evenly spread, at
random or all at multiples of 90°; 64 to 200 frames; contrasts of 0.02 to 0.5 that differ by up to
20 % from angle to angle, offsets by up to 2 %; white noise of 1e-4 to 0.2. Regimes say how far the
matrices decay. The data come from the formula in NumPy, written here once more.

Every truth is fitted with default settings and no start, and again from the true values without a
search; every third one also in the mode `individual`, where the costs of the two fits compare as
they are. In the mode `auto` the two may end with other ways to treat contrast and offset.
χ² therefore is that of the physical parameters found, contrast and offset of each angle free.

Counted: exceptions of either fit; fits that say they did not converge; wrong basins, whose χ² is
more than 10 above that of the fit from the truth or of the truth itself; results whose cost is not
that of the values they report, by more than 1 in χ²; pulls (deviation over standard error, where
this is finite) beyond 5 of J and γ̇ at mid-measurement and of phi0.

    .venv/bin/python benchmarks/random_truths.py [--truths 300] [--first 0] [--regime lobes ...]
        [--only lobes:17 fast:3:individual] [--json rows.json] [--compare earlier.json]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Where truths are drawn from.
BOX = {
    "D0": (100.0, 1e5),
    "alpha": (-2.0, 2.0),
    "D_offset": (-1e5, 1e5),
    "gamma_dot_t0": (1e-6, 0.5),
    "beta": (-2.0, 2.0),
    "gamma_dot_t_offset": (-0.1, 0.1),
    "phi0": (-10.0, 10.0),
}
CONTRAST_LIMITS, OFFSET_LIMITS, RATE_FLOOR = (0.0, 1.0), (0.5, 1.5), 1e-10
# χ² above that of the fit from the truth, pulls, and differences between the χ² at the values
# reported and the one reported, that count as failures.
EXCESS, PULL, MISREPORTED = 10.0, 5.0, 1.0
# One truth in so many is fitted in the mode `individual`, too.
INDIVIDUAL = 3


@dataclass(frozen=True)
class Regime:
    """Ranges of q² J T and ½ q h γ̇ T at mid-measurement (T: duration), contrast and noise."""

    decay: tuple[float, float]
    phase: tuple[float, float]
    contrast: tuple[float, float] = (0.02, 0.5)
    noise: tuple[float, float] = (1e-4, 0.2)
    most_angles: int = 23
    most_frames: int = 200
    per_frame: bool = False  # `decay` is q² J dt


REGIMES = {
    "ordinary": Regime((0.5, 5.0), (1.0, 8.0)),
    "lobes": Regime((0.05, 1.0), (15.0, 80.0)),
    "fast": Regime((0.1, 1.0), (1.0, 20.0), per_frame=True),
    "slow": Regime((0.01, 0.2), (0.05, 0.8)),
    "weak": Regime((0.3, 5.0), (0.3, 5.0), (0.02, 0.06), (0.1, 0.2), 6, 100),
}


@dataclass(frozen=True)
class Truth:
    """What is measured and how; contrast, offset and phi hold a number for each angle."""

    parameters: dict[str, float]
    phi: Array
    q: float
    gap: float
    dt: float
    frames: int
    contrast: Array
    offset: Array
    noise: float
    angles: str

    @property
    def tau(self) -> float:
        """Middle of the measurement, seconds."""
        return (self.frames - 1) * self.dt / 2


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def draw(regime: str, seed: int) -> Truth:
    """The truth of a seed."""
    r = REGIMES[regime]
    rng = np.random.default_rng([seed, list(REGIMES).index(regime)])
    kind, phi = draw_angles(rng, r.most_angles)
    frames = round(log_uniform(rng, 64, r.most_frames))
    contrast = log_uniform(rng, *r.contrast)
    spreads = [rng.choice([0.0, rng.uniform(0, most)]) for most in (0.2, 0.02)]
    contrasts = contrast * (1 + spreads[0] * rng.normal(size=len(phi)))
    offsets = rng.uniform(0.9, 1.1) * (1 + spreads[1] * rng.normal(size=len(phi)))
    noise = log_uniform(rng, *r.noise)
    while True:
        q, gap = log_uniform(rng, 2e-3, 2e-2), log_uniform(rng, 5e5, 1e7)
        dt = log_uniform(rng, 0.01, 1.0)
        duration = (frames - 1) * dt
        transport = log_uniform(rng, *r.decay) / (q**2 * (dt if r.per_frame else duration))
        shear = log_uniform(rng, *r.phase) / (0.5 * q * gap * duration)
        values = [
            *draw_law(rng, transport, dt, frames),
            *draw_law(rng, shear, dt, frames),
            rng.uniform(*BOX["phi0"]),
        ]
        parameters = {name: float(value) for name, value in zip(BOX, values, strict=True)}
        if all(low <= parameters[name] <= high for name, (low, high) in BOX.items()):
            break
    return Truth(
        parameters,
        phi,
        q,
        gap,
        dt,
        frames,
        np.clip(contrasts, *CONTRAST_LIMITS),
        np.clip(offsets, *OFFSET_LIMITS),
        noise,
        kind,
    )


def draw_angles(rng: np.random.Generator, most: int) -> tuple[str, Array]:
    """Kind and angles (K,) in degrees."""
    kind = str(rng.choice(["over 180", "over 360", "random", "at 90"], p=[0.35, 0.2, 0.3, 0.15]))
    if kind == "at 90":
        turns = rng.permutation(4)[: rng.integers(1, 5)]
        return kind, np.sort(90.0 * turns)
    k = round(log_uniform(rng, 0.6, most + 0.4))
    if kind == "random":
        return kind, np.sort(rng.uniform(-180, 180, k))
    return kind, np.arange(k) * (180.0 if kind == "over 180" else 360.0) / k


def draw_law(rng: np.random.Generator, middle: float, dt: float, frames: int) -> Array:
    """Prefactor, exponent and constant of a rate that is `middle` at mid-measurement.

    Without a constant part, with one of the same sign, or with one of the other sign; of these,
    some rates reach zero within the measurement.
    """
    span = 2.0 if rng.random() < 0.3 else 1.0
    kind = rng.choice(3)
    share = (0.0, rng.uniform(0, 0.95), -log_uniform(rng, 0.05, 3.0))[kind]
    may_vanish = rng.random() < 0.1
    tau = (frames - 1) * dt / 2
    while True:
        exponent = rng.uniform(-span, span)
        law = np.array([(1 - share) * middle / tau**exponent, exponent, share * middle])
        if may_vanish or rate(law, np.arange(frames) * dt, dt).min() > RATE_FLOOR:
            return law
        share *= 0.9


def rate(law: Array, times: Array, dt: float) -> Array:
    """A power law and a constant, at times (n,), not below the floor."""
    return np.maximum(law[0] * np.maximum(times, dt / 2) ** law[1] + law[2], RATE_FLOOR)


def decays(truth: Truth, values: Array) -> Array:
    """f(t1, t2) of every angle at parameters (7,): (K, n, n)."""
    times = np.arange(truth.frames) * truth.dt
    integrals = []
    for law in (values[:3], values[3:6]):
        r = rate(law, times, truth.dt)
        steps = (r[1:] + r[:-1]) / 2 * truth.dt
        integrals.append(np.concatenate([[0.0], np.cumsum(steps)]))
    ds, dg = (np.abs(s[None, :] - s[:, None]) for s in integrals)
    cosine = np.cos(np.deg2rad(values[6] - truth.phi))[:, None, None]
    x = 0.5 * truth.q * truth.gap * cosine * dg
    return np.exp(-(truth.q**2) * ds) * np.sinc(x / np.pi) ** 2


def measured(truth: Truth, seed: int) -> Array:
    """Matrices (K, n, n) with symmetric white noise."""
    rng = np.random.default_rng([seed, 1000])
    f = decays(truth, np.array(list(truth.parameters.values())))
    white = np.triu(rng.normal(0.0, truth.noise, f.shape), 1)
    clean = truth.offset[:, None, None] + truth.contrast[:, None, None] * f
    return clean + white + white.swapaxes(1, 2)


def sum_of_squares(f: Array, y: Array) -> float:
    """Least sum of (offset + contrast f - y)² of one angle, both within their limits."""
    fc, yc = f - f.mean(), y - y.mean()
    ff, fy = float(fc @ fc), float(fc @ yc)

    def best_offset(contrast: float) -> float:
        return float(np.clip(y.mean() - contrast * f.mean(), *OFFSET_LIMITS))

    def best_contrast(offset: float) -> float:
        return float(np.clip(f @ (y - offset) / (f @ f or 1.0), *CONTRAST_LIMITS))

    inner = fy / ff if ff > 0 else 0.0
    free = y.mean() - inner * f.mean()
    within = CONTRAST_LIMITS[0] <= inner <= CONTRAST_LIMITS[1]
    if within and OFFSET_LIMITS[0] <= free <= OFFSET_LIMITS[1]:
        pairs = [(inner, free)]
    else:  # convex in two numbers: the minimum is on an edge
        pairs = [(c, best_offset(c)) for c in CONTRAST_LIMITS]
        pairs += [(best_contrast(o), o) for o in OFFSET_LIMITS]
    # About the means, so that a small sum is not a difference of large ones.
    return min(
        float(np.sum((c * fc - yc) ** 2)) + y.size * (o + c * f.mean() - y.mean()) ** 2
        for c, o in pairs
    )


def chi2(truth: Truth, c2: Array, values: Array) -> float:
    """χ² at physical parameters (7,), contrast and offset of each angle at their best."""
    rows, columns = np.triu_indices(truth.frames, 1)
    total = sum(
        sum_of_squares(f[rows, columns], y[rows, columns])
        for f, y in zip(decays(truth, values), c2, strict=True)
    )
    return total / truth.noise**2


def chi2_as_reported(truth: Truth, c2: Array, result: Any) -> float:
    """χ² at all values of a result, its contrasts and offsets included."""
    rows, columns = np.triu_indices(truth.frames, 1)
    total = 0.0
    for k, f in enumerate(decays(truth, result.values)):
        model = result.offset[k].value + result.contrast[k].value * f
        total += float(np.sum((model - c2[k])[rows, columns] ** 2))
    return total / truth.noise**2


def directions(truth: Truth) -> Array:
    """Values of phi0 that give the same data: turned by 180°, and mirrored where angles allow."""
    phi0, a = truth.parameters["phi0"], truth.phi[0]
    same = [phi0]
    if np.all(np.abs((truth.phi - a + 45) % 90 - 45) < 1e-9):
        same.append(2 * a - phi0)
    return np.array([s + 180 * turn for s in same for turn in range(-4, 5)])


def pulls(truth: Truth, result: Any) -> dict[str, float | None]:
    """Deviations over standard errors; None where there is no finite one."""
    law = np.array(list(truth.parameters.values()))
    at = np.array([truth.tau])
    phi0 = result.parameters["phi0"]
    found = {"phi0": (float(np.min(np.abs(phi0.value - directions(truth)))), phi0.stderr)}
    for name, curve, part in (("J", result.J, law[:3]), ("γ̇", result.gamma_dot, law[3:6])):
        (value,), (stderr,) = curve(at)
        found[name] = (float(abs(value - rate(part, at, truth.dt)[0])), float(stderr))
    return {
        name: deviation / stderr if np.isfinite(stderr) and stderr > 0 else None
        for name, (deviation, stderr) in found.items()
    }


def fitted(truth: Truth, c2: Array, **how: Any) -> dict[str, Any]:
    """A fit, or its exception, as numbers and words."""
    import homodyne_fit as hf

    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            data = hf.TwoTimeData(c2, truth.phi, truth.q, truth.dt)
            result = hf.fit(
                data,
                "laminar_flow",
                gap=truth.gap,
                threads=1,
                # The costs of two fits compare only if they are of the same form.
                constant_parts="free",
                units_confirmed=("gap", "q", "dt", "phi"),
                **how,
            )
            scaling = result.objective.scaling
            row = {
                "success": result.success,
                "message": result.info.message,
                "values": result.values.tolist(),
                "stderr": [e.stderr for e in result.parameters.values()],
                "at_bound": [name for name, e in result.parameters.items() if e.at_bound]
                + ["contrast"] * any(e.at_bound for e in result.contrast)
                + ["offset"] * any(e.at_bound for e in result.offset),
                "cost": result.cost,
                "scaling": [scaling.mode, *scaling.penalty_weights],
                "passes": result.info.passes,
                "chi2": chi2(truth, c2, result.values),
                "chi2_reported": 2 * result.cost / truth.noise**2,
                "chi2_as_reported": chi2_as_reported(truth, c2, result),
                "pulls": pulls(truth, result),
            }
        except Exception as error:  # noqa: BLE001 (whatever a fit raises is what this counts)
            row = {
                "exception": f"{type(error).__name__}: {error}",
                "traceback": traceback.format_exc(),
            }
    row["warnings"] = sorted({f"{w.category.__name__}: {w.message}" for w in caught})
    return {**row, "seconds": time.perf_counter() - began}


def run(case: tuple[str, int, str]) -> dict[str, Any]:
    """Both fits of a case (regime, seed, mode)."""
    regime, seed, mode = case
    truth = draw(regime, seed)
    c2 = measured(truth, seed)
    values = np.array(list(truth.parameters.values()))
    return {
        "case": f"{regime}:{seed}:{mode}",
        "truth": truth.parameters,
        "angles": truth.angles,
        "K": len(truth.phi),
        "frames": truth.frames,
        "noise": truth.noise,
        "contrast": float(truth.contrast.mean()),
        "n_points": len(truth.phi) * truth.frames * (truth.frames - 1) // 2,
        "chi2": chi2(truth, c2, values),
        "fit": fitted(truth, c2, per_angle_mode=mode),
        "from_truth": fitted(
            truth, c2, per_angle_mode=mode, multi_start=False, initial=truth.parameters
        ),
    }


def excess(row: dict[str, Any]) -> float:
    """χ² above that of the fit from the truth, or of the truth itself where that is better."""
    best = min(row["chi2"], row["from_truth"].get("chi2", math.inf))
    return row["fit"].get("chi2", math.nan) - best


def reported_excess(row: dict[str, Any]) -> float:
    """Above the fit from the truth in the cost reported; NaN where costs are of other kinds."""
    if "exception" in row["fit"] or "exception" in row["from_truth"]:
        return math.nan
    (mode, *weights), (other, *others) = row["fit"]["scaling"], row["from_truth"]["scaling"]
    if mode != other or not np.allclose(weights, others, rtol=1e-6, atol=0):
        return math.nan
    return 2 * (row["fit"]["cost"] - row["from_truth"]["cost"]) / row["noise"] ** 2


def misreported(fit: dict[str, Any]) -> float:
    """χ² at all reported values, above the reported one."""
    return fit.get("chi2_as_reported", math.nan) - fit.get("chi2_reported", math.nan)


def large_pulls(row: dict[str, Any]) -> dict[str, float]:
    found = row["fit"].get("pulls", {})
    return {name: pull for name, pull in found.items() if pull is not None and pull > PULL}


# What is counted, by name.
FAILURES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "exceptions": lambda row: "exception" in row["fit"],
    "exceptions from truth": lambda row: "exception" in row["from_truth"],
    "not converged": lambda row: row["fit"].get("success") is False,
    "from truth not conv.": lambda row: row["from_truth"].get("success") is False,
    "wrong basin": lambda row: excess(row) > EXCESS,
    "reported cost above": lambda row: reported_excess(row) > EXCESS,
    "cost not of the values": lambda row: abs(misreported(row["fit"])) > MISREPORTED,
    "same, from truth": lambda row: abs(misreported(row["from_truth"])) > MISREPORTED,
    "better than from truth": lambda row: (
        row["fit"].get("chi2", math.inf) < row["from_truth"].get("chi2", -math.inf) - EXCESS
    ),
    "pull J": lambda row: "J" in large_pulls(row),
    "pull γ̇": lambda row: "γ̇" in large_pulls(row),
    "pull phi0": lambda row: "phi0" in large_pulls(row),
    "warnings": lambda row: bool(row["fit"]["warnings"]),
}
# Of these, what is not a failure of the fit without a start.
NO_FAILURE = {"better than from truth", "from truth not conv.", "same, from truth"}


def failures(row: dict[str, Any]) -> list[str]:
    return [name for name, holds in FAILURES.items() if holds(row) and name not in NO_FAILURE]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    for row in (header, ["---"] * len(header), *rows):
        print("|", " | ".join(row), "|")


def groups(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by regime and mode, then all."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        regime, _, mode = row["case"].split(":")
        found.setdefault(f"{regime}, {mode}", []).append(row)
    return {**dict(sorted(found.items())), "all": rows}


def report(rows: list[dict[str, Any]]) -> None:
    """Counts by regime, and the failing cases."""
    lines = []
    for name, own in groups(rows).items():
        counts = [sum(map(holds, own)) for holds in FAILURES.values()]
        seconds = [[row[which]["seconds"] for row in own] for which in ("fit", "from_truth")]
        times = [f"{np.median(s):.2f} / {np.max(s):.1f}" for s in seconds]
        lines.append([name, str(len(own)), *(str(c or "") for c in counts), *times])
    table(["regime, mode", "fits", *FAILURES, "s: median / most", "s from truth"], lines)
    print("\nFailing cases (--only CASE):\n")
    lines = []
    for row in sorted(rows, key=lambda row: -np.nan_to_num(excess(row))):
        if names := failures(row):
            fit = row["fit"]
            said = fit.get("exception") or fit["message"]
            large = " ".join(f"{n} {p:.3g}" for n, p in large_pulls(row).items())
            lines.append(
                [
                    row["case"],
                    f"{row['K']} × {row['frames']}, {row['angles']}",
                    f"{row['contrast']:.2g}/{row['noise']:.2g}",
                    ", ".join(n for n in names if not n.startswith("pull")),
                    f"{excess(row):.4g}",
                    f"{reported_excess(row):.4g}",
                    f"{misreported(fit):.3g}",
                    " ".join(row[which].get("scaling", "–")[0] for which in ("fit", "from_truth")),
                    large,
                    " ".join(fit.get("at_bound", [])),
                    said.replace("\n", " ")[:110],
                ]
            )
    table(
        [
            "case",
            "angles × frames",
            "contrast/noise",
            "what",
            "Δχ²",
            "Δχ² reported",
            "χ² of values − reported",
            "scaling: fit, from truth",
            "pulls",
            "at bounds",
            "message",
        ],
        lines,
    )


def compare(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    """Counts of the cases that both have, and what changed."""
    earlier = {row["case"]: row for row in before}
    pairs = [(earlier[row["case"]], row) for row in after if row["case"] in earlier]
    print(f"\n{len(pairs)} cases before and after:\n")
    lines = []
    for name, holds in FAILURES.items():
        was, now = (sum(holds(pair[i]) for pair in pairs) for i in (0, 1))
        changed = [(b["case"], holds(b), holds(a)) for b, a in pairs if holds(b) != holds(a)]
        new = " ".join(case for case, _, is_now in changed if is_now)
        gone = sum(1 for _, was_then, _ in changed if was_then)
        lines.append([name, str(was), str(now), str(gone), new])
    table(["", "before", "after", "gone", "new"], lines)
    ratios = [a["fit"]["seconds"] / b["fit"]["seconds"] for b, a in pairs]
    passes = [
        a["fit"]["passes"] / b["fit"]["passes"]
        for b, a in pairs
        if "passes" in a["fit"] and "passes" in b["fit"]
    ]
    print(
        f"\nTime after / before: median {np.median(ratios):.2f}, most {np.max(ratios):.2f}; "
        f"passes: median {np.median(passes):.2f}, most {np.max(passes):.2f}"
    )


def chosen(options: argparse.Namespace) -> list[tuple[str, int, str]]:
    """Cases: (regime, seed, mode)."""
    if options.only:
        cases = []
        for case in options.only:
            regime, seed, *mode = case.split(":")
            cases += [(regime, int(seed), m) for m in mode or modes(int(seed))]
        return cases
    each = -(-options.truths // len(options.regime))
    return [
        (regime, seed, mode)
        for seed in range(options.first, options.first + each)
        for regime in options.regime
        for mode in ([options.mode] if options.mode else modes(seed))
    ]


def modes(seed: int) -> list[str]:
    return ["auto", "individual"] if seed % INDIVIDUAL == 0 else ["auto"]


def main() -> None:
    """Run the cases and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--truths", type=int, default=300, help="over all regimes")
    parser.add_argument("--first", type=int, default=0, help="first seed of each regime")
    parser.add_argument("--regime", nargs="*", default=list(REGIMES), choices=REGIMES)
    parser.add_argument("--mode", help="one mode for all truths")
    parser.add_argument("--only", nargs="*", metavar="REGIME:SEED[:MODE]")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="all rows")
    parser.add_argument("--read", type=Path, help="print the tables of such a file")
    parser.add_argument("--compare", type=Path, help="rows of an earlier run")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if options.read:
        rows = json.loads(options.read.read_text("utf-8"))
    else:
        cases = chosen(options)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(options.workers, len(cases)), mp_context=context) as pool:
            for done, future in enumerate(as_completed([pool.submit(run, c) for c in cases]), 1):
                rows.append(future.result())
                print(f"\r{done}/{len(cases)}", end="", file=sys.stderr, flush=True)
        rows.sort(key=lambda row: row["case"])
    if options.json:
        options.json.write_text(json.dumps(rows), "utf-8")
    report(rows)
    if options.only:
        for row in rows:
            print("\n" + json.dumps({**row, "fit": {**row["fit"]}}, indent=1, ensure_ascii=False))
            print(row["fit"].get("traceback", ""))
    if options.compare:
        compare(json.loads(options.compare.read_text("utf-8")), rows)


if __name__ == "__main__":
    main()
