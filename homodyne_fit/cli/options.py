"""Options of the commands that fit: what they are, and which keys of a configuration they set.

An option that sets a key does so before the configuration is validated, so that a wrong value is
reported like one of the file.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homodyne_fit.errors import InputError, missing_file
from homodyne_fit.results.folder import EXPORTS

if TYPE_CHECKING:
    from homodyne_fit.config.overrides import Override

__all__ = [
    "add_drop_in_options",
    "add_key_options",
    "add_output_options",
    "no_effect",
    "overrides",
    "numbers",
    "path",
    "positive",
]


# What options can be added to: a parser, or a group of its options.
type Options = argparse.ArgumentParser | argparse._ArgumentGroup

# Start values, by the spelling that homodyne has for them.
INITIAL = {
    "d0": ("D0", "Å²/s"),
    "alpha": ("alpha", ""),
    "d-offset": ("D_offset", "Å²/s"),
    "gamma-dot-t0": ("gamma_dot_t0", "1/s"),
    "beta": ("beta", ""),
    "gamma-dot-offset": ("gamma_dot_t_offset", "1/s"),
    "phi0": ("phi0", "degrees"),
}

SAMPLING = "it concerns Monte Carlo sampling, which is not available yet"

DRAWING = "figures are drawn by matplotlib, one after the other"

# Options of homodyne that mean nothing here: whether they take a value, and why they do not.
FOREIGN: dict[str, tuple[bool, str]] = {
    "--tolerance": (
        True,
        "convergence is measured in standard errors; "
        "see --set optimization.nlsq.standard_error_tolerance=1e-4",
    ),
    "--output-format": (True, "results are JSON, CSV and HDF5; see --export for homodyne's file"),
    "--plotting-backend": (True, DRAWING),
    "--parallel-plots": (False, DRAWING),
    "--no-jit": (False, "the code is always compiled"),
    "--dense-mass-matrix": (False, SAMPLING),
    "--no-nlsq-warmstart": (False, SAMPLING),
    "--cmc-plot-diagnostics": (False, SAMPLING),
    "--n-samples": (True, SAMPLING),
    "--n-warmup": (True, SAMPLING),
    "--n-chains": (True, SAMPLING),
    "--cmc-num-shards": (True, SAMPLING),
    "--cmc-backend": (True, SAMPLING),
    "--nlsq-result": (True, SAMPLING),
}


def add_output_options(parser: Options) -> None:
    """Add what decides the files that are written, and what is printed."""
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results")
    parser.add_argument(
        "--export",
        action="append",
        choices=EXPORTS,
        default=[],
        help="write fitted_data.npz too, with the arrays that homodyne writes",
    )
    parser.add_argument(
        "--save-plots", action="store_true", help="write every figure as a PNG too, in plots/"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the results as JSON, and nothing else"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors only")


def add_key_options(parser: Options) -> None:
    """Add what sets keys of the configuration."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="set a key of the configuration, as --set analyzer_parameters.start_frame=10; "
        "may be given several times",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        help="that sum the chunks; default: all; with --scheduler those of a task, default: 1",
    )
    parser.add_argument(
        "--memory", metavar="SIZE", help="that may be used, as 2GB; default: 3/4 of what is free"
    )
    parser.add_argument(
        "--scratch", metavar="DIR", help="for a file of unpacked matrices if memory is short"
    )
    parser.add_argument("--max-iterations", metavar="N", help="passes that the fit may take")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--static-mode",
        dest="analysis_mode",
        action="store_const",
        const="static",
        help="fit diffusion alone, 3 parameters",
    )
    mode.add_argument(
        "--laminar-flow",
        dest="analysis_mode",
        action="store_const",
        const="laminar_flow",
        help="fit diffusion and shear, 7 parameters",
    )
    for spelling, (name, unit) in INITIAL.items():
        parser.add_argument(
            f"--initial-{spelling}",
            dest=f"initial_{name}",
            metavar="VALUE",
            help=f"start of {name}" + (f", {unit}" if unit else ""),
        )


def add_drop_in_options(parser: Options) -> None:
    """Accept the options of homodyne that mean nothing here."""
    for name, (takes_value, _) in FOREIGN.items():
        how: dict[str, Any] = {"action": "append_const", "const": True}
        if takes_value:
            how = {"action": "append"}
        parser.add_argument(name, dest=_foreign_name(name), help=argparse.SUPPRESS, **how)


def no_effect(args: argparse.Namespace) -> list[str]:
    """A line for each option that was given and means nothing here."""
    return [
        f"{name} has no effect: {reason}"
        for name, (_, reason) in FOREIGN.items()
        if getattr(args, _foreign_name(name)) is not None
    ]


def overrides(args: argparse.Namespace) -> list[Override]:
    """The keys that the options set; ``--set`` comes last, so that it wins."""
    from homodyne_fit.config.overrides import parse_override

    given = [parse_override(text) for text in args.set]
    paths = [path for path, _ in given]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"--set {path} is given more than once")
    return [*_named(args), *given]


def _named(args: argparse.Namespace) -> Iterator[Override]:
    import yaml

    if args.analysis_mode is not None:
        yield "analysis_mode", args.analysis_mode
    for key, text in (
        ("optimization.nlsq.threads", args.threads),
        ("optimization.nlsq.memory", args.memory),
        ("optimization.nlsq.max_iterations", args.max_iterations),
        *(
            (f"initial_parameters.values.{name}", getattr(args, f"initial_{name}"))
            for name, _ in INITIAL.values()
        ),
    ):
        if text is not None:
            yield key, yaml.safe_load(text)
    if args.scratch is not None:
        yield "optimization.nlsq.scratch", args.scratch
    data_file: Path | None = getattr(args, "data_file", None)
    if data_file is not None:
        if not data_file.exists():
            raise missing_file(data_file)
        yield "experimental_data.file_path", str(data_file.absolute())


def _foreign_name(option: str) -> str:
    return "foreign_" + option.strip("-").replace("-", "_")


def path(text: str) -> Path:
    """The type of an option for a path; an empty one is what an unset variable leaves."""
    if not text:
        raise argparse.ArgumentTypeError("a path is needed, and this is empty")
    return Path(text)


def positive(unit: str) -> Callable[[str], float]:
    """The type of an option for one positive number, in this unit."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(
                f"a positive number is needed, in {unit} and without the unit (got '{text}')"
            )
        return value

    return parse


def numbers(text: str) -> tuple[float, ...]:
    """The type of an option for several numbers, as 0,45,90."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers, as 0,45,90") from None
