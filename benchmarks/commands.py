"""What users type, timed: whole commands and Python calls of all programs in one run.

Every program fits one simulated APS-U file from the same start, 50 % off the truth, in a process
of its own. A command is what its documents say: `homodyne_fit --config`, `homodyne --config
--method nlsq`, `xpcsjax --config`, each with the configuration of `benchmarks/peers.py` and its
default output (ours a report, xpcsjax its plots). A call loads and fits in Python and writes
nothing; SciPy and NLSQ have all points in memory (`benchmarks/in_memory.py`) and contrast and
offset of each angle. "cold" finds no compiled code, "again" what the run before has left. The
unit of time is `python -c "import jax; jax.numpy.zeros(1)"` of the same environment as
homodyne_fit, run before each repetition (the median), so that machines can be compared.

The time of a repetition is wall time, the least of the repetitions counts. `off by` is the larger
distance from the truth of the means of J and γ̇ in the standard errors that the program states; a
fit is right below 4.

    .venv/bin/python benchmarks/commands.py [--frames 1001] [--angles 3] [--repeats 3]
        [--only homodyne_fit scipy ...] [--timeout 1200]
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from peers import (
    DT,
    GAP,
    IN_MEMORY,
    NOISE,
    PEERS,
    TRUTH,
    Geometry,
    Q,
    Simulated,
    configuration,
    run_peer,
    simulate,
    watched,
)

UNIT = "import jax; jax.numpy.zeros(1)"
SHEAR = "homodyne"  # the form that all programs can fit
RIGHT = 4.0  # of its own standard errors
NAMES = {"ours": "homodyne_fit"}
# The peers' modes are named where they are not what `auto` takes; theirs of `auto` miss the truth
# at these sizes.
CALLS = (
    ("ours", "auto"),
    ("homodyne", "auto"),
    ("homodyne", "individual"),
    ("xpcsjax", "auto"),
    ("scipy", "individual"),
    ("nlsq", "individual"),
)
COMMANDS = {
    "ours": (Path(sys.executable).parent / "homodyne_fit", "--config", "config.yaml"),
    "homodyne": (PEERS / "homodyne", "--config", "config.yaml", "--method", "nlsq"),
    "xpcsjax": (PEERS / "xpcsjax", "--config", "config.yaml", "--output", "results"),
}

Run = dict[str, Any]
Pairs = list[tuple[Run, Run]]  # a cold run and the same again, of each repetition
# The last column of a table.
NOTE = {"command": "exit status", "call": "off by, σ"}


class Fits:
    """One simulated file, and folders for the runs on it."""

    def __init__(self, folder: Path, truth: Simulated, timeout: float) -> None:
        self.folder, self.truth, self.timeout = folder, truth, timeout
        self.start = {name: 1.5 * value for name, value in TRUTH.items()}
        self.runs = 0

    def new_folder(self) -> Path:
        self.runs += 1
        return self.folder / str(self.runs)

    def call(self, program: str, mode: str) -> Run:
        """A fit by Python calls."""
        return run_peer(
            program,
            mode,
            self.new_folder(),
            self.truth.path,
            self.truth.geometry,
            self.start,
            self.timeout,
            shear=SHEAR,
        )

    def command(self, program: str, mode: str) -> Run:
        """A fit by the command of a program; its answer is not looked at, but its exit status."""
        folder = self.new_folder()
        folder.mkdir()
        data = folder / "data.h5"
        data.symlink_to(self.truth.path.resolve())
        settings = configuration(
            program, mode, folder, data, self.truth.geometry, self.start, SHEAR
        )
        (folder / "config.yaml").write_text(yaml.safe_dump(settings), "utf-8")
        return watched([str(part) for part in COMMANDS[program]], folder, self.timeout)


def unit(folder: Path) -> float:
    """Seconds of the unit."""
    return float(watched([sys.executable, "-c", UNIT], folder, math.inf)["seconds"])


def cold_and_again(fit: Callable[[], Run], cache: Path) -> tuple[Run, Run]:
    """A fit with an empty cache of compiled code, and the same again."""
    cache.mkdir()
    os.environ["XDG_CACHE_HOME"] = str(cache)
    return fit(), fit()


def off_by(run: Run, truth: Simulated) -> str:
    """The larger distance from the truth, in standard errors of the program."""
    if "mean_J" not in run:
        return run.get("message", "") if run["finished"] else "not finished"
    pulls = [
        abs(run[name][0] - truth.mean[name]) / run[name][1] for name in ("mean_J", "mean_gamma_dot")
    ]
    worst = max(pulls)
    return f"{worst:.1f}" + ("" if worst < RIGHT else ", wrong")


def statuses(pairs: Pairs) -> str:
    """Exit statuses of the commands."""
    return ", ".join(sorted({str(run["status"]) for pair in pairs for run in pair}))


def best(runs: Sequence[Run]) -> float:
    """Seconds of the fastest."""
    return min(run["seconds"] for run in runs)


def table(
    title: str, fits: dict[tuple[str, str], Pairs], unit: float, note: Callable[[Pairs], str]
) -> None:
    """Print cold and again in seconds and units, and again over ours."""
    times = "cold, s | in units | again, s | in units | over ours"
    print(f"| {title} | {times} | peak, MB | {NOTE[title]} |")
    print("|" + "---|" * 8)
    ours = next((best([again for _, again in fits[key]]) for key in fits if key[0] == "ours"), None)
    for (program, mode), pairs in fits.items():
        cold, again = (best(runs) for runs in zip(*pairs, strict=True))
        everything = [run for pair in pairs for run in pair]
        more = "" if all(run["finished"] for run in everything) else "> "
        fields = [f"{NAMES.get(program, program)}, {mode}"]
        fields += [f"{more}{cold:.2f}", f"{more}{cold / unit:.1f}"]
        fields += [f"{more}{again:.2f}", f"{more}{again / unit:.1f}"]
        fields += [f"{more}{again / ours:.1f}" if ours else ""]
        fields += [f"{max(run['peak_mb'] for run in everything):.0f}", note(pairs)]
        print("| " + " | ".join(fields) + " |")
    print()


def main() -> None:
    """Simulate, run everything, print two tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=1001)
    parser.add_argument("--angles", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="of ours; the others run once")
    programs = [*COMMANDS, *IN_MEMORY]
    parser.add_argument("--only", nargs="+", choices=programs, default=programs)
    parser.add_argument("--timeout", type=float, default=1200.0, help="seconds for each run")
    options = parser.parse_args()
    phi = tuple(180 * k / options.angles for k in range(options.angles))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        truth = simulate(
            folder / "data.h5",
            Geometry(Q, GAP, DT, options.frames, phi),
            TRUTH,
            contrast_spread=0.1,
            offset_spread=0.02,
            shear=SHEAR,
        )
        fits = Fits(folder, truth, options.timeout)
        unit(folder)  # reads what the others then find in memory
        units: list[float] = []

        def repeated(fit: Callable[[], Run], program: str) -> Pairs:
            pairs: Pairs = []
            for _ in range(options.repeats if program == "ours" else 1):
                units.append(unit(folder))
                pairs.append(cold_and_again(fit, fits.new_folder()))
            return pairs

        commands = {
            (program, mode): repeated(lambda p=program, m=mode: fits.command(p, m), program)
            for program, mode in CALLS
            if program in COMMANDS and program in options.only
        }
        calls = {
            (program, mode): repeated(lambda p=program, m=mode: fits.call(p, m), program)
            for program, mode in CALLS
            if program in options.only
        }
        seconds = statistics.median(units)
        print(f"{options.angles} angles × {options.frames} frames, noise {NOISE:g};")
        print(f"the unit, `{UNIT}`: {seconds:.2f} s ({min(units):.2f} to {max(units):.2f})\n")
        table("command", commands, seconds, statuses)
        table("call", calls, seconds, lambda pairs: off_by(pairs[-1][1], truth))


if __name__ == "__main__":
    main()
