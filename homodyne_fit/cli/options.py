"""The options of each command: argparse only, so that ``--help`` and completion are fast.

Defaults that are in help texts are defined here, and commands import them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from homodyne_fit.results.names import EXPORTS

__all__ = ["COMMANDS", "Command"]

# A parser, or a group of its options.
type Options = argparse.ArgumentParser | argparse._ArgumentGroup

METHODS = ("nlsq", "mcmc", "cmc", "both")

# Start values: for each spelling of homodyne, name and unit.
INITIAL = {
    "d0": ("D0", "Å²/s"),
    "alpha": ("alpha", ""),
    "d-offset": ("D_offset", "Å²/s"),
    "gamma-dot-t0": ("gamma_dot_t0", "1/s"),
    "beta": ("beta", ""),
    "gamma-dot-offset": ("gamma_dot_t_offset", "1/s"),
    "phi0": ("phi0", "degrees"),
}

# Other spellings of these options, of xpcsjax.
INITIAL_ALIASES = {"d0": "D0", "gamma-dot-offset": "gamma-dot-t-offset"}

# Reasons why options have no effect.
CONSENSUS = "the posterior is that of all points at once"

DRAWING = "figures are drawn by matplotlib, one after the other"

# Options of homodyne that have no effect here: whether they take a value, and the reason.
FOREIGN: dict[str, tuple[bool, str]] = {
    "--tolerance": (
        True,
        "convergence is measured in standard errors; "
        "see --set optimization.nlsq.standard_error_tolerance=1e-4",
    ),
    "--output-format": (True, "results are JSON, CSV and HDF5; see --export for homodyne's file"),
    "--plotting-backend": (True, DRAWING),
    "--parallel-plots": (False, DRAWING),
    "--no-plot": (False, "report.html always has its figures; --save-plots writes files of them"),
    "--no-jit": (False, "the code is always compiled"),
    "--dense-mass-matrix": (False, "the mass matrix is always dense"),
    "--no-nlsq-warmstart": (False, "the posterior always starts from the fit"),
    "--cmc-plot-diagnostics": (False, "posterior.nc is for the figures of ArviZ"),
    "--cmc-backend": (True, CONSENSUS),
}

# Help texts of options that several commands have.
SAVE_PLOTS = "also write every figure as a file, in plots/"

REPLACE_RESULTS = "replace earlier results"

# Contrast of the matrices that --plot-simulated-data draws.
PLOTTED_CONTRAST = 0.3

# Offset of these matrices.
PLOTTED_OFFSET = 1.0

# Formats that `simulate` can write. The list is repeated here, so that --help imports no format.
FORMATS = ("aps-u", "aps-old", "nxxpcs", "pychx", "homodyne-cache", "array")

# Parameters of a suspension in slow shear: at q = 0.0054 Å⁻¹ both decays take some seconds.
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

# Options of `simulate` that need the formula, with their defaults.
FORMULA: dict[str, Any] = {"contrast": (0.3,), "offset": (1.0,), "noise": 0.05}

# Options of `simulate` that need --first-principles, with their defaults.
SPECKLE: dict[str, Any] = {"pixels": 2000, "modes": 3.0, "counts": 0.5, "particles": 32}

SHELLS = {
    "bash": 'eval "$(homodyne_fit completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(homodyne_fit completion zsh)" in ~/.zshrc, after compinit',
    "fish": "homodyne_fit completion fish > ~/.config/fish/completions/homodyne_fit.fish",
}


class Command(NamedTuple):
    """A summary of a command, and the function that adds its options to a parser."""

    summary: str
    add_options: Callable[[argparse.ArgumentParser], None]


def _add_inspect_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=path, metavar="DATA", help="two-time file")
    _add_positive(parser, "q", "Å⁻¹", "wave vector to look at, Å⁻¹; default: all")
    parser.add_argument("--plot", type=path, metavar="FILE.png", help="draw the quality, too")
    parser.add_argument(
        "--html", type=path, metavar="FILE.html", help="write a page to look at every matrix, too"
    )
    _add_flag(parser, "json", "print JSON and nothing else")
    _add_flag(parser, "headers-only", "read no matrix and leave the quality out")


def _add_init_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=path, metavar="DATA", help="two-time file")
    parser.add_argument(
        "-o", "--output", type=path, metavar="FILE", help="default: DATA.yaml in this folder"
    )
    _add_positive(parser, "q", "Å⁻¹", "wave vector, Å⁻¹, if the file has several or none")
    _add_positive(parser, "dt", "s", "frame time, s, if the file has none")
    _add_list(parser, "phi", "angle of each matrix, degrees, as 0,45,90, if the file has none")
    _add_positive(parser, "gap", "Å", "gap between stator and rotor, Å")
    _add_flag(parser, "static", "no flow")
    _add_flag(parser, "units-confirmed", "the units are right although values look unusual")
    _add_flag(parser, "overwrite", "replace an existing file")


def _add_check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=path, nargs="?", metavar="CONFIG", help="YAML configuration")
    _add_folder(parser, "folder of the results, as for the fit")
    _add_flag(parser, "json", "print JSON, for programs")
    _add_key_options(parser.add_argument_group("keys of the configuration"))
    _add_flag(parser, "schema", "print the JSON Schema of configurations, for editors")


def _add_fit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", "-c", type=path, metavar="FILE", help="YAML configuration")
    parser.add_argument(
        "--method",
        choices=METHODS,
        help="nlsq: least squares (default); mcmc: the posterior, too; cmc and both: like mcmc",
    )
    _add_folder(parser, "folder of the results; default: FILE_results", short=True)
    parser.add_argument(
        "--data-file", type=path, metavar="DATA", help="instead of the file in the configuration"
    )
    _add_flag(parser, "dry-run", "check everything, print what would be done, and stop")
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="compute on this Dask cluster, such as tcp://node17:8786",
    )
    _add_sampling_options(parser.add_argument_group("with --method mcmc"))
    _add_output_options(parser)
    _add_flag(
        parser,
        "plot-experimental-data",
        "draw the data and their quality, without a fit unless --save-plots is given",
    )
    _add_flag(
        parser,
        "plot-simulated-data",
        "draw the matrices of the start values, for which no data are needed; without a fit "
        "unless --save-plots is given",
    )
    simulated = parser.add_argument_group("with --plot-simulated-data")
    _add_list(simulated, "phi-angles", "degrees, as 0,45,90,135")
    simulated.add_argument("--contrast", type=float, help=f"default: {PLOTTED_CONTRAST:g}")
    simulated.add_argument(
        "--offset", "--offset-sim", type=float, help=f"default: {PLOTTED_OFFSET:g}"
    )
    _add_key_options(parser.add_argument_group("keys of the configuration"))
    _add_foreign_options(parser)


def _add_sampling_options(parser: Options) -> None:
    for name, metavar, meaning in (
        ("n-samples", "N", "draws of each chain; default: 1000"),
        ("n-warmup", "N", "steps of each NUTS chain before its draws; default: 300"),
        ("n-chains", "N", "chains; default: 4"),
        (
            "cmc-num-shards",
            "N",
            "shards of angles for consensus Monte Carlo, to compare with the posterior of all data",
        ),
    ):
        parser.add_argument(f"--{name}", metavar=metavar, help=meaning)
    parser.add_argument(
        "--nlsq-result",
        type=path,
        metavar="DIR",
        help="folder of an earlier fit, from which the posterior starts instead of a new one",
    )


def _add_batch_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "configs",
        nargs="*",
        metavar="CONFIG",
        help="YAML configurations, or patterns such as 'runs/*.yaml'; each file is fitted once",
    )
    parser.add_argument(
        "--data",
        action="extend",
        nargs="+",
        default=[],
        metavar="DATA",
        help="data files, or patterns, to fit with each configuration; write them after the "
        "configurations",
    )
    _add_folder(
        parser,
        "make a folder in it for each fit; default: folders beside each configuration",
        short=True,
    )
    _add_flag(parser, "dry-run", "print what each fit would do, as check does")
    _add_output_options(parser)
    _add_key_options(parser.add_argument_group("keys of the configuration"))
    _add_foreign_options(parser)


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results", type=path, metavar="RESULTS", help="folder of a fit, or its result.h5"
    )
    _add_folder(parser, "folder of the report; default: the folder of result.h5")
    parser.add_argument("--save-plots", action="store_true", help=SAVE_PLOTS)
    _add_figure_options(parser)
    _add_flag(parser, "summary", "print the summary of the fit, too")


def _add_compare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results",
        type=path,
        nargs="+",
        metavar="RESULTS",
        help="folders of fits, or their result.h5; the others are compared with the first",
    )
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="names of the fits, in order")
    parser.add_argument("--html", type=path, metavar="FILE.html", help="write a page, too")
    parser.add_argument(
        "--plot", type=path, metavar="FILE", help="draw the rates, as PNG, PDF or SVG by its name"
    )
    _add_flag(parser, "json", "print JSON and nothing else")


def _add_profile_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results", type=path, metavar="RESULTS", help="folder of a fit, or its result.h5"
    )
    parser.add_argument("parameter", metavar="PARAMETER", help="such as D0, alpha or phi0")
    _add_list(parser, "values", "values of the parameter; default: around the fit")
    _add_number(parser, "points", int, 11, "number of values")
    _add_number(parser, "span", float, 3.0, "standard errors to either side")
    _add_number(parser, "level", float, 0.68, "confidence level of the interval")
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        metavar="FILE",
        help="picture, as PNG, PDF or SVG by its name; default: profile_PARAMETER.png beside the "
        "results; a table of the same name ends in .csv",
    )
    _add_flag(parser, "json", "print JSON and nothing else")


def _add_simulate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=path, required=True, metavar="FILE", help="file to write"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="aps-u", help="format of the file; default: aps-u"
    )
    _add_flag(
        parser,
        "first-principles",
        "simulate particles, fields, photons and the correlator; by default the formula plus noise",
    )
    _add_flag(parser, "static", "no flow")
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="parameter of the model; defaults: "
        + ", ".join(f"{name}={value:g}" for name, value in PARAMETERS.items())
        + "; may be given several times",
    )
    _add_list(parser, "phi", "angles, degrees; default: 0,30,60,90,120,150")
    _add_number(parser, "frames", int, 200, "number of frames")
    _add_number(parser, "dt", float, 0.1, "time between two frames, s")
    _add_number(parser, "q", float, 0.0054, "wave vector, Å⁻¹")
    parser.add_argument("--gap", type=float, help=f"width of the gap, Å; default: {GAP:g}")
    _add_number(parser, "seed", int, 0, "seed of the random numbers")
    formula = parser.add_argument_group("with the formula")
    for name in ("contrast", "offset"):
        _add_list(formula, name, f"for all angles or for each; default: {FORMULA[name][0]:g}")
    formula.add_argument(
        "--noise",
        type=float,
        help=f"standard deviation of a point; default: {FORMULA['noise']:g}",
    )
    speckle = parser.add_argument_group("from first principles")
    for name, kind, meaning in (
        ("pixels", int, "pixels in each bin"),
        ("modes", float, "the contrast is near 1 / modes"),
        ("counts", float, "photons for each pixel and frame"),
        (
            "particles",
            particle_number,
            "particles of each mode in each pixel; 'infinite' takes less time, and the contrast "
            "is 1 / modes",
        ),
    ):
        speckle.add_argument(f"--{name}", type=kind, help=f"{meaning}; default: {SPECKLE[name]:g}")
    _add_flag(parser, "overwrite", "replace an existing file")


def _add_demo_options(parser: argparse.ArgumentParser) -> None:
    _add_folder(parser, "folder of all files; default: demo_results", Path("demo_results"))
    _add_number(parser, "seed", int, 0, "seed of the simulation")
    _add_number(parser, "frames", int, 300, "number of frames")
    _add_number(parser, "pixels", int, 4000, "pixels in each bin")
    _add_flag(parser, "overwrite", REPLACE_RESULTS)


def _add_completion_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=SHELLS, metavar=f"{{{','.join(SHELLS)}}}", help="; ".join(SHELLS.values())
    )


# In the order of use. The command `x` is the function `run` in `commands/x.py`.
COMMANDS = {
    "inspect": Command("Show what a two-time file holds, and how good it is", _add_inspect_options),
    "init": Command("Write a configuration from what a data file says", _add_init_options),
    "check": Command(
        "Check a configuration, and show what a fit would do, without running it",
        _add_check_options,
    ),
    "fit": Command("Fit; the word 'fit' may be left out before options", _add_fit_options),
    "batch": Command(
        "Fit many measurements in one process, and print one table", _add_batch_options
    ),
    "report": Command("Rewrite the report of a fit, from result.h5 alone", _add_report_options),
    "compare": Command("Compare fits: models, modes, samples or times", _add_compare_options),
    "profile": Command(
        "Draw how chi-squared rises with one parameter, and its interval", _add_profile_options
    ),
    "simulate": Command(
        "Simulate a measurement and write it as a two-time file", _add_simulate_options
    ),
    "demo": Command(
        "Simulate a measurement from first principles, fit it, and compare with the truth",
        _add_demo_options,
    ),
    "completion": Command(
        "Print the code that makes a shell complete commands and options", _add_completion_options
    ),
}


def _add_output_options(parser: Options) -> None:
    """Add the options for files and printed output."""
    _add_flag(parser, "overwrite", REPLACE_RESULTS)
    parser.add_argument(
        "--export",
        action="append",
        choices=EXPORTS,
        default=[],
        help="also write fitted_data.npz with the arrays that homodyne writes",
    )
    parser.add_argument("--save-plots", "--plot", action="store_true", help=SAVE_PLOTS)
    _add_figure_options(parser)
    _add_flag(parser, "json", "print the results as JSON and nothing else")
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    parser.add_argument(
        "--log-file",
        type=path,
        metavar="FILE",
        help="append to this file what is done when, and what is printed, with --quiet, too",
    )


def _add_figure_options(parser: Options) -> None:
    """Add the options for how figures are written."""
    parser.add_argument("--format", metavar="LIST", help="of the figures, as png,pdf,svg")
    parser.add_argument("--dpi", type=int, metavar="N", help="pixels in an inch; default: 150")
    parser.add_argument(
        "--style",
        metavar="NAME",
        help="style of the figures: a name of matplotlib, such as ggplot, or a .mplstyle file",
    )


def _add_key_options(parser: Options) -> None:
    """Add the options that set keys of the configuration."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="set a key of the configuration, as --set analyzer_parameters.start_frame=10; "
        "may be given several times",
    )
    for name, metavar, meaning in (
        ("threads", "N", "number of threads; default: all; with --scheduler for each task, 1"),
        ("memory", "SIZE", "memory that may be used, as 2GB; default: 3/4 of the free memory"),
        ("scratch", "DIR", "folder for a file of unpacked matrices if memory is short"),
        ("max-iterations", "N", "largest number of passes over the points"),
    ):
        parser.add_argument(f"--{name}", metavar=metavar, help=meaning)
    parser.add_argument(
        "--fixed",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="hold a parameter, as --fixed alpha=0; may be given several times",
    )
    parser.add_argument(
        "--phi", nargs="+", metavar="ANGLE", help="fit only these angles, degrees, within half one"
    )
    starts = parser.add_mutually_exclusive_group()
    starts.add_argument(
        "--multistart",
        nargs="?",
        const="",
        metavar="N",
        help="search from several starts (the default), or from so many",
    )
    starts.add_argument(
        "--no-multistart", action="store_true", help="start from the start values alone"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--mode", dest="analysis_mode", metavar="MODE", help="analysis_mode: laminar_flow or static"
    )
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
            *(
                f"--initial-{name}"
                for name in dict.fromkeys([spelling, INITIAL_ALIASES.get(spelling, spelling)])
            ),
            dest=f"initial_{name}",
            metavar="VALUE",
            help=f"start value of {name}" + (f", {unit}" if unit else ""),
        )


def _add_foreign_options(parser: Options) -> None:
    """Accept the options of homodyne that have no effect here."""
    for option, (takes_value, _) in FOREIGN.items():
        action: dict[str, Any] = {"action": "append_const", "const": True}
        if takes_value:
            action = {"action": "append"}
        parser.add_argument(option, dest=option, help=argparse.SUPPRESS, **action)


def _add_flag(parser: Options, name: str, meaning: str) -> None:
    parser.add_argument(f"--{name}", action="store_true", help=meaning)


def _add_folder(
    parser: Options, meaning: str, default: Path | None = None, *, short: bool = False
) -> None:
    """Add the option for a folder of results, with the names of xpcsjax if `short`."""
    others = ("-o", "--output") if short else ()
    parser.add_argument(
        "--output-dir",
        *others,
        type=path,
        default=default,
        dest="output_dir",
        metavar="DIR",
        help=meaning,
    )


def _add_list(parser: Options, name: str, meaning: str) -> None:
    parser.add_argument(f"--{name}", type=number_list, metavar="LIST", help=meaning)


def _add_positive(parser: Options, name: str, unit: str, meaning: str) -> None:
    parser.add_argument(f"--{name}", type=positive_number(unit), help=meaning)


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
    """The type of an option for a path; an empty text, as from an unset variable, is refused."""
    if not text:
        raise argparse.ArgumentTypeError("a path is needed, and this is empty")
    return Path(text)


def positive_number(unit: str) -> Callable[[str], float]:
    """The type of an option for one positive number in this unit."""

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
