"""Compare fits: a table, and on request a page and a picture."""

from __future__ import annotations

import argparse

from homodyne_fit.analysis import compare
from homodyne_fit.cli.console import print_json
from homodyne_fit.report.figure_files import require_format
from homodyne_fit.report.style import plain_style
from homodyne_fit.results.folder import save_figure


def run(args: argparse.Namespace) -> int:
    """Print the comparison; return 0 if all fits converged, else 2."""
    if args.plot:
        require_format(args.plot)
    comparison = compare(args.results, args.labels)
    if args.json:
        print_json(comparison.to_json())
    else:
        print(comparison)
    written = []
    if args.html:
        written.append(comparison.write_html(args.html))
    if args.plot:
        with plain_style():
            written.append(save_figure(comparison.plot(), args.plot))
    if not args.json:
        for path in written:
            print(f"wrote {path}")
    return 0 if all(fit.result.success for fit in comparison.fits) else 2
