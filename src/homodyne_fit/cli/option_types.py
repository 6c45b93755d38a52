"""Types of options: numbers, with a message that says how to write them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

__all__ = ["numbers", "path", "positive"]


def path(text: str) -> Path:
    """The type of an option for a path; an empty one is what an unset variable leaves."""
    if not text:
        raise argparse.ArgumentTypeError("a path is needed, and this is empty")
    return Path(text)


def positive(unit: str) -> Callable[[str], float]:
    """The type of an option for one positive number, in this unit."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(
                f"a positive number is needed, in {unit} and without the unit (got '{text}')"
            )
        return value

    return parse


def numbers(text: str) -> tuple[float, ...]:
    """The type of an option for several numbers, as 0,45,90."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers, as 0,45,90") from None
