"""What each command takes: argparse only, so that ``--help`` and completion are immediate.

Values that help texts name, such as defaults, stand here; commands import them from here.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from homodyne_fit.results.names import EXPORTS

__all__ = ["COMMANDS", "Command"]

# What options can be added to: a parser, or a group of its options.
type Options = argparse.ArgumentParser | argparse._ArgumentGroup

METHODS = ("nlsq", "mcmc", "cmc", "both")

# Start values, by the spelling that homodyne has for them: name and unit.
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

# Of the matrices that --plot-simulated-data draws.
PLOTTED_CONTRAST = 0.3
PLOTTED_OFFSET = 1.0

# What `simulate` writes: the formats of data, named here too, so that --help imports none.
FORMATS = ("aps-u", "aps-old", "nxxpcs", "pychx", "homodyne-cache", "array")

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

# Options that only one of the two ways to simulate takes, with their defaults.
FORMULA: dict[str, Any] = {"contrast": (0.3,), "offset": (1.0,), "noise": 0.05}
SPECKLE: dict[str, Any] = {"pixels": 2000, "modes": 3.0, "counts": 0.5, "particles": 32}

SHELLS = {
    "bash": 'eval "$(homodyne_fit completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(homodyne_fit completion zsh)" in ~/.zshrc, after compinit',
    "fish": "homodyne_fit completion fish > ~/.config/fish/completions/homodyne_fit.fish",
}


class Command(NamedTuple):
    """What a command is for, and what adds its options to a parser."""

    summary: str
    add_options: Callable[[argparse.ArgumentParser], None]


def add_inspect_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``inspect``."""
    parser.add_argument("data", type=path, metavar="DATA", help="two-time file")
    parser.add_argument(
        "--q", type=positive_number("Å⁻¹"), help="wave vector to look at, Å⁻¹; default: all"
    )
    parser.add_argument("--plot", type=path, metavar="FILE.png", help="draw the quality too")
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    parser.add_argument(
        "--headers-only", action="store_true", help="read no matrix: leave the quality out"
    )


def add_init_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``init``."""
    parser.add_argument("data", type=path, metavar="DATA", help="two-time file")
    parser.add_argument(
        "-o", "--output", type=path, metavar="FILE", help="default: DATA.yaml, in this folder"
    )
    parser.add_argument(
        "--q",
        type=positive_number("Å⁻¹"),
        help="wave vector, Å⁻¹, where the file has several or none",
    )
    parser.add_argument(
        "--dt", type=positive_number("s"), help="frame time, s, where the file has none"
    )
    parser.add_argument(
        "--phi",
        type=number_list,
        metavar="LIST",
        help="angle of each matrix, degrees, as 0,45,90, where the file has none",
    )
    parser.add_argument("--gap", type=positive_number("Å"), help="gap between stator and rotor, Å")
    parser.add_argument("--static", action="store_true", help="no flow")
    parser.add_argument(
        "--units-confirmed", action="store_true", help="odd as they look, the units are right"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def add_check_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``check``."""
    parser.add_argument("file", type=path, nargs="?", metavar="CONFIG", help="YAML configuration")
    parser.add_argument(
        "--output-dir", type=path, metavar="DIR", help="where results would go, as for the fit"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    _add_key_options(parser.add_argument_group("keys of the configuration"))
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of configurations, for editors"
    )


def add_fit_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a fit."""
    parser.add_argument("--config", type=path, metavar="FILE", help="YAML configuration")
    parser.add_argument(
        "--method", choices=METHODS, default="nlsq", help="nlsq (default); others are to come"
    )
    parser.add_argument(
        "--output-dir", type=path, metavar="DIR", help="where results go; default: FILE_results"
    )
    parser.add_argument(
        "--data-file", type=path, metavar="DATA", help="in place of that of the configuration"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, say what would be done, stop"
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="sum on this Dask cluster, such as tcp://node17:8786"
    )
    _add_output_options(parser)
    parser.add_argument(
        "--plot-experimental-data",
        action="store_true",
        help="draw the data and their quality; no fit, unless --save-plots asks for one",
    )
    parser.add_argument(
        "--plot-simulated-data",
        action="store_true",
        help="draw the matrices of the start values; needs no data; no fit, unless --save-plots "
        "asks for one",
    )
    simulated = parser.add_argument_group("with --plot-simulated-data")
    simulated.add_argument(
        "--phi-angles", type=number_list, metavar="LIST", help="degrees, as 0,45,90,135"
    )
    simulated.add_argument("--contrast", type=float, help=f"default: {PLOTTED_CONTRAST:g}")
    simulated.add_argument("--offset", type=float, help=f"default: {PLOTTED_OFFSET:g}")
    _add_key_options(parser.add_argument_group("keys of the configuration"))
    _add_foreign_options(parser)


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``batch``."""
    parser.add_argument(
        "configs",
        nargs="*",
        metavar="CONFIG",
        help="YAML configurations; a pattern such as 'runs/*.yaml' stands for all that match, and "
        "each is fitted once",
    )
    parser.add_argument(
        "--data",
        action="extend",
        nargs="+",
        default=[],
        metavar="DATA",
        help="after the configurations: fit these data files, or those that match patterns, with "
        "each of them",
    )
    parser.add_argument(
        "--output-dir",
        type=path,
        metavar="DIR",
        help="a folder for each fit is made in it; default: beside each configuration",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what each fit would do, as check does"
    )
    _add_output_options(parser)
    _add_key_options(parser.add_argument_group("keys of the configuration"))
    _add_foreign_options(parser)


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``report``."""
    parser.add_argument(
        "results", type=path, metavar="RESULTS", help="folder of a fit, or its result.h5"
    )
    parser.add_argument(
        "--output-dir", type=path, metavar="DIR", help="where it goes; default: beside result.h5"
    )
    parser.add_argument(
        "--save-plots", action="store_true", help="write every figure as a PNG too, in plots/"
    )
    parser.add_argument("--summary", action="store_true", help="print the summary of the fit too")


def add_simulate_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``simulate``."""
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
        "--phi",
        type=number_list,
        metavar="LIST",
        help="angles, degrees; default: 0,30,60,90,120,150",
    )
    _add_number(parser, "frames", int, 200, "of the measurement")
    _add_number(parser, "dt", float, 0.1, "time between two frames, s")
    _add_number(parser, "q", float, 0.0054, "wave vector, Å⁻¹")
    parser.add_argument("--gap", type=float, help=f"width of the gap, Å; default: {GAP:g}")
    _add_number(parser, "seed", int, 0, "of the random numbers")
    formula = parser.add_argument_group("with the formula")
    for name, meaning in (
        ("contrast", "one for all angles, or one for each"),
        ("offset", "likewise"),
    ):
        default = f"{FORMULA[name][0]:g}"
        formula.add_argument(
            f"--{name}", type=number_list, metavar="LIST", help=f"{meaning}; default: {default}"
        )
    formula.add_argument(
        "--noise",
        type=float,
        help=f"standard deviation of a point; default: {FORMULA['noise']:g}",
    )
    speckle = parser.add_argument_group("from first principles")
    for name, kind, meaning in (
        ("pixels", int, "in each bin"),
        ("modes", float, "the contrast is near 1 / modes"),
        ("counts", float, "photons in a pixel and frame"),
        (
            "particles",
            particle_number,
            "of each mode in each pixel; 'infinite' takes less time, and the contrast is 1 / modes",
        ),
    ):
        speckle.add_argument(f"--{name}", type=kind, help=f"{meaning}; default: {SPECKLE[name]:g}")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def add_demo_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``demo``."""
    parser.add_argument(
        "--output-dir",
        type=path,
        default=Path("demo_results"),
        metavar="DIR",
        help="for all files; default: demo_results",
    )
    _add_number(parser, "seed", int, 0, "of the simulation")
    _add_number(parser, "frames", int, 300, "of the measurement")
    _add_number(parser, "pixels", int, 4000, "in each bin")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results")


def add_completion_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``completion``."""
    parser.add_argument(
        "shell", choices=SHELLS, metavar=f"{{{','.join(SHELLS)}}}", help="; ".join(SHELLS.values())
    )


# In the order in which a user needs them. The command `x` is the function `run` of `commands/x.py`.
COMMANDS = {
    "inspect": Command("Show what a two-time file holds, and how good it is", add_inspect_options),
    "init": Command("Write a configuration from what a data file says", add_init_options),
    "check": Command(
        "Check a configuration, and show what a fit would do, without running it",
        add_check_options,
    ),
    "fit": Command("Fit; the word 'fit' may be left out before options", add_fit_options),
    "batch": Command(
        "Fit many measurements in one process, and print one table", add_batch_options
    ),
    "report": Command("Rewrite the report of a fit, from result.h5 alone", add_report_options),
    "simulate": Command(
        "Simulate a measurement and write it as a two-time file", add_simulate_options
    ),
    "demo": Command(
        "Simulate a measurement from first principles, fit it, and compare with the truth",
        add_demo_options,
    ),
    "completion": Command(
        "Print the code that makes a shell complete commands and options", add_completion_options
    ),
}


def _add_output_options(parser: Options) -> None:
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


def _add_key_options(parser: Options) -> None:
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


def _add_foreign_options(parser: Options) -> None:
    """Accept the options of homodyne that mean nothing here."""
    for option, (takes_value, _) in FOREIGN.items():
        action: dict[str, Any] = {"action": "append_const", "const": True}
        if takes_value:
            action = {"action": "append"}
        parser.add_argument(option, dest=option, help=argparse.SUPPRESS, **action)


def _add_number(parser: Options, name: str, kind: type, default: float, meaning: str) -> None:
    """Add an option for one number, with its default in the help."""
    parser.add_argument(
        f"--{name}",
        type=kind,
        default=default,
        metavar=name.upper(),
        help=f"{meaning}; default: {default:g}",
    )


def path(text: str) -> Path:
    """The type of an option for a path; an empty one is what an unset variable leaves."""
    if not text:
        raise argparse.ArgumentTypeError("a path is needed, and this is empty")
    return Path(text)


def positive_number(unit: str) -> Callable[[str], float]:
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


def particle_number(text: str) -> float:
    """The type of an option for a number of particles, infinity included."""
    if text == "infinite":
        return math.inf
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"a whole number is needed, or 'infinite' (got '{text}')"
        ) from None


def number_list(text: str) -> tuple[float, ...]:
    """The type of an option for several numbers, as 0,45,90."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers, as 0,45,90") from None
