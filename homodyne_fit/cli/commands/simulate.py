"""Simulate a measurement and write it as a two-time file."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from homodyne_fit.cli.options import numbers, path
from homodyne_fit.errors import InputError, rename_places
from homodyne_fit.model.parameters import ALIASES

# Named here too, so that --help imports nothing.
HDF5_FORMATS = ("aps-u", "aps-old", "nxxpcs", "pychx")
FORMATS = (*HDF5_FORMATS, "homodyne-cache", "array")

# A suspension in slow shear: both decays take some seconds at q = 0.0054 Å⁻¹.
PARAMETERS = {
    "D0": 8000.0,
    "alpha": -0.2,
    "D_offset": 0.0,
    "gamma_dot_t0": 1e-4,
    "beta": 0.2,
    "gamma_dot_t_offset": 0.0,
    "phi0": 3.0,
}

GAP = 2e6  # Å
# What only one of the two ways to simulate takes.
FORMULA: dict[str, Any] = {"contrast": (0.3,), "offset": (1.0,), "noise": 0.05}
SPECKLE: dict[str, Any] = {"pixels": 2000, "modes": 3.0, "counts": 0.5}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("-o", "--output", type=path, required=True, metavar="FILE", help="to write")
    parser.add_argument(
        "--format", choices=FORMATS, default="aps-u", help="of the file; default: aps-u"
    )
    parser.add_argument(
        "--first-principles",
        action="store_true",
        help="particles, fields, photons, correlator; without it, the formula plus noise",
    )
    parser.add_argument("--static", action="store_true", help="no flow")
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the model, in place of "
        + ", ".join(f"{name}={value:g}" for name, value in PARAMETERS.items())
        + "; may be given several times",
    )
    parser.add_argument(
        "--phi", type=numbers, metavar="LIST", help="angles, degrees; default: 0,30,60,90,120,150"
    )
    _number(parser, "frames", int, 200, "of the measurement")
    _number(parser, "dt", float, 0.1, "time between two frames, s")
    _number(parser, "q", float, 0.0054, "wave vector, Å⁻¹")
    parser.add_argument("--gap", type=float, help=f"width of the gap, Å; default: {GAP:g}")
    _number(parser, "seed", int, 0, "of the random numbers")
    formula = parser.add_argument_group("with the formula")
    for name, what in (("contrast", "one for all angles, or one for each"), ("offset", "likewise")):
        default = f"{FORMULA[name][0]:g}"
        formula.add_argument(
            f"--{name}", type=numbers, metavar="LIST", help=f"{what}; default: {default}"
        )
    formula.add_argument(
        "--noise",
        type=float,
        help=f"standard deviation of a point; default: {FORMULA['noise']:g}",
    )
    speckle = parser.add_argument_group("from first principles")
    for name, kind, what in (
        ("pixels", int, "in each bin"),
        ("modes", float, "the contrast is near 1 / modes"),
        ("counts", float, "photons in a pixel and frame"),
    ):
        speckle.add_argument(f"--{name}", type=kind, help=f"{what}; default: {SPECKLE[name]:g}")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def _number(parser: Any, name: str, kind: type, default: float, meaning: str) -> None:
    """Add an option for one number, with its default in the help."""
    parser.add_argument(
        f"--{name}",
        type=kind,
        default=default,
        metavar=name.upper(),
        help=f"{meaning}; default: {default:g}",
    )


def run(args: argparse.Namespace) -> int:
    """Simulate and write."""
    from homodyne_fit.model.rates import STATIC
    from homodyne_fit.simulation.measurement import (
        Measurement,
        from_first_principles,
        from_formula,
        write_measurement,
    )

    if args.output.exists() and not args.overwrite:
        raise InputError(f"{args.output}: exists; give another -o, or --overwrite")
    truth = args.output.with_name(f"{args.output.name}.truth.json")
    how = _how(args)
    if truth.exists() and not args.overwrite:
        raise InputError(f"{truth}: exists; give another -o, or --overwrite")
    if args.output.is_file() and not truth.exists():
        raise InputError(f"{args.output}: is from no simulation (no {truth.name}); give another -o")
    if args.format in HDF5_FORMATS and args.output.suffix in (".npy", ".npz", ".yaml", ".yml"):
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
