"""Selection of the data of one fit from a file.

The place of a `Problem` is an argument of `select`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.angles import angles_at_q, notes_on_repeated, wanted_angles
from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.formats.two_time_file import TwoTimeFile
from homodyne_fit.data.frames import frame_time, frames_in_file, masked_frames, window_of
from homodyne_fit.data.storage.memory import MATRICES_SHARE, allowed_memory, size_in_words
from homodyne_fit.data.units import about_labels, about_values
from homodyne_fit.data.unpacking import Request, require_memory, store
from homodyne_fit.data.wave_vectors import nearest_q, note_on_distance, wave_vectors_of
from homodyne_fit.errors import InputError, Problem, collect, counted, shortened_numbers
from homodyne_fit.progress import Progress, Step, not_told

__all__ = ["LOWEST_BASELINE", "Selection", "about_file", "select"]


# A baseline of c2 is near 1, and one of c2 − 1 near 0.
LOWEST_BASELINE = 0.5

# Size of a number in double precision, bytes.
LARGEST_NUMBER = 8


@dataclass(frozen=True, eq=False)
class Selection:
    """The K selected matrices of one wave vector, before they are read.

    Attributes
    ----------
    file : TwoTimeFile
    positions : (K,) int
        Positions of the matrices in the file.
    phi, q : (K,) float64
        Degrees, Å⁻¹.
    n_angles_at_q : int
        Number of angles in the file at this wave vector, selected or not.
    dt : float
        Time between two frames, s.
    frames : slice
        Frames to keep, counted from 0.
    masked : (m,) int
        Frames to leave out, counted from 0 at the first frame that is kept.
    notes : tuple of str
    """

    file: TwoTimeFile
    positions: NDArray[np.intp]
    phi: NDArray[np.float64]
    q: NDArray[np.float64]
    n_angles_at_q: int
    dt: float
    frames: slice
    masked: NDArray[np.intp]
    notes: tuple[str, ...]

    @property
    def n_frames(self) -> int:
        """n, with masked frames."""
        return self.frames.stop - self.frames.start

    @property
    def n_points(self) -> int:
        """Number of points t1 < t2 between frames that are not masked, at all angles."""
        n_kept = self.n_frames - len(self.masked)
        return len(self.positions) * (n_kept * (n_kept - 1) // 2)

    def read(
        self,
        memory: int | None = None,
        scratch: str | os.PathLike[str] | None = None,
        progress: Progress = not_told,
    ) -> TwoTimeData:
        """Read the matrices, or check them and leave them on the disk; each of them is told.

        `memory` and `scratch` are those of `homodyne_fit.data.loading.load`.
        """
        try:
            return self._read(memory, scratch, progress)
        except MemoryError as error:
            k, n = len(self.phi), self.n_frames
            raise self.file.problem(
                "frames",
                f"the memory cannot hold {k} × {n} × {n} numbers; use fewer frames or fewer angles",
            ) from error
        finally:
            self.file.release()

    def stays_on_disk(self, memory: int | None = None) -> bool:
        """Whether `read` will leave the matrices on the disk because they need too much memory."""
        return self._to_store(allowed_memory(memory)) is not None

    def _to_store(self, memory: int) -> Request | None:
        """The matrices to leave on the disk; None if they fit into the memory."""
        if self._size(LARGEST_NUMBER) <= MATRICES_SHARE * memory:
            return None
        masked = np.zeros(self.n_frames, dtype=bool)
        masked[self.masked] = True
        request = Request(self.file, self.positions, self.frames, masked, self._number_type())
        if self._size(request.dtype.itemsize) <= MATRICES_SHARE * memory:
            return None
        require_memory(request, memory)
        return request

    def _read(
        self, memory: int | None, scratch: str | os.PathLike[str] | None, progress: Progress
    ) -> TwoTimeData:
        notes, memory = self.notes, allowed_memory(memory)
        request = self._to_store(memory)
        if request is not None:
            folder = None if scratch is None else Path(scratch)
            c2, where, notes_on_zeros = store(request, memory, folder, progress)
            size = size_in_words(self._size(request.dtype.itemsize))
            notes = (
                *notes,
                f"the matrices ({size}) exceed a quarter of the allowed memory "
                f"({size_in_words(memory)}): {where}, and are read in parts when they are used",
                *notes_on_zeros,
            )
        else:
            c2 = self._stack(progress)
            notes = (*notes, *self._note_on_missing(c2), *_notes_on_baseline(c2, self.phi))
        return TwoTimeData(
            c2=c2,
            phi=self.phi,
            q=self.q,
            dt=self.dt,
            source=str(self.file.path),
            notes=notes,
            sigma=self._sigma(),
        )

    def _sigma(self) -> NDArray[np.float64] | None:
        """Standard deviations (K, n, n) of the points, if the file has them."""
        read = self.file.sigma
        if read is None:
            return None
        sigma = np.stack([read(int(index), self.frames) for index in self.positions])
        sigma = sigma.astype(np.float64)
        for matrix in sigma:
            if not np.any(np.triu(np.nan_to_num(matrix), 1)):
                matrix[:] = matrix.T.copy()  # the lower half alone is stored
        return sigma

    def _size(self, number: int) -> int:
        """Size of all matrices in bytes; `number` is the size of a number."""
        return len(self.positions) * self.n_frames**2 * number

    def _stack(self, progress: Progress) -> NDArray[np.floating]:
        c2 = np.zeros((len(self.positions), self.n_frames, self.n_frames), dtype=np.float32)
        for k, index in enumerate(self.positions):
            progress(Step("reading", "matrix", k, len(self.positions)))
            matrix = self.file.read(int(index), self.frames)
            c2 = c2.astype(np.result_type(c2, matrix), copy=False)
            c2[k] = matrix
        c2[:, self.masked, :] = c2[:, :, self.masked] = np.nan
        return c2

    def _note_on_missing(self, c2: NDArray[np.floating]) -> list[str]:
        """A note if points of the matrices (K, n, n) are not finite, without masked frames."""
        kept = np.ones(self.n_frames, dtype=bool)
        kept[self.masked] = False
        points = np.triu(np.outer(kept, kept), 1)
        missing = [int(np.count_nonzero(points & ~np.isfinite(matrix))) for matrix in c2]
        if not any(missing):
            return []
        return [
            f"{sum(missing):,} of {self.n_points:,} points are not finite (in "
            f"{np.count_nonzero(missing)} of {counted(len(c2), 'matrix')}), and are missing"
        ]

    def _number_type(self) -> np.dtype[np.floating]:
        """The type float32 if all matrices are stored in single precision, else float64."""
        corner = slice(self.frames.start, self.frames.start + 1)
        read = self.file.read_stored
        return np.result_type(*{read(int(k), corner).dtype for k in self.positions})


def select(
    file: TwoTimeFile,
    *,
    q: float | None = None,
    phi_ranges: Sequence[tuple[float, float]] | None = None,
    frames: tuple[int, int] = (1, -1),
    dt: float | None = None,
    dt_override: bool = False,
    phi: Sequence[float] | None = None,
    mask_frames: Sequence[int] = (),
) -> Selection:
    """Select from a file, without reading a matrix; one problem for each mistake.

    The arguments are those of `homodyne_fit.data.loading.load`.
    """
    problems: list[Problem] = []
    with collect(problems):
        step = frame_time(file, dt, dt_override)
    with collect(problems):
        frames, frame_notes = frames_in_file(file, frames)
        window = window_of(file, frames)
        masked, notes = masked_frames(file, mask_frames, window)
    with collect(problems):
        wave_vectors = wave_vectors_of(file, q)
        at_q = nearest_q(wave_vectors, q, str(file.path))
        angles = angles_at_q(file, phi, at_q)
        wanted = wanted_angles(angles, phi_ranges, file)
    if problems:
        raise InputError(problems)
    kept = at_q[wanted]
    return Selection(
        file=file,
        positions=kept,
        phi=angles[wanted],
        q=wave_vectors[kept],
        n_angles_at_q=len(at_q),
        dt=step,
        frames=window,
        masked=masked,
        notes=(
            *file.notes,
            *note_on_distance(wave_vectors[kept], q),
            *notes_on_repeated(angles[wanted]),
            *frame_notes,
            *notes,
        ),
    )


def _notes_on_baseline(c2: NDArray[np.floating], phi: NDArray[np.float64]) -> list[str]:
    """A note if values (K, n, n) at the longest lags are near 0, as those of c2 − 1 are."""
    quarter = max(1, c2.shape[1] // 4)
    low = []
    for angle, matrix in zip(phi, c2, strict=True):
        late = matrix[:quarter, -quarter:]
        late = late[np.isfinite(late) & (late != 0)]
        if late.size and np.median(late) < LOWEST_BASELINE:
            low.append(angle)
    if not low:
        return []
    where = "all angles" if len(low) == len(phi) else f"φ = {shortened_numbers(low)}°"
    return [
        f"the values at long lags are near 0, not near 1, at {where}: this looks like c2 − 1; the "
        "model needs c2, so add 1 to the matrices"
    ]


def about_file(
    file: TwoTimeFile, q: float | None, dt: float | None, phi: Iterable[float] | None
) -> dict[str, str]:
    """Questions about q and angles in a file, and about the units of values that it lacks.

    q, dt and phi are the values of the user: Å⁻¹, seconds, degrees.
    """
    values = q if file.q is None else None, dt if file.dt is None else None
    if file.phi is None:
        open_questions = about_values(*values, phi or (), "φ")
    else:
        open_questions = about_values(*values, file.phi, "φ of the file")
    if file.q is not None and (text := about_labels(file.q)):
        open_questions["q"] = text
    return {**open_questions, **file.doubts}
