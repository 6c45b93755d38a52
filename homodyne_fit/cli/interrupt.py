"""Ctrl-C during a fit: it stops at its next chunk if it has values to keep, and at once if not."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from homodyne_fit.progress import Progress, Step, StopFit

__all__ = ["Stoppable", "stoppable"]

STOPPING = "stopping at the next chunk; Ctrl-C again stops at once"


class Stoppable:
    """Passes steps on; after an interrupt it ends the fit where that has values to return.

    Attributes
    ----------
    requested : bool
        Whether the user has interrupted.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress, self._can_stop, self.requested = progress, False, False

    def __call__(self, step: Step) -> None:
        """Pass a step on."""
        self._can_stop = step.can_stop
        if self.requested and step.can_stop:
            raise StopFit
        self._progress(step)

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        if self.requested or not self._can_stop:
            raise KeyboardInterrupt
        self.requested = True
        self._progress(Step(STOPPING))


@contextmanager
def stoppable(progress: Progress) -> Iterator[Stoppable]:
    """A listener for a fit that Ctrl-C ends early.

    Where the signal is ignored, as in a background job of a shell, or in another thread than the
    main one, it changes nothing.
    """
    listener = Stoppable(progress)
    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or before is not signal.default_int_handler:
        yield listener
        return
    signal.signal(signal.SIGINT, listener.interrupt)
    try:
        yield listener
    finally:
        signal.signal(signal.SIGINT, before)
