"""The summary of a fit: on the terminal, as text, and as HTML for notebooks."""

from __future__ import annotations

import html
import io
import math

from rich.console import Console
from rich.table import Table

from homodyne_fit.fitting.result import Estimate, FitResult
from homodyne_fit.report.numbers import format_estimate
from homodyne_fit.report.words import (
    adequacy_text,
    direction_text,
    forms_text,
    other_forms,
    uncertainty_text,
    warnings,
    weighting_differences,
    weighting_text,
)

__all__ = ["print_summary", "summary_html", "summary_text", "why_no_error"]

HEADER = ("parameter", "value", "unit", "")
# Wide enough for the table; sentences are not wrapped.
TEXT_WIDTH = 100


def why_no_error(estimate: Estimate) -> str:
    """Why a value has no standard error, in words; empty if it has one."""
    if estimate.fixed:
        return "fixed"
    if estimate.at_bound:
        return "at its bound"
    return _why_not_finite(estimate.stderr)


def print_summary(console: Console, result: FitResult) -> None:
    """Print verdict, parameters, rates at mid-measurement, range of the scaling, and warnings."""
    style, verdict, effort = _verdict(result)
    console.print(verdict, style=style, end="")
    console.print(f": {effort}", markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in HEADER:
        table.add_column(title, justify="right" if title == "value" else "left")
    for row in _rows(result):
        table.add_row(*row)
    console.print(table)
    for text in _below_the_table(result):
        console.print(text, markup=False, highlight=False)


def summary_text(result: FitResult) -> str:
    """What `print_summary` prints, without colours."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=TEXT_WIDTH,
        color_system=None,
        soft_wrap=True,
        force_jupyter=False,  # in a notebook rich would show the text in place of writing it
    )
    print_summary(console, result)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def summary_html(result: FitResult) -> str:
    """The same as a fragment of HTML."""
    _, verdict, effort = _verdict(result)

    def cells(tag: str, texts: tuple[str, ...]) -> str:
        return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)

    rows = "".join(f"<tr>{cells('td', row)}</tr>" for row in _rows(result))
    below = "".join(f"<div>{html.escape(text)}</div>" for text in _below_the_table(result))
    return (
        f"<div><b>{verdict}</b>: {html.escape(effort)}</div>"
        f"<table><thead><tr>{cells('th', HEADER)}</tr></thead><tbody>{rows}</tbody></table>{below}"
    )


def _verdict(result: FitResult) -> tuple[str, str, str]:
    """Colour, verdict, and what it took."""
    info = result.info
    style, verdict = ("green", "converged") if info.success else ("red", "NOT CONVERGED")
    return (
        style,
        verdict,
        f"{info.message}; {info.passes:.1f} passes over {result.n_points:,} points "
        f"in {info.seconds:.2f} s",
    )


def _rows(result: FitResult) -> list[tuple[str, ...]]:
    """Parameters, then rates at mid-measurement: name, value ± error, unit, why without error."""
    rows = [
        (
            name,
            format_estimate(estimate.value, estimate.stderr),
            estimate.unit,
            "not needed" if name in result.not_needed else why_no_error(estimate),
        )
        for name, estimate in result.parameters.items()
    ]
    middle = result.space.tau
    for name, (value, error, unit) in _rates(result).items():
        why = _why_not_finite(error) if error else "not free"
        rows.append((f"{name}({middle:.4g} s)", format_estimate(value, error), unit, why))
    return rows


def _below_the_table(result: FitResult) -> list[str]:
    """Scaling, layers, noise, warnings and notes."""
    lines = []
    several = len(result.contrast) > 1
    for name, values in (("contrast", result.contrast), ("offset", result.offset)):
        low, high = min(e.value for e in values), max(e.value for e in values)
        if several and high > low:
            lines.append(f"{name} {low:.4f} to {high:.4f} over the angles")
        else:
            lines.append(f"{name} {format_estimate(low, values[0].stderr)}")
    for layer in ("reparametrization", "regularization", "gradient_monitoring"):
        effect = result.info.layers.get(layer, {}).get("effect", "none")
        if not effect.startswith("none"):
            lines.append(f"{layer.replace('_', ' ')}: {effect}")
    lines += [f"noise {result.noise:.4g}", f"error bars: {uncertainty_text(result)}"]
    if weighting := weighting_text(result):
        lines += [f"weights: {weighting}"]
        lines += [f"  {text}" for text in weighting_differences(result)]
    lines.append(adequacy_text(result))
    if forms := forms_text(result):
        lines += [forms, *(f"  {text}" for text in other_forms(result))]
    determined = [name for name, (_, error, _) in _rates(result).items() if 0 < error < math.inf]
    return [
        *lines,
        *(f"warning: {text}" for text in warnings(result)),
        *_notes(result, determined),
    ]


def _rates(result: FitResult) -> dict[str, tuple[float, float, str]]:
    """Value, standard error and unit of the rates at mid-measurement, by name."""
    rates = {}
    for rate in result.rates:
        (value,), (error,) = rate.at(result.space.tau)
        name = "J" if rate.key == "J" else rate.name
        rates[name] = float(value), float(error), rate.unit
    return rates


def _notes(result: FitResult, determined: list[str]) -> list[str]:
    """How parameters can move together; `determined` are the rates that are."""
    if not result.weak_directions:
        return (
            [f"least determined: {direction_text(result, result.weakest)}"]
            if result.weakest
            else []
        )
    note = "note: the data hardly notice these changes together"
    if determined:
        note += f"; rely on {' and '.join(determined)} at mid-measurement, and on the curves in the"
        note += " report"
    lines = [note]
    for weak in result.weak_directions:
        line = f"  {direction_text(result, weak)}"
        if line not in lines:
            lines.append(line)
    return lines


def _why_not_finite(error: float) -> str:
    if math.isnan(error):
        return "at its floor"
    return "not determined" if math.isinf(error) else ""
