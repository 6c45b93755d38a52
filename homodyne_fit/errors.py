"""Mistakes of users: problems with their places, and the exception for them.

A function names the place of a problem as its callers do: in `homodyne_fit.data` it is an argument,
such as ``dt``. A caller replaces it by the name that its user knows: ``--dt``, or a key.
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
    "encodable",
    "missing_file",
    "ranges",
    "rename_places",
    "shortened",
    "shortened_numbers",
    "suggestion",
]

# Smallest similarity of a name that is suggested, from 0 to 1.
NEAR_NAME = 0.6

# The same for names of files, of which many have the same ending.
NEAR_FILE_NAME = 0.7

# Largest number of names or numbers in a message.
MOST_LISTED = 40

PLURALS = {"matrix": "matrices"}


class Problem(NamedTuple):
    """A mistake.

    Attributes
    ----------
    where : str
        The argument, key or file that is wrong; dots separate the parts of a path. Empty if the
        sentence names the place.
    what : str
        What is wrong, and what to do.
    """

    where: str
    what: str

    def __str__(self) -> str:
        """``where: what``."""
        return f"{self.where}: {self.what}" if self.where else self.what

    def inside(self, place: str) -> Problem:
        """The same problem, with the place that contains its place, such as a file."""
        return Problem(f"{place}: {self.where}" if self.where else place, self.what)

    def renamed(self, names: Mapping[str, str]) -> Problem:
        """The same problem with another name for its place, or for the first part of it."""
        first, dot, rest = self.where.partition(".")
        return Problem(names.get(self.where, f"{names.get(first, first)}{dot}{rest}"), self.what)


class InputError(ValueError):
    """The input of a user has mistakes.

    Its text has a line for each problem: where, what is wrong, and what to do. The command line
    prints it and ends with status 1.

    Parameters
    ----------
    problems : str or iterable of Problem
        A sentence is a problem without a place.

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
        """The same error, with the place that contains all its places, such as a file."""
        return InputError(problem.inside(place) for problem in self.problems)


@contextmanager
def collect(problems: list[Problem]) -> Iterator[None]:
    """Add the problems of an `InputError` in the block to a list, and continue after the block."""
    try:
        yield
    except InputError as error:
        problems += error.problems


@contextmanager
def rename_places(names: Mapping[str, str]) -> Iterator[None]:
    """In an `InputError` of the block, replace the places by names that the user knows."""
    try:
        yield
    except InputError as error:
        raise InputError(problem.renamed(names) for problem in error.problems) from error


def suggestion(name: str, known: Iterable[str], near: float = NEAR_NAME) -> str | None:
    """The known name that is nearest to an unknown one, if its similarity is at least `near`."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=near)), None)


def did_you_mean(near: str | None) -> str:
    """``" (did you mean 'x'?)"`` for the end of a message; empty without a suggestion."""
    return f" (did you mean '{near}'?)" if near else ""


def missing_file(path: Path) -> InputError:
    """The error for a missing file, with the nearest name in its folder."""
    if not path.parent.is_dir():
        return InputError(f"{path}: there is no folder {path.parent}")
    names = (entry.name for entry in path.parent.iterdir())
    near = did_you_mean(suggestion(path.name, names, NEAR_FILE_NAME))
    return InputError(f"{path}: there is no such file{near}")


def encodable(text: str) -> str:
    r"""The text with escapes for bytes of a file name that are no text, such as ``\udcff``.

    In JSON and in YAML between double quotes they mean the same bytes again.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def shortened(names: Iterable[str]) -> str:
    """The names in one line, with a count instead of names beyond `MOST_LISTED`."""
    shown = list(names)
    more = len(shown) - MOST_LISTED
    return ", ".join(shown[:MOST_LISTED]) + (f", … ({more} more)" if more > 0 else "")


def shortened_numbers(numbers: Iterable[float]) -> str:
    """Numbers in one line as ``"0.004, 0.0054"``, with a limit as in `shortened`."""
    return shortened(f"{number:.6g}" for number in numbers)


def counted(number: int, noun: str) -> str:
    """The number and the noun, as ``"1 matrix"`` or ``"2 matrices"``."""
    return f"{number} {noun if number == 1 else PLURALS.get(noun, noun + 's')}"


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers in one line, successive numbers as a range: ``1, 4–6``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
