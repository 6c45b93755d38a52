"""The command line: ``homodyne_fit --config FILE``, and one module for each other command.

Commands import what they need when they run, so that ``--help`` is immediate.
"""

from __future__ import annotations

import argparse
import ast
import gc
import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from homodyne_fit.cli.commands import (
    batch,
    check,
    completion,
    demo,
    fit,
    init,
    inspect,
    report,
    simulate,
)
from homodyne_fit.cli.console import Output, explanation
from homodyne_fit.errors import did_you_mean, suggestion

__all__ = ["main", "program"]

# Exit codes.
CONVERGED, ERROR, NOT_CONVERGED = 0, 1, 2

COMMANDS = {
    "inspect": inspect,
    "init": init,
    "check": check,
    "batch": batch,
    "report": report,
    "simulate": simulate,
    "demo": demo,
    "completion": completion,
}

VERBOSE = ("-v", "--verbose")

EXAMPLES = """\
examples:
  homodyne_fit inspect data.h5                 what is in the file
  homodyne_fit init data.h5 -o fit.yaml        write a configuration from it
  homodyne_fit check fit.yaml                  what a fit would do, and every mistake
  homodyne_fit --config fit.yaml               fit; results go to fit_results/
  homodyne_fit --config fit.yaml --set analyzer_parameters.end_frame=500 --output-dir first500
  homodyne_fit --config fit.yaml --json --overwrite | jq .parameters.D0.value
  homodyne_fit batch 'runs/*.yaml'             many fits, one table
  homodyne_fit batch fit.yaml --data 'runs/*.h5'
  homodyne_fit report fit_results --save-plots
  homodyne_fit demo                            simulate a measurement and fit it

exit status: 0 converged, 1 error, 2 ran but did not converge
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser, commands = _parsers()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    if not argv:
        parser.print_help()
        return ERROR
    first = next((word for word in argv if word not in VERBOSE), "")
    asked = commands.get(first, parser)
    _check_options(asked, parser, commands, argv)
    _check_values(asked, argv)
    args, rest = parser.parse_known_args(argv)
    if rest and rest[0].startswith("-"):
        asked.error(f"there is no option {rest[0]}")
    if rest:
        asked.error(f"'{rest[0]}' is one argument too many")
    if args.command is not None:
        _check_order(parser, argv, args.command)
    elif args.config is None:
        parser.error("a command or --config FILE is needed")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that knows no Å gets an escape, not a failure.
        sys.stdout.reconfigure(errors="backslashreplace")
    command = fit if args.command is None else COMMANDS[args.command]
    try:
        with redirect_stdout(Output(sys.stdout)) as output:
            status = command.run(args)
            output.flush()
        return status
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 a user gets a line, not a trace
        for line in explanation(error).splitlines():
            print(f"homodyne_fit: error: {line}", file=sys.stderr)
        if args.verbose:
            traceback.print_exc()
    return ERROR


def program() -> int:
    """`main` as a process of its own."""
    sys.unraisablehook = _raise_interrupts_again
    status = main()
    # At its end Python looks through all that is left for what could go: a lot, and nothing.
    gc.freeze()
    return status


def _raise_interrupts_again(ignored: sys.UnraisableHookArgs) -> None:
    """Interrupt again where an interrupt came while something was cleared away, and was ignored."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        # To the main thread itself: a signal to another one would not end what it waits for.
        main_thread = threading.main_thread().ident
        threading.Timer(0.01, signal.pthread_kill, [main_thread, signal.SIGINT]).start()
    else:
        sys.__unraisablehook__(ignored)


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(
        prog="homodyne_fit",
        usage="%(prog)s --config FILE [options]\n       %(prog)s COMMAND ...",
        description="Fit diffusion and shear flow to XPCS two-time correlations.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # It would take the options of a command for abbreviations of its own.
        allow_abbrev=False,
    )
    fit.add_arguments(parser)
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    # Known to every command, before or after its name.
    parser.add_argument("-v", "--verbose", action="store_true", help="show tracebacks of errors")
    adder = parser.add_subparsers(
        dest="command", title="commands", metavar="COMMAND", prog=parser.prog
    )
    commands = {}
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0].rstrip(".")
        command = adder.add_parser(name, help=summary, description=summary + ".")
        module.add_arguments(command)
        command.add_argument(
            "-v",
            "--verbose",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show tracebacks of errors",
        )
        commands[name] = command
    return parser, commands


def _check_options(
    asked: _Parser, parser: _Parser, commands: dict[str, _Parser], argv: list[str]
) -> None:
    """Name a misspelt option; argparse would complain about what follows it."""
    abbreviable = [o for c, command in commands.items() if c in argv for o in command.options]
    known = [*asked.options, *abbreviable]
    for word in argv:
        name = word.partition("=")[0]
        if name == "--":
            return
        if (
            name.startswith("--")
            and name not in known
            and not any(option.startswith(name) for option in abbreviable)
        ):
            owners = [f"'{c}'" for c, command in commands.items() if name in command.options]
            of_fit = name in parser.options and name != "--version"
            owners += ["a fit (--config FILE)"] if of_fit else []
            near = did_you_mean(suggestion(name, known))
            hint = f"; it belongs to {', '.join(owners)}" if owners else near
            asked.error(f"there is no option {name}{hint}")


def _check_values(asked: _Parser, argv: list[str]) -> None:
    """Refuse a key without an equals sign, and a second configuration: argparse takes both."""
    for i, word in enumerate(argv):
        given = argv[i + 1 : i + 3] if word == "--set" else []
        if given and not any("=" in each or each.startswith("-") for each in given):
            asked.error(f"--set {' '.join(given)}: write it as KEY.PATH=VALUE")
    if [word.partition("=")[0] for word in argv].count("--config") > 1:
        asked.error("--config is given more than once; 'batch' fits several")


def _no_command(word: str) -> str:
    """What to say of a word in the place of a command."""
    if word.endswith((".yaml", ".yml")):
        return f"'{word}' is no command; --config {word} fits it"
    if Path(word).is_file():
        return f"'{word}' is no command; 'inspect {word}' shows what it holds"
    near = did_you_mean(suggestion(word, COMMANDS)) or "; a fit is --config FILE"
    return f"there is no command '{word}'{near}"


def _check_order(parser: _Parser, argv: list[str], command: str) -> None:
    """Refuse what stands before a command: it would be lost there."""
    lost = [word for word in argv[: argv.index(command)] if word not in VERBOSE]
    if lost:
        parser.error(f"{lost[0]} has no effect before the command '{command}'")


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage in one line, with the exit status of an error; argparse's is 2."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        # A list of numbers may begin with a negative one.
        self._negative_number_matcher = re.compile(r"-\.?\d")

    @property
    def options(self) -> list[str]:
        """All options, in all spellings."""
        return list(self._option_string_actions)

    def error(self, message: str) -> None:  # type: ignore[override]
        """Print the message and exit."""
        if found := re.match(r"argument COMMAND: invalid choice: (.*) \(choose from ", message):
            message = _no_command(ast.literal_eval(found[1]))
        self.exit(ERROR, f"{self.prog}: error: {message}; see {self.prog} --help\n")


class _ShowVersion(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the version and exit."""
        from importlib.metadata import version

        print(f"homodyne_fit {version('homodyne_fit')}")
        parser.exit()
