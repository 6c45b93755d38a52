"""Figures of the draws of a posterior: traces, and pairs of parameters."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from homodyne_fit.errors import InputError
from homodyne_fit.fitting.result import FitResult
from homodyne_fit.posterior.draws import Posterior
from homodyne_fit.report.style import BAND_ALPHA, NotebookFigure, color_of, open_frame, styled

__all__ = ["ellipse", "plot_pairs", "plot_trace"]

Floats = NDArray[np.float64]

# Draws that are shown of each chain, at most.
SHOWN_DRAWS = 400

# Bins of a histogram.
BINS = 40

# Squared distances from the centre of a normal distribution in two dimensions within which 68 and
# 95 % of it lie: −2 ln(1 − p).
CONTOURS = (-2 * np.log(1 - 0.68), -2 * np.log(1 - 0.95))


@styled
def plot_trace(posterior: Posterior) -> Figure:
    """Draws one after the other, a colour for each chain, and their distributions."""
    names = _varying(posterior)
    figure = NotebookFigure(figsize=(9.2, 1.5 * len(names) + 0.4), layout="constrained")
    rows = figure.subplots(len(names), 2, squeeze=False, width_ratios=[3, 1], sharey="row")
    for name, (trace, histogram) in zip(names, rows, strict=True):
        draws = posterior.values[name]
        step = -(-draws.shape[1] // SHOWN_DRAWS)
        edges = np.histogram_bin_edges(draws, BINS)
        for chain, values in enumerate(draws):
            color = color_of(chain)
            at = np.arange(len(values))
            trace.plot(at[::step], values[::step], color=color, linewidth=0.6)
            density, _ = np.histogram(values, edges, density=True)
            histogram.stairs(density, edges, orientation="horizontal", color=color)
            diverging = posterior.diverging[chain]
            trace.plot(at[diverging], values[diverging], "k|", markersize=7)
        trace.set_ylabel(_label(posterior, name))
        histogram.set_xticks([])
        for axes in (trace, histogram):
            open_frame(axes)
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 5), useMathText=True)
    rows[-1, 0].set_xlabel("draw of a chain")
    rows[-1, 1].set_xlabel("density")
    return figure


@styled
def plot_pairs(posterior: Posterior, result: FitResult) -> Figure:
    """Draws of each pair of parameters, with the ellipses of the fit.

    Ellipses hold 68 and 95 % by the covariance of least squares; on the diagonal the histogram of
    the draws is shown with its normal distribution.

    Parameters
    ----------
    posterior : Posterior
    result : FitResult
        The fit that the draws were made from.
    """
    names = [name for name in _varying(posterior) if name in result.parameters]
    if not names:
        raise InputError("these draws have no parameter that varies")
    count = len(names)
    figure = NotebookFigure(figsize=(1.9 * count + 0.6, 1.9 * count + 0.4), layout="constrained")
    panels = figure.subplots(count, count, squeeze=False, sharex="col")
    draws = {name: posterior.values[name] for name in names}
    for row, second in enumerate(names):
        for column, first in enumerate(names):
            axes = panels[row, column]
            if column > row:
                axes.set_visible(False)
                continue
            open_frame(axes)
            axes.locator_params(nbins=4)
            axes.ticklabel_format(style="sci", scilimits=(-3, 5), useMathText=True)
            if row == column:
                _draw_one(axes, draws[first], result, first)
            else:
                _draw_two(axes, draws[first], draws[second], result, (first, second))
            if row == count - 1:
                axes.set_xlabel(_label(posterior, first).replace(" (", "\n("))
            if column == 0 and row > 0:
                axes.set_ylabel(_label(posterior, second))
    return figure


def _varying(posterior: Posterior) -> list[str]:
    """Names of the draws that vary and are no values of single angles."""
    return [
        name
        for name, draws in posterior.values.items()
        if draws.ndim == 2 and np.ptp(draws) > 0 and np.all(np.isfinite(draws))
    ]


def _label(posterior: Posterior, name: str) -> str:
    unit = posterior.units.get(name, "")
    return f"{name} ({unit})" if unit else name


def _draw_one(axes: Axes, draws: Floats, result: FitResult, name: str) -> None:
    density, edges = np.histogram(draws, BINS, density=True)
    axes.stairs(density, edges, fill=True, color=color_of(0), alpha=BAND_ALPHA)
    estimate = result.parameters[name]
    if 0 < estimate.stderr < np.inf:
        x = np.linspace(edges[0], edges[-1], 200)
        z = (x - estimate.value) / estimate.stderr
        normal = np.exp(-(z**2) / 2) / (np.sqrt(2 * np.pi) * estimate.stderr)
        axes.plot(x, normal, color=color_of(1), linewidth=1.2)
    axes.set_yticks([])


def _draw_two(axes: Axes, x: Floats, y: Floats, result: FitResult, names: tuple[str, str]) -> None:
    step = -(-x.size // (4 * SHOWN_DRAWS))
    axes.plot(
        x.ravel()[::step],
        y.ravel()[::step],
        ".",
        color=color_of(0),
        markersize=2,
        alpha=0.4,
        rasterized=True,
    )
    rows = [list(result.parameters).index(name) for name in names]
    covariance = result.covariance[np.ix_(rows, rows)]
    if np.all(np.isfinite(covariance)) and np.all(np.diag(covariance) > 0):
        centre = np.array([result.parameters[name].value for name in names])
        for squared in CONTOURS:
            axes.plot(*ellipse(centre, covariance, squared), color=color_of(1), linewidth=1.2)
        axes.plot(*centre, "+", color=color_of(1), markersize=8)


def ellipse(centre: Floats, covariance: Floats, squared: float) -> Floats:
    """Points x (2, n) at which (x − c)ᵀ Σ⁻¹ (x − c) is `squared`."""
    # In units of the errors, which may be decades apart.
    errors = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(errors, errors))
    turn = np.linspace(0.0, 2 * np.pi, 121)
    circle = np.sqrt(squared) * np.stack([np.cos(turn), np.sin(turn)])
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return centre[:, None] + errors[:, None] * (root @ circle)
