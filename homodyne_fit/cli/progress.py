"""The steps of a command as a user sees them.

On a terminal they are one line that changes, such as ``0:31 all points, pass 4, 12 of 40 chunks
(8 s left)``; in a pipe, a batch job and a log file they are lines of the same text, now and then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

from homodyne_fit.progress import Progress, Step

__all__ = ["Clock", "lines", "live_line", "shown_on"]

# Seconds between two lines of the same stage,
PERIOD = 10.0
# and between any two lines: at least so many, and at least this share of the time so far.
LEAST_PAUSE = 2.0
LEAST_SHARE = 0.05

# Seconds from which on it is said how many are left.
NOTABLE = 2.0

# Changes of the line on a terminal, in a second.
REFRESH_RATE = 8


class Clock:
    """How long a command has run, and how long what it counts will take."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        # The step at which the count began, and when.
        self._first, self._first_time = Step(""), self._began
        self._last, self._last_time = self._first, self._began

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._now() - self._began

    def note(self, step: Step) -> None:
        """Take notice of a step."""
        now, same = self._now(), (step.stage, step.total) == (self._first.stage, self._first.total)
        if not same or step.done < self._last.done:
            self._first, self._first_time = step, now
        self._last, self._last_time = step, now

    def text(self) -> str:
        """The last step with the time so far, and with the time that is left of what it counts."""
        return f"{clock_time(self.elapsed)} {self._last.text(self._remaining())}"

    def _remaining(self) -> str:
        counted = self._last.done - self._first.done
        if counted <= 0 or not self._last.total:
            return ""
        pace = (self._last_time - self._first_time) / counted
        left = pace * (self._last.total - self._last.done) - (self._now() - self._last_time)
        if left < NOTABLE:
            return ""
        return f"{left:.0f} s" if left < 60 else clock_time(left)


def clock_time(seconds: float) -> str:
    """``0:31``, ``12:05`` or ``1:02:05``."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def shown_on(console: Console, clock: Clock) -> Iterator[Progress]:
    """Show steps on a console: as a line that changes, or as lines where that is no terminal."""
    if console.quiet:
        yield clock.note
    elif console.is_terminal and not console.is_dumb_terminal and console.file.isatty():
        with live_line(console, clock) as show:
            yield show
    else:
        yield lines(lambda text: console.print(text, markup=False), clock, since=0.0)


@contextmanager
def live_line(console: Console, clock: Clock) -> Iterator[Progress]:
    """Show the last step in a line that changes, and is gone in the end."""
    spinner = Spinner("dots")

    def render() -> Spinner:
        spinner.update(text=clock.text()[: console.width - 3])
        return spinner

    def show(step: Step) -> None:
        clock.note(step)
        live.start()

    live = Live(
        console=console,
        get_renderable=render,
        refresh_per_second=REFRESH_RATE,
        transient=True,
        redirect_stdout=False,
    )
    try:
        yield show
    finally:
        live.stop()


def lines(write: Callable[[str], object], clock: Clock, since: float) -> Progress:
    """Write a line for a new stage and every `PERIOD`, with longer and longer pauses.

    Parameters
    ----------
    since : float
        When the line before was written, in seconds since the beginning.
    """
    last, stage, lock = since, "", threading.Lock()

    def show(step: Step) -> None:
        nonlocal last, stage
        with lock:
            clock.note(step)
            pause = clock.elapsed - last
            due = step.stage != stage or pause >= PERIOD
            if due and pause >= max(LEAST_PAUSE, LEAST_SHARE * clock.elapsed):
                last, stage = clock.elapsed, step.stage
                write(clock.text())

    return show
