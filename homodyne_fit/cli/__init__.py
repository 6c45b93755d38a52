"""The command line: ``homodyne_fit --config FILE``, and one module for each command.

Only the module of the command that runs is imported.
"""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module

from homodyne_fit.cli.console import Output, explanation
from homodyne_fit.cli.parsing import complete, parse, print_help

__all__ = ["main", "program"]

# Exit status after Ctrl-C: 128 and the number of the signal, as in a shell.
INTERRUPTED = 130

# New objects after which Python looks for those that only refer to each other.
MANY_OBJECTS = 500_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        The exit status: 0 converged, 1 error, 2 not converged, 130 interrupted.
    """
    _print_any_text()
    words = sys.argv[1:] if argv is None else list(argv)
    if "_ARGCOMPLETE" in os.environ:
        complete()
    if not words:
        print_help()
        return 1
    command, args = parse(words)
    args.words = words
    try:
        with redirect_stdout(Output(sys.stdout)) as output:
            status = import_module(f"homodyne_fit.cli.commands.{command}").run(args)
            output.flush()
        return status
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 a user gets a line, not a trace
        for line in explanation(error).splitlines():
            print(f"homodyne_fit: error: {line}", file=sys.stderr)
        if args.verbose:
            traceback.print_exc()
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1


def _print_any_text() -> None:
    """Print an escape sequence for what a terminal cannot show, such as Å, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def program() -> int:
    """`main` as a process of its own."""
    sys.unraisablehook = _raise_interrupts_again
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Batch systems send this signal before they end a job.
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    # Much is imported and kept, and little of it refers to each other in circles.
    gc.set_threshold(MANY_OBJECTS)
    status = main()
    # Skip the garbage collection at exit: it takes long, and frees nothing that matters.
    gc.freeze()
    return status


def _raise_interrupts_again(ignored: sys.UnraisableHookArgs) -> None:
    """Interrupt again if Python has ignored an interrupt, as it does inside a finalizer."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        # To the main thread: a signal to another thread would not end its waiting.
        main_thread = threading.main_thread().ident
        threading.Timer(0.01, signal.pthread_kill, [main_thread, signal.SIGINT]).start()
    else:
        sys.__unraisablehook__(ignored)
