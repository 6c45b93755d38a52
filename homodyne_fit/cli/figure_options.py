"""From the options for figures to how they are written."""

from __future__ import annotations

import argparse

from homodyne_fit.errors import InputError
from homodyne_fit.report.figure_files import FigureFiles

__all__ = ["figure_files"]


def figure_files(args: argparse.Namespace) -> FigureFiles | None:
    """How figures are written; None if they are not, as without ``--save-plots``."""
    given = {
        "formats": args.format and tuple(args.format.replace(" ", "").lower().split(",")),
        "dpi": args.dpi,
        "style": args.style,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if not args.save_plots:
        if given:
            option = next(iter(given)).replace("formats", "format")
            raise InputError(f"--{option} has an effect only with --save-plots")
        return None
    files = FigureFiles(**given)
    # Imported late: matplotlib takes long, and only figures need it.
    from homodyne_fit.report.style import figure_style

    with figure_style(files.style):
        return files
