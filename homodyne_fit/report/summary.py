"""The summary of a fit: on the terminal, as text, and as HTML for notebooks.

It begins with a screen for the scientist: the verdict, what may be quoted, and warnings. The rest,
the parameters one by one and how they were found, follows where all of it is asked for.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from homodyne_fit.fitting.result import Estimate, FitResult
from homodyne_fit.report.numbers import format_estimate, format_number
from homodyne_fit.report.robust import robust_text
from homodyne_fit.report.verdict import QuoteRow, Verdict, judge, quotable, quote_table
from homodyne_fit.report.words import (
    adequacy_text,
    direction_text,
    forms_text,
    goodness_text,
    hardly_determined_text,
    no_convergence_text,
    other_forms,
    uncertainty_text,
    warnings,
    weighting_differences,
    weighting_text,
)

__all__ = ["print_summary", "summary_html", "summary_text", "why_no_error"]

HEADER = ("parameter", "value", "unit", "")

# Columns of a line, where the terminal has as many.
WIDTH = 80

# Lines of the first screen, less those that a command prints before and after it.
MOST_LINES = 34

MORE = "the parameters one by one, and how they were found: the report, or -v"

# With spaces at which no line ends.
HELD_TOGETHER = "\u00a0±\u00a0"

STYLES = {"good": "green", "caution": "yellow", "bad": "red"}

# Quantities that have a long name in the report.
SHORT_NAMES = {
    "relaxation time 1/(q² J)": "1/(q² J)",
    "strain γ since the first frame": "strain",
}


def why_no_error(estimate: Estimate) -> str:
    """Why a value has no standard error, in words; empty if it has one."""
    if estimate.fixed:
        return "fixed"
    if estimate.at_bound:
        return "at its bound"
    return _why_not_finite(estimate.stderr)


def print_summary(console: Console, result: FitResult, *, whole: bool = False) -> None:
    """Print verdict, what may be quoted, and warnings; with `whole` all that is known, too."""
    width = min(console.width, WIDTH)
    for line in _first_screen(result, width, whole=whole):
        console.print(line)
    if whole:
        for line in [Text(), *_rest(result, width)]:
            console.print(line)


def summary_text(result: FitResult) -> str:
    """All of what `print_summary` prints, without colours."""
    lines = [*_first_screen(result, WIDTH, whole=True), Text(), *_rest(result, WIDTH)]
    return "\n".join(line.plain.rstrip() for line in lines)


def summary_html(result: FitResult) -> str:
    """The same as a fragment of HTML."""
    verdict = judge(result, bool(_serious(result)))

    def cells(tag: str, texts: tuple[str, ...]) -> str:
        return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)

    rows = "".join(f"<tr>{cells('td', row)}</tr>" for row in _rows(result))
    below = "".join(
        f"<div>{html.escape(text)}</div>"
        for text in [
            *(f"warning: {text}" for text in _serious(result)),
            *_below_the_table(result),
        ]
    )
    return (
        f"<div><b>{html.escape(verdict.headline)}</b> "
        f"{html.escape(' '.join(verdict.sentences))}</div>"
        f"<table><thead><tr>{cells('th', HEADER)}</tr></thead><tbody>{rows}</tbody></table>{below}"
    )


def _first_screen(result: FitResult, width: int, *, whole: bool) -> list[Text]:
    """Verdict, what may be quoted, and warnings."""
    serious = _serious(result)
    lines = [
        *_verdict(result, judge(result, bool(serious)), width),
        Text(),
        *(_quotes(result, width) if result.success else _parameters(result)),
    ]
    if serious:
        room = None if whole else MOST_LINES - len(lines)
        lines += [Text(), *_warnings(serious, width, room)]
    if not whole:
        lines += _wrapped(MORE, width)
    return lines


def _serious(result: FitResult) -> list[str]:
    """Warnings of what the verdict does not say."""
    told = [*hardly_determined_text(result), *no_convergence_text(result)]
    return [text for text in warnings(result) if text not in told]


def _verdict(result: FitResult, verdict: Verdict, width: int) -> list[Text]:
    """Headline, the three questions with their answers, and the two sentences."""
    info = result.info
    effort = f"{info.passes:.1f} passes over {result.n_points:,} points in {info.seconds:.1f} s"
    head = Text(verdict.headline, style=f"bold {STYLES[verdict.level]}")
    lines = [*head.wrap(Console(width=width), width), Text(effort)]
    longest = max(len(light.question) for light in verdict.lights)
    for light in verdict.lights:
        question = Text(f"  {light.question:{longest}}  ")
        lines.append(question.append(light.answer, style=STYLES[light.level]))
    return [*lines, Text(), *_wrapped(" ".join(verdict.sentences), width)]


def _quotes(result: FitResult, width: int) -> list[Text]:
    """Curves at some times, then single numbers."""
    table = quote_table(result)
    rows = [("", *(f"at {format_number(time, 4)} s" for time in table.times), "mean")]
    rows += [_quote_row(row.in_power_of_ten()) for row in table.rows]
    while len(rows[0]) > 2 and max(map(cell_len, _aligned(rows))) > width:
        rows = [row[:-1] for row in rows]
    quotes = [(quote.name, quote.text, quote.meaning) for quote in quotable(result)]
    heads, *curves = _aligned(rows)
    return [
        Text(heads, style="bold"),
        *map(Text, curves),
        *map(Text, _aligned(quotes, to_the_left=True)),
    ]


def _quote_row(row: QuoteRow) -> tuple[str, ...]:
    name = SHORT_NAMES.get(row.name, row.name)
    return (f"{name} ({row.unit})" if row.unit else name, *row.texts)


def _warnings(texts: Sequence[str], width: int, room: int | None) -> list[Text]:
    """As many warnings as there is room for, the first in any case, and how many there are more."""
    lines: list[Text] = []
    for number, text in enumerate(texts):
        block = _wrapped(f"warning: {text}", width, indent="  ")
        if number and room is not None and len(lines) + len(block) > room:
            more = len(texts) - number
            lines.append(Text(f"and {more} more warning{'s' * (more > 1)}, which the report has"))
            break
        lines += block
    return lines


def _rest(result: FitResult, width: int) -> list[Text]:
    """The parameters one by one, and how they were found."""
    lines = [*_parameters(result), Text()] if result.success else []
    for text in _below_the_table(result):
        indent = "  " if text.startswith("  ") else ""
        lines += _wrapped(text.strip(), width, indent=f"{indent}  ", first=indent)
    return lines


def _parameters(result: FitResult) -> list[Text]:
    rows = [HEADER, *_rows(result)]
    heads, *others = _aligned(rows, to_the_left=True)
    return [Text(heads, style="bold"), *map(Text, others)]


def _aligned(rows: Sequence[Sequence[str]], *, to_the_left: bool = False) -> list[str]:
    """Rows as lines with columns two spaces apart; all but the first column to the right."""
    if not rows:
        return []
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_cells(row, widths, to_the_left=to_the_left)).rstrip() for row in rows]


def _cells(row: Sequence[str], widths: Sequence[int], *, to_the_left: bool) -> list[str]:
    cells = []
    for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
        space = " " * (width - cell_len(cell))
        cells.append(cell + space if to_the_left or number == 0 else space + cell)
    return cells


def _wrapped(text: str, width: int, indent: str = "", first: str = "") -> list[Text]:
    """Lines of a text, which do not break a value from its error."""
    wrapped = textwrap.wrap(
        text.replace(" ± ", HELD_TOGETHER),
        width,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [Text(line.replace(HELD_TOGETHER, " ± ")) for line in wrapped]


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
    if robust := robust_text(result):
        lines.append(f"loss: {robust}")
    lines.append(adequacy_text(result))
    lines += filter(None, [goodness_text(result)])
    if forms := forms_text(result):
        lines += [forms, *(f"  {text}" for text in other_forms(result))]
    determined = [name for name, (_, error, _) in _rates(result).items() if 0 < error < math.inf]
    lines += (f"warning: {text}" for text in hardly_determined_text(result))
    return [*lines, *_notes(result, determined)]


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
