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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.fitting.result import Estimate, FitResult, finite_or_none
from homodyne_fit.model.rates import RATE_FLOOR, curves
from homodyne_fit.report.moves import rivals, weakest_move
from homodyne_fit.report.reduction import HISTOGRAM_RANGE
from homodyne_fit.report.views import LOG_RANGE, AngleView, LagCut

__all__ = ["Arrays", "ModelBand", "most_pixels", "page_data"]

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


def page_data(data: TwoTimeData, result: FitResult, views: Sequence[AngleView]) -> str:
    """The numbers as JSON that may stand in an HTML page."""
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
        "move": _move(arrays, result),
        "model": {
            "gap": o.gap if result.model.has_flow else 0.0,
            "phase_per_gap": o.phase_per_gap,
            "sinc_power": o.sinc_power,
        },
        "arrays": arrays.stored,
    }
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
    first, second = _centres(view)
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
        "band": arrays.integers(band.errors(k, first[upper], second[upper]), 8),
        "cuts": [_cut(arrays, band, k, cut, view.dt) for cut in view.cuts],
        "ages": [
            arrays.floats(each)
            for each in (view.ages.time, view.ages.mean / contrast, view.ages.stderr / contrast)
        ],
        "frames": arrays.floats(view.frames.mean / contrast),
        "histogram": arrays.floats(view.histogram),
    }


def _centres(view: AngleView) -> tuple[Floats, Floats]:
    """Mean t1 and t2 of the points of each pixel, in frames, (m, m) each."""
    starts = np.arange(0, view.n_frames, view.block)
    lengths = np.minimum(view.block, view.n_frames - starts)
    middles = starts + (lengths - 1) / 2
    first, second = np.meshgrid(middles, middles, indexing="ij")
    # Of the points t1 < t2 of a pixel on the diagonal.
    apart = np.diag((lengths + 1) / 6)
    return first - apart, second + apart


def _cut(arrays: Arrays, band: ModelBand, k: int, cut: LagCut, dt: float) -> dict[str, Any]:
    age = (cut.begin + cut.end) / 2
    first = np.maximum(age - cut.lag / 2, 0.0) / dt
    errors = band.errors(k, first, first + cut.lag / dt)
    columns = (cut.lag, cut.data, cut.fit, cut.stderr, errors)
    return {
        "begin": cut.begin,
        "end": cut.end,
        **{
            name: arrays.floats(column)
            for name, column in zip(("lag", "data", "fit", "error", "band"), columns, strict=True)
        },
    }


class ModelBand:
    r"""Standard errors of the fitted c2 by linear propagation.

    With S and Γ the integrals of the rates, f the decay, and x the parameters,

    .. math:: dc_2 = f\\,dC + dO + C\\,\\frac{\\partial f}{\\partial x}\\,dx.

    They are NaN where the data do not determine one of these.
    """

    def __init__(self, result: FitResult) -> None:
        self.result, o = result, result.objective
        self.curves = curves(result.model, result.values, o.dt, o.n_frames)
        self.p = len(result.parameters)

    def errors(self, k: int, first: Floats, second: Floats) -> Floats:
        """Of angle k at some pairs of times, in frames, (points,)."""
        result, o = self.result, self.result.objective
        half = len(result.contrast)
        rows = [*range(self.p), self.p + k, self.p + half + k]
        if np.any(result.undetermined[rows]):
            return np.full(first.shape, np.nan)
        c = self.curves

        def difference(curve: Floats) -> Floats:
            frames = np.arange(len(curve))
            return np.interp(second, frames, curve) - np.interp(first, frames, curve)

        contrast, q = result.contrast[k].value, float(o.q[k])
        f = np.exp(-(q**2) * difference(c.transport))
        by_transport = -(q**2) * np.ones_like(f)
        derivatives = []
        if result.model.has_flow:
            angle = np.deg2rad(result.parameters["phi0"].value - o.phi[k])
            scale, strain = o.phase_per_gap * q * o.gap, difference(c.shear)
            x = scale * np.cos(angle) * strain
            x[np.abs(x) < 1e-6] = 1e-6
            f *= np.abs(np.sin(x) / x) ** o.sinc_power
            # d ln|sin(x)/x| = (cot(x) − 1/x) dx; f vanishes where the cotangent does not exist.
            with np.errstate(divide="ignore", invalid="ignore"):
                by_phase = np.where(f > 0, f * o.sinc_power * (1 / np.tan(x) - 1 / x), 0.0)
            by_strain = by_phase * scale * np.cos(angle)
            derivatives = [
                *(by_strain * difference(each) for each in c.shear_jacobian.T),
                -by_phase * scale * np.sin(angle) * strain * np.pi / 180,
            ]
        transport = [by_transport * f * difference(each) for each in c.transport_jacobian.T]
        gradient = np.column_stack(
            [contrast * each for each in (*transport, *derivatives)] + [f, np.ones_like(f)]
        )
        root = result.root[rows]
        variance = np.einsum("ij,ij->i", gradient @ (root @ root.T), gradient)
        return np.sqrt(np.maximum(variance, 0.0))


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "stderr": finite_or_none(estimate.stderr)}


def _shown_frames(result: FitResult, most: int) -> NDArray[np.int64]:
    """Frames at which curves are given: dense at the beginning, where power laws vary most."""
    last = result.objective.n_frames - 1
    even = np.linspace(0, last, most // 2)
    early = np.geomspace(1, last, most // 2)
    return np.unique(np.rint(np.concatenate([even, early])).astype(np.int64))


def _rates(arrays: Arrays, result: FitResult) -> list[dict[str, Any]]:
    """J, and with flow the shear rate and the strain."""
    frames = _shown_frames(result, CURVE_POINTS)
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


def _move(arrays: Arrays, result: FitResult) -> dict[str, Any] | None:
    frames = _shown_frames(result, MOVED_POINTS)
    move = weakest_move(result, frames)
    if move is None:
        return None
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
