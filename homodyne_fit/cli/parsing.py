"""The parser of the command line.

A line that begins with an option is a fit: ``--config FILE`` means ``fit --config FILE``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import NoReturn

from homodyne_fit.cli.options import COMMANDS
from homodyne_fit.errors import did_you_mean, suggestion

__all__ = ["complete", "parse", "print_help"]

# Exit status of wrong usage (argparse has 2).
ERROR = 1

FIT = "fit"

VERBOSE = ("-v", "--verbose")

# Options without a command.
SHOW = ("-h", "--help", "--version")

EXAMPLES = """\
examples:
  homodyne_fit inspect data.h5                 show the contents of a file
  homodyne_fit init data.h5 -o fit.yaml        write a configuration from it
  homodyne_fit check fit.yaml                  show what a fit would do, or the mistakes
  homodyne_fit --config fit.yaml               fit; write results to fit_results/
  homodyne_fit --config fit.yaml --set analyzer_parameters.end_frame=500 --output-dir first500
  homodyne_fit --config fit.yaml --json --overwrite | jq .parameters.D0.value
  homodyne_fit batch 'runs/*.yaml'             many fits with one table
  homodyne_fit batch fit.yaml --data 'runs/*.h5'
  homodyne_fit report fit_results --save-plots
  homodyne_fit compare static_results flow_results --html comparison.html
  homodyne_fit profile fit_results phi0
  homodyne_fit demo                            simulate a measurement and fit it

options of a fit: homodyne_fit fit --help

exit status: 0 converged, 1 error, 2 ran but did not converge, 130 interrupted
"""


def parse(words: Sequence[str]) -> tuple[str, argparse.Namespace]:
    """The command and its arguments; the program ends after wrong usage or ``--help``."""
    parser, commands = _make_parsers()
    command, *words = _with_command_first(words)
    if command in SHOW:
        parser.parse_args([command])
    if command not in commands:
        parser.error(_no_command(command))
    return command, _parse_command(commands, command, words)


def complete() -> None:
    """Print possible completions of a line for a shell: commands, and options of a fit."""
    import argcomplete

    parser, _ = _make_parsers()
    COMMANDS[FIT].add_options(parser)
    argcomplete.autocomplete(parser)


def print_help() -> None:
    """Print the help of the program."""
    parser, _ = _make_parsers()
    parser.print_help()


def _with_command_first(words: Sequence[str]) -> list[str]:
    """The same words with a command before all options."""
    verbose = list(takewhile(VERBOSE.__contains__, words))
    rest = words[len(verbose) :]
    if not rest or (rest[0].startswith("-") and rest[0] not in SHOW):
        return [FIT, *words]
    return [rest[0], *verbose, *rest[1:]]


def _parse_command(
    commands: dict[str, _Parser], command: str, words: list[str]
) -> argparse.Namespace:
    parser = commands[command]
    _require_known_options(commands, command, words)
    _require_key_values(parser, words)
    args, rest = parser.parse_known_args(words)
    if rest and rest[0].startswith("-"):
        parser.error(f"there is no option {rest[0]}")
    if rest and command != FIT:
        parser.error(f"'{rest[0]}' is one argument too many")
    if rest and rest[0] in commands:
        first = next((word for word in words if word not in VERBOSE), "")
        parser.error(f"{first} has no effect before the command '{rest[0]}'")
    if rest:
        parser.error(_no_command(rest[0]))
    if command == FIT and args.config is None:
        parser.error("a command or --config FILE is needed")
    return args


def _require_known_options(commands: dict[str, _Parser], command: str, words: list[str]) -> None:
    """Report an unknown option; argparse would report the word after it."""
    parser = commands[command]
    for word in words:
        name = word.partition("=")[0]
        if name == "--":
            return
        if name.startswith("--") and not parser.has_option(name):
            others = [each for each in commands if name in commands[each].options]
            owners = [f"'{each}'" for each in others if each != FIT]
            owners += ["a fit (--config FILE)"] if FIT in others else []
            near = did_you_mean(suggestion(name, parser.options))
            hint = f"; it belongs to {', '.join(owners)}" if owners else near
            parser.error(f"there is no option {name}{hint}")


def _require_key_values(parser: _Parser, words: list[str]) -> None:
    """Refuse a key without an equals sign and a second --config, which argparse accepts."""
    for i, word in enumerate(words):
        following = words[i + 1 : i + 3] if word == "--set" else []
        if following and not any("=" in each or each.startswith("-") for each in following):
            parser.error(f"--set {' '.join(following)}: write it as KEY.PATH=VALUE")
    if sum(word.partition("=")[0] in ("--config", "-c") for word in words) > 1:
        parser.error("--config is given more than once; 'batch' fits several")


def _no_command(word: str) -> str:
    """The message for a word in the place of a command."""
    if word.endswith((".yaml", ".yml")):
        return f"'{word}' is no command; --config {word} fits it"
    if Path(word).is_file():
        return f"'{word}' is no command; 'inspect {word}' shows the contents of a file"
    near = did_you_mean(suggestion(word, COMMANDS)) or "; a fit is --config FILE"
    return f"there is no command '{word}'{near}"


def _make_parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """The parser that shows help and version, and one for each command."""
    parser = _Parser(
        prog="homodyne_fit",
        usage="%(prog)s --config FILE [options]\n       %(prog)s COMMAND ...",
        description="Fit diffusion and shear flow to XPCS two-time correlations.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    adder = parser.add_subparsers(title="commands", metavar="COMMAND", prog=parser.prog)
    commands = {}
    for name, (summary, add_options) in COMMANDS.items():
        commands[name] = adder.add_parser(
            name,
            help=summary,
            description=f"{summary}.",
            # Many options of a fit have the same beginning.
            allow_abbrev=name != FIT,
        )
        add_options(commands[name])
        commands[name].add_argument(
            *VERBOSE,
            action="store_true",
            help="show tracebacks of errors, the keys without effect, and all of the summary",
        )
    return parser, commands


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage in one line, with the exit status of an error."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        # Allow a list of numbers to begin with a negative number.
        self._negative_number_matcher = re.compile(r"-\.?\d")

    @property
    def options(self) -> list[str]:
        """All spellings of all options."""
        return list(self._option_string_actions)

    def has_option(self, name: str) -> bool:
        """Whether there is an option with this name, or with this beginning if that is allowed."""
        abbreviated = self.allow_abbrev and any(option.startswith(name) for option in self.options)
        return name in self.options or abbreviated

    def error(self, message: str) -> NoReturn:
        """Print the message and exit."""
        self.exit(ERROR, f"{self.prog}: error: {message}; see {self.prog} --help\n")
        raise AssertionError("unreachable")


class _ShowVersion(argparse.Action):
    """Prints the version, which is looked up only if this option is used."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the version and exit."""
        from importlib.metadata import version

        print(f"homodyne_fit {version('homodyne_fit')}")
        parser.exit()
