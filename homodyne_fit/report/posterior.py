"""What the draws of a posterior say, in words and as a table."""

from __future__ import annotations

import html
import io

import numpy as np
from rich.console import Console
from rich.table import Table

from homodyne_fit.fitting.result import FitResult
from homodyne_fit.posterior.draws import PosteriorSummary, Quantity

__all__ = ["posterior_html", "posterior_text", "print_posterior"]

HEADER = ("posterior", "mean", "sd", "95 % from", "to", "R-hat", "ESS")

# As wide as the summary of a fit.
TEXT_WIDTH = 100


def print_posterior(console: Console, summary: PosteriorSummary, result: FitResult) -> None:
    """Print how the posterior was sampled, a table of its numbers, and what is wrong with it."""
    console.print(_verdict(summary), markup=False, style="green" if summary.success else "red")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in HEADER:
        table.add_column(title, justify="left" if title == HEADER[0] else "right")
    for row in _rows(summary, result):
        table.add_row(*row)
    console.print(table)
    for line in _below(summary):
        console.print(line, markup=False, highlight=False)


def posterior_text(summary: PosteriorSummary | None, result: FitResult) -> str:
    """What `print_posterior` prints, without colours; nothing without a posterior."""
    if summary is None:
        return ""
    stream = io.StringIO()
    console = Console(file=stream, width=TEXT_WIDTH, color_system=None, soft_wrap=True)
    print_posterior(console, summary, result)
    return "\n" + "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def posterior_html(summary: PosteriorSummary | None, result: FitResult) -> str:
    """The same as a fragment of HTML."""
    if summary is None:
        return ""

    def cells(tag: str, texts: tuple[str, ...]) -> str:
        return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)

    rows = "".join(f"<tr>{cells('td', row)}</tr>" for row in _rows(summary, result))
    below = "".join(f"<div>{html.escape(text)}</div>" for text in _below(summary))
    return (
        f"<div>{html.escape(_verdict(summary))}</div><table><thead><tr>{cells('th', HEADER)}</tr>"
        f"</thead><tbody>{rows}</tbody></table>{below}"
    )


def _verdict(summary: PosteriorSummary) -> str:
    d = summary.diagnostics
    state = "converged" if summary.success else "NOT CONVERGED"
    how = {"importance": "importance sampling", "nuts": "NUTS"}[d.sampler]
    trust = f"Pareto k {d.pareto_k:.2f}" if d.sampler == "importance" else ""
    trust = trust or f"{d.divergences} divergences"
    return (
        f"posterior {state}: {d.chains} × {d.draws} draws by {how}, R-hat at most "
        f"{summary.largest_r_hat:.3f}, {trust}, {d.seconds:.1f} s"
    )


def _rows(summary: PosteriorSummary, result: FitResult) -> list[tuple[str, ...]]:
    """All quantities but contrast and offset of single angles, of which files have the numbers."""
    middle, names = result.space.tau, {"J_mid": "J", "gamma_dot_mid": "shear rate"}
    rows = []
    for name, q in summary.quantities.items():
        if "[" in name:
            continue
        shown = (
            f"{names[name]}({middle:.4g} s)"
            if name in names
            else name.replace("_spread", " spread")
        )
        rows.append((shown, *_numbers(q)))
    return rows


def _numbers(q: Quantity) -> tuple[str, ...]:
    low, *_, high = q.quantiles
    ess = f"{q.ess:.0f}" if np.isfinite(q.ess) else ""
    return f"{q.mean:.6g}", f"{q.sd:.2g}", f"{low:.5g}", f"{high:.5g}", f"{q.r_hat:.3f}", ess


def _below(summary: PosteriorSummary) -> list[str]:
    lines = [f"warning: {problem}" for problem in summary.problems]
    lines += [f"note: {note}" for note in summary.diagnostics.notes]
    if summary.consensus:
        c = summary.consensus
        lines.append(
            f"consensus over {c['shards']} shards of angles, against the posterior of all data: "
            f"means off by {c['largest_shift']:.2f} SD at most ({c['worst_mean']}), SDs by "
            f"{100 * c['largest_sd_error']:.0f} % at most ({c['worst_sd']})"
        )
    return lines
