"""What commands print to, and go on without if nobody reads it any more."""

from __future__ import annotations

import json
import os
import sys

from rich.console import Console

__all__ = ["new_console", "print_json", "unread"]


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Go on with the work in silence; rich would end the program."""
        self.quiet = True
        unread()


def new_console(quiet: bool) -> Console:
    """Where a fit reports to: colours on a terminal only, and not if NO_COLOR is set."""
    return _Console(quiet=quiet, highlight=False, soft_wrap=True)


def print_json(content: object) -> None:
    """Print JSON in plain ASCII, which every terminal and pipe can take."""
    try:
        print(json.dumps(content, indent=2, allow_nan=False), flush=True)
    except BrokenPipeError:
        unread()


def unread() -> None:
    """Turn standard output away from a reader that has gone, so that no flush at exit fails."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
