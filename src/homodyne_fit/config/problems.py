"""A mistake and its place, so that one line says both."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

__all__ = ["Problem", "unexplained"]


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
