"""What a reader gives: the name of a format, how to know it, and how to describe a file of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from homodyne_fit.loaders.two_time_file import TwoTimeFile

__all__ = ["Format"]


@dataclass(frozen=True)
class Format[Contents]:
    """A format of two-time files.

    Attributes
    ----------
    name : str
    layout : str
        What tells it from others, for a message.
    recognises : callable
        ``recognises(contents)`` is whether a file with these contents is of the format.
    describe : callable
        ``describe(contents, path)`` says what the file holds, without reading a matrix; what
        contradicts itself is an `InputError`.
    """

    name: str
    layout: str
    recognises: Callable[[Contents], bool]
    describe: Callable[[Contents, Path], TwoTimeFile]
