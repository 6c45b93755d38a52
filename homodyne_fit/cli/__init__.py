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
from types import FrameType

from homodyne_fit.cli.console import Output, explanation
from homodyne_fit.cli.parsing import complete, parse, print_help

__all__ = ["main", "program"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 converged, 1 error, 2 not converged."""
    words = sys.argv[1:] if argv is None else list(argv)
    if "_ARGCOMPLETE" in os.environ:
        complete()
    if not words:
        print_help()
        return 1
    command, args = parse(words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot print Å gets an escape sequence instead of a failure.
        sys.stdout.reconfigure(errors="backslashreplace")
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
    return 1


def program() -> int:
    """`main` as a process of its own."""
    sys.unraisablehook = _raise_interrupts_again
    status = main()
    # Skip the garbage collection at exit: it takes long, and frees nothing that matters.
    gc.freeze()
    return status


def _raise_interrupts_again(ignored: sys.UnraisableHookArgs) -> None:
    """Interrupt again if Python has ignored an interrupt, as it does inside a finalizer."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        before, noticed = signal.getsignal(signal.SIGINT), threading.Event()
        main_thread = threading.main_thread().ident
        assert main_thread is not None

        def interrupt(number: int, frame: FrameType | None) -> None:
            del number, frame
            noticed.set()
            signal.signal(signal.SIGINT, before)
            raise KeyboardInterrupt

        def signal_until_noticed() -> None:
            # A signal just before the main thread begins to wait would not end its waiting.
            while not noticed.wait(0.02):
                signal.pthread_kill(main_thread, signal.SIGINT)

        signal.signal(signal.SIGINT, interrupt)
        threading.Thread(target=signal_until_noticed, daemon=True).start()
    else:
        sys.__unraisablehook__(ignored)
