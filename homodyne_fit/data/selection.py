"""From what a file says and what the user asks for to the data of one fit.

In a `Problem` the place is an argument of `select`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.formats.two_time_file import TwoTimeFile
from homodyne_fit.data.storage.memory import MATRICES_SHARE, allowed_memory, size_in_words
from homodyne_fit.data.units import INVERSE_LENGTHS, TIMES, about_values
from homodyne_fit.data.unpacking import Request, require_memory, store
from homodyne_fit.errors import InputError, Problem, collect, counted, shortened_numbers

__all__ = ["Selection", "nearest_q", "q_groups", "select", "within_ranges", "about_file"]


SAME_Q = 0.01  # the bins of one ring may differ in q by this fraction

ONLY_Q = 0.1  # how far, as a fraction, a q may be from the only one of a file

SAME_DT = 1e-6  # relative

ROUNDING = 1e-6  # relative; a q stored as float32 is off by up to 6e-8

FEWEST_FRAMES = 3

LARGEST_NUMBER = 8  # bytes

SAME_PHI = 1e-4  # degrees; an angle stored as float32 is off by up to 3e-5


@dataclass(frozen=True, eq=False)
class Selection:
    """The K matrices of one wave vector that are wanted of a file, before they are read.

    Attributes
    ----------
    file : TwoTimeFile
    positions : (K,) int
        Of the matrices in the file.
    phi, q : (K,) float64
        Degrees, Å⁻¹.
    n_angles_at_q : int
        Angles that the file has at this wave vector, wanted or not.
    dt : float
        Time between two frames, s.
    frames : slice
        Frames to keep, counted from 0.
    masked : (m,) int
        Frames to leave out, counted from 0 within those.
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
        """n, masked frames included."""
        return self.frames.stop - self.frames.start

    @property
    def n_points(self) -> int:
        """Points t1 < t2 between frames that are not masked, at all angles together."""
        left = self.n_frames - len(self.masked)
        return len(self.positions) * (left * (left - 1) // 2)

    def read(
        self, memory: int | None = None, scratch: str | os.PathLike[str] | None = None
    ) -> TwoTimeData:
        """Read the matrices, or check them and leave them on the disk.

        Parameters
        ----------
        memory, scratch : int, path, optional
            As in `homodyne_fit.data.loading.load`.

        Raises
        ------
        InputError
            If a matrix cannot be used, or the memory cannot hold them.
        """
        try:
            return self._read(memory, scratch)
        except MemoryError as error:
            k, n = len(self.phi), self.n_frames
            raise _problem(
                "frames",
                f"{self.file.path}: the memory cannot hold {k} × {n} × {n} numbers; take fewer "
                "frames, or ranges of angles that hold fewer of them",
            ) from error
        finally:
            self.file.release()

    def stays_on_disk(self, memory: int | None = None) -> bool:
        """Whether `read` will leave the matrices on the disk, for want of memory.

        Raises
        ------
        InputError
            If there is too little memory even for that.
        """
        return self._to_store(allowed_memory(memory)) is not None

    def _to_store(self, memory: int) -> Request | None:
        """What is left on the disk; None if the matrices fit into the memory."""
        if self._size(LARGEST_NUMBER) <= MATRICES_SHARE * memory:
            return None
        masked = np.zeros(self.n_frames, dtype=bool)
        masked[self.masked] = True
        request = Request(self.file, self.positions, self.frames, masked, self._number_type())
        if self._size(request.dtype.itemsize) <= MATRICES_SHARE * memory:
            return None
        require_memory(request, memory)
        return request

    def _read(self, memory: int | None, scratch: str | os.PathLike[str] | None) -> TwoTimeData:
        notes, memory = self.notes, allowed_memory(memory)
        request = self._to_store(memory)
        if request is not None:
            c2, where = store(request, memory, None if scratch is None else Path(scratch))
            size = size_in_words(self._size(request.dtype.itemsize))
            notes = (
                *notes,
                f"the matrices ({size}) exceed a quarter of the memory allowed "
                f"({size_in_words(memory)}): {where}, and are read as they are needed",
            )
        else:
            c2 = self._stack()
        return TwoTimeData(
            c2=c2, phi=self.phi, q=self.q, dt=self.dt, source=str(self.file.path), notes=notes
        )

    def _size(self, number: int) -> int:
        """Bytes of all matrices, of numbers of so many."""
        return len(self.positions) * self.n_frames**2 * number

    def _stack(self) -> NDArray[np.floating]:
        c2 = np.zeros((len(self.positions), self.n_frames, self.n_frames), dtype=np.float32)
        for k, index in enumerate(self.positions):
            matrix = self.file.read(int(index), self.frames)
            c2 = c2.astype(np.result_type(c2, matrix), copy=False)
            c2[k] = matrix
        c2[:, self.masked, :] = c2[:, :, self.masked] = np.nan
        return c2

    def _number_type(self) -> np.dtype[np.floating]:
        """Return float32 if all matrices are stored so, else float64."""
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
    """Find what is wanted of a file, without reading a matrix.

    The arguments are those of `homodyne_fit.data.loading.load`.

    Raises
    ------
    InputError
        If the file does not have what is asked of it; one line for each mistake.
    """
    problems: list[Problem] = []
    with collect(problems):
        step = _frame_time(file, dt, dt_override)
    with collect(problems):
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
        notes=(*_distance(wave_vectors[kept], q), *_repeated(angles[wanted]), *notes),
    )


def q_groups(q: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Return the positions that share one wave vector, for each of them, ascending in q.

    Wave vectors belong together when none exceeds the smallest by more than `SAME_Q` of it: some
    files list the mean q of each bin, which differs a little from angle to angle. Positions
    without a positive, finite q belong nowhere.
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
    """Return the positions of the wave vector nearest to the wanted one.

    It must be within half the distance to a neighbouring wave vector or, where it is the only
    one, within `ONLY_Q` of it. Without a wanted one there must be one only.
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
            raise _problem("q", f"{source}: {choice}; choose one of them")
        return groups[0]
    distances = np.abs(centres - wanted)
    nearest = int(np.argmin(distances))
    spacings = np.diff(centres)[max(nearest - 1, 0) : nearest + 1]
    reach, what = ONLY_Q * centres[nearest], f"{ONLY_Q:.0%} of it"
    if len(spacings):
        reach, what = spacings.max() / 2, "half a bin"
    if not distances[nearest] <= reach * (1 + ROUNDING):
        raise _problem(
            "q",
            f"{source}: no matrix is near q = {wanted:.6g} Å⁻¹, but {choice}; the nearest is "
            f"{distances[nearest]:.3g} Å⁻¹ away, and {what} is {reach:.3g} Å⁻¹; choose one of "
            f"them{_q_in_another_unit(wanted, centres)}",
        )
    return groups[nearest]


def _q_in_another_unit(wanted: float, q: NDArray[np.float64]) -> str:
    """Say so if the wanted wave vector is one of the file in another unit."""
    for unit, factor in INVERSE_LENGTHS.items():
        if np.any(np.abs(q - wanted * factor) <= SAME_Q * q):
            return f" (is it in {unit}? {wanted:g} {unit} is {wanted * factor:g} Å⁻¹)"
    return ""


def _distance(q: NDArray[np.float64], wanted: float | None) -> list[str]:
    """Say how far the wave vectors (K,) are from the wanted one, if they are."""
    if wanted is None or np.all(np.abs(q - wanted) <= ROUNDING * np.abs(wanted)):
        return []
    return [
        f"the nearest q, {q.mean():.6g} Å⁻¹, is {abs(q.mean() - wanted):.3g} Å⁻¹ from the "
        f"{wanted:.6g} Å⁻¹ asked for"
    ]


def _repeated(phi: NDArray[np.float64]) -> list[str]:
    """Say which angles (K,) occur more than once, modulo 360 degrees."""
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
                "phi_ranges",
                f"{file.path}: an angle is not finite: {shortened_numbers(phi)}°; give ranges that "
                "leave it out, or mend the file",
            )
        return np.ones(len(phi), dtype=bool)
    inside = within_ranges(phi, ranges)
    if not inside.any():
        shown = ", ".join(f"{low:g} to {high:g}" for low, high in ranges) or "(none)"
        raise _problem(
            "phi_ranges",
            f"{file.path}: no angle is within {shown}°; at this q the file has "
            f"φ = {shortened_numbers(phi)}°",
        )
    return inside


def _frame_time(file: TwoTimeFile, dt: float | None, override: bool) -> float:
    if file.dt is None:
        if dt is None:
            raise _problem(
                "dt",
                f"{file.path}: the file does not give the time between frames ({file.dt_note}); "
                "set it, in seconds",
            )
        return float(dt)
    if dt is None:
        return file.dt
    if not override and not abs(dt - file.dt) <= SAME_DT * abs(file.dt):
        hint = _dt_in_another_unit(dt, file.dt)
        raise _problem(
            "dt",
            f"{file.path}: {dt:.9g} s is given, but the file says {file.dt:.9g} s "
            f"({file.dt_note}); remove it, or set dt_override to true{hint}",
        )
    return float(dt) if override else file.dt


def _dt_in_another_unit(dt: float, known: float) -> str:
    """Say so if a time between frames is the known one in ms or µs."""
    for unit, seconds in TIMES.items():
        if abs(dt * seconds - known) <= SAME_DT * known:
            return f" (is it in {unit}? {dt:g} {unit} is {known:g} s)"
    return ""


def _window(file: TwoTimeFile, frames: tuple[int, int]) -> slice:
    first, last = frames
    end = file.n_frames if last == -1 else last
    if 1 <= end < first <= file.n_frames:
        raise _problem(
            "frames", f"{file.path}: the first frame, {first}, comes after the last, {end}"
        )
    if not 1 <= first <= end <= file.n_frames:
        raise _problem(
            "frames",
            f"{file.path}: the frames {first} to {last} were asked for, but the file has the "
            f"frames 1 to {file.n_frames} (they count from 1; -1 stands for the last)",
        )
    if end - first + 1 < FEWEST_FRAMES:
        raise _problem(
            "frames",
            f"{file.path}: the frames {first} to {end} are fewer than the {FEWEST_FRAMES} that are "
            f"needed; the file has the frames 1 to {file.n_frames}",
        )
    return slice(first - 1, end)


def _masked(
    file: TwoTimeFile, frames: Sequence[int], window: slice
) -> tuple[NDArray[np.intp], list[str]]:
    """Return the masked frames, counted from 0 in the window, and a sentence that counts them."""
    outside = sorted({frame for frame in frames if not 1 <= frame <= file.n_frames})
    if outside:
        raise _problem(
            "mask_frames",
            f"{file.path}: the frames {shortened_numbers(outside)} are listed, but the file has "
            f"the frames 1 to {file.n_frames}",
        )
    n_frames = window.stop - window.start
    listed_frames = np.unique(np.asarray(frames, dtype=np.int64))
    masked = listed_frames - 1 - window.start
    masked = masked[(masked >= 0) & (masked < n_frames)]
    left = n_frames - len(masked)
    if left < FEWEST_FRAMES:
        raise _problem(
            "mask_frames",
            f"{file.path}: this leaves {left} of {n_frames} frames; {FEWEST_FRAMES} are needed",
        )
    if not len(listed_frames):
        return masked, []
    points = n_frames * (n_frames - 1) // 2 - left * (left - 1) // 2
    return masked, [
        f"{len(masked)} of {n_frames} frames masked, {points} points of each angle"
        + (f" ({shortened_numbers(masked + 1 + window.start)})" if len(masked) else "")
    ]


def _angles(
    file: TwoTimeFile, phi: Sequence[float] | None, kept: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the angles of the matrices that are kept, those of one wave vector."""
    if file.phi is not None:
        if phi is not None:
            raise _problem("phi", f"{file.path}: the file has its own angles; remove these")
        return file.phi[kept]
    if phi is None:
        if len(kept) > 1:
            raise _problem(
                "phi",
                f"{file.path}: the file does not give the angles of its {len(kept)} matrices; "
                "set them, in degrees",
            )
        return np.zeros(1)
    angles = np.atleast_1d(np.asarray(phi, dtype=np.float64))
    if angles.shape == (file.n_matrices,):
        return angles[kept]
    if angles.shape != (len(kept),):
        some = "" if len(kept) == file.n_matrices else f", {len(kept)} of them at this q"
        raise _problem(
            "phi",
            f"{file.path}: {counted(angles.size, 'angle')} given, but the file has "
            f"{counted(file.n_matrices, 'matrix')}{some}",
        )
    return angles


def _wave_vectors(file: TwoTimeFile, q: float | None) -> NDArray[np.float64]:
    if file.q is not None:
        return file.q
    if q is None:
        raise _problem("q", f"{file.path}: the file does not give q; set it, in Å⁻¹")
    return np.full(file.n_matrices, q, dtype=np.float64)


def _problem(argument: str, what: str) -> InputError:
    return InputError([Problem(argument, what)])


def about_file(
    file: TwoTimeFile, q: float | None, dt: float | None, phi: Iterable[float] | None
) -> dict[str, str]:
    """What to ask about a file and what is said besides, where the file does not know itself.

    Parameters
    ----------
    file : TwoTimeFile
    q, dt, phi : float or iterable of float, optional
        Å⁻¹, seconds, degrees.
    """
    unknown = q if file.q is None else None, dt if file.dt is None else None
    if file.phi is None:
        return about_values(*unknown, phi or (), "φ")
    return about_values(*unknown, file.phi, "φ of the file")
