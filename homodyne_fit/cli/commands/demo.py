"""Simulate a measurement from first principles, fit it, and compare with the truth."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from homodyne_fit.atomic import replacing
from homodyne_fit.cli.commands.fit import Outputs, fit_config
from homodyne_fit.cli.options import PARAMETERS
from homodyne_fit.cli.reporter import Reporter, reporter_of
from homodyne_fit.config import load_config
from homodyne_fit.config.template import configuration
from homodyne_fit.fitting.result import FitResult
from homodyne_fit.progress import Step
from homodyne_fit.results.folder import prepare_folder
from homodyne_fit.simulation.measurement import (
    Measurement,
    from_first_principles,
    speckle_contrast,
    write_measurement,
)

PHI = tuple(22.5 * k for k in range(8))

# Times at which rates are compared.
TIMES = 10


def run(args: argparse.Namespace) -> int:
    """Simulate, write data and a configuration, fit it, and compare."""
    with reporter_of(args) as reporter:
        return _run(args, reporter)


def _run(args: argparse.Namespace, reporter: Reporter) -> int:
    folder: Path = args.output_dir
    measurement = Measurement(PARAMETERS, phi=PHI, n_frames=args.frames)
    prepare_folder(folder, overwrite=args.overwrite)
    arguments = {"pixels": args.pixels, "modes": 3, "mean_counts": 0.05}
    reporter.print(
        f"simulating {len(measurement.phi)} angles × {args.frames} frames × {args.pixels} pixels: "
        "photons, correlator"
    )
    with reporter.progress() as show:
        show(Step("simulating"))
        c2 = from_first_principles(measurement, seed=args.seed, **arguments)
    data = folder / "demo.h5"
    write_measurement(data, measurement, c2, seed=args.seed, **arguments)
    text, _ = configuration(data, folder, gap=measurement.gap)
    config = folder / "demo.yaml"
    with replacing(config) as temporary:
        temporary.write_text(text, encoding="utf-8")
    reporter.print(f"wrote {data} and {config}")
    reporter.print(f"now: homodyne_fit --config {config}")
    result = fit_config(load_config(config), Outputs(folder, args.overwrite), reporter)
    contrast = speckle_contrast(arguments["modes"])
    reporter.show(lambda console: _compare(console, measurement, result, contrast))
    return 0 if result.success else 2


def _compare(
    console: Console, measurement: Measurement, result: FitResult, contrast: float
) -> None:
    """Print truth, fit, standard error and pull of all parameters, and of the rates in time."""
    rows = [
        (_with_unit(name, e.unit), measurement.parameters[name], e.value, e.stderr)
        for name, e in result.parameters.items()
    ]
    pairs = [(e.value, e.stderr) for e in result.contrast]
    if len(set(pairs)) == 1:
        rows.append(("contrast", contrast, *pairs[0]))
    else:
        rows += [
            (f"contrast at {phi:g}°", contrast, *pair)
            for phi, pair in zip(result.objective.phi, pairs, strict=True)
        ]
    times = np.linspace(0, result.times[-1], TIMES + 1)[1:]
    for rate, truth in zip(result.rates, measurement.rates(times), strict=True):
        rows += [
            (_with_unit(f"{rate.symbol}({time:.3g} s)", rate.unit), *numbers)
            for time, *numbers in zip(times, truth, *rate.at(times), strict=True)
        ]
    table = Table(title="truth against fit", title_justify="left", box=None, pad_edge=False)
    table.add_column("quantity")
    for title in ("truth", "fit", "error", "pull"):
        table.add_column(title, justify="right")
    for name, truth, value, error in rows:
        known = np.isfinite(error) and error > 0
        shown = (f"{error:.2g}", f"{(value - truth) / error:+.1f}") if known else ("none", "")
        table.add_row(name, f"{truth:.5g}", f"{value:.5g}", *shown)
    console.print(table)


def _with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name
