"""Two-time results in NeXus, application definition NXxpcs.

Attributes of the correlation describe the storage: one array of all bins, with q first or last, or
a dataset for each bin; c2 or c2 − 1; time from the first row or from the last row. Bins have the
labels of the map of regions, counted from 1; the lists of q and φ are in the order of the labels,
and either may be absent. The entry may have any name. The writer of the pilot of 2020 has a group
``XPCS`` in the entry, with the groups ``twotime`` and ``mask``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from homodyne_fit.atomic import replacing
from homodyne_fit.data.formats import hdf5, hdf5_matrices
from homodyne_fit.data.formats.hdf5_matrices import MatrixLocation
from homodyne_fit.data.formats.two_time_file import Format, Populated, TwoTimeFile
from homodyne_fit.data.formats.writing import as_list, checked_matrices, target_file
from homodyne_fit.data.units import require_degrees, require_inverse_angstrom
from homodyne_fit.errors import InputError

__all__ = ["NXXPCS", "write_nxxpcs"]


ENTRY = "/entry"  # as it is written

ROI = "dynamic_roi_map"  # label of each pixel, 0 where it has none

Q_LIST = "dynamic_q_list"

PHI_LIST = "dynamic_phi_list"

MATRICES = f"{ENTRY}/twotime/two_time_corr_func"

INSTRUMENT = f"{ENTRY}/instrument"

ROI_MAP = f"{ENTRY}/instrument/masks/{ROI}"

Q = f"{ENTRY}/instrument/masks/{Q_LIST}"

PHI = f"{ENTRY}/instrument/masks/{PHI_LIST}"

# Places in an entry: of the correlation, and of the groups with the lists and the detectors.
PLACES = ("twotime/two_time_corr_func", "XPCS/twotime/two_time_corr_func", "XPCS/twotime/C")
MASKS = ("instrument/masks", "XPCS/instrument/masks", "XPCS/masks", "XPCS/mask")
INSTRUMENTS = ("instrument", "XPCS/instrument")

# Values of the attribute storage_mode for one array, and the axis of q.
Q_AXIS = {"one_array_q_first": 0, "one_array_q_last": 2}

# Its value for a dataset of each bin.
KEYS = "data_exchange_keys"

# Whether time begins at the last row, for each value of time_origin_location.
ORIGINS = {"": False, "upper_left": False, "lower_left": True}

# Constant to add, for each value of baseline_reference.
BASELINES = {"": 0.0, "1": 0.0, "0": 1.0}

# The stored part of a matrix, for each value of populated_elements.
POPULATED: dict[str, Populated] = {
    "": "",
    "all": "all",
    "upper_half": "upper",
    "lower_half": "lower",
}

# Functions that keep the part to write, for each value of populated_elements.
HALVES = {"all": np.asarray, "upper_half": np.triu, "lower_half": np.tril}


def recognises(file: h5py.File) -> bool:
    """Whether the file has the two-time correlations of NXxpcs."""
    return bool(_correlations(file))


def describe(file: h5py.File, path: Path) -> TwoTimeFile:
    """Describe an NXxpcs file."""
    places = _Places.found(file)
    q, phi = places.list_of(file, Q_LIST), places.list_of(file, PHI_LIST)
    _check_lists(file, places, q, phi)
    known = q if q is not None else phi
    labels, locations = _matrices(file, places, None if known is None else len(known))
    what = f"{path}: {places.matrices}"
    return hdf5_matrices.two_time_file(
        file,
        path,
        NXXPCS.name,
        locations,
        None if q is None else hdf5.at_labels(q, labels, places.name_of(Q_LIST), what),
        None if phi is None else hdf5.at_labels(phi, labels, places.name_of(PHI_LIST), what),
        _frame_time(file, places.instruments),
        populated=_meaning(file, places.matrices, "populated_elements", POPULATED),
        shift=_meaning(file, places.matrices, "baseline_reference", BASELINES),
        upside_down=_meaning(file, places.matrices, "time_origin_location", ORIGINS),
    )


def _correlations(file: h5py.File) -> list[str]:
    """Paths of all correlations, in any entry."""
    names = (f"/{entry}/{place}" for entry in file for place in PLACES)
    return [name for name in names if hdf5.exists(file, name)]


@dataclass(frozen=True)
class _Places:
    """Paths in one file.

    Attributes
    ----------
    matrices : str
    masks : str
        Group with the lists and the map of regions.
    instruments : tuple of str
        Groups with detectors.
    """

    matrices: str
    masks: str
    instruments: tuple[str, ...]

    @classmethod
    def found(cls, file: h5py.File) -> _Places:
        """The paths in this file, which must have one correlation."""
        matrices, *others = _correlations(file)
        if others:
            listed = ", ".join([matrices, *others])
            raise InputError(
                f"{file.filename}: holds several two-time correlations ({listed}), of which one "
                "can be read; write a file for each"
            )
        entry = "/" + matrices.split("/")[1]
        groups = (f"{entry}/{name}" for name in MASKS)
        masks = next((name for name in groups if hdf5.exists(file, name)), f"{entry}/{MASKS[0]}")
        return cls(matrices, masks, tuple(f"{entry}/{name}" for name in INSTRUMENTS))

    def name_of(self, name: str) -> str:
        """The path of a list, or of the map of regions."""
        return f"{self.masks}/{name}"

    def list_of(self, file: h5py.File, name: str) -> NDArray[np.float64] | None:
        """A value for each label; None if there is no such list."""
        path = self.name_of(name)
        return hdf5.list_of_numbers(file, path) if hdf5.exists(file, path) else None


def _check_lists(
    file: h5py.File,
    places: _Places,
    q: NDArray[np.float64] | None,
    phi: NDArray[np.float64] | None,
) -> None:
    """Refuse lists of different lengths, and units other than Å⁻¹ and degrees."""
    q_name, phi_name = places.name_of(Q_LIST), places.name_of(PHI_LIST)
    if q is not None and phi is not None and len(q) != len(phi):
        raise InputError(f"{file.filename}: {q_name} has {len(q)} bins, but {phi_name} {len(phi)}")
    if q is not None:
        require_inverse_angstrom(hdf5.unit(file, q_name), f"{file.filename}: {q_name}", q)
    if phi is not None:
        require_degrees(hdf5.unit(file, phi_name), f"{file.filename}: {phi_name}")


def _meaning[Meaning](
    file: h5py.File, matrices: str, attribute: str, meanings: dict[str, Meaning]
) -> Meaning:
    """The meaning of the value of an attribute; the value is '' if there is no attribute."""
    value = hdf5.attribute_text(file, matrices, attribute)
    if value not in meanings:
        known = ", ".join(filter(None, meanings))
        raise InputError(
            f"{file.filename}: the attribute {attribute} of {matrices} is '{value}', which is "
            f"none of {known}"
        )
    return meanings[value]


def _matrices(
    file: h5py.File, places: _Places, n_bins: int | None
) -> tuple[NDArray[np.int64], list[MatrixLocation]]:
    """The label of each matrix, and its location; `n_bins` is None without a list of bins."""
    matrices = places.matrices
    mode = hdf5.attribute_text(file, matrices, "storage_mode")
    if mode not in ("", KEYS, *Q_AXIS):
        raise InputError(
            f"{file.filename}: the attribute storage_mode of {matrices} is '{mode}'; what can be "
            f"read is {', '.join((*Q_AXIS, KEYS))}"
        )
    shape = hdf5.shape_of(file, matrices)
    if (shape is None) != (mode == KEYS) and mode:
        kind = "a group" if shape is None else "a dataset"
        raise InputError(f"{file.filename}: {matrices} is {kind}, but its storage_mode is {mode}")
    if shape is None:
        numbered = hdf5_matrices.numbered(file, matrices)
        return np.array(list(numbered)), list(numbered.values())
    if len(shape) == 2:
        return _labels(file, places, 1, n_bins), [MatrixLocation(matrices)]
    axis = _q_axis(file, matrices, shape, mode)
    locations = hdf5_matrices.locations_in_array(matrices, shape[axis], axis)
    return _labels(file, places, shape[axis], n_bins), locations


def _q_axis(file: h5py.File, matrices: str, shape: tuple[int, ...], mode: str) -> int:
    """The axis of q, from the storage_mode or else from the shape."""
    possible = [axis for axis in (0, 2) if len(shape) == 3 and _square_without(shape, axis)]
    if mode and Q_AXIS[mode] in possible:
        return Q_AXIS[mode]
    if not mode and len(possible) == 1:
        return possible[0]
    raise InputError(
        f"{file.filename}: {matrices} has shape {shape} and its storage_mode is '{mode}', which "
        "do not agree: (q, N, N) is one_array_q_first, (N, N, q) is one_array_q_last"
    )


def _square_without(shape: tuple[int, ...], axis: int) -> bool:
    rest = shape[:axis] + shape[axis + 1 :]
    return rest[0] == rest[1] and 0 not in shape


def _labels(
    file: h5py.File, places: _Places, n_matrices: int, n_bins: int | None
) -> NDArray[np.int64]:
    """Labels of the matrices in an array: of all bins, or of the bins with pixels."""
    if n_bins is None or n_matrices == n_bins:
        return np.arange(1, n_matrices + 1)
    roi_map = places.name_of(ROI)
    if hdf5.exists(file, roi_map):
        used = np.unique(hdf5.integers(file, roi_map))
        used = used[used > 0]
        if len(used) == n_matrices:
            return used
    raise InputError(
        f"{file.filename}: {places.matrices} holds {n_matrices} matrices, but "
        f"{places.name_of(Q_LIST)} has {n_bins} bins, and {roi_map} does not say which of them"
    )


def _frame_time(file: h5py.File, instruments: tuple[str, ...]) -> tuple[float | None, str]:
    """The time between frames of the detector; several detectors must agree."""
    names = [
        f"{group}/{key}"
        for group in instruments
        for key in map(str, hdf5.group_at(file, group) or ())
    ]
    detectors = [
        name
        for name in names
        if hdf5.attribute_text(file, name, "NX_class") in ("", "NXdetector")
        and hdf5.exists(file, f"{name}/frame_time")
    ]
    frame_times = [hdf5.frame_time(file, f"{name}/frame_time") for name in detectors]
    if not frame_times:
        return None, f"no detector under {instruments[0]} has a frame_time"
    if len({value for value, _ in frame_times}) > 1:
        return None, f"the detectors under {instruments[0]} have different frame times"
    return frame_times[0]


def write_nxxpcs(
    path: str | os.PathLike[str],
    c2: ArrayLike,
    q: ArrayLike,
    phi: ArrayLike,
    dt: float,
    *,
    storage_mode: str = "one_array_q_first",
    baseline_reference: int = 1,
    populated_elements: str = "all",
    time_origin_location: str = "upper_left",
    labels: ArrayLike | None = None,
) -> None:
    """Write an NXxpcs file.

    Parameters
    ----------
    path : path
        As in `write_aps_u`.
    c2 : (M, n, n)
    q, phi : (B,)
        Wave vector, Å⁻¹, and angle, degrees, of the bins with the labels 1 to B.
    dt : float
        Time between two frames, seconds.
    storage_mode, baseline_reference, populated_elements, time_origin_location
        Attributes of NXxpcs, which describe the storage of the matrices.
    labels : (M,) int, ascending, optional
        Labels of the bins of the matrices; all bins by default.
    """
    bins_q, bins_phi = as_list(q), as_list(phi)
    used = np.arange(1, len(bins_q) + 1) if labels is None else np.asarray(labels, dtype=np.int64)
    matrices, _ = checked_matrices(c2, used - 1, len(bins_q))
    if len(bins_q) != len(bins_phi):
        raise ValueError(f"{len(bins_q)} q need as many φ, not {len(bins_phi)}")
    if baseline_reference == 0:
        matrices = matrices - 1
    stored = np.stack([HALVES[populated_elements](matrix) for matrix in matrices])
    if time_origin_location == "lower_left":
        stored = stored[:, ::-1]
    with (
        replacing(target_file(path)) as temporary,
        h5py.File(temporary, "w", locking=False) as file,
    ):
        if storage_mode == KEYS:
            group = file.create_group(MATRICES)
            for label, matrix in zip(used, stored, strict=True):
                group[f"{label:05d}"] = matrix
        else:
            file[MATRICES] = np.moveaxis(stored, 0, Q_AXIS[storage_mode])
        file[MATRICES].attrs.update(
            storage_mode=storage_mode,
            baseline_reference=baseline_reference,
            populated_elements=populated_elements,
            time_origin_location=time_origin_location,
        )
        file["/entry/definition"] = "NXxpcs"
        file[ROI_MAP] = np.concatenate([[0], used])
        file[Q], file[PHI] = bins_q, bins_phi
        file[Q].attrs["units"], file[PHI].attrs["units"] = "1/angstrom", "degree"
        file[f"{INSTRUMENT}/detector/frame_time"] = dt
        file[f"{INSTRUMENT}/detector/frame_time"].attrs["units"] = "s"
        for name, kind in (
            ("/entry", "NXentry"),
            ("/entry/twotime", "NXdata"),
            (INSTRUMENT, "NXinstrument"),
            (f"{INSTRUMENT}/detector", "NXdetector"),
            (f"{INSTRUMENT}/masks", "NXnote"),
        ):
            file[name].attrs["NX_class"] = kind


NXXPCS = Format(
    "NXxpcs",
    "nxxpcs",
    f"correlations at {MATRICES}",
    recognises,
    describe,
    lambda path, c2, q, phi, dt: write_nxxpcs(path, c2, [q] * len(phi), phi, dt),
)
