"""Output of the commands."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from homodyne_fit.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Output", "new_console", "print_json", "by_section", "explanation", "reasons", "table"]


class Output:
    """A stream that ignores further output after its reader has ended, as ``head`` does.

    The command can then finish its work, and its exit status is kept.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or ignore the text if the reader has ended."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._ignore_output()
            return len(text)

    def flush(self) -> None:
        """Flush, or do nothing if the reader has ended."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._ignore_output()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _ignore_output(self) -> None:
        """Send buffered and further output to the null device."""
        with suppress(OSError), open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())


def new_console(quiet: bool, *, stderr: bool = False) -> Console:
    """The console for reports of a fit; colours only on a terminal, and not if NO_COLOR is set."""
    from rich.console import Console

    return Console(quiet=quiet, stderr=stderr, highlight=False, soft_wrap=True)


def print_json(content: object) -> None:
    """Print JSON in plain ASCII, which every terminal can show."""
    print(json.dumps(content, indent=2, allow_nan=False))


def by_section(paths: Iterable[str]) -> str:
    """Dotted paths in one line, grouped by section: ``section: key, key; other``."""
    sections: dict[str, list[str]] = {}
    for path in paths:
        section, _, key = path.rpartition(".")
        sections.setdefault(section, []).append(key)
    return "; ".join(
        f"{section}: {', '.join(keys)}" if section else ", ".join(keys)
        for section, keys in sections.items()
    )


def reasons(ignored: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each reason, from pairs of a key (its dotted path) and a reason."""
    grouped: dict[str, list[str]] = {}
    for path, reason in ignored:
        grouped.setdefault(reason, []).append(path)
    return [f"{by_section(paths)} ({reason})" for reason, paths in grouped.items()]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as lines; columns are right-aligned and two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def explanation(error: BaseException) -> str:
    """The message for a user; an error of an unexpected type is a fault of the program."""
    match error:
        case InputError():
            return str(error)
        case KeyboardInterrupt():
            return ": ".join(filter(None, ["interrupted", str(error)]))
        case MemoryError():
            return f"not enough memory: {error}"
        case RuntimeError() if "home directory" in str(error):
            return "~ stands for the home directory, and there is none: write the whole path"
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror or error}"
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{what} (a fault of homodyne_fit; -v shows where)"
