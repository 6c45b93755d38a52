"""A page about the posterior of a fit: its numbers, traces, and pairs of parameters."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from homodyne_fit.atomic import replacing
from homodyne_fit.fitting.result import FitResult
from homodyne_fit.posterior.draws import Posterior
from homodyne_fit.report.page_files import render_page
from homodyne_fit.report.posterior import posterior_html
from homodyne_fit.report.posterior_figures import plot_pairs, plot_trace
from homodyne_fit.report.style import plain_style

__all__ = ["write_posterior_page"]

PIXELS_IN_AN_INCH = 180


def write_posterior_page(path: Path, posterior: Posterior, result: FitResult, source: str) -> None:
    """Write a self-contained page; it appears whole or not at all.

    Parameters
    ----------
    path : Path
    posterior : Posterior
    result : FitResult
        The fit that the draws were made from.
    source : str
        Of the data.
    """
    with plain_style():
        pictures = [_svg(plot_pairs(posterior, result)), _svg(plot_trace(posterior))]
    text = render_page(
        "posterior.html",
        numbers="{}",
        first=0,
        title=Path(source).name,
        source=source,
        success=posterior.summary.success,
        table=posterior_html(posterior.summary, result),
        pairs=pictures[0],
        trace=pictures[1],
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _svg(figure: Figure) -> str:
    """A figure as an SVG element."""
    stream = io.StringIO()
    # Points are pixels: as paths, thousands of them would be megabytes.
    figure.savefig(
        stream, format="svg", dpi=PIXELS_IN_AN_INCH, metadata={"Date": None, "Creator": None}
    )
    _, start, rest = stream.getvalue().partition("<svg")
    return start + rest
