"""Small things that several commands say."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["by_section", "counted"]

PLURALS = {"matrix": "matrices"}


def counted(number: int, noun: str) -> str:
    """The number and the noun, in the plural where there is not one."""
    return f"{number} {noun if number == 1 else PLURALS.get(noun, noun + 's')}"


def by_section(paths: Iterable[str]) -> str:
    """Dotted paths in one line, those of a section together: ``section: key, key; other``."""
    sections: dict[str, list[str]] = {}
    for path in paths:
        section, _, key = path.rpartition(".")
        sections.setdefault(section, []).append(key)
    return "; ".join(
        f"{section}: {', '.join(keys)}" if section else ", ".join(keys)
        for section, keys in sections.items()
    )
