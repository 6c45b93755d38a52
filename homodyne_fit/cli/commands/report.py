"""Rewrite the report of a fit, from result.h5 alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from homodyne_fit.cli.options import path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
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


def run(args: argparse.Namespace) -> int:
    """Write report.html, and figures if asked; return 0 even if the fit did not converge."""
    from homodyne_fit.analysis import load_result
    from homodyne_fit.cli.console import new_console
    from homodyne_fit.report.html import write_report
    from homodyne_fit.report.summary import print_summary
    from homodyne_fit.results.folder import PLOTS, make_folder, write_plots

    result = load_result(args.results)
    beside = args.results if args.results.is_dir() else args.results.parent
    folder: Path = args.output_dir or beside
    make_folder(folder)
    write_report(folder / "report.html", result.data, result, result.config, result.provenance)
    console = new_console(quiet=False)
    if args.summary:
        print_summary(console, result)
    console.print(f"wrote {folder / 'report.html'}", markup=False)
    if args.save_plots:
        drawn = write_plots(result, folder / PLOTS)
        console.print(f"wrote {len(drawn)} figures in {folder / PLOTS}/", markup=False)
    return 0
