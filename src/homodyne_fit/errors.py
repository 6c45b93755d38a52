"""The one exception that stands for a mistake in what the user gave."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["InputError", "Mistakes", "missing_file", "renamed", "suggestion"]

# How similar names of files have to be: their endings alone make them alike.
NEAR_NAME = 0.7


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
