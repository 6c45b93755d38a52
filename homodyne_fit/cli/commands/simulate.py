"""Simulate a measurement and write it as a two-time file."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from homodyne_fit.cli.options import FORMULA, GAP, PARAMETERS, SPECKLE
from homodyne_fit.data.formats.recognition import FORMATS, HDF5_FORMATS
from homodyne_fit.errors import InputError, rename_places
from homodyne_fit.model.parameters import ALIASES
from homodyne_fit.model.rates import STATIC
from homodyne_fit.simulation.measurement import (
    Measurement,
    from_first_principles,
    from_formula,
    write_measurement,
)


def run(args: argparse.Namespace) -> int:
    """Simulate and write."""
    if args.output.exists() and not args.overwrite:
        raise InputError(f"{args.output}: exists; give another -o, or --overwrite")
    truth = args.output.with_name(f"{args.output.name}.truth.json")
    how = _how(args)
    if truth.exists() and not args.overwrite:
        raise InputError(f"{truth}: exists; give another -o, or --overwrite")
    if args.output.is_file() and not truth.exists():
        raise InputError(f"{args.output}: is from no simulation (no {truth.name}); give another -o")
    if FORMATS[args.format] in HDF5_FORMATS and args.output.suffix in (
        ".npy",
        ".npz",
        ".yaml",
        ".yml",
    ):
        raise InputError(f"{args.output}: {args.format} is HDF5; give -o a name such as a.h5")
    if args.output.is_dir():
        raise InputError(f"{args.output}: a file is needed, and this is a folder")
    parameters = {k: v for k, v in PARAMETERS.items() if not args.static or k in STATIC.parameters}
    given = _parameters(args.parameter)
    for name in given:
        if args.static and name in PARAMETERS and name not in parameters:
            raise InputError(f"--parameter {name}: the static model has no flow")
    measurement = Measurement(
        parameters={**parameters, **given},
        q=args.q,
        gap=GAP if args.gap is None else args.gap,
        dt=args.dt,
        n_frames=args.frames,
        **({} if args.phi is None else {"phi": tuple(args.phi)}),
    )
    with rename_places({"mean_counts": "--counts"}):
        simulated = from_first_principles if args.first_principles else from_formula
        c2 = simulated(measurement, seed=args.seed, **how)
    truth = write_measurement(args.output, measurement, c2, args.format, seed=args.seed, **how)
    print(f"wrote {args.output} and {truth}")
    options = ["--static" if args.static else f"--gap {measurement.gap:g}"]
    if args.format == "pychx":  # whose files do not fix the unit of the time
        options.append(f"--dt {args.dt:g}")
    print(f"next: homodyne_fit init {shlex.quote(str(args.output))} {' '.join(options)}")
    return 0


def _how(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the simulation asked for; those of the other way are refused."""
    used, unused, way = FORMULA, SPECKLE, "with"
    if args.first_principles:
        used, unused, way = SPECKLE, FORMULA, "without"
    for name in unused:
        if getattr(args, name) is not None:
            raise InputError(f"--{name} has an effect {way} --first-principles only")
    if args.static and args.gap is not None:
        raise InputError("--gap has no effect with --static")
    given = {name: getattr(args, name) for name in used}
    how = {name: used[name] if value is None else value for name, value in given.items()}
    return {"mean_counts" if name == "counts" else name: value for name, value in how.items()}


def _parameters(assignments: list[str]) -> dict[str, float]:
    result = {}
    for text in assignments:
        name, _, value = text.partition("=")
        name = ALIASES.get(name, name)
        try:
            result[name] = float(value)
        except ValueError:
            raise InputError(f"--parameter {text}: write it as NAME=VALUE") from None
    return result
