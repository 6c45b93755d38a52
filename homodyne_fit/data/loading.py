"""Two-time files from Python: the contents of a file, and the data of one wave vector."""

from __future__ import annotations

from pathlib import Path

from homodyne_fit.data.dataset import LoadRequest, TwoTimeData
from homodyne_fit.data.formats import TwoTimeFile, open_two_time
from homodyne_fit.data.selection import about_file, select
from homodyne_fit.data.text import decode_text
from homodyne_fit.data.units import Quantity, about_angles, unconfirmed
from homodyne_fit.errors import InputError, Problem, collect
from homodyne_fit.validation import (
    Listed,
    Number,
    PathLike,
    Positive,
    Size,
    Whole,
    checked_arguments,
)

__all__ = ["inspect", "load", "read_frame_list"]


@checked_arguments
def inspect(path: PathLike) -> TwoTimeFile:
    """The contents of a two-time file: format, q, φ, dt, frames; no matrix is read.

    Raises
    ------
    InputError
        If the file cannot be read, is of no known format, or contradicts itself.
    """
    return open_two_time(path)


@checked_arguments
def load(
    path: PathLike,
    *,
    q: Positive | None = None,
    phi_ranges: Listed[tuple[Number, Number]] | None = None,
    frames: tuple[Whole, Whole] = (1, -1),
    dt: Positive | None = None,
    dt_override: bool = False,
    phi: Listed[Number] | None = None,
    mask_frames: Listed[Whole] = (),
    units_confirmed: Listed[Quantity] = (),
    memory: Size | None = None,
    scratch: PathLike | None = None,
) -> TwoTimeData:
    """Load the matrices of one wave vector.

    Parameters
    ----------
    path : path
        A file of any known format.
    q : float, optional
        Wave vector, Å⁻¹. The nearest one in the file is used, and each angle keeps its own value.
        Not needed if the file has only one. If the file has none, this is the wave vector.
    phi_ranges : sequence of (float, float), optional
        Ranges of angles to keep: degrees, ends included, modulo 360, so that (350, 10) and
        (-10, 10) are the same. All angles by default.
    frames : (int, int)
        First and last frame to keep, counted from 1; -1 is the last frame of the file.
    dt : float, optional
        Time between two frames, seconds. It must agree with the time in the file, if there is one.
    dt_override : bool
        Use `dt` even if the file has another time.
    phi : sequence of float, optional
        Angle of each matrix in the file, or of each matrix of the wave vector, degrees, if the file
        has no angles. A single matrix is at 0 by default.
    mask_frames : sequence of int
        Frames of the file, counted from 1, to leave out: their rows and columns become NaN.
    units_confirmed : sequence of {'q', 'dt', 'phi'}
        Quantities that have the right unit although their values look like another one.
    memory : int or str, optional
        Memory that may be used, in bytes or as '2GB'; by default three quarters of the available
        memory. Matrices that need more than a quarter of it stay on the disk.
    scratch : path, optional
        Folder for a file of unpacked matrices, if they stay on the disk; by default the folder for
        temporary files.

    Returns
    -------
    TwoTimeData
        The angles are in the order of the file. `notes` has the distance of q from the wanted one,
        the masked frames, and the place of matrices that are not in memory.

    Raises
    ------
    InputError
        If the file cannot be used, or lacks something that is wanted.
    """
    file = open_two_time(path)
    open_questions = about_file(file, q, dt, phi)
    for ends in phi_ranges or ():
        if text := about_angles("phi_ranges", ends):
            open_questions["phi"] = text
    questions = unconfirmed(open_questions, units_confirmed, "give units_confirmed=['{}']".format)
    problems = [Problem(str(file.path), question) for question in questions]
    with collect(problems):
        selection = select(
            file,
            q=q,
            phi_ranges=phi_ranges,
            frames=frames,
            dt=dt,
            dt_override=dt_override,
            phi=phi,
            mask_frames=mask_frames,
        )
    if problems:
        raise InputError(problems)
    origin = LoadRequest(
        path=file.path.absolute(),
        phi_ranges=tuple((low, high) for low, high in phi_ranges or ()),
        frames=frames,
        dt_override=dt_override,
        phi=None if phi is None else tuple(phi),
        mask_frames=tuple(mask_frames),
        units_confirmed=tuple(units_confirmed),
    )
    return selection.read(memory, scratch).with_origin(origin)


def read_frame_list(path: Path) -> tuple[int, ...]:
    """Read whole numbers between spaces, commas or line ends; ``#`` begins a comment."""
    try:
        decoded = decode_text(path.read_bytes())
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: the list of frames cannot be read ({reason})") from error
    if decoded is None:
        raise InputError(f"{path}: a list of frames is a text file, and this is none")
    text, _ = decoded
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
