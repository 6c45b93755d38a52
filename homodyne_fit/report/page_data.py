"""The numbers of a report for its JavaScript: JSON, with arrays as base64.

An array is ``{"type", "data"}`` with little-endian float32, or uint16 and uint8 that stand for
``low + step · value``; the largest of these is a missing value. Of symmetric matrices the half with
t1 ≤ t2 is there, row after row. Equal arrays are there once: a place of an array in the JSON is its
number in the list ``arrays``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.fitting.result import Estimate, FitResult, finite_or_none
from homodyne_fit.model.rates import RATE_FLOOR, curves
from homodyne_fit.report.moves import Move, rivals
from homodyne_fit.report.reduction import HISTOGRAM_RANGE
from homodyne_fit.report.views import LOG_RANGE, AngleView, LagCut

__all__ = [
    "MOVED_POINTS",
    "Arrays",
    "ModelBand",
    "as_script",
    "most_pixels",
    "page_data",
    "shown_frames",
]

Floats = NDArray[np.float64]

# Pixels a side of a matrix, at most, and pixels of all matrices together, about: they decide the
# size of the file.
MOST_PIXELS = 300
ALL_PIXELS = 620_000

# Times at which curves are given, at most: of the fit, and of the fit moved.
CURVE_POINTS = 240
MOVED_POINTS = 90

# Smallest step of a residual that is told, in standard deviations.
RESIDUAL_STEP = 0.01


def most_pixels(n_angles: int) -> int:
    """Pixels a side of each matrix, at most."""
    return min(MOST_PIXELS, round(np.sqrt(ALL_PIXELS / n_angles)))


class Arrays:
    """Arrays to be stored, each once."""

    def __init__(self) -> None:
        self.stored: list[dict[str, Any]] = []
        self._numbers: dict[bytes, int] = {}

    def floats(self, values: NDArray[np.floating] | Sequence[float]) -> int:
        """Store values as float32; return the number of the array."""
        return self._number("float32", np.asarray(values, dtype="<f4").tobytes(), {})

    def integers(self, values: Floats, bits: int, scale: tuple[float, float] | None = None) -> int:
        """Store values as integers of so many bits; those out of range become its ends.

        `scale` is the lowest value and the step; that of the values by default.
        """
        largest = 2**bits - 2
        finite = np.isfinite(values)
        if scale is None:
            known = values[finite] if finite.any() else np.zeros(1)
            scale = float(known.min()), float(np.ptp(known)) / largest
        low, step = scale
        steps = np.zeros(values.shape) if step == 0 else (values - low) / step
        whole = np.where(finite, np.clip(np.rint(steps), 0, largest), largest + 1)
        kind = f"uint{bits}"
        content = whole.astype(np.dtype(kind).newbyteorder("<")).tobytes()
        return self._number(kind, content, {"low": low, "step": step})

    def _number(self, kind: str, content: bytes, scale: dict[str, float]) -> int:
        key = repr((kind, scale)).encode() + content
        if key not in self._numbers:
            self._numbers[key] = len(self.stored)
            text = base64.b64encode(content).decode("ascii")
            self.stored.append({"type": kind, **scale, "data": text})
        return self._numbers[key]


def page_data(
    data: TwoTimeData, result: FitResult, views: Sequence[AngleView], move: Move | None
) -> str:
    """The numbers as JSON that may stand in an HTML page.

    `move` is given at `MOVED_POINTS` frames of `shown_frames`.
    """
    arrays, o = Arrays(), result.objective
    content = {
        "frames": data.n_frames,
        "dt": data.dt,
        "noise": result.noise,
        "flow": result.model.has_flow,
        "several_q": bool(np.ptp(data.q) > 0),
        "success": result.success,
        "histogram_range": HISTOGRAM_RANGE,
        "angles": _angles(arrays, result, views),
        "rates": _rates(arrays, result),
        "spread": result.info.layers.get("regularization", {}).get("spread"),
        "move": move and _move(arrays, result, move),
        "model": {
            "gap": o.gap if result.model.has_flow else 0.0,
            "phase_per_gap": o.phase_per_gap,
            "sinc_power": o.sinc_power,
        },
        "arrays": arrays.stored,
    }
    return as_script(content)


def as_script(content: dict[str, Any]) -> str:
    """JSON that may stand in an HTML page."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # Nothing in a script element may look like its end.
    return text.replace("<", "\\u003c")


def _angles(arrays: Arrays, result: FitResult, views: Sequence[AngleView]) -> list[dict[str, Any]]:
    band = ModelBand(result)
    return [_angle(arrays, result, band, k, view) for k, view in enumerate(views)]


def _angle(
    arrays: Arrays, result: FitResult, band: ModelBand, k: int, view: AngleView
) -> dict[str, Any]:
    upper = np.triu_indices(len(view.data))
    contrast = abs(result.contrast[k].value) or 1.0
    residual = -RESIDUAL_STEP * 2**15, RESIDUAL_STEP
    return {
        "phi": view.phi,
        "q": float(result.objective.q[k]),
        "rms": view.rms,
        "block": view.block,
        "side": len(view.data),
        "contrast": _estimate(result.contrast[k]),
        "offset": _estimate(result.offset[k]),
        "data": arrays.integers(view.data[upper], 16),
        "fit": arrays.integers(view.fit[upper], 16),
        "residual": arrays.integers(view.residual[upper], 16, residual),
        "count": arrays.integers(view.count[upper], 16, (0.0, max(1.0, view.block**2 / 60_000))),
        "band": arrays.integers(band.errors(k, band.of_pixels(view.block)), 8),
        "cuts": [_cut(arrays, band, k, cut, view.dt) for cut in view.cuts],
        "ages": [
            arrays.floats(each)
            for each in (view.ages.time, view.ages.mean / contrast, view.ages.stderr / contrast)
        ],
        "frames": arrays.floats(view.frames.mean / contrast),
        "histogram": arrays.floats(view.histogram),
    }


def _cut(arrays: Arrays, band: ModelBand, k: int, cut: LagCut, dt: float) -> dict[str, Any]:
    age = (cut.begin + cut.end) / 2
    first = np.maximum(age - cut.lag / 2, 0.0) / dt
    errors = band.errors(k, band.differences(first, first + cut.lag / dt))
    columns = (cut.lag, cut.data, cut.fit, cut.stderr, errors)
    return {
        "begin": cut.begin,
        "end": cut.end,
        **{
            name: arrays.floats(column)
            for name, column in zip(("lag", "data", "fit", "error", "band"), columns, strict=True)
        },
    }


@dataclass(frozen=True, eq=False)
class Differences:
    """By how much the integrals of the rates, and their derivatives, differ between two times.

    S and Γ of some pairs of times, (points,) each, and their derivatives by the parameters,
    (points, 3) each.
    """

    transport: Floats
    transport_jacobian: Floats
    shear: Floats
    shear_jacobian: Floats


class ModelBand:
    r"""Standard errors of the fitted c2 by linear propagation.

    With S and Γ the integrals of the rates, f the decay, and y the coordinates of the search,

    .. math:: dc_2 = f\,dC + dO + C\,\frac{\partial f}{\partial y}\,dy.

    As those of the rates they do not hold only for the form that was taken, nor only with a
    parameter at its bound. They are NaN where the data do not determine c2 or contrast or offset is
    at its bound, and of a result that was made before the covariance of y, C and O was kept.
    """

    def __init__(self, result: FitResult) -> None:
        self.result, o = result, result.objective
        space = result.space
        self.full = space.complete(result.coordinates)
        self.curves = curves(space.model_in_coordinates, self.full, o.dt, o.n_frames)
        self._pixels: dict[int, Differences] = {}

    def differences(self, first: Floats, second: Floats) -> Differences:
        """Between pairs of times in frames, (points,) each."""
        below = [np.minimum(t.astype(int), len(self.curves.shear) - 2) for t in (first, second)]
        shares = [t - k for t, k in zip((first, second), below, strict=True)]

        def difference(curve: Floats) -> Floats:
            ends = [
                curve[k] + (share * (curve[k + 1] - curve[k]).T).T
                for k, share in zip(below, shares, strict=True)
            ]
            return ends[1] - ends[0]

        return Differences(**{name: difference(each) for name, each in vars(self.curves).items()})

    def of_pixels(self, block: int) -> Differences:
        """Between the mean t1 and t2 of each pixel of the upper half."""
        if block not in self._pixels:
            n = self.result.objective.n_frames
            starts = np.arange(0, n, block)
            lengths = np.minimum(block, n - starts)
            middles = starts + (lengths - 1) / 2
            i, j = np.triu_indices(len(starts))
            # Of the points t1 < t2 of a pixel on the diagonal.
            apart = np.where(i == j, (lengths[i] + 1) / 6, 0.0)
            first = np.maximum(middles[i] - apart, 0.0)
            self._pixels[block] = self.differences(first, middles[j] + apart)
        return self._pixels[block]

    def errors(self, k: int, d: Differences) -> Floats:
        """Of angle k, (points,)."""
        result, o = self.result, self.result.objective
        contrast, q = result.contrast[k].value, float(o.q[k])
        f = np.exp(-(q**2) * d.transport)
        columns = []
        if result.model.has_flow:
            phi0 = self.full[result.model.parameters.index("phi0")]
            angle = np.deg2rad(phi0 - o.phi[k])
            scale = o.phase_per_gap * q * o.gap
            x = scale * np.cos(angle) * d.shear
            x[np.abs(x) < 1e-6] = 1e-6
            f *= np.abs(np.sin(x) / x) ** o.sinc_power
            # d ln|sin(x)/x| = (cot(x) − 1/x) dx; f vanishes where the cotangent does not exist.
            with np.errstate(divide="ignore", invalid="ignore"):
                by_phase = np.where(f > 0, f * o.sinc_power * (1 / np.tan(x) - 1 / x), 0.0)
            by_phase *= contrast * scale
            by_direction = -by_phase * np.sin(angle) * d.shear * np.pi / 180
            columns = [(by_phase * np.cos(angle))[:, None] * d.shear_jacobian, by_direction]
        by_transport = (-(q**2) * contrast * f)[:, None] * d.transport_jacobian
        physics = np.column_stack([by_transport, *columns])[:, result.space.searched]
        gradient = np.column_stack([physics, f, np.ones_like(f)])
        errors = result.errors_at_angle(k, gradient)
        at_bound = result.contrast[k].at_bound or result.offset[k].at_bound
        return np.where(np.isinf(errors) | at_bound, np.nan, errors)


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "stderr": finite_or_none(estimate.stderr)}


def shown_frames(result: FitResult, most: int) -> NDArray[np.int64]:
    """Frames at which curves are given: dense at the beginning, where power laws vary most."""
    last = result.objective.n_frames - 1
    even = np.linspace(0, last, most // 2)
    early = np.geomspace(1, last, most // 2)
    return np.unique(np.rint(np.concatenate([even, early])).astype(np.int64))


def _rates(arrays: Arrays, result: FitResult) -> list[dict[str, Any]]:
    """J, and with flow the shear rate and the strain."""
    frames = shown_frames(result, CURVE_POINTS)
    times = result.times[frames]
    others = rivals(result, times)
    shown = []
    for rate in result.rates:
        value, error = rate.at(times)
        positive = value[1:]
        wide = positive.min() > RATE_FLOOR and positive.max() > LOG_RANGE * positive.min()
        shown.append(
            {
                "key": rate.key,
                "name": rate.name,
                "symbol": f"{rate.symbol}(t)",
                "unit": rate.unit,
                "log": bool(wide),
                "time": arrays.floats(times),
                "value": arrays.floats(value),
                "error": arrays.floats(error),
                "rivals": [
                    {"label": rival.label, "value": arrays.floats(rival.values)}
                    for rival in others
                    if rival.rate == rate.key
                ],
            }
        )
    if result.model.has_flow:
        strain, error = result.strain()
        shown.append(
            {
                "key": "strain",
                "name": "strain",
                "symbol": "γ(t)",
                "unit": "",
                "log": False,
                "time": arrays.floats(times),
                "value": arrays.floats(strain[frames]),
                "error": arrays.floats(error[frames]),
                "rivals": [],
            }
        )
    return shown


def _move(arrays: Arrays, result: FitResult, move: Move) -> dict[str, Any]:
    frames = shown_frames(result, MOVED_POINTS)
    return {
        "time": arrays.floats(result.times[frames]),
        "steps": move.steps.tolist(),
        "rise": move.rise.tolist(),
        "parameters": {
            name: {"values": values.tolist(), "unit": result.parameters[name].unit}
            for name, values in move.parameters.items()
        },
        "rates": {key: arrays.floats(values) for key, values in move.rates.items()},
        "integrals": {key: arrays.floats(values) for key, values in move.integrals.items()},
        "phi0": None if move.phi0 is None else move.phi0.tolist(),
        "contrast": list(move.contrast_changes),
        "offset": list(move.offset_changes),
    }
