"""What commands print to."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Output", "new_console", "print_json"]


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
