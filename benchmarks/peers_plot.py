"""Time and memory of homodyne, xpcsjax and homodyne_fit against the number of points.

    .venv/bin/python benchmarks/peers_plot.py RUNS.json [RUNS.json ...] --output FILE.svg

RUNS.json is what `benchmarks/peers.py --output` writes, one seed each. A filled symbol is a fit
whose J, averaged over the measurement, is within four of its own standard errors of the truth, and
whose shear rate is, where the programs fit the same form; an open one is further off, or has no
answer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

# Colours that also differ in lightness and with colour-blindness (Okabe and Ito).
STYLES = {"homodyne": ("#d55e00", "s"), "xpcsjax": ("#009e73", "^"), "ours": ("#0072b2", "o")}
RIGHT = 4.0


def is_right(run: dict[str, Any], names: tuple[str, ...]) -> bool:
    """Whether the averages are within `RIGHT` standard errors of the truth."""
    for name in names:
        value, error = run.get(name, (np.nan, np.nan))
        if not abs(value - run["true"][name]) <= RIGHT * error:
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--shear", choices=("documented", "homodyne"), default="homodyne")
    options = parser.parse_args()
    runs = [run for path in options.runs for run in json.loads(path.read_text("utf-8"))]
    names = ("mean_J",) + (("mean_gamma_dot",) if options.shear == "homodyne" else ())
    figure = Figure(figsize=(9.2, 4.0), layout="constrained")
    panels = figure.subplots(1, 2)
    for program, (color, marker) in STYLES.items():
        for mode, line in (("auto", "-"), ("individual", "--")):
            chosen = [r for r in runs if (r["program"], r["mode"]) == (program, mode)]
            chosen.sort(key=lambda run: run["points"])
            if not chosen:
                continue
            points = [run["points"] for run in chosen]
            label = f"{'homodyne_fit' if program == 'ours' else program}, {mode}"
            for axes, key in zip(panels, ("seconds", "peak_mb"), strict=True):
                values = [run[key] for run in chosen]
                axes.plot(points, values, line, color=color, linewidth=1.2)
                for n, value, run in zip(points, values, chosen, strict=True):
                    face = color if is_right(run, names) else "white"
                    axes.plot(n, value, marker, color=color, markerfacecolor=face, markersize=6)
                axes.plot([], [], line, color=color, marker=marker, label=label)
    for axes, label in zip(panels, ("whole process (s)", "peak memory (MB)"), strict=True):
        axes.set(xscale="log", yscale="log", xlabel="points t₁ < t₂", ylabel=label)
        axes.grid(visible=True, color="#e4e4e4", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(options.output, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
