"""The one exception that stands for a mistake in what the user gave."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "suggestion"]


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that says what is wrong, where, and what to do. The command
    line prints it and exits with status 1.
    """


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest known name, or an empty string."""
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{nearest[0]}'?)" if nearest else ""
