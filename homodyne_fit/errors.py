"""The one exception that stands for a mistake in what the user gave."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "InputError",
    "Mistakes",
    "missing_file",
    "renamed",
    "suggestion",
    "Problem",
    "unexplained",
    "names",
    "numbers",
    "counted",
    "ranges",
]


# How similar names of files have to be: their endings alone make them alike.
NEAR_NAME = 0.7

LONGEST = 40

PLURALS = {"matrix": "matrices"}


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that says what is wrong, where, and what to do. The command
    line prints it and exits with status 1.
    """


class Mistakes:
    """Collects errors, so that all are said at once.

    Parameters
    ----------
    lines : iterable of str
        Messages known already, one line each.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self.lines = list(lines)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep the `InputError` of a block for later."""
        try:
            yield
        except InputError as error:
            self.lines += str(error).splitlines()

    def raise_any(self) -> None:
        """Raise one `InputError` with all messages, if there are any."""
        if self.lines:
            raise InputError("\n".join(self.lines))


@contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Call things by the names that the user knows in the message of an `InputError`."""
    try:
        yield
    except InputError as error:
        message = str(error)
        for name, other in names.items():
            message = message.replace(name, other)
        raise InputError(message) from None


def suggestion(name: str, known: Iterable[str], near: float = 0.6) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest known name, or an empty string.

    Parameters
    ----------
    near : float
        How similar it has to be, from 0 to 1.
    """
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=near)
    return f" (did you mean '{nearest[0]}'?)" if nearest else ""


def missing_file(path: Path) -> InputError:
    """The error for a path where nothing is; it names the nearest there is."""
    if not path.parent.is_dir():
        return InputError(f"{path}: there is no folder {path.parent}")
    near = suggestion(path.name, (entry.name for entry in path.parent.iterdir()), NEAR_NAME)
    return InputError(f"{path}: there is no such file{near}")


class Problem(NamedTuple):
    """A mistake.

    Attributes
    ----------
    path : str
        Dotted path of the key; empty where there is none, as in a file that is no YAML.
    text : str
        What is wrong, and what to do.
    """

    path: str
    text: str

    def __str__(self) -> str:
        """``path: text``."""
        return f"{self.path}: {self.text}" if self.path else self.text


def unexplained(problems: Iterable[Problem], wrong: Collection[str]) -> Iterator[Problem]:
    """The problems that do not follow from keys known to be wrong, in or around theirs."""
    for problem in problems:
        if not any(_nested(problem.path, path) or _nested(path, problem.path) for path in wrong):
            yield problem


def _nested(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(f"{outer}.")


def numbers(values: Iterable[float]) -> str:
    """Return ``"0.004, 0.0054"``, cut off where it gets too long to read."""
    return names(f"{value:.6g}" for value in values)


def names(values: Iterable[str]) -> str:
    """Return the names in one line, cut off where it gets too long to read."""
    shown = list(values)
    more = len(shown) - LONGEST
    return ", ".join(shown[:LONGEST]) + (f", … ({more} more)" if more > 0 else "")


def counted(number: int, noun: str) -> str:
    """The number and the noun, in the plural where there is not one."""
    return f"{number} {noun if number == 1 else PLURALS.get(noun, noun + 's')}"


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers in one line, those that follow each other as a range: ``1, 4–6``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
