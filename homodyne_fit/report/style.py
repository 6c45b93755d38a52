"""The style that all figures share, how a user changes it, and how a notebook shows figures."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from homodyne_fit.errors import InputError, did_you_mean, suggestion
from homodyne_fit.report.figure_files import Style

__all__ = [
    "BAND_ALPHA",
    "BASE",
    "MISSING",
    "NotebookFigure",
    "color_of",
    "figure_style",
    "label_axes",
    "open_frame",
    "plain_style",
    "styled",
]

# Of what is missing in a matrix.
MISSING = "#c8c8c8"

# Opacity of bands.
BAND_ALPHA = 0.35

INK = "#222222"

# Settings of matplotlib for all figures; those of the user come on top. Colours of curves also
# differ in lightness and with colour-blindness (Okabe and Ito).
BASE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.prop_cycle": cycler(
        color=["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"]
    ),
    "axes.titlesize": 9,
    "figure.facecolor": "white",
    "figure.titlesize": 11,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "image.cmap": "viridis",
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.title_fontsize": 8,
    # Text in PDF and SVG stays text.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 8,
    "ytick.color": INK,
    "ytick.labelsize": 8,
}

# Beginnings of settings that are not of the style.
BACKEND = ("backend", "interactive", "webagg", "date.epoch", "tk.", "toolbar")

_user_style: ContextVar[Style] = ContextVar("user_style", default=())


class NotebookFigure(Figure):
    """A figure that shows itself as the value of a cell; others do so only with pyplot."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


@contextmanager
def figure_style(style: Style) -> Iterator[None]:
    """In the block, figures are drawn in a style of the user.

    Parameters
    ----------
    style : str, path, mapping, or a sequence of these
        As for ``matplotlib.style.use``: the name of a style, a file of settings (``.mplstyle``), or
        settings by name, such as ``{"font.size": 12}``. They come on top of the style that all
        figures share.

    Raises
    ------
    InputError
        If there is no such style or setting, or a value cannot be used.
    """
    with mpl.rc_context():
        _use(style)
    token = _user_style.set(style)
    try:
        yield
    finally:
        _user_style.reset(token)


def _use(style: Style) -> None:
    """Apply a style of the user to matplotlib."""
    for one in [style] if isinstance(style, str | Path | Mapping) else style:
        try:
            matplotlib.style.use(dict(one) if isinstance(one, Mapping) else one)
        except OSError as error:
            near = did_you_mean(suggestion(str(one), matplotlib.style.available))
            raise InputError(
                f"there is no figure style '{one}'{near}; a style is a name of matplotlib "
                "(such as 'ggplot'), a file of its settings, or a dictionary of them"
            ) from error
        except (KeyError, ValueError) as error:
            problem = " ".join(str(error).strip("'\"").split())
            raise InputError(f"this figure style cannot be used: {problem}") from error


def styled[**P, R](draw: Callable[P, R]) -> Callable[P, R]:
    """Let a function that draws do so in the style of all figures, and in that of the user."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context():
            matplotlib.style.use(BASE)
            _use(_user_style.get())
            return draw(*args, **kwargs)

    return drawn


@contextmanager
def plain_style() -> Iterator[None]:
    """In the block, draw as matplotlib does by default, whatever the user's matplotlibrc says.

    Files of a result look alike everywhere, and need no other programs such as LaTeX. What
    `figure_style` asks for comes on top.
    """
    with mpl.rc_context():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mpl.MatplotlibDeprecationWarning)
            for key in mpl.rcParamsDefault:
                if not key.startswith(BACKEND):
                    mpl.rcParams[key] = mpl.rcParamsDefault[key]
        mpl.rcParams.update({key: BASE[key] for key in ("pdf.fonttype", "svg.fonttype")})
        yield


def color_of(number: int) -> str:
    """A colour of curves of the style in force; a name such as C0 would be looked up too late."""
    colors = mpl.rcParams["axes.prop_cycle"].by_key().get("color", ["black"])
    return colors[number % len(colors)]


def label_axes(axes: Axes, x: str, y: str) -> None:
    """Name both axes."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def open_frame(axes: Axes) -> None:
    """Leave the upper and the right edge out, and draw a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True)
