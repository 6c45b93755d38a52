"""Two-time correlation data of one wave vector at several azimuthal angles."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.real_arrays import real_array
from homodyne_fit.data.storage.stored_matrices import Matrices, StoredMatrices, upper_bands
from homodyne_fit.data.uncomputed import note_on_zeros, uncomputed_zeros
from homodyne_fit.errors import InputError
from homodyne_fit.validation import shown

__all__ = ["LoadRequest", "TwoTimeData", "along_one_line"]

# Largest difference of angles on one line, degrees.
SAME_LINE = 1e-3


@dataclass(frozen=True)
class LoadRequest:
    """The arguments of `homodyne_fit.data.loading.load`, without q and dt, which the data have.

    `path` is absolute.
    """

    path: Path
    phi_ranges: tuple[tuple[float, float], ...] = ()
    frames: tuple[int, int] = (1, -1)
    dt_override: bool = False
    phi: tuple[float, ...] | None = None
    mask_frames: tuple[int, ...] = ()
    units_confirmed: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TwoTimeData:
    """Matrices c2(t1, t2) of K angles on one grid of n equidistant frames.

    A two-time matrix is symmetric, and its diagonal contains the shot noise. Only the entries
    ``c2[k, i, j]`` with ``i < j`` are used as data; all others are ignored. An entry that is masked
    or not finite is a missing point, and so are zeros that were not computed: see
    `homodyne_fit.data.uncomputed`.

    Attributes
    ----------
    c2 : (K, n, n) float32 or float64
        An array, or `StoredMatrices` on the disk.
    phi : (K,) float64
        Azimuthal angle of each matrix, degrees.
    q : (K,) float64
        Wave vector of each matrix, Å⁻¹; or one number for all.
    dt : float
        Time between two frames, seconds. Time is 0 at the first frame that is kept.
    source : str
        Source of the data, for messages and reports.
    notes : tuple of str
        Remarks for the user about the selection of the data.
    sigma : (K, n, n) float64 or None
        Standard deviation of the noise of each point, of which only ratios count; or one for each
        angle, (K,). None where all points are alike.
    origin : LoadRequest or None
        How `load` has loaded these data from a file; None for other data, and after
        `dataclasses.replace`.

    Raises
    ------
    InputError
        If shapes disagree, an angle, q, dt or sigma is not usable, or a matrix holds no finite
        point.
    """

    c2: Matrices
    phi: NDArray[np.float64]
    q: NDArray[np.float64]
    dt: float
    source: str = "arrays"
    notes: tuple[str, ...] = ()
    sigma: NDArray[np.float64] | None = None
    origin: LoadRequest | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", str(self.source))
        c2 = self.c2 if isinstance(self.c2, StoredMatrices) else self._matrices()
        object.__setattr__(self, "notes", tuple(map(str, _as_tuple(self.notes))))
        phi = np.atleast_1d(self._numbers("phi"))
        q = self._numbers("q")
        q = q if q.ndim else np.full(len(phi), q)
        object.__setattr__(self, "dt", float(self._numbers("dt")))
        object.__setattr__(self, "c2", c2)
        object.__setattr__(self, "phi", phi)
        object.__setattr__(self, "q", q)
        if c2.ndim != 3 or c2.shape[1] != c2.shape[2]:
            raise InputError(f"{self.source}: c2 must have shape (angles, n, n), not {c2.shape}")
        if c2.shape[1] < 3:
            raise InputError(f"{self.source}: at least 3 frames are needed, got {c2.shape[1]}")
        if isinstance(c2, np.ndarray):
            self._leave_out_uncomputed(c2)
        if phi.shape != (len(c2),) or q.shape != (len(c2),):
            raise InputError(
                f"{self.source}: {len(c2)} matrices need as many angles phi and wave vectors q, "
                f"got {phi.shape} and {q.shape}"
            )
        if not np.all(np.isfinite(phi)):
            raise InputError(f"{self.source}: an angle is not finite: {phi.tolist()}; leave it out")
        if not (np.all(np.isfinite(q)) and np.all(q > 0)):
            raise InputError(f"{self.source}: wave vectors must be positive: {q.tolist()}")
        if not (np.isfinite(self.dt) and self.dt > 0):
            raise InputError(f"{self.source}: the frame time must be positive, got {self.dt} s")
        c2 = self.c2
        for k in range(len(c2)):
            if not any(_has_signal(band) for _, band in upper_bands(c2, k)):
                raise InputError(
                    f"{self.source}: the matrix at φ = {phi[k]:g}° has no finite value but zero at "
                    "t1 < t2, where the data are"
                )

        if self.sigma is not None:
            object.__setattr__(self, "sigma", self._standard_deviations())

    def with_origin(self, origin: LoadRequest) -> TwoTimeData:
        """The same data, with the arguments of `load`."""
        data = copy(self)
        object.__setattr__(data, "origin", origin)
        return data

    def _leave_out_uncomputed(self, c2: NDArray[np.floating]) -> None:
        """Make zeros that were not computed missing points, in a copy."""
        found = {
            k: zeros for k, one in enumerate(c2) if (zeros := uncomputed_zeros(one)) is not None
        }
        if not found:
            return
        c2 = c2.copy()
        for k, zeros in found.items():
            c2[k][zeros] = np.nan
        points = [int(np.count_nonzero(found[k])) if k in found else 0 for k in range(len(c2))]
        object.__setattr__(self, "c2", c2)
        object.__setattr__(self, "notes", (*self.notes, *note_on_zeros(points)))

    def _matrices(self) -> NDArray[np.floating]:
        try:
            return real_array(self.c2)
        except ValueError as error:
            raise InputError(f"{self.source}: c2 {error}") from None

    def _standard_deviations(self) -> NDArray[np.float64]:
        """`sigma` of each point (K, n, n), checked; without memory of its own where it is (K,)."""
        sigma, c2 = self._numbers("sigma"), self.c2
        if isinstance(c2, StoredMatrices):
            raise InputError(
                f"{self.source}: sigma needs matrices in the memory, and these stay on the disk"
            )
        if sigma.shape == (len(c2),):
            sigma = np.broadcast_to(sigma[:, None, None], c2.shape)
        if sigma.shape != c2.shape:
            raise InputError(
                f"{self.source}: sigma must have the shape of c2, {c2.shape}, or one value for "
                f"each of the {len(c2)} angles, not {sigma.shape}"
            )
        counted = np.isfinite(c2) & np.triu(np.ones(c2.shape[1:], dtype=bool), 1)
        wrong = counted & ~(np.isfinite(sigma) & (sigma > 0))
        if np.any(wrong):
            k, i, j = (int(index[0]) for index in np.nonzero(wrong))
            raise InputError(
                f"{self.source}: sigma must be positive at every point, and it is "
                f"{sigma[k, i, j]:g} at φ = {self.phi[k]:g}°, frames {i + 1} and {j + 1}; a point "
                "to leave out is NaN in c2"
            )
        return sigma

    @cached_property
    def weights(self) -> NDArray[np.float64] | None:
        """1/σ² of each point (K, n, n), of mean 1 over all points; None where all are alike."""
        if self.sigma is None or not isinstance(self.c2, np.ndarray):
            return None
        counted = np.isfinite(self.c2) & np.triu(np.ones(self.c2.shape[1:], dtype=bool), 1)
        weights = np.divide(1.0, self.sigma**2, out=np.zeros(self.c2.shape), where=counted)
        return weights / np.mean(weights[counted])

    def _numbers(self, name: str) -> NDArray[np.float64]:
        array = getattr(self, name)
        try:
            numbers = real_array(array).astype(np.float64)
            return numbers if name != "dt" else numbers.reshape(())
        except ValueError:
            needed = f"{name} must be {'one number' if name == 'dt' else 'real numbers'}"
            raise InputError(f"{self.source}: {needed}, got {shown(array)}") from None

    def __repr__(self) -> str:
        k, n = self.n_angles, self.n_frames
        angles = ", ".join(f"{phi:g}" for phi in self.phi)
        return (
            f"TwoTimeData({self.source!r}: {k} × {n} × {n}, φ = {angles}°, "
            f"q = {self.mean_q:.4g} Å⁻¹, dt = {self.dt:g} s)"
        )

    def select_angles(self, angles: NDArray[np.int64]) -> TwoTimeData:
        """The data of some of the angles."""
        sigma = None if self.sigma is None else self.sigma[angles]
        return replace(
            self, c2=self.c2[angles], phi=self.phi[angles], q=self.q[angles], sigma=sigma
        )

    @property
    def mean_q(self) -> float:
        """Mean wave vector, Å⁻¹, without a rounding error if all are equal."""
        return float(self.q[0] + np.mean(self.q - self.q[0]))

    @property
    def n_angles(self) -> int:
        return len(self.c2)

    @property
    def n_frames(self) -> int:
        return self.c2.shape[1]

    @property
    def times(self) -> NDArray[np.float64]:
        """Time (n,) of each frame, seconds, from 0."""
        return np.arange(self.n_frames, dtype=np.float64) * self.dt


def _has_signal(band: NDArray[np.floating]) -> bool:
    """Whether a value above the diagonal is finite and not zero."""
    return bool(np.triu(np.isfinite(band) & (band != 0), 1).any())


def _as_tuple(notes: str | tuple[str, ...]) -> tuple[str, ...]:
    return (notes,) if isinstance(notes, str) else tuple(notes)


def along_one_line(phi: NDArray[np.float64]) -> bool:
    """Whether all angles, in degrees, are equal or opposite."""
    return bool(np.all(np.abs((phi - phi[0] + 90) % 180 - 90) <= SAME_LINE))
