"""What is wrong with what the user gave: problems with their places, and the one exception.

A room names places as its callers do: `homodyne_fit.data` says ``dt``, an argument. Each caller
renames them to what its user knows: ``--dt``, a key of a configuration.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "InputError",
    "Problem",
    "collect",
    "counted",
    "did_you_mean",
    "missing_file",
    "ranges",
    "rename_places",
    "shortened",
    "shortened_numbers",
    "suggestion",
]

# How similar a name has to be to be suggested, from 0 to 1. Names of files have to be more alike,
# since their endings are.
NEAR_NAME = 0.6
NEAR_FILE_NAME = 0.7

# Names or numbers that a message lists at most.
MOST_LISTED = 40

PLURALS = {"matrix": "matrices"}


class Problem(NamedTuple):
    """A mistake.

    Attributes
    ----------
    where : str
        The argument, key or file that is wrong; dots separate the parts of a path. Empty where
        the sentence says it.
    what : str
        What is wrong, and what to do.
    """

    where: str
    what: str

    def __str__(self) -> str:
        """``where: what``."""
        return f"{self.where}: {self.what}" if self.where else self.what

    def inside(self, place: str) -> Problem:
        """The same problem, with the name of what its place is in."""
        return Problem(f"{place}: {self.where}" if self.where else place, self.what)

    def renamed(self, names: Mapping[str, str]) -> Problem:
        """The same problem, its place or the first part of its place under another name."""
        first, dot, rest = self.where.partition(".")
        return Problem(names.get(self.where, f"{names.get(first, first)}{dot}{rest}"), self.what)


class InputError(ValueError):
    """Something the user gave cannot be used.

    As text it is a line for each problem: what is wrong, where, and what to do. The command line
    prints it and exits with status 1.

    Parameters
    ----------
    problems : str or iterable of Problem
        A plain sentence is a problem without a place.

    Attributes
    ----------
    problems : tuple of Problem
    """

    def __init__(self, problems: str | Iterable[Problem]) -> None:
        self.problems = (Problem("", problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))

    def __add__(self, other: InputError) -> InputError:
        return InputError((*self.problems, *other.problems))

    def inside(self, place: str) -> InputError:
        """The same error, with the name of what the places are in."""
        return InputError(problem.inside(place) for problem in self.problems)


@contextmanager
def collect(problems: list[Problem]) -> Iterator[None]:
    """Add the problems of an `InputError` of the block to a list, and go on after the block."""
    try:
        yield
    except InputError as error:
        problems += error.problems


@contextmanager
def rename_places(names: Mapping[str, str]) -> Iterator[None]:
    """Call the places in an `InputError` of the block by the names that the user knows."""
    try:
        yield
    except InputError as error:
        raise InputError(problem.renamed(names) for problem in error.problems) from error


def suggestion(name: str, known: Iterable[str], near: float = NEAR_NAME) -> str | None:
    """The known name that is nearest to an unknown one, if it is similar enough.

    Parameters
    ----------
    near : float
        How similar it has to be, from 0 to 1.
    """
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=near)), None)


def did_you_mean(near: str | None) -> str:
    """Return ``" (did you mean 'x'?)"`` to follow a message, or nothing without a suggestion."""
    return f" (did you mean '{near}'?)" if near else ""


def missing_file(path: Path) -> InputError:
    """The error for a path where nothing is; it names the nearest there is."""
    if not path.parent.is_dir():
        return InputError(f"{path}: there is no folder {path.parent}")
    names = (entry.name for entry in path.parent.iterdir())
    near = did_you_mean(suggestion(path.name, names, NEAR_FILE_NAME))
    return InputError(f"{path}: there is no such file{near}")


def shortened(names: Iterable[str]) -> str:
    """Return the names in one line, cut off where it gets too long to read."""
    shown = list(names)
    more = len(shown) - MOST_LISTED
    return ", ".join(shown[:MOST_LISTED]) + (f", … ({more} more)" if more > 0 else "")


def shortened_numbers(numbers: Iterable[float]) -> str:
    """Return ``"0.004, 0.0054"``, cut off where it gets too long to read."""
    return shortened(f"{number:.6g}" for number in numbers)


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
