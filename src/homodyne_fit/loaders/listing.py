"""Lists of values, as messages show them."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["names", "numbers"]

LONGEST = 40


def numbers(values: Iterable[float]) -> str:
    """Return ``"0.004, 0.0054"``, cut off where it gets too long to read."""
    return names(f"{value:.6g}" for value in values)


def names(values: Iterable[str]) -> str:
    """Return the names in one line, cut off where it gets too long to read."""
    shown = list(values)
    more = len(shown) - LONGEST
    return ", ".join(shown[:LONGEST]) + (f", … ({more} more)" if more > 0 else "")
