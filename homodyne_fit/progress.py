"""What a long task is doing, step by step, for whoever listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from homodyne_fit.errors import counted

__all__ = ["Progress", "Step", "StopFit", "not_told"]


@dataclass(frozen=True)
class Step:
    """What is being done: in words ``all points, pass 4, 12 of 40 chunks, cost per point 0.12``.

    Attributes
    ----------
    stage : str
        Such as ``reading`` or ``all points``.
    unit : str
        What is counted, such as ``chunk``; empty where nothing is.
    done, total : int
        How many of these are done, and of how many; a total of 0 is not known.
    passes : float or None
        Passes over the points that a fit has made.
    cost : float or None
        Half the mean square of the residuals, of the last evaluation.
    can_stop : bool
        Whether a listener may raise `StopFit`, since the fit has values to return.
    """

    stage: str
    unit: str = ""
    done: int = 0
    total: int = 0
    passes: float | None = None
    cost: float | None = None
    can_stop: bool = False

    def __str__(self) -> str:
        return self.text()

    def text(self, remaining: str = "") -> str:
        """In words, with the time that is left of what is counted."""
        parts = [self.stage]
        if self.passes is not None:
            parts.append(f"pass {int(self.passes) + 1}")
        if self.unit:
            count = counted(self.total or self.done, self.unit)
            left = f" ({remaining} left)" * bool(remaining)
            parts.append(f"{self.done} of {count}{left}" if self.total else count)
        if self.cost is not None:
            parts.append(f"cost per point {self.cost:.5g}")
        return ", ".join(parts)


Progress = Callable[[Step], None]


def not_told(step: Step) -> None:
    """Listen to nothing."""


class StopFit(Exception):
    """Raised by a listener to end a fit.

    A fit that has evaluated all points (`Step.can_stop`) returns the best values so far, and has
    not converged. Any other lets the exception pass.
    """
