"""Rewrite the report of a fit, from result.h5 alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from homodyne_fit.analysis import load_result
from homodyne_fit.cli.figure_options import figure_files
from homodyne_fit.cli.reporter import reporter_of
from homodyne_fit.progress import Step
from homodyne_fit.report.html import write_report
from homodyne_fit.report.summary import print_summary
from homodyne_fit.results.folder import make_folder, with_encodable_source, write_plots
from homodyne_fit.results.names import PLOTS, POSTERIOR_PAGE, REPORT
from homodyne_fit.results.posterior_files import read_posterior


def run(args: argparse.Namespace) -> int:
    """Write report.html, and figures with --save-plots; return 0 even without convergence."""
    plots = figure_files(args)
    result = load_result(args.results)
    source = args.results if args.results.is_dir() else args.results.parent
    folder: Path = args.output_dir or source
    make_folder(folder)
    data = with_encodable_source(result.data)
    with reporter_of(args) as reporter:
        with reporter.progress() as show:
            show(Step("drawing the report"))
            write_report(
                folder / REPORT,
                data,
                result,
                result.config,
                result.provenance,
                result.posterior,
            )
        if args.summary:
            reporter.show(lambda console: print_summary(console, result, whole=args.verbose))
        reporter.print(f"wrote {folder / REPORT}")
        posterior = read_posterior(source, result)
        if posterior is not None:
            # Imported late: matplotlib takes long.
            from homodyne_fit.report.posterior_page import write_posterior_page

            write_posterior_page(folder / POSTERIOR_PAGE, posterior, result, data.source)
            reporter.print(f"wrote {folder / POSTERIOR_PAGE}")
        if plots is not None:
            with reporter.progress() as show:
                show(Step("drawing the figures"))
                drawn = write_plots(result, folder / PLOTS, plots)
            reporter.print(f"wrote {len(drawn)} figures in {folder / PLOTS}/")
    return 0
