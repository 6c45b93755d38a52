"""Charts as inline SVG, for readers without JavaScript: axes, curves, bands and points.

Colours are those of the classes of the page's style sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.report.numbers import format_number

__all__ = ["Axis", "Curve", "chart"]

Floats = NDArray[np.float64]

# Size of a chart and its margins, pixels: left, right, top, bottom.
WIDTH, HEIGHT = 380, 260
MARGINS = 66, 10, 12, 42

# Powers of ten of an axis that are written out.
PLAIN_ORDERS = range(-2, 5)

# Ticks of an axis, about.
TICKS = 5


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`."""

    title: str
    low: float
    high: float
    log: bool = False

    def place(self, values: Floats) -> Floats:
        """0 to 1 along the axis."""
        if self.log:
            return np.log(values / self.low) / np.log(self.high / self.low)
        return (values - self.low) / (self.high - self.low)

    @property
    def order(self) -> int:
        """The power of ten that its numbers are multiples of where they are very large or small."""
        order = int(np.floor(np.log10(max(abs(self.low), abs(self.high)))))
        return 0 if self.log or order in PLAIN_ORDERS else order

    def ticks(self) -> list[float]:
        """Round numbers within the axis."""
        if self.log:
            first, last = int(np.floor(np.log10(self.low))), int(np.ceil(np.log10(self.high)))
            steps = (1, 2, 5) if self.high < 200 * self.low else (1,)
            values = [step * 10.0**decade for decade in range(first, last + 1) for step in steps]
            return [value for value in values if self.low <= value <= self.high]
        raw = (self.high - self.low) / TICKS
        power = 10.0 ** np.floor(np.log10(raw))
        step = power * next(step for step in (1, 2, 5, 10) if raw <= 1.0001 * step * power)
        first, last = np.ceil(self.low / step - 1e-9), np.floor(self.high / step + 1e-9)
        return [float(step * k) for k in np.arange(first, last + 1)]


@dataclass(frozen=True, eq=False)
class Curve:
    """Values at places, as a line or as points; with an error as a band or as bars.

    `kind` is a class of the style sheet: a colour.
    """

    x: Floats
    y: Floats
    error: Floats | None = None
    kind: str = "c0"
    points: bool = False
    label: str = ""


@dataclass
class _Frame:
    x: Axis
    y: Axis
    parts: list[str] = field(default_factory=list)

    def places(self, x: Floats, y: Floats) -> list[tuple[float, float]]:
        left, right, top, bottom = MARGINS
        across = left + self.x.place(x) * (WIDTH - left - right)
        down = HEIGHT - bottom - np.clip(self.y.place(y), 0, 1) * (HEIGHT - top - bottom)
        return list(zip(across.tolist(), down.tolist(), strict=True))


def chart(x: Axis, y: Axis, curves: Sequence[Curve], description: str) -> str:
    """An SVG element with a description for those who do not see it."""
    frame = _Frame(x, y)
    _draw_axes(frame)
    for curve in curves:
        _draw(frame, curve)
    _draw_legend(frame, [curve for curve in curves if curve.label])
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(description)}">{"".join(frame.parts)}</svg>'
    )


def _draw_axes(frame: _Frame) -> None:
    left, right, top, bottom = MARGINS
    foot, end = HEIGHT - bottom, WIDTH - right
    ticks = np.array(frame.x.ticks())
    places = frame.places(ticks, np.full(len(ticks), frame.y.low))
    for value, (a, _) in zip(ticks, places, strict=True):
        frame.parts.append(f'<path class="grid" d="M{a:.1f},{top}V{foot}"/>')
        frame.parts.append(_text(a, foot + 15, "middle", format_number(float(value), 3)))
    ticks = np.array(frame.y.ticks())
    places = frame.places(np.full(len(ticks), frame.x.low), ticks)
    for value, (_, b) in zip(ticks, places, strict=True):
        frame.parts.append(f'<path class="grid" d="M{left},{b:.1f}H{end}"/>')
        # Without the sign of −0.
        text = format_number(float(value) / 10.0**frame.y.order + 0.0, 4)
        frame.parts.append(_text(left - 5, b + 4, "end", text))
    frame.parts.append(f'<path class="axis" d="M{left},{top}V{foot}H{end}"/>')
    frame.parts.append(_text((left + end) / 2, HEIGHT - 8, "middle", frame.x.title))
    middle = (top + foot) / 2
    turned = f'transform="rotate(-90 12 {middle})" '
    order = format_number(10.0**frame.y.order, 1).removeprefix("1 × ")
    title = f"{frame.y.title}, times {order}" if frame.y.order else frame.y.title
    frame.parts.append(_text(12, middle, "middle", title, turned))


def _text(x: float, y: float, anchor: str, content: str, more: str = "") -> str:
    return f'<text {more}x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def _draw(frame: _Frame, curve: Curve) -> None:
    inside = np.isfinite(curve.y) & (curve.x >= frame.x.low) & (curve.x <= frame.x.high)
    x, y = curve.x[inside], curve.y[inside]
    if curve.error is not None:
        error = curve.error[inside]
        known = np.isfinite(error)
        low, high = y - error, y + error
        if frame.y.log:
            low = np.maximum(low, frame.y.low)
        if curve.points:
            ends = zip(frame.places(x, low), frame.places(x, high), known, strict=True)
            path = "".join(f"M{a:.1f},{b:.1f}V{c:.1f}" for (a, b), (_, c), ok in ends if ok)
            frame.parts.append(f'<path class="bar {curve.kind}" d="{path}"/>')
        elif np.any(known):
            outline = frame.places(x[known], high[known])
            outline += frame.places(x[known], low[known])[::-1]
            frame.parts.append(f'<path class="band {curve.kind}" d="{_path(outline)}Z"/>')
    places = frame.places(x, y)
    if curve.points:
        dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2"/>' for a, b in places)
        frame.parts.append(f'<g class="dot {curve.kind}">{dots}</g>')
    elif places:
        frame.parts.append(f'<path class="line {curve.kind}" d="{_path(places)}"/>')


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:.1f},{b:.1f}" for a, b in places)


def _draw_legend(frame: _Frame, curves: Sequence[Curve]) -> None:
    right = WIDTH - MARGINS[1] - 4
    for row, curve in enumerate(curves):
        frame.parts.append(
            f'<text class="{curve.kind}" x="{right}" y="{24 + 14 * row}" text-anchor="end">'
            f"{escape(curve.label)}</text>"
        )
