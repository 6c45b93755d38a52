"""A page that compares fits: one HTML file that holds all it shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from homodyne_fit.atomic import replacing
from homodyne_fit.model.rates import RATE_FLOOR
from homodyne_fit.report.comparison import Comparison, Curve
from homodyne_fit.report.comparison_text import (
    COMPARED,
    JUDGED,
    described,
    fit_rows,
    letters,
    notes,
    quantity_rows,
)
from homodyne_fit.report.page_data import Arrays, as_script
from homodyne_fit.report.page_files import render_page
from homodyne_fit.report.svg import Axis, chart
from homodyne_fit.report.svg import Curve as SvgCurve
from homodyne_fit.report.views import LOG_RANGE

__all__ = ["write_comparison"]

# Classes of the style sheet, by fit: colours that differ.
KINDS = ("c1", "late", "middle", "early", "moved", "c0")


def write_comparison(path: Path, comparison: Comparison) -> Path:
    """Write the page, which appears whole or not at all; return its path."""
    arrays = Arrays()
    rates = [_rate(arrays, comparison, key) for key in comparison.rate_keys]
    names = letters(comparison)
    text = render_page(
        "comparison.html",
        "arrays.js",
        "charts.js",
        "comparison.js",
        numbers=as_script({"rates": rates, "arrays": arrays.stored}),
        first=0,
        title=f"{len(names)} fits",
        fits=[
            {"letter": name, "label": fit.label, "text": described(fit), "kind": _kind(number)}
            for number, (name, fit) in enumerate(zip(names, comparison.fits, strict=True))
        ],
        rates=rates,
        pictures=[_still(comparison, key) for key in comparison.rate_keys],
        head=COMPARED,
        rows=list(quantity_rows(comparison)),
        judged_head=JUDGED,
        judged=fit_rows(comparison),
        notes=notes(comparison),
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _kind(number: int) -> str:
    return KINDS[number % len(KINDS)]


def _rate(arrays: Arrays, comparison: Comparison, key: str) -> dict:
    name, symbol, unit = comparison.rate_name(key)
    curves = comparison.curves(key)
    return {
        "key": key,
        "heading": f"{name.capitalize()} {symbol}(t), {unit}",
        "symbol": f"{symbol}(t)",
        "unit": unit,
        "log": _is_wide(curves),
        "curves": [
            {
                "label": f"{letters(comparison)[number]} {comparison.fits[number].label}",
                "kind": _kind(number),
                "time": arrays.floats(curve.times),
                "value": arrays.floats(curve.values),
                "error": arrays.floats(curve.errors),
            }
            for number, curve in enumerate(curves)
            if curve is not None
        ],
    }


def _is_wide(curves: list[Curve | None]) -> bool:
    """Whether rates span decades."""
    values = np.concatenate([curve.values[1:] for curve in curves if curve is not None])
    return bool(values.min() > RATE_FLOOR and values.max() > LOG_RANGE * values.min())


def _still(comparison: Comparison, key: str) -> dict[str, str]:
    """The curves of a rate without JavaScript."""
    name, symbol, unit = comparison.rate_name(key)
    curves, log = comparison.curves(key), _is_wide(comparison.curves(key))
    known = [(number, curve) for number, curve in enumerate(curves) if curve is not None]
    times = np.concatenate([curve.times[1:] for _, curve in known])
    values = np.concatenate([curve.values[1:] for _, curve in known])
    low, high = float(values.min()), float(values.max())
    room = 0.3 * (high - low) or 0.3 * abs(high) or 1.0
    low, high = (low / 2, high * 2) if log else (low - room, high + room)
    low = min(low, 0.0) if not log and low < 0.5 * high else low
    shown = [
        SvgCurve(
            curve.times,
            curve.values,
            curve.errors,
            _kind(number),
            label=f"{letters(comparison)[number]} {comparison.fits[number].label}",
        )
        for number, curve in known
    ]
    caption = f"{name.capitalize()} {symbol}(t) of the fits with 68 % bands, in {unit}."
    x = Axis("time (s)", float(times.min()), float(times.max()), log)
    svg = chart(x, Axis(f"{symbol}(t) ({unit})", low, high, log), shown, caption)
    return {"svg": svg, "caption": caption}
