"""Simulate a measurement and write it as a two-time file."""

from __future__ import annotations

import argparse
from pathlib import Path

from homodyne_fit.errors import InputError

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
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
        help="of the model; may be given several times",
    )
    parser.add_argument("--phi", type=_numbers, default=None, help="angles, degrees: 0,45,90")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--dt", type=float, default=0.1, help="frame time, s")
    parser.add_argument("--q", type=float, default=0.0054, help="Å⁻¹")
    parser.add_argument("--gap", type=float, default=2e6, help="Å")
    parser.add_argument("--seed", type=int, default=0)
    formula = parser.add_argument_group("with the formula")
    formula.add_argument("--contrast", type=_numbers, default=(0.3,), help="one, or one an angle")
    formula.add_argument("--offset", type=_numbers, default=(1.0,), help="one, or one an angle")
    formula.add_argument("--noise", type=float, default=0.05, help="standard deviation of a point")
    speckle = parser.add_argument_group("from first principles")
    speckle.add_argument("--pixels", type=int, default=2000, help="in a bin")
    speckle.add_argument("--modes", type=float, default=3.0, help="the contrast is 1 / modes")
    speckle.add_argument("--counts", type=float, default=0.5, help="photons a pixel and frame")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> int:
    """Simulate and write."""
    from homodyne_fit.model import STATIC
    from homodyne_fit.simulate.measurement import (
        Measurement,
        from_first_principles,
        from_formula,
        write_measurement,
    )

    if args.output.exists() and not args.overwrite:
        raise InputError(f"{args.output}: exists; give another -o, or --overwrite")
    parameters = {k: v for k, v in PARAMETERS.items() if not args.static or k in STATIC.parameters}
    measurement = Measurement(
        parameters={**parameters, **_parameters(args.parameter)},
        q=args.q,
        gap=args.gap,
        dt=args.dt,
        n_frames=args.frames,
        **({} if args.phi is None else {"phi": tuple(args.phi)}),
    )
    if args.first_principles:
        how = {"pixels": args.pixels, "modes": args.modes, "mean_counts": args.counts}
        c2 = from_first_principles(measurement, seed=args.seed, **how)
    else:
        for name in ("contrast", "offset"):
            if len(getattr(args, name)) not in (1, len(measurement.phi)):
                raise InputError(f"--{name} needs one value, or one for each angle")
        how = {"contrast": args.contrast, "offset": args.offset, "noise": args.noise}
        c2 = from_formula(measurement, seed=args.seed, **how)
    truth = write_measurement(args.output, measurement, c2, seed=args.seed, **how)
    print(f"wrote {args.output} and {truth}")
    return 0


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers") from None


def _parameters(assignments: list[str]) -> dict[str, float]:
    result = {}
    for text in assignments:
        name, _, value = text.partition("=")
        try:
            result[name] = float(value)
        except ValueError:
            raise InputError(f"--parameter {text}: write it as NAME=VALUE") from None
    return result
