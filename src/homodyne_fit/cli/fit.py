"""Fit the measurement that a configuration describes."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from homodyne_fit.atomic import require_writable
from homodyne_fit.cli.wording import by_section, counted
from homodyne_fit.errors import InputError

if TYPE_CHECKING:
    from homodyne_fit.config import Config
    from homodyne_fit.results import FitResult

METHODS = ("nlsq", "mcmc", "cmc", "both")
OUTPUTS = ("parameters.json", "result.h5", "report.html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the drop-in form."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration")
    parser.add_argument(
        "--method", choices=METHODS, default="nlsq", help="nlsq (default); others are to come"
    )
    parser.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="where results go; default: FILE_results"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="sum on this Dask cluster, such as tcp://node17:8786"
    )


def run(args: argparse.Namespace) -> int:
    """Fit, write the results, print a summary; return 0 if converged, else 2."""
    from homodyne_fit.config import load_config

    if args.method != "nlsq":
        raise InputError(f"--method {args.method} is not available yet; use nlsq")
    config = load_config(args.config)
    folder = output_folder(config, args.output_dir)
    if not args.overwrite:
        require_no_results(folder)
    with executor_at(args.scheduler) as executor:
        result = fit_config(config, folder, quiet=args.quiet, executor=executor)
    return 0 if result.success else 2


def executor_at(scheduler: str | None) -> AbstractContextManager[Executor | None]:
    """The cluster of a scheduler, or None for the threads of this process."""
    if scheduler is None:
        return nullcontext()
    from homodyne_fit.executors import connect

    return connect(scheduler)


def output_folder(config: Config, given: Path | None) -> Path:
    """The folder asked for on the command line, in the file, or ``<config>_results``."""
    if given is not None:
        return given
    named = config.root.output.directory
    return (
        Path(named).expanduser() if named else config.path.with_name(f"{config.path.stem}_results")
    )


def require_no_results(folder: Path) -> None:
    """Raise an `InputError` if the folder holds results of an earlier fit."""
    if any((folder / name).exists() for name in OUTPUTS):
        raise InputError(f"{folder}: holds results already; give --overwrite to replace them")


def fit_config(
    config: Config, folder: Path, quiet: bool = False, executor: Executor | None = None
) -> FitResult:
    """Load, fit and write; the path that every fit from a file takes."""
    from rich.console import Console

    console = Console(quiet=quiet, highlight=False, soft_wrap=True)
    if config.ignored and not quiet:
        print(
            f"homodyne_fit: warning: {config.path}: without effect: {by_section(config.ignored)}",
            file=sys.stderr,
        )
    settings = config.settings()
    data = config.load_data()
    prepare_folder(folder)

    # Imported late: reading comes first, so that mistakes show before JAX is loaded.
    from homodyne_fit.cli.summary import print_summary
    from homodyne_fit.fit import fit
    from homodyne_fit.report import write_report

    console.print(
        f"{data.source}: {counted(data.n_angles, 'angle')}, {data.n_frames} frames, "
        f"q = {data.q[0]:.4g} Å⁻¹, dt = {data.dt:g} s",
        markup=False,
    )
    for note in data.notes:
        console.print(f"note: {note}", markup=False)
    with console.status("fitting") as status:
        result = fit(
            data,
            settings,
            executor,
            progress=lambda stage, passes, cost: status.update(
                f"fitting: {stage}, pass {passes:.1f}, cost per point {cost:.6g}"
            ),
        )
    described = config.to_json()
    result.write_json(folder / "parameters.json", described)
    result.write_hdf5(folder / "result.h5", data, described)
    write_report(folder / "report.html", data, result, described)
    print_summary(console, result)
    console.print(f"results: {folder}/ ({', '.join(OUTPUTS)})", markup=False)
    return result


def prepare_folder(folder: Path) -> None:
    """Make the folder, and be sure before the fit that results can be written into it.

    Raises
    ------
    InputError
        If they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{folder}: results need a folder, and this is a file") from error
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror or error})") from error
    for name in OUTPUTS:
        require_writable(folder / name)
