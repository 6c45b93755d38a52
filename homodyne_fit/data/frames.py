"""The frames of a fit: the time between two of them, the first and the last one, those masked.

The place of a `Problem` is an argument of `homodyne_fit.data.selection.select`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.formats.two_time_file import TwoTimeFile
from homodyne_fit.data.units import TIMES, other_unit
from homodyne_fit.errors import shortened_numbers

__all__ = ["SAME_DT", "frame_time", "frames_in_file", "masked_frames", "window_of"]

# Largest relative difference of equal frame times.
SAME_DT = 1e-6

# Smallest number of frames of a fit.
FEWEST_FRAMES = 3


def frame_time(file: TwoTimeFile, dt: float | None, override: bool) -> float:
    """Time between two frames, s: that of the file, with which a given one must agree."""
    if file.dt is None:
        if dt is None:
            raise file.problem(
                "dt",
                f"the file does not give the time between frames ({file.dt_note}); set it, in "
                "seconds",
            )
        return float(dt)
    if dt is None:
        return file.dt
    if not override and not abs(dt - file.dt) <= SAME_DT * abs(file.dt):
        raise file.problem(
            "dt",
            f"{dt:.9g} s is given, but the file says {file.dt:.9g} s ({file.dt_note}); remove it, "
            f"or set dt_override to true{other_unit(dt, [file.dt], SAME_DT, TIMES, 's')}",
        )
    return float(dt) if override else file.dt


def frames_in_file(file: TwoTimeFile, frames: tuple[int, int]) -> tuple[tuple[int, int], list[str]]:
    """The frames as the file counts them, and a note.

    A cache holds only the frames that its program had selected, while the configuration counts the
    frames of the measurement. If it asks for as many frames as the cache holds, it asks for these.
    """
    first, last = frames
    if not file.is_cut or first <= 1:
        return frames, []
    named = re.search(r"frames_(\d+)_(\d+)", file.path.name)
    begin, end = map(int, named.groups()) if named else (first, last)
    end = last if end == -1 else end
    same = begin == first and last in (end, -1)
    if (last > file.n_frames or named) and same and (end - first + 1 == file.n_frames):
        whole = f"the frames {first} to {end} are all {file.n_frames} that the cache holds"
        return (1, file.n_frames), [whole]
    shown = "the last" if last == -1 else str(last)
    return frames, [
        f"the frames {first} to {shown} are counted from the first frame of the cache, not from "
        "that of the measurement it was made from"
    ]


def window_of(file: TwoTimeFile, frames: tuple[int, int]) -> slice:
    """The frames to keep, counted from 0; they are given as counted from 1."""
    first, last = frames
    end = file.n_frames if last == -1 else last
    if 1 <= end < first <= file.n_frames:
        raise file.problem("frames", f"the first frame, {first}, comes after the last, {end}")
    if not 1 <= first <= end <= file.n_frames:
        raise file.problem(
            "frames",
            f"the frames {first} to {last} are wanted, but the file has the frames 1 to "
            f"{file.n_frames} (they count from 1; -1 is the last"
            + ("; a cache counts its frames from its first one)" if file.is_cut else ")"),
        )
    if end - first + 1 < FEWEST_FRAMES:
        raise file.problem(
            "frames",
            f"the frames {first} to {end} are fewer than the {FEWEST_FRAMES} that are needed; the "
            f"file has the frames 1 to {file.n_frames}",
        )
    return slice(first - 1, end)


def masked_frames(
    file: TwoTimeFile, frames: Sequence[int], window: slice
) -> tuple[NDArray[np.intp], list[str]]:
    """The masked frames, counted from 0 in the window, and a note with their number."""
    outside = sorted({frame for frame in frames if not 1 <= frame <= file.n_frames})
    if outside:
        raise file.problem(
            "mask_frames",
            f"the frames {shortened_numbers(outside)} are listed, but the file has the frames 1 to "
            f"{file.n_frames}",
        )
    n_frames = window.stop - window.start
    listed_frames = np.unique(np.asarray(frames, dtype=np.int64))
    masked = listed_frames - 1 - window.start
    masked = masked[(masked >= 0) & (masked < n_frames)]
    n_kept = n_frames - len(masked)
    if n_kept < FEWEST_FRAMES:
        raise file.problem(
            "mask_frames",
            f"this leaves {n_kept} of {n_frames} frames; {FEWEST_FRAMES} are needed",
        )
    if not len(listed_frames):
        return masked, []
    points = n_frames * (n_frames - 1) // 2 - n_kept * (n_kept - 1) // 2
    return masked, [
        f"{len(masked)} of {n_frames} frames masked, {points} points of each angle"
        + (f" ({shortened_numbers(masked + 1 + window.start)})" if len(masked) else "")
    ]
