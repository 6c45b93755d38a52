"""All that a command tells its user, on the terminal and in a log file."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from rich.console import Console

from homodyne_fit.cli.console import explanation, new_console
from homodyne_fit.cli.progress import Clock, lines, shown_on
from homodyne_fit.errors import InputError
from homodyne_fit.progress import Progress, Step

__all__ = ["Reporter", "reporter_of"]

# Characters in a line of a log file.
LOG_WIDTH = 80


class Reporter:
    """Prints on a console, and writes the same into a log file if there is one.

    Parameters
    ----------
    console : Console
        Standard output.
    log : Console, optional
        The log file.
    progress_on : Console, optional
        Where steps are shown; standard output by default.
    """

    def __init__(
        self, console: Console, log: Console | None = None, progress_on: Console | None = None
    ) -> None:
        self.console, self._log = console, log
        self._progress_on = progress_on or console
        self._clock = Clock()
        self.stage = "starting"

    def print(self, text: str, style: str | None = None) -> None:
        """Print a text as it is."""
        self.show(lambda console: console.print(text, markup=False, style=style))

    def show(self, write: Callable[[Console], None]) -> None:
        """Let a function print."""
        write(self.console)
        if self._log is not None:
            write(self._log)

    def complain(self, text: str) -> None:
        """Print a warning or an error on standard error."""
        print(text, file=sys.stderr)
        self.log(text)

    def log(self, text: str) -> None:
        """Write a text into the log file alone."""
        if self._log is not None:
            self._log.print(text, markup=False)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show the steps of what is done in the block."""
        with shown_on(self._progress_on, self._clock) as on_terminal:
            in_log = lines(self._log_step, self._clock, since=-float("inf"))

            def show(step: Step) -> None:
                self.stage = step.stage
                on_terminal(step)
                if self._log is not None:
                    in_log(step)

            yield show

    def _log_step(self, text: str) -> None:
        self.log(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}")


@contextmanager
def reporter_of(args: argparse.Namespace) -> Iterator[Reporter]:
    """The reporter that the options ask for: ``--quiet``, ``--json``, ``--log-file``."""
    quiet, as_json = getattr(args, "quiet", False), getattr(args, "json", False)
    console, progress_on = new_console(quiet or as_json), None
    if as_json and not quiet and sys.stderr.isatty():
        progress_on = new_console(quiet=False, stderr=True)
    with ExitStack() as stack:
        log = None
        if (path := getattr(args, "log_file", None)) is not None:
            log = stack.enter_context(_log_file(path, args.words))
        yield Reporter(console, log, progress_on)


@contextmanager
def _log_file(path: Path, words: Sequence[str]) -> Iterator[Console]:
    """A console that appends to a file; an error that ends the command is its last line."""
    try:
        stream = path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        raise InputError(
            f"--log-file: {path}: cannot be written ({error.strerror or error})"
        ) from error
    with stream:
        log = Console(
            file=stream, width=LOG_WIDTH, color_system=None, force_terminal=False, soft_wrap=True
        )
        command = shlex.join(["homodyne_fit", *words])
        log.print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {command}", markup=False, highlight=False)
        try:
            yield log
        except (Exception, KeyboardInterrupt) as error:
            log.print(f"error: {explanation(error)}", markup=False, highlight=False)
            raise
