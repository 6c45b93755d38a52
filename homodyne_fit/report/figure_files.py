"""How figures are written as files; matplotlib is not imported here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homodyne_fit.errors import InputError, did_you_mean, suggestion

__all__ = ["FORMATS", "FigureFiles", "Style", "require_format"]

type Style = str | Path | Mapping[str, Any] | Sequence[str | Path | Mapping[str, Any]]

# Formats of files.
FORMATS = ("png", "pdf", "svg")

# Pixels in an inch.
LEAST_DPI, MOST_DPI = 10, 2400


@dataclass(frozen=True)
class FigureFiles:
    """How figures are written.

    Attributes
    ----------
    formats : tuple of str
        Of 'png', 'pdf' and 'svg'; each figure is written in all of them.
    dpi : int
        Pixels in an inch: of PNG files, and of matrices in the others.
    style : str, path, mapping, or a sequence of these
        As for `figure_style`.
    """

    formats: tuple[str, ...] = ("png",)
    dpi: int = 150
    style: Style = ()

    def __post_init__(self) -> None:
        choice = f"there are: {', '.join(FORMATS)}"
        if not self.formats:
            raise InputError(f"figures need a format; {choice}")
        for name in self.formats:
            if name not in FORMATS:
                near = did_you_mean(suggestion(name, FORMATS))
                raise InputError(f"figures cannot be written as '{name}'{near}; {choice}")
        if not LEAST_DPI <= self.dpi <= MOST_DPI:
            raise InputError(
                f"figures have {LEAST_DPI} to {MOST_DPI} pixels in an inch, not {self.dpi}"
            )


def require_format(path: Path) -> None:
    """Raise an `InputError` unless figures can be written as the end of the name says."""
    if path.suffix.removeprefix(".").lower() not in FORMATS:
        ends = ", ".join(f".{name}" for name in FORMATS)
        raise InputError(f"{path}: the end of the name gives the format of a figure: {ends}")
