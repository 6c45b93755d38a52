"""Selection of the data of one fit from a file.

The place of a `Problem` is an argument of `select`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.formats.two_time_file import TwoTimeFile
from homodyne_fit.data.storage.memory import MATRICES_SHARE, allowed_memory, size_in_words
from homodyne_fit.data.units import INVERSE_LENGTHS, TIMES, about_labels, about_values
from homodyne_fit.data.unpacking import Request, require_memory, store
from homodyne_fit.errors import InputError, Problem, collect, counted, shortened_numbers
from homodyne_fit.progress import Progress, Step, not_told

__all__ = [
    "LOWEST_BASELINE",
    "SAME_Q",
    "Selection",
    "nearest_q",
    "q_groups",
    "select",
    "within_ranges",
    "about_file",
]


# Largest relative difference of q between the bins of one ring.
SAME_Q = 0.01

# Largest relative difference of the wanted q from the q of a file that has only one.
ONLY_Q = 0.1

# Largest relative difference of equal frame times.
SAME_DT = 1e-6

# Largest relative rounding error of q; in float32 it is up to 6e-8.
ROUNDING = 1e-6

# A baseline of c2 is near 1, and one of c2 − 1 near 0.
LOWEST_BASELINE = 0.5

# Smallest number of frames of a fit.
FEWEST_FRAMES = 3

# Size of a number in double precision, bytes.
LARGEST_NUMBER = 8

# Largest rounding error of an angle, degrees; in float32 it is up to 3e-5.
SAME_PHI = 1e-4


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
            raise _problem(
                self.file,
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
            c2, where = store(request, memory, None if scratch is None else Path(scratch), progress)
            size = size_in_words(self._size(request.dtype.itemsize))
            notes = (
                *notes,
                f"the matrices ({size}) exceed a quarter of the allowed memory "
                f"({size_in_words(memory)}): {where}, and are read in parts when they are used",
            )
        else:
            c2 = self._stack(progress)
            notes = (*notes, *_notes_on_baseline(c2, self.phi))
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
        step = _frame_time(file, dt, dt_override)
    with collect(problems):
        frames, frame_notes = _counted_in_file(file, frames)
        window = _window(file, frames)
        masked, notes = _masked(file, mask_frames, window)
    with collect(problems):
        wave_vectors = _wave_vectors(file, q)
        at_q = nearest_q(wave_vectors, q, str(file.path))
        angles = _angles(file, phi, at_q)
        wanted = _wanted(angles, phi_ranges, file)
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
            *_note_on_distance(wave_vectors[kept], q),
            *_notes_on_repeated(angles[wanted]),
            *frame_notes,
            *notes,
        ),
    )


def q_groups(q: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Positions with the same wave vector, for each wave vector, ascending in q.

    Wave vectors are the same if they differ by at most the fraction `SAME_Q`: some files have the
    mean q of each bin, which differs a little between angles. Positions without a positive, finite
    q are left out.
    """
    groups: list[list[np.intp]] = []
    for position in np.argsort(q, kind="stable"):
        if not (np.isfinite(q[position]) and q[position] > 0):
            continue
        if groups and q[position] <= q[groups[-1][0]] * (1 + SAME_Q):
            groups[-1].append(position)
        else:
            groups.append([position])
    return [np.sort(np.array(group)) for group in groups]


def nearest_q(q: NDArray[np.float64], wanted: float | None, source: str) -> NDArray[np.intp]:
    """Positions of the wave vector that is nearest to the wanted one.

    It must be within half the distance to a neighbouring wave vector or, if it is the only one,
    within the fraction `ONLY_Q`. If none is wanted, there must be only one.
    """
    groups = q_groups(q)
    centres = np.array([q[group].mean() for group in groups])
    choice = f"the file has q = {shortened_numbers(centres)} Å⁻¹"
    if not groups:
        raise InputError(
            f"{source}: no matrix has a positive, finite q: {shortened_numbers(np.unique(q))}; "
            "mend the file"
        )
    if wanted is None:
        if len(groups) > 1:
            raise InputError([Problem("q", f"{source}: {choice}; choose one of them")])
        return groups[0]
    distances = np.abs(centres - wanted)
    nearest = int(np.argmin(distances))
    spacings = np.diff(centres)[max(nearest - 1, 0) : nearest + 1]
    limit, meaning = ONLY_Q * centres[nearest], f"{ONLY_Q:.0%} of it"
    if len(spacings):
        limit, meaning = spacings.max() / 2, "half a bin"
    if not distances[nearest] <= limit * (1 + ROUNDING):
        what = (
            f"{source}: no matrix is near q = {wanted:.6g} Å⁻¹, but {choice}; the nearest is "
            f"{distances[nearest]:.3g} Å⁻¹ away, and {meaning} is {limit:.3g} Å⁻¹; choose one of "
            f"them{_other_unit(wanted, centres, SAME_Q, INVERSE_LENGTHS, 'Å⁻¹')}"
        )
        raise InputError([Problem("q", what)])
    return groups[nearest]


def _other_unit(
    value: float,
    known: NDArray[np.float64] | float,
    same: float,
    units: Mapping[str, float],
    unit: str,
) -> str:
    """A question if the value in another unit is a known one, up to the fraction `same`."""
    for name, factor in units.items():
        if np.any(np.abs(known - value * factor) <= same * np.abs(known)):
            return f" (is it in {name}? {value:g} {name} is {value * factor:g} {unit})"
    return ""


def _note_on_distance(q: NDArray[np.float64], wanted: float | None) -> list[str]:
    """A note if the wave vectors (K,) differ from the wanted one."""
    if wanted is None or np.all(np.abs(q - wanted) <= ROUNDING * np.abs(wanted)):
        return []
    return [
        f"the nearest q, {q.mean():.6g} Å⁻¹, is {abs(q.mean() - wanted):.3g} Å⁻¹ from the wanted "
        f"{wanted:.6g} Å⁻¹"
    ]


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


def _notes_on_repeated(phi: NDArray[np.float64]) -> list[str]:
    """Notes on angles (K,) that occur more than once, modulo 360 degrees."""
    values, counts = np.unique(phi[np.isfinite(phi)] % 360, return_counts=True)
    return [
        f"φ = {value:g}° occurs {count} times; if the data are the same, leave one out"
        for value, count in zip(values, counts, strict=True)
        if count > 1
    ]


def within_ranges(
    phi: NDArray[np.float64], ranges: Sequence[tuple[float, float]]
) -> NDArray[np.bool_]:
    """Whether each angle is in one of the ranges, ends included, modulo 360 degrees."""
    inside = np.zeros(len(phi), dtype=bool)
    for low, high in ranges:
        width = high - low if high - low >= 360 else (high - low) % 360
        inside |= (phi - low + SAME_PHI) % 360 <= width + 2 * SAME_PHI
    return inside


def _wanted(
    phi: NDArray[np.float64], ranges: Sequence[tuple[float, float]] | None, file: TwoTimeFile
) -> NDArray[np.bool_]:
    if ranges is None:
        if not np.all(np.isfinite(phi)):
            raise _problem(
                file,
                "phi_ranges",
                f"an angle is not finite: {shortened_numbers(phi)}°; give ranges that leave it "
                "out, or mend the file",
            )
        return np.ones(len(phi), dtype=bool)
    inside = within_ranges(phi, ranges)
    if not inside.any():
        shown = ", ".join(f"{low:g} to {high:g}" for low, high in ranges) or "(none)"
        raise _problem(
            file,
            "phi_ranges",
            f"no angle is within {shown}°; at this q the file has φ = {shortened_numbers(phi)}°",
        )
    return inside


def _frame_time(file: TwoTimeFile, dt: float | None, override: bool) -> float:
    if file.dt is None:
        if dt is None:
            raise _problem(
                file,
                "dt",
                f"the file does not give the time between frames ({file.dt_note}); set it, in "
                "seconds",
            )
        return float(dt)
    if dt is None:
        return file.dt
    if not override and not abs(dt - file.dt) <= SAME_DT * abs(file.dt):
        raise _problem(
            file,
            "dt",
            f"{dt:.9g} s is given, but the file says {file.dt:.9g} s ({file.dt_note}); remove it, "
            f"or set dt_override to true{_other_unit(dt, file.dt, SAME_DT, TIMES, 's')}",
        )
    return float(dt) if override else file.dt


def _counted_in_file(
    file: TwoTimeFile, frames: tuple[int, int]
) -> tuple[tuple[int, int], list[str]]:
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


def _window(file: TwoTimeFile, frames: tuple[int, int]) -> slice:
    first, last = frames
    end = file.n_frames if last == -1 else last
    if 1 <= end < first <= file.n_frames:
        raise _problem(file, "frames", f"the first frame, {first}, comes after the last, {end}")
    if not 1 <= first <= end <= file.n_frames:
        raise _problem(
            file,
            "frames",
            f"the frames {first} to {last} are wanted, but the file has the frames 1 to "
            f"{file.n_frames} (they count from 1; -1 is the last"
            + ("; a cache counts its frames from its first one)" if file.is_cut else ")"),
        )
    if end - first + 1 < FEWEST_FRAMES:
        raise _problem(
            file,
            "frames",
            f"the frames {first} to {end} are fewer than the {FEWEST_FRAMES} that are needed; the "
            f"file has the frames 1 to {file.n_frames}",
        )
    return slice(first - 1, end)


def _masked(
    file: TwoTimeFile, frames: Sequence[int], window: slice
) -> tuple[NDArray[np.intp], list[str]]:
    """The masked frames, counted from 0 in the window, and a note with their number."""
    outside = sorted({frame for frame in frames if not 1 <= frame <= file.n_frames})
    if outside:
        raise _problem(
            file,
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
        raise _problem(
            file,
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


def _angles(
    file: TwoTimeFile, phi: Sequence[float] | None, kept: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The angles of the matrices of one wave vector."""
    if file.phi is not None:
        if phi is not None:
            raise _problem(file, "phi", "the file has its own angles; remove these")
        return file.phi[kept]
    if phi is None:
        if len(kept) > 1:
            raise _problem(
                file,
                "phi",
                f"the file does not give the angles of its {len(kept)} matrices; set them, in "
                "degrees",
            )
        return np.zeros(1)
    angles = np.atleast_1d(np.asarray(phi, dtype=np.float64))
    if angles.shape == (file.n_matrices,):
        return angles[kept]
    if angles.shape != (len(kept),):
        some = "" if len(kept) == file.n_matrices else f", {len(kept)} of them at this q"
        raise _problem(
            file,
            "phi",
            f"{counted(angles.size, 'angle')} given, but the file has "
            f"{counted(file.n_matrices, 'matrix')}{some}",
        )
    return angles


def _wave_vectors(file: TwoTimeFile, q: float | None) -> NDArray[np.float64]:
    if file.q is not None:
        return file.q
    if q is None:
        raise _problem(file, "q", "the file does not give q; set it, in Å⁻¹")
    return np.full(file.n_matrices, q, dtype=np.float64)


def _problem(file: TwoTimeFile, argument: str, what: str) -> InputError:
    return InputError([Problem(argument, f"{file.path}: {what}")])


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
