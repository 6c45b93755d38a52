"""Figures of a fit: matrices, lag cuts, rates and scaling, for the report and for notebooks.

Every function returns a `matplotlib.figure.Figure` of its own; pyplot and its settings are not
touched. A two-time matrix may be large, so `angle_view` first reduces one angle to what fits on
a page, and the figures of an angle are drawn from that.
"""

from __future__ import annotations

from collections.abc import Iterable

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
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.profile import Profile, rise_at
from homodyne_fit.fitting.result import Estimate, FitResult
from homodyne_fit.model.rates import RATE_FLOOR
from homodyne_fit.report.comparison import Comparison
from homodyne_fit.report.reduction import HISTOGRAM_BINS, HISTOGRAM_RANGE
from homodyne_fit.report.style import (
    BAND_ALPHA,
    MISSING,
    NotebookFigure,
    color_of,
    label_axes,
    open_frame,
    styled,
)
from homodyne_fit.report.views import (
    LOG_RANGE,
    MOST_PIXELS,
    RESIDUAL_RANGE,
    RESIDUAL_STEPS,
    SHOWN_RISE,
    AngleView,
    FloatArray,
    block_average,
    mirrored,
)

__all__ = [
    "color_range_of",
    "cut_limits_of",
    "plot_comparison",
    "plot_correlation",
    "plot_lag_cuts",
    "plot_matrices",
    "plot_rates",
    "plot_residuals",
    "plot_scaling",
    "plot_strain",
    "plot_two_time",
    "plot_profile",
]


# Lowest and highest value.
type Range = tuple[float, float]

# Of data, fit and residual side by side, inches: side of a matrix, left edges of the three, and
# left edges of their two colour bars.
SIDE = 2.1
PANELS = (0.6, 2.95, 5.95)
BARS = (5.13, 8.13)

# Matrices side by side, at most.
MATRIX_COLUMNS = 4

# Number of the colour and marker of each part of the measurement, early to late.
AGE_STYLES = ((0, "o"), (2, "s"), (1, "^"))

# Correlations above this have a dark ground.
DARK_CORRELATION = 0.6

# Symbols of the rates, by their names in files.
TEX = {"J": "J", "gamma_dot": r"\dot\gamma"}


def color_range_of(views: Iterable[AngleView]) -> Range:
    """A range of colours for data and fits of some angles, without the outermost per cent."""
    pixels = np.concatenate([each.ravel() for view in views for each in (view.data, view.fit)])
    low, high = np.nanpercentile(pixels, [1, 99])
    margin = 1e-6 * max(1.0, abs(low)) if high - low < 1e-9 else 0.0
    return float(low - margin), float(high + margin)


def cut_limits_of(views: Iterable[AngleView]) -> Range | None:
    """Limits for the lag cuts of some angles: fits, and the points that are not mostly noise."""
    cuts = [cut for view in views for cut in view.cuts]
    if not cuts:
        return None
    fit, data, error = (
        np.concatenate([getattr(cut, name) for cut in cuts]) for name in ("fit", "data", "stderr")
    )
    quiet = error <= max(0.25 * np.ptp(fit), float(np.median(error)))
    shown = np.concatenate([fit, data[quiet]])
    margin = 0.08 * np.ptp(shown) or 1e-3
    return float(shown.min() - margin), float(shown.max() + margin)


@styled
def plot_two_time(view: AngleView, color_range: Range | None = None) -> Figure:
    """Data, fit and residual of one angle side by side, both times in seconds.

    Parameters
    ----------
    view : AngleView
    color_range : (float, float), optional
        Of the colours of data and fit, as of `color_range_of` several angles; by default all but
        the outermost per cent of the pixels of this one.
    """
    figure = NotebookFigure(figsize=(8.6, 2.9))
    axes = [_axes_at(figure, left, 0.45, SIDE, SIDE) for left in PANELS]
    bars = [_axes_at(figure, left, 0.5, 0.12, SIDE - 0.1) for left in BARS]
    for panel in axes[1:]:
        panel.tick_params(labelleft=False)
    low, high = color_range or color_range_of([view])
    common = _colormap(mpl.rcParams["image.cmap"], 64)
    diverging = _colormap("RdBu_r", RESIDUAL_STEPS)
    limit = RESIDUAL_RANGE
    _show_matrix(axes[0], view, view.data, f"data, φ = {view.phi:g}°", common, low, high)
    image = _show_matrix(axes[1], view, view.fit, "fit", common, low, high)
    _label_bar(figure.colorbar(image, cax=bars[0], extend="both"), "c₂")
    image = _show_matrix(axes[2], view, view.residual, "(data − fit) / σ", diverging, -limit, limit)
    _label_bar(figure.colorbar(image, cax=bars[1], extend="both"), "")
    axes[0].set_ylabel("t₂ (s)")
    return figure


@styled
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
    figure = NotebookFigure(figsize=(2.4 * columns + 0.8, 2.4 * rows + 0.3), layout="compressed")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    colors = _colormap(mpl.rcParams["image.cmap"], 64)
    for axes, mean, phi in zip(panels.flat, means, data.phi, strict=False):
        _draw_matrix(axes, mean, block * data.dt, data.dt, colors, low, high)
        axes.set_title(f"φ = {phi:g}°")
    for axes in panels.flat[k:]:
        axes.set_visible(False)
    figure.supxlabel("t₁ (s)")
    figure.supylabel("t₂ (s)")
    image = panels.flat[0].images[0]
    bar = figure.colorbar(image, ax=list(panels.flat), extend="both", shrink=0.95, pad=0.015)
    _label_bar(bar, "c₂")
    return figure


@styled
def plot_lag_cuts(view: AngleView, limits: Range | None = None) -> Figure:
    """Average over t at fixed lag: data as points, fit as lines, early to late in the run.

    Parameters
    ----------
    view : AngleView
    limits : (float, float), optional
        Of c2, as of `cut_limits_of` several angles; those of this one by default.
    """
    figure = NotebookFigure(figsize=(3.8, 2.9))
    axes = _axes_at(figure, 0.62, 0.45, 3.1, 2.35)
    for cut, (number, marker) in zip(view.cuts, AGE_STYLES, strict=False):
        color = color_of(number)
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
    limits = limits or cut_limits_of([view])
    if limits is not None:
        axes.set_ylim(*limits)
    if view.cuts:
        axes.legend(
            title=f"φ = {view.phi:g}°, age (t₁ + t₂)/2",
        )
    label_axes(axes, "lag t₂ − t₁ (s)", "c₂")
    open_frame(axes)
    return figure


@styled
def plot_rates(result: FitResult, times: ArrayLike) -> Figure:
    """J(t), and with flow the shear rate, with 68 % bands.

    Parameters
    ----------
    result : FitResult
    times : (n,) array
        Seconds.
    """
    rates = result.rates
    figure = NotebookFigure(figsize=(4.6 * len(rates), 3.1), layout="constrained")
    for axes, rate in zip(figure.subplots(1, len(rates), squeeze=False)[0], rates, strict=True):
        value, error = rate.at(times)
        _draw_rate(axes, np.asarray(times, dtype=np.float64), value, error)
        label_axes(axes, "time $t$ (s)", f"{rate.name} ${TEX[rate.key]}$ ({rate.unit})")
        open_frame(axes)
    return figure


@styled
def plot_comparison(comparison: Comparison) -> Figure:
    """J(t), and with flow the shear rate, of several fits with 68 % bands."""
    keys = comparison.rate_keys
    figure = NotebookFigure(figsize=(4.6 * len(keys), 3.6), layout="constrained")
    for axes, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        known = []
        for number, curve in enumerate(comparison.curves(key)):
            if curve is None:
                continue
            color = color_of(number)
            label = comparison.fits[number].label
            error = np.where(np.isfinite(curve.errors), curve.errors, np.nan)
            low, high = curve.values - error, curve.values + error
            axes.fill_between(
                curve.times, low, high, color=color, alpha=BAND_ALPHA / 2, linewidth=0
            )
            axes.plot(curve.times, curve.values, color=color, linewidth=1.6, label=label)
            known.append(curve.values[1:])
        _limit_rates(axes, np.concatenate(known))
        name, _, unit = comparison.rate_name(key)
        label_axes(axes, "time $t$ (s)", f"{name} ${TEX[key]}$ ({unit})")
        open_frame(axes)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="outside upper left",
        ncols=4,
    )
    return figure


def _limit_rates(axes: Axes, values: FloatArray) -> None:
    """Logarithmic axes where rates span decades; limits that no band without end decides."""
    low, high = float(values.min()), float(values.max())
    if low > RATE_FLOOR and high > LOG_RANGE * low:
        axes.set(xscale="log", yscale="log", ylim=(low / 2, high * 2))
        return
    margin = 0.3 * (high - low) or 0.3 * abs(high) or 1.0
    axes.set_ylim(0.0 if low - margin < 0.5 * high else low - margin, high + margin)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 5), useMathText=True)


@styled
def plot_scaling(result: FitResult) -> Figure:
    """Contrast and offset of each angle, with standard errors, against its direction."""
    figure = NotebookFigure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    for panel, name, estimates in (
        (axes[0], "contrast", result.contrast),
        (axes[1], "offset", result.offset),
    ):
        _draw_scaling(panel, result.objective.phi, estimates)
        label_axes(panel, "", name)
        open_frame(panel)
    axes[1].set_xlabel("azimuthal angle φ (°)")
    return figure


@styled
def plot_strain(result: FitResult) -> Figure:
    """Strain since the first frame, the integral of the shear rate, with its 68 % band."""
    if not result.model.has_flow:
        raise InputError(f"the model {result.model.name} has no flow, and so no strain")
    figure = NotebookFigure(figsize=(4.6, 3.1), layout="constrained")
    axes = figure.subplots()
    value, error = result.strain()
    known = np.isfinite(error)
    shown = np.where(known, error, 0.0)
    axes.fill_between(
        result.times,
        value - shown,
        value + shown,
        where=known,
        color=color_of(0),
        alpha=BAND_ALPHA,
        linewidth=0,
    )
    axes.plot(result.times, value, color=color_of(0), linewidth=1.6)
    axes.set_xlim(result.times[0], result.times[-1])
    label_axes(axes, "time $t$ (s)", r"strain $\gamma$ since the first frame")
    open_frame(axes)
    return figure


@styled
def plot_correlation(result: FitResult) -> Figure:
    """Correlation of the estimates: parameters, and means of contrast and offset."""
    correlation = result.correlation
    count = len(correlation.names)
    side = 1.2 + 0.5 * max(count, 3)
    figure = NotebookFigure(figsize=(side + 0.7, side), layout="constrained")
    axes = figure.subplots()
    matrix = correlation.matrix.reshape(count, count)
    image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(count), correlation.names, rotation=90)
    axes.set_yticks(range(count), correlation.names)
    for (row, column), value in np.ndenumerate(matrix):
        ink = "white" if abs(value) > DARK_CORRELATION else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=7)
    figure.colorbar(image, label="correlation", shrink=0.8)
    return figure


@styled
def plot_residuals(view: AngleView) -> Figure:
    """Residuals of one angle: against age and frame, and their histogram.

    Means are in units of c2; error bars take points to be independent.
    """
    figure = NotebookFigure(figsize=(10.2, 3.0), layout="constrained")
    by_age, by_frame, histogram = figure.subplots(1, 3)
    by_age.errorbar(
        view.ages.time, view.ages.mean, view.ages.stderr, fmt="o", color=color_of(0), markersize=3
    )
    label_axes(by_age, "age (t₁ + t₂)/2 (s)", "mean of data − fit")
    by_frame.plot(view.frames.time, view.frames.mean, color=color_of(0), linewidth=0.8)
    label_axes(by_frame, "time of the frame (s)", "mean of data − fit")
    for axes in (by_age, by_frame):
        axes.axhline(0.0, color=mpl.rcParams["text.color"], linewidth=0.8)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 5), useMathText=True)
    # The outermost bins hold all that is beyond.
    edges = np.linspace(-HISTOGRAM_RANGE, HISTOGRAM_RANGE, HISTOGRAM_BINS + 1)
    total = max(float(view.histogram.sum()), 1.0)
    density = view.histogram[1:-1] / total / np.diff(edges)
    histogram.stairs(density, edges, fill=True, color=color_of(0), alpha=BAND_ALPHA)
    histogram.plot(edges, np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi), color=color_of(1))
    label_axes(histogram, "residual of a point (σ)", "density, and normal")
    figure.suptitle(f"φ = {view.phi:g}°")
    for axes in (by_age, by_frame, histogram):
        open_frame(axes)
    return figure


@styled
def plot_profile(profile: Profile, level: float = 0.68) -> Figure:
    """Rise of chi-squared against one parameter, with the confidence interval.

    Parameters
    ----------
    profile : Profile
        Fits that did not converge are open circles.
    level : float
        Of the interval.
    """
    figure = NotebookFigure(figsize=(4.6, 3.1), layout="constrained")
    axes = figure.subplots()
    known, values, rise = profile.success, profile.values, profile.delta_chi2
    low, high = profile.interval(level)
    axes.axvspan(
        values.min() if low is None else low,
        values.max() if high is None else high,
        color=color_of(0),
        alpha=BAND_ALPHA,
        linewidth=0,
        label=f"{100 * level:.3g} % interval" + (", open" if None in (low, high) else ""),
    )
    threshold = rise_at(level)
    axes.axhline(threshold, color=mpl.rcParams["text.color"], linewidth=0.8, linestyle="--")
    axes.plot(values[known], rise[known], "o-", color=color_of(0), markersize=4, linewidth=1.6)
    axes.plot(
        values[~known], rise[~known], "o", color=color_of(0), markersize=4, markerfacecolor="white"
    )
    if np.any(rise > SHOWN_RISE * threshold):
        axes.set_ylim(-0.05 * SHOWN_RISE * threshold, SHOWN_RISE * threshold)
    axes.axvline(profile.best, color=mpl.rcParams["text.color"], linewidth=0.8)
    axes.legend(frameon=False)
    unit = f" ({profile.unit})" if profile.unit else ""
    label_axes(axes, f"{profile.name}{unit}", r"rise of $\chi^2$")
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 5), useMathText=True)
    open_frame(axes)
    return figure


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
    axes.set_title(title)
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
    bar.set_label(label)


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
    known = np.isfinite(error)
    below = value - error
    if logarithmic:
        below = np.maximum(below, value / 1e3)
    axes.fill_between(
        times, below, value + error, where=known, color=color_of(0), alpha=BAND_ALPHA, linewidth=0
    )
    axes.plot(times, value, color=color_of(0), linewidth=1.6)
    if not np.all(known):
        axes.set_title("no band where the data do not determine the rate")


def _draw_scaling(axes: Axes, phi: FloatArray, estimates: tuple[Estimate, ...]) -> None:
    value = np.array([estimate.value for estimate in estimates])
    error = np.array([estimate.stderr for estimate in estimates])
    known = np.isfinite(error)
    axes.errorbar(
        phi[known],
        value[known],
        error[known],
        fmt="o",
        color=color_of(0),
        markersize=4,
        elinewidth=1,
    )
    axes.plot(
        phi[~known], value[~known], "o", color=color_of(0), markersize=4, markerfacecolor="white"
    )
    axes.ticklabel_format(axis="y", useOffset=False)
    if np.all(np.abs(phi) <= 360) and np.ptp(phi) > 90:
        axes.xaxis.set_major_locator(MultipleLocator(45))
