"""Simulate a measurement and write it as a two-time file."""

from __future__ import annotations

import argparse
import math
import shlex
from pathlib import Path
from typing import Any

from homodyne_fit.cli.options import FORMULA, GAP, PARAMETERS, SPECKLE
from homodyne_fit.cli.reporter import reporter_of
from homodyne_fit.data.formats.recognition import FORMATS, HDF5_FORMATS
from homodyne_fit.errors import InputError, rename_places
from homodyne_fit.model.parameters import ALIASES
from homodyne_fit.model.rates import STATIC
from homodyne_fit.progress import Step
from homodyne_fit.simulation.measurement import (
    Measurement,
    from_first_principles,
    from_formula,
    truth_path,
    write_measurement,
)

# Endings that the name of an HDF5 file must not have.
OTHER_SUFFIXES = (".npy", ".npz", ".yaml", ".yml")


def run(args: argparse.Namespace) -> int:
    """Simulate and write."""
    _require_room(args.output, args.format, overwrite=args.overwrite)
    arguments = _arguments(args)
    parameters = {k: v for k, v in PARAMETERS.items() if not args.static or k in STATIC.parameters}
    changed = _parameter_values(args.parameter)
    for name in changed:
        if args.static and name in PARAMETERS and name not in parameters:
            raise InputError(f"--parameter {name}: the static model has no flow")
    measurement = Measurement(
        parameters={**parameters, **changed},
        q=args.q,
        gap=GAP if args.gap is None else args.gap,
        dt=args.dt,
        n_frames=args.frames,
        **({} if args.phi is None else {"phi": tuple(args.phi)}),
    )
    with rename_places({"mean_counts": "--counts", "particles": "--particles"}):
        simulated = from_first_principles if args.first_principles else from_formula
        with reporter_of(args) as reporter, reporter.progress() as show:
            show(Step("simulating"))
            c2 = simulated(measurement, seed=args.seed, **arguments)
    truth = write_measurement(
        args.output, measurement, c2, args.format, seed=args.seed, **arguments
    )
    print(f"wrote {args.output} and {truth}")
    options = ["--static" if args.static else f"--gap {measurement.gap:g}"]
    if args.format == "pychx":  # whose files do not fix the unit of the time
        options.append(f"--dt {args.dt:g}")
    print(f"next: homodyne_fit init {shlex.quote(str(args.output))} {' '.join(options)}")
    return 0


def _require_room(output: Path, format: str, *, overwrite: bool) -> None:
    """Refuse a path that belongs to something else, or whose ending is wrong for the format."""
    truth = truth_path(output)
    for path in (output, truth):
        if path.exists() and not overwrite:
            raise InputError(f"{path}: exists; give another -o, or --overwrite")
    if output.is_file() and not truth.exists():
        raise InputError(
            f"{output}: is not from a simulation (there is no {truth.name}); give another -o"
        )
    if FORMATS[format] in HDF5_FORMATS and output.suffix in OTHER_SUFFIXES:
        raise InputError(f"{output}: {format} is HDF5; give -o a name such as a.h5")
    if output.is_dir():
        raise InputError(f"{output}: a file is needed, and this is a folder")


def _arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the chosen kind of simulation; options of the other kind are refused."""
    used, unused, condition = FORMULA, SPECKLE, "with"
    if args.first_principles:
        used, unused, condition = SPECKLE, FORMULA, "without"
    for name in unused:
        if getattr(args, name) is not None:
            raise InputError(f"--{name} has an effect only {condition} --first-principles")
    if args.static and args.gap is not None:
        raise InputError("--gap has no effect with --static")
    arguments = {}
    for name, default in used.items():
        value = getattr(args, name)
        arguments["mean_counts" if name == "counts" else name] = default if value is None else value
    if arguments.get("particles") == math.inf:
        arguments["particles"] = None
    return arguments


def _parameter_values(assignments: list[str]) -> dict[str, float]:
    result = {}
    for text in assignments:
        name, _, value = text.partition("=")
        name = ALIASES.get(name, name)
        try:
            result[name] = float(value)
        except ValueError:
            raise InputError(f"--parameter {text}: write it as NAME=VALUE") from None
    return result
