"""The command line: ``homodyne_fit --config FILE``, and one module for each other command.

Commands import what they need when they run, so that ``--help`` is immediate.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from homodyne_fit.cli import demo, fit, init, inspect, simulate
from homodyne_fit.errors import InputError

__all__ = ["main"]

# Exit codes.
CONVERGED, ERROR, NOT_CONVERGED = 0, 1, 2

COMMANDS = {"inspect": inspect, "init": init, "simulate": simulate, "demo": demo}

EXAMPLES = """\
examples:
  homodyne_fit inspect data.h5                 what is in the file
  homodyne_fit init data.h5 -o fit.yaml        write a configuration from it
  homodyne_fit --config fit.yaml               fit; results go to fit_results/
  homodyne_fit demo                            simulate a measurement and fit it

exit status: 0 converged, 1 error, 2 ran but did not converge
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None and args.config is None:
        parser.print_help()
        return ERROR
    command = fit if args.command is None else COMMANDS[args.command]
    try:
        return command.run(args)
    except InputError as error:
        for line in str(error).splitlines():
            print(f"homodyne_fit: error: {line}", file=sys.stderr)
        if args.verbose:
            traceback.print_exc()
        return ERROR
    except KeyboardInterrupt:
        print("homodyne_fit: interrupted", file=sys.stderr)
        return ERROR
    except OSError as error:
        print(f"homodyne_fit: error: {error}", file=sys.stderr)
        if args.verbose:
            traceback.print_exc()
        return ERROR


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="homodyne_fit",
        description="Fit diffusion and shear flow to XPCS two-time correlations.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fit.add_arguments(parser)
    parser.add_argument("--version", action="version", version=_LazyVersion())
    # Known to every command, before or after its name.
    parser.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0].rstrip(".")
        command = commands.add_parser(name, help=summary, description=summary + ".")
        module.add_arguments(command)
        command.add_argument(
            "-v",
            "--verbose",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show tracebacks",
        )
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        """Wrong usage exits with the status of an error, 1; argparse's own is 2."""
        self.print_usage(sys.stderr)
        self.exit(ERROR, f"{self.prog}: error: {message}\n")


class _LazyVersion:
    """Looks the version up only when it is asked for."""

    def __mod__(self, _: object) -> str:
        from importlib.metadata import version

        return f"homodyne_fit {version('homodyne_fit')}"
