"""Frame numbers in a text file."""

from __future__ import annotations

from pathlib import Path

from homodyne_fit.errors import InputError

__all__ = ["read_frame_list"]


def read_frame_list(path: Path) -> tuple[int, ...]:
    """Read whole numbers between spaces, commas or line ends; ``#`` begins a comment.

    Raises
    ------
    InputError
        If the file cannot be read, or holds anything else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: the list of frames cannot be read ({reason})") from error
    frames = []
    for number, line in enumerate(text.splitlines(), start=1):
        for word in line.partition("#")[0].replace(",", " ").split():
            try:
                frames.append(int(word))
            except ValueError:
                raise InputError(
                    f"{path}: line {number}: '{word}' is not a frame number, counted from 1"
                ) from None
    return tuple(frames)
