"""A comparison of fits in words and tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from string import ascii_uppercase

import numpy as np

from homodyne_fit.errors import counted
from homodyne_fit.report.comparison import Comparison, Fit, Quantity
from homodyne_fit.report.numbers import (
    format_estimate,
    format_number,
    joined_with_and,
)

__all__ = [
    "COMPARED",
    "JUDGED",
    "Row",
    "comparison_html",
    "comparison_text",
    "described",
    "fit_rows",
    "letters",
    "notes",
    "quantity_rows",
]

# Columns of a terminal.
TEXT_WIDTH = 80

# Heads of the two tables: what the fits found, and how well they describe the data.
COMPARED = ("", "fit", "value ± error", "difference", "σ")
JUDGED = ("fit", "describes the data", "reduced χ²", "NRMSE", "ΔAIC", "ΔBIC")

# Differences below this number of σ are told with a decimal.
PLAIN_SIGMAS = 100.0


@dataclass(frozen=True)
class Row:
    """A line of the table of quantities; `name` is there in the first line of each."""

    name: str
    fit: str
    value: str
    difference: str
    sigmas: str
    notable: bool


def letters(comparison: Comparison) -> list[str]:
    """A short name of each fit: A, B, …, and numbers where there are many."""
    count = len(comparison.fits)
    return list(ascii_uppercase[:count]) if count <= 26 else [str(k + 1) for k in range(count)]


def described(fit: Fit) -> str:
    """Model, data and mode of a fit."""
    result, o = fit.result, fit.result.objective
    frames = f"{o.n_frames} frames"
    if fit.first_frame:
        frames += f" from {fit.first_frame + 1}"
    parts = [
        result.model.name,
        f"{counted(len(result.contrast), 'angle')}, {frames} of {format_number(o.dt)} s",
        f"scaling {o.scaling.mode}",
        f"{result.uncertainty.model} noise",
    ]
    if result.weighting is not None and result.weighting.used:
        parts.append("weighted points")
    return "; ".join(parts if result.success else ["NOT CONVERGED", *parts])


def quantity_rows(comparison: Comparison) -> Iterator[Row]:
    """Lines of the table of quantities."""
    for quantity in comparison.quantities:
        first = True
        for number, letter in enumerate(letters(comparison)):
            if quantity.estimates[number] is not None:
                yield _row(comparison, quantity, number, letter, named=first)
                first = False


def _row(
    comparison: Comparison, quantity: Quantity, number: int, letter: str, *, named: bool
) -> Row:
    estimate = quantity.estimates[number]
    assert estimate is not None
    value = format_estimate(estimate.value, estimate.stderr)
    value += " fixed" * estimate.fixed + " at bound" * estimate.at_bound
    value += " not determined" * bool(np.isinf(estimate.stderr))
    unit = f" ({quantity.unit})" if quantity.unit else ""
    difference = comparison.difference(quantity, number)
    told, sigmas = "", np.nan
    if difference is not None and (difference.value or difference.error):
        error = difference.error if np.isfinite(difference.error) else np.nan
        told, sigmas = format_estimate(difference.value, error), difference.sigmas
        told = told if told.startswith(("−", "(−")) else f"+{told}"
    shown = "" if np.isnan(sigmas) else _signed(sigmas)
    return Row(f"{quantity.name}{unit}" * named, letter, value, told, shown, abs(sigmas) >= 3)


def _signed(sigmas: float) -> str:
    text = f"{sigmas:+.1f}" if abs(sigmas) < PLAIN_SIGMAS else f"{sigmas:+.0f}"
    return text.replace("-", "−")


def fit_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Lines of the table of fits: how well each describes the data."""
    rows = []
    for number, (letter, fit) in enumerate(zip(letters(comparison), comparison.fits, strict=True)):
        goodness, adequacy = fit.result.goodness, fit.result.adequacy
        adequate = {True: "yes", False: "NO", None: "cannot be judged"}[adequacy.adequate]
        if adequacy.p_value is not None:
            adequate += f" (p {_probability(adequacy.p_value)})"
        criteria = comparison.criteria(number) or (np.nan, np.nan)
        rows.append(
            (
                letter,
                adequate,
                *(_number(x) for x in (goodness.reduced_chi2, goodness.nrmse)),
                *("–" if np.isnan(x) else _criterion(x) for x in criteria),
            )
        )
    return rows


def _number(value: float) -> str:
    return "–" if np.isnan(value) else format_number(value, 3)


def _criterion(value: float) -> str:
    return "0" if value == 0 else _signed(value)


def _probability(p: float) -> str:
    return f"= {format_number(p, 2)}" if p >= 1e-9 else "< 1e-9"


def notes(comparison: Comparison) -> list[str]:
    """What the numbers mean: what σ is, which times are compared, and which criteria count."""
    names = letters(comparison)
    kinds = {
        kind: [
            names[k] for k, each in enumerate(comparison.relations) if each.kind == kind and k > 0
        ]
        for kind in ("same", "shared", "other")
    }
    told = []
    for kind, data in (("same", "the same points as"), ("shared", "points in common with")):
        if kinds[kind]:
            told.append(
                f"{_have(kinds[kind])} {data} {names[0]}: the estimates are not independent. σ is "
                "the larger of the two errors: how far an answer moves, not a test."
            )
    if kinds["other"]:
        told.append(
            f"{_have(kinds['other'])} other data than {names[0]}: σ is the root of the sum of both "
            "errors squared."
        )
    if kinds["same"]:
        told.append(
            f"ΔAIC and ΔBIC: to {names[0]}, negative where a fit is better, by about 10 where it "
            "is clear; noise that points share is allowed for."
        )
    robust = [
        name
        for name, fit in zip(names, comparison.fits, strict=True)
        if fit.result.goodness.of_pseudo_data
    ]
    if robust:
        told.append(
            f"{_have(robust)} a robust loss: χ² and NRMSE are those with outliers drawn to the "
            "fit, and there is no ΔAIC or ΔBIC."
        )
    if comparison.from_one_file and any(fit.first_frame for fit in comparison.fits):
        told.append(
            "Times are from the first frame of the file; D0, gamma_dot_t0 and exponents belong to "
            "power laws in the time from the first frame of each fit."
        )
    elif len({fit.duration for fit in comparison.fits}) > 1:
        told.append("Times are from the first frame of each fit.")
    if not len(comparison.common_times):
        told.append("The fits have no time in common: compare means and curves.")
    if len({fit.result.uncertainty.model for fit in comparison.fits}) > 1:
        told.append("The error bars of the fits assume different noise.")
    return told


def _have(names: list[str]) -> str:
    return f"{joined_with_and(names)} {'has' if len(names) == 1 else 'have'}"


def comparison_text(comparison: Comparison) -> str:
    """The comparison as lines of at most 80 columns but for long names."""
    names = letters(comparison)
    lines = []
    for name, fit in zip(names, comparison.fits, strict=True):
        lines += [f"{name}  {fit.label}", f"   {described(fit)}"]
    rows = [(r.name, r.fit, r.value, r.difference, r.sigmas) for r in quantity_rows(comparison)]
    lines += ["", *_aligned([COMPARED, *rows]), "", *_aligned([JUDGED, *fit_rows(comparison)]), ""]
    for text in notes(comparison):
        lines += textwrap.wrap(text, TEXT_WIDTH, subsequent_indent="  ", break_long_words=False)
    return "\n".join(lines)


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def comparison_html(comparison: Comparison) -> str:
    """The same as a fragment of HTML, for notebooks."""

    def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
        lines = [
            "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
            for tag, group in (("th", [head]), ("td", rows))
            for row in group
        ]
        return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"

    fits = [
        (name, fit.label, described(fit))
        for name, fit in zip(letters(comparison), comparison.fits, strict=True)
    ]
    rows = [(r.name, r.fit, r.value, r.difference, r.sigmas) for r in quantity_rows(comparison)]
    below = "".join(f"<div>{escape(text)}</div>" for text in notes(comparison))
    return "".join(
        [
            table(("fit", "result", ""), fits),
            table(COMPARED, rows),
            table(JUDGED, fit_rows(comparison)),
            below,
        ]
    )
