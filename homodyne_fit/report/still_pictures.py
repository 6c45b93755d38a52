"""The still picture of a report: rates, and the cuts of one angle, as SVG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.result import FitResult, Rate
from homodyne_fit.model.rates import RATE_FLOOR
from homodyne_fit.report.numbers import format_estimate, format_number
from homodyne_fit.report.svg import Axis, Curve, chart
from homodyne_fit.report.views import LOG_RANGE, AngleView

__all__ = ["StillPicture", "still_pictures"]

Floats = NDArray[np.float64]

# Points of a curve, about.
CURVE_POINTS = 100

# Classes of the parts of the measurement, early to late.
PARTS = ("early", "middle", "late")


@dataclass(frozen=True)
class StillPicture:
    """An SVG element and its caption."""

    svg: str
    caption: str


def still_pictures(result: FitResult, times: Floats, view: AngleView) -> list[StillPicture]:
    """The rates with their bands, and the mean c2 of one angle against lag."""
    later = times[1:]
    shown = later[:: -(-len(later) // CURVE_POINTS)]
    return [*(_of_rate(rate, shown) for rate in result.rates), _of_cuts(view)]


def _of_rate(rate: Rate, times: Floats) -> StillPicture:
    value, error = rate.at(times)
    log = bool(value.min() > RATE_FLOOR and value.max() > LOG_RANGE * value.min())
    visible = np.minimum(np.nan_to_num(error, posinf=0.0), np.abs(value).max())
    low, high = float((value - visible).min()), float((value + visible).max())
    if log:
        low, high = float(value.min()) / 2, float(value.max()) * 2
    elif low < 0.5 * high:
        low = min(low, 0.0)
    if not high > low:
        low, high = low - 1.0, high + 1.0
    y = Axis(f"{rate.symbol}(t) ({rate.unit})", low, high, log)
    ends = ((value[k], error[k], times[k]) for k in (0, len(times) // 2, -1))
    points = (f"{format_estimate(v, e)} at {format_number(t)} s" for v, e, t in ends)
    caption = f"{rate.name.capitalize()} {rate.symbol}(t) with its 68 % band, in {rate.unit}."
    x = Axis("time (s)", float(times[0]), max(float(times[-1]), float(times[0]) * 1.001), log)
    svg = chart(x, y, [Curve(times, value, error, "c1")], f"{caption} {', '.join(points)}.")
    return StillPicture(svg, caption)


def _of_cuts(view: AngleView) -> StillPicture:
    curves, values, lags = [], [], []
    for cut, kind in zip(view.cuts, PARTS, strict=False):
        label = f"age {cut.begin:.3g}–{cut.end:.3g} s"
        curves.append(Curve(cut.lag, cut.data, cut.stderr, kind, points=True, label=label))
        curves.append(Curve(cut.lag, cut.fit, None, kind))
        values += [cut.fit, cut.data[cut.stderr <= np.quantile(cut.stderr, 0.75)]]
        lags.append(cut.lag)
    every = np.concatenate(values) if values else np.array([0.0, 1.0])
    lag = np.concatenate(lags) if lags else np.array([1.0, 2.0])
    room = 0.06 * float(np.ptp(every)) or 1e-3
    caption = (
        f"c2 against lag at φ = {format_number(view.phi)}°, averaged over three parts of the "
        "measurement: points are data, lines the fit."
    )
    x = Axis("lag t2 − t1 (s)", float(lag.min()) / 1.1, float(lag.max()) * 1.1, log=True)
    y = Axis("c2", float(every.min()) - room, float(every.max()) + room)
    return StillPicture(chart(x, y, curves, caption), caption)
