"""What commands print to."""

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
    """A stream that goes on in silence once its reader has gone, as ``head`` does.

    What a command does besides printing is not lost with it, nor is its exit status.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write; nobody need read it."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._turn_away()
            return len(text)

    def flush(self) -> None:
        """Flush; nobody need read it."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._turn_away()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _turn_away(self) -> None:
        """Let what is buffered, and all that follows, go nowhere."""
        with suppress(OSError), open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())


def new_console(quiet: bool) -> Console:
    """Where a fit reports to: colours on a terminal only, and not if NO_COLOR is set."""
    from rich.console import Console

    return Console(quiet=quiet, highlight=False, soft_wrap=True)


def print_json(content: object) -> None:
    """Print JSON in plain ASCII, which every terminal and pipe can take."""
    print(json.dumps(content, indent=2, allow_nan=False))


def by_section(paths: Iterable[str]) -> str:
    """Dotted paths in one line, those of a section together: ``section: key, key; other``."""
    sections: dict[str, list[str]] = {}
    for path in paths:
        section, _, key = path.rpartition(".")
        sections.setdefault(section, []).append(key)
    return "; ".join(
        f"{section}: {', '.join(keys)}" if section else ", ".join(keys)
        for section, keys in sections.items()
    )


def reasons(ignored: Iterable[tuple[str, str]]) -> list[str]:
    """Keys without effect, given as (dotted path, reason): a line for each reason."""
    grouped: dict[str, list[str]] = {}
    for path, reason in ignored:
        grouped.setdefault(reason, []).append(path)
    return [f"{by_section(paths)} ({reason})" for reason, paths in grouped.items()]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as lines, the columns flush right and two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def explanation(error: BaseException) -> str:
    """What an error says to a user; one that nobody foresaw is called a fault of the program."""
    match error:
        case InputError():
            return str(error)
        case KeyboardInterrupt():
            return ": ".join(filter(None, ["interrupted", str(error)]))
        case MemoryError():
            return f"not enough memory: {error}"
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror or error}"
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{what} (a fault of homodyne_fit; -v shows where)"
