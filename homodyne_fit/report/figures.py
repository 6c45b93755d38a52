"""Figures of a fit: matrices, lag cuts, rates and scaling, for the report and for notebooks.

Every function returns a `matplotlib.figure.Figure` of its own; pyplot and its settings are not
touched. A two-time matrix may be large, so `angle_view` first reduces one angle to what fits on
a page, and the figures of an angle are drawn from that.
"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MultipleLocator
from numpy.typing import ArrayLike

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.fitting.profile import Profile, rise_at
from homodyne_fit.fitting.result import Estimate, FitResult
from homodyne_fit.model.rates import RATE_FLOOR
from homodyne_fit.report.style import (
    BAND,
    CURVE,
    INK,
    LABEL_SIZE,
    MARK,
    MISSING,
    TICK_SIZE,
    NotebookFigure,
    label_axes,
    open_frame,
)
from homodyne_fit.report.views import (
    LOG_RANGE,
    MOST_PIXELS,
    RESIDUAL_RANGE,
    RESIDUAL_STEPS,
    SHOWN_RISE,
    AngleView,
    FloatArray,
    LagCut,
    block_average,
    mirrored,
)

__all__ = [
    "plot_lag_cuts",
    "plot_matrices",
    "plot_rates",
    "plot_scaling",
    "plot_two_time",
    "profile_plot",
]


# Of data, fit and residual side by side, inches: side of a matrix, left edges of the three, and
# left edges of their two colour bars.
SIDE = 2.1
PANELS = (0.6, 2.95, 5.95)
BARS = (5.13, 8.13)

# Matrices side by side, at most.
MATRIX_COLUMNS = 4

# Colour and marker of each part of the measurement, early to late.
AGE_STYLES = ((CURVE, "o"), ("#009e73", "s"), (MARK, "^"))

# Symbols of the rates, by their names in files.
TEX = {"J": "J", "gamma_dot": r"\dot\gamma"}


def plot_two_time(view: AngleView) -> Figure:
    """Data, fit and residual of one angle side by side, both times in seconds.

    Data and fit share a colour scale, which leaves out the outermost per cent of the pixels.
    """
    figure = NotebookFigure(figsize=(8.6, 2.9), facecolor="white")
    axes = [_axes_at(figure, left, 0.45, SIDE, SIDE) for left in PANELS]
    bars = [_axes_at(figure, left, 0.5, 0.12, SIDE - 0.1) for left in BARS]
    for panel in axes[1:]:
        panel.tick_params(labelleft=False)
    low, high = _color_range(view)
    common = _colormap("viridis", 64)
    diverging = _colormap("RdBu_r", RESIDUAL_STEPS)
    limit = RESIDUAL_RANGE
    _show_matrix(axes[0], view, view.data, f"data, φ = {view.phi:g}°", common, low, high)
    image = _show_matrix(axes[1], view, view.fit, "fit", common, low, high)
    _label_bar(figure.colorbar(image, cax=bars[0], extend="both"), "c₂")
    image = _show_matrix(axes[2], view, view.residual, "(data − fit) / σ", diverging, -limit, limit)
    _label_bar(figure.colorbar(image, cax=bars[1], extend="both"), "")
    axes[0].set_ylabel("t₂ (s)", fontsize=LABEL_SIZE)
    return figure


def plot_matrices(data: TwoTimeData) -> Figure:
    """All matrices of a measurement, or of a simulation, on one colour scale."""
    n, k = data.n_frames, data.n_angles
    columns = min(k, MATRIX_COLUMNS)
    rows = -(-k // columns)
    block = -(-n // MOST_PIXELS)
    upper = np.triu(np.ones((n, n), dtype=bool), 1)
    means = [
        mirrored(block_average(np.where(upper, matrix, np.nan), block)[0]) for matrix in data.c2
    ]
    low, high = np.nanpercentile(np.stack(means), [1, 99])
    figure = NotebookFigure(
        figsize=(2.4 * columns + 0.8, 2.4 * rows + 0.3), layout="compressed", facecolor="white"
    )
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    colors = _colormap("viridis", 64)
    for axes, mean, phi in zip(panels.flat, means, data.phi, strict=False):
        _draw_matrix(axes, mean, block * data.dt, data.dt, colors, low, high)
        axes.set_title(f"φ = {phi:g}°", fontsize=LABEL_SIZE)
        axes.tick_params(labelsize=TICK_SIZE)
    for axes in panels.flat[k:]:
        axes.set_visible(False)
    figure.supxlabel("t₁ (s)", fontsize=LABEL_SIZE)
    figure.supylabel("t₂ (s)", fontsize=LABEL_SIZE)
    image = panels.flat[0].images[0]
    bar = figure.colorbar(image, ax=list(panels.flat), extend="both", shrink=0.95, pad=0.015)
    _label_bar(bar, "c₂")
    return figure


def plot_lag_cuts(view: AngleView) -> Figure:
    """Average over t at fixed lag: data as points, fit as lines, early to late in the run."""
    figure = NotebookFigure(figsize=(3.8, 2.9), facecolor="white")
    axes = _axes_at(figure, 0.62, 0.45, 3.1, 2.35)
    for cut, (color, marker) in zip(view.cuts, AGE_STYLES, strict=False):
        axes.errorbar(
            cut.lag,
            cut.data,
            cut.stderr,
            fmt=marker,
            color=color,
            markersize=3,
            elinewidth=0.7,
            alpha=0.75,
            label=f"{cut.begin:.3g}–{cut.end:.3g} s",
        )
        axes.plot(cut.lag, cut.fit, color=color, linewidth=1.5)
    axes.set_xscale("log")
    limits = _cut_limits(view.cuts)
    if limits is not None:
        axes.set_ylim(*limits)
    if view.cuts:
        axes.legend(
            title=f"φ = {view.phi:g}°, age (t₁ + t₂)/2",
            fontsize=TICK_SIZE,
            title_fontsize=TICK_SIZE,
            frameon=False,
        )
    label_axes(axes, "lag t₂ − t₁ (s)", "c₂")
    open_frame(axes)
    return figure


def plot_rates(result: FitResult, times: ArrayLike) -> Figure:
    """J(t), and with flow the shear rate, with 68 % bands.

    Parameters
    ----------
    result : FitResult
    times : (n,) array
        Seconds.
    """
    rates = result.rates
    figure = NotebookFigure(
        figsize=(4.6 * len(rates), 3.1), layout="constrained", facecolor="white"
    )
    for axes, rate in zip(figure.subplots(1, len(rates), squeeze=False)[0], rates, strict=True):
        value, error = rate.at(times)
        _draw_rate(axes, np.asarray(times, dtype=np.float64), value, error)
        label_axes(axes, "time $t$ (s)", f"{rate.name} ${TEX[rate.key]}$ ({rate.unit})")
        open_frame(axes)
    return figure


def plot_scaling(result: FitResult) -> Figure:
    """Contrast and offset of each angle, with standard errors, against its direction."""
    figure = NotebookFigure(figsize=(5.2, 3.6), layout="constrained", facecolor="white")
    axes = figure.subplots(2, 1, sharex=True)
    for panel, name, estimates in (
        (axes[0], "contrast", result.contrast),
        (axes[1], "offset", result.offset),
    ):
        _draw_scaling(panel, result.objective.phi, estimates)
        label_axes(panel, "", name)
        open_frame(panel)
    axes[1].set_xlabel("azimuthal angle φ (°)", fontsize=LABEL_SIZE)
    return figure


def profile_plot(profile: Profile, level: float = 0.68) -> Figure:
    """Rise of chi-squared against one parameter, with the confidence interval.

    Parameters
    ----------
    profile : Profile
        Fits that did not converge are open circles.
    level : float
        Of the interval.
    """
    figure = NotebookFigure(figsize=(4.6, 3.1), layout="constrained", facecolor="white")
    axes = figure.subplots()
    known, values, rise = profile.success, profile.values, profile.delta_chi2
    low, high = profile.interval(level)
    axes.axvspan(
        values.min() if low is None else low,
        values.max() if high is None else high,
        color=BAND,
        alpha=0.5,
        linewidth=0,
        label=f"{100 * level:.3g} % interval" + (", open" if None in (low, high) else ""),
    )
    threshold = rise_at(level)
    axes.axhline(threshold, color=INK, linewidth=0.8, linestyle="--")
    axes.plot(values[known], rise[known], "o-", color=CURVE, markersize=4, linewidth=1.6)
    axes.plot(values[~known], rise[~known], "o", color=CURVE, markersize=4, markerfacecolor="white")
    if np.any(rise > SHOWN_RISE * threshold):
        axes.set_ylim(-0.05 * SHOWN_RISE * threshold, SHOWN_RISE * threshold)
    axes.axvline(profile.best, color=INK, linewidth=0.8)
    axes.legend(fontsize=TICK_SIZE, frameon=False)
    unit = f" ({profile.unit})" if profile.unit else ""
    label_axes(axes, f"{profile.name}{unit}", r"rise of $\chi^2$")
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 5), useMathText=True)
    axes.xaxis.get_offset_text().set_fontsize(TICK_SIZE)
    open_frame(axes)
    return figure


def _color_range(view: AngleView) -> tuple[float, float]:
    pixels = np.concatenate([view.data.ravel(), view.fit.ravel()])
    low, high = np.nanpercentile(pixels, [1, 99])
    margin = 1e-6 * max(1.0, abs(low)) if high - low < 1e-9 else 0.0
    return float(low - margin), float(high + margin)


def _colormap(name: str, steps: int) -> Colormap:
    """A map of few colours: noise in many makes large files and tells no more."""
    return mpl.colormaps[name].resampled(steps).with_extremes(bad=MISSING)


def _show_matrix(
    axes: Axes,
    view: AngleView,
    matrix: FloatArray,
    title: str,
    colors: Colormap,
    low: float,
    high: float,
) -> AxesImage:
    image = _draw_matrix(axes, matrix, view.block * view.dt, view.dt, colors, low, high)
    first, end = -0.5 * view.dt, (view.n_frames - 0.5) * view.dt
    axes.set(xlim=(first, end), ylim=(first, end))
    axes.set_title(title, fontsize=LABEL_SIZE + 1)
    axes.locator_params(nbins=5)
    label_axes(axes, "t₁ (s)", "")
    return image


def _draw_matrix(
    axes: Axes,
    matrix: FloatArray,
    pixel: float,
    dt: float,
    colors: Colormap,
    low: float,
    high: float,
) -> AxesImage:
    """Draw a matrix whose pixels are `pixel` seconds wide, the first frame centred on 0."""
    first = -0.5 * dt
    last = first + len(matrix) * pixel
    return axes.imshow(
        matrix,
        origin="lower",
        extent=(first, last, first, last),
        cmap=colors,
        vmin=low,
        vmax=high,
        interpolation="nearest",
    )


def _axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches: letting matplotlib find it takes longer than drawing."""
    size = figure.get_size_inches()
    return figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))


def _label_bar(bar: Colorbar, label: str) -> None:
    bar.set_label(label, fontsize=LABEL_SIZE, color=INK)
    bar.ax.tick_params(labelsize=TICK_SIZE, colors=INK)


def _cut_limits(cuts: tuple[LagCut, ...]) -> tuple[float, float] | None:
    """Limits that hold the fit, and the points that are not mostly noise."""
    if not cuts:
        return None
    fit, data, error = (
        np.concatenate([getattr(cut, name) for cut in cuts]) for name in ("fit", "data", "stderr")
    )
    quiet = error <= max(0.25 * np.ptp(fit), float(np.median(error)))
    shown = np.concatenate([fit, data[quiet]])
    margin = 0.08 * np.ptp(shown) or 1e-3
    return float(shown.min() - margin), float(shown.max() + margin)


def _draw_rate(axes: Axes, times: FloatArray, value: FloatArray, error: FloatArray) -> None:
    """A curve with its band, on logarithmic axes where it spans decades."""
    logarithmic = value.min() > RATE_FLOOR and value.max() > LOG_RANGE * value.min()
    if logarithmic:
        later = times > 0
        times, value, error = times[later], value[later], error[later]
        axes.set(xscale="log", yscale="log")
        axes.set_ylim(value.min() / 2, value.max() * 2)
    else:
        visible = np.minimum(np.nan_to_num(error), np.abs(value).max())
        top = (value + visible).max()
        low = (value - visible).min()
        margin = 0.06 * (top - low) or 0.06 * abs(top) or 1.0
        axes.set_ylim(0.0 if low < 0.5 * top else low - margin, top + margin)
        axes.set_xlim(times[0], times[-1])
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 5), useMathText=True)
        axes.yaxis.get_offset_text().set_fontsize(TICK_SIZE)
    known = np.isfinite(error)
    below = value - error
    if logarithmic:
        below = np.maximum(below, value / 1e3)
    axes.fill_between(times, below, value + error, where=known, color=BAND, linewidth=0)
    axes.plot(times, value, color=CURVE, linewidth=1.6)
    if not np.all(known):
        axes.set_title("no band where the data do not determine the rate", fontsize=TICK_SIZE)


def _draw_scaling(axes: Axes, phi: FloatArray, estimates: tuple[Estimate, ...]) -> None:
    value = np.array([estimate.value for estimate in estimates])
    error = np.array([estimate.stderr for estimate in estimates])
    known = np.isfinite(error)
    axes.errorbar(
        phi[known], value[known], error[known], fmt="o", color=CURVE, markersize=4, elinewidth=1
    )
    axes.plot(phi[~known], value[~known], "o", color=CURVE, markersize=4, markerfacecolor="white")
    axes.ticklabel_format(axis="y", useOffset=False)
    if np.all(np.abs(phi) <= 360) and np.ptp(phi) > 90:
        axes.xaxis.set_major_locator(MultipleLocator(45))
