"""Small things that several commands say."""

from __future__ import annotations

__all__ = ["counted"]

PLURALS = {"matrix": "matrices"}


def counted(number: int, noun: str) -> str:
    """The number and the noun, in the plural where there is not one."""
    return f"{number} {noun if number == 1 else PLURALS.get(noun, noun + 's')}"
