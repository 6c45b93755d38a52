"""The style that all figures share: colours, sizes of text, axes; and how a notebook shows them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = [
    "BAND",
    "CURVE",
    "INK",
    "LABEL_SIZE",
    "MARK",
    "MISSING",
    "NotebookFigure",
    "TICK_SIZE",
    "label_axes",
    "open_frame",
    "plain_style",
]

# Colours that also differ in lightness and with colour-blindness (Okabe and Ito).
INK = "#222222"
CURVE = "#0072b2"
BAND = "#9cc9e3"
MISSING = "#c8c8c8"
MARK = "#d55e00"

# Beginnings of settings that are not of the style.
BACKEND = ("backend", "interactive", "webagg", "date.epoch", "tk.", "toolbar")

# Sizes of text, points.
LABEL_SIZE = 9
TICK_SIZE = 8


class NotebookFigure(Figure):
    """A figure that shows itself as the value of a cell; others do so only with pyplot."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


@contextmanager
def plain_style() -> Iterator[None]:
    """In the block, draw as matplotlib does by default, whatever the user's matplotlibrc says.

    Files of a result look alike everywhere, and need no other programs such as LaTeX.
    """
    with mpl.rc_context():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mpl.MatplotlibDeprecationWarning)
            for key in mpl.rcParamsDefault:
                if not key.startswith(BACKEND):
                    mpl.rcParams[key] = mpl.rcParamsDefault[key]
        yield


def label_axes(axes: Axes, x: str, y: str) -> None:
    """Name both axes."""
    axes.set_xlabel(x, fontsize=LABEL_SIZE, color=INK)
    axes.set_ylabel(y, fontsize=LABEL_SIZE, color=INK)
    axes.tick_params(labelsize=TICK_SIZE, colors=INK)


def open_frame(axes: Axes) -> None:
    """Leave the upper and the right edge out, and draw a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
