"""What a robust loss did, in words."""

from __future__ import annotations

from homodyne_fit.errors import counted, ranges
from homodyne_fit.fitting.result import FitResult
from homodyne_fit.report.numbers import format_number

__all__ = ["robust_cautions", "robust_text"]


def robust_text(result: FitResult) -> str:
    """Such as ``huber, from 1.345 standard deviations on; points lost 7.6 % of their weight …``."""
    robust = result.robust
    if robust is None:
        return ""
    low, high = (100 * float(f(robust.lost_by_angle)) for f in (min, max))
    share = _number(low) if _number(low) == _number(high) else f"{_number(low)} to {_number(high)}"
    return (
        f"{robust.loss}, from {format_number(robust.f_scale, 4)} standard deviations of the noise "
        f"on; points lost {share} % of their weight, of normal noise they would lose "
        f"{_number(100 * robust.lost_by_normal)} %"
    )


def robust_cautions(result: FitResult) -> list[str]:
    """Frames that are outliers as a whole."""
    if result.robust is None or not len(frames := result.robust.lost_frames):
        return []
    number = len(frames)
    return [
        f"The points of {counted(number, 'frame')} ({ranges(frames)}) have lost more than half of "
        "their weight by the robust loss. What is left of it still draws at the fit; masking "
        f"{'this frame' if number == 1 else 'these frames'} (mask_frames) leaves nothing."
    ]


def _number(value: float) -> str:
    return format_number(value, 2)
