"""Two-time results in NeXus, application definition NXxpcs.

Attributes of the correlation describe the storage: one array of all bins, with q first or last, or
a dataset for each bin; c2 or c2 − 1; time from the first row or from the last row. Bins have the
labels of the map of regions, counted from 1; the lists of q and φ are in the order of the labels.
"""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from homodyne_fit.atomic import replacing
from homodyne_fit.data.formats import hdf5, hdf5_matrices
from homodyne_fit.data.formats.hdf5_matrices import MatrixLocation
from homodyne_fit.data.formats.two_time_file import Format, Populated, TwoTimeFile
from homodyne_fit.data.formats.writing import as_list, checked_matrices, target_file
from homodyne_fit.errors import InputError

__all__ = ["NXXPCS", "write_nxxpcs"]


MATRICES = "/entry/twotime/two_time_corr_func"

INSTRUMENT = "/entry/instrument"

ROI_MAP = "/entry/instrument/masks/dynamic_roi_map"  # label of each pixel, 0 where it has none

Q = "/entry/instrument/masks/dynamic_q_list"

PHI = "/entry/instrument/masks/dynamic_phi_list"

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
    return hdf5.exists(file, MATRICES)


def describe(file: h5py.File, path: Path) -> TwoTimeFile:
    """Describe an NXxpcs file."""
    q, phi = hdf5.q_and_phi(file, Q, PHI)
    labels, locations = _matrices(file, len(q))
    return hdf5_matrices.two_time_file(
        file,
        path,
        NXXPCS.name,
        locations,
        hdf5.at_labels(q, labels, Q, f"{path}: {MATRICES}"),
        hdf5.at_labels(phi, labels, PHI, f"{path}: {MATRICES}"),
        _frame_time(file),
        populated=_meaning(file, "populated_elements", POPULATED),
        shift=_meaning(file, "baseline_reference", BASELINES),
        upside_down=_meaning(file, "time_origin_location", ORIGINS),
    )


def _meaning[Meaning](file: h5py.File, attribute: str, meanings: dict[str, Meaning]) -> Meaning:
    """The meaning of the value of an attribute; the value is '' if there is no attribute."""
    value = hdf5.attribute_text(file, MATRICES, attribute)
    if value not in meanings:
        known = ", ".join(filter(None, meanings))
        raise InputError(
            f"{file.filename}: the attribute {attribute} of {MATRICES} is '{value}', which is "
            f"none of {known}"
        )
    return meanings[value]


def _matrices(file: h5py.File, n_bins: int) -> tuple[NDArray[np.int64], list[MatrixLocation]]:
    """The label of each matrix, and its location."""
    mode = hdf5.attribute_text(file, MATRICES, "storage_mode")
    if mode not in ("", KEYS, *Q_AXIS):
        raise InputError(
            f"{file.filename}: the attribute storage_mode of {MATRICES} is '{mode}'; what can be "
            f"read is {', '.join((*Q_AXIS, KEYS))}"
        )
    shape = hdf5.shape_of(file, MATRICES)
    if (shape is None) != (mode == KEYS) and mode:
        kind = "a group" if shape is None else "a dataset"
        raise InputError(f"{file.filename}: {MATRICES} is {kind}, but its storage_mode is {mode}")
    if shape is None:
        numbered = hdf5_matrices.numbered(file, MATRICES)
        return np.array(list(numbered)), list(numbered.values())
    if len(shape) == 2:
        return _labels(file, 1, n_bins), [MatrixLocation(MATRICES)]
    axis = _q_axis(file, shape, mode)
    locations = hdf5_matrices.locations_in_array(MATRICES, shape[axis], axis)
    return _labels(file, shape[axis], n_bins), locations


def _q_axis(file: h5py.File, shape: tuple[int, ...], mode: str) -> int:
    """The axis of q, from the storage_mode or else from the shape."""
    possible = [axis for axis in (0, 2) if len(shape) == 3 and _square_without(shape, axis)]
    if mode and Q_AXIS[mode] in possible:
        return Q_AXIS[mode]
    if not mode and len(possible) == 1:
        return possible[0]
    raise InputError(
        f"{file.filename}: {MATRICES} has shape {shape} and its storage_mode is '{mode}', which "
        "do not agree: (q, N, N) is one_array_q_first, (N, N, q) is one_array_q_last"
    )


def _square_without(shape: tuple[int, ...], axis: int) -> bool:
    rest = shape[:axis] + shape[axis + 1 :]
    return rest[0] == rest[1] and 0 not in shape


def _labels(file: h5py.File, n_matrices: int, n_bins: int) -> NDArray[np.int64]:
    """Labels of the matrices in an array: of all bins, or of the bins with pixels."""
    if n_matrices == n_bins:
        return np.arange(1, n_bins + 1)
    if hdf5.exists(file, ROI_MAP):
        used = np.unique(hdf5.integers(file, ROI_MAP))
        used = used[used > 0]
        if len(used) == n_matrices:
            return used
    raise InputError(
        f"{file.filename}: {MATRICES} holds {n_matrices} matrices, but {Q} has {n_bins} bins, "
        f"and {ROI_MAP} does not say which of them"
    )


def _frame_time(file: h5py.File) -> tuple[float | None, str]:
    """The time between frames of the detector; several detectors must agree."""
    instrument = hdf5.group_at(file, INSTRUMENT)
    names = [f"{INSTRUMENT}/{key}" for key in map(str, instrument or ())]
    detectors = [
        name
        for name in names
        if hdf5.attribute_text(file, name, "NX_class") in ("", "NXdetector")
        and hdf5.exists(file, f"{name}/frame_time")
    ]
    frame_times = [hdf5.frame_time(file, f"{name}/frame_time") for name in detectors]
    if not frame_times:
        return None, f"no detector under {INSTRUMENT} has a frame_time"
    if len({value for value, _ in frame_times}) > 1:
        return None, f"the detectors under {INSTRUMENT} have different frame times"
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
    with replacing(target_file(path)) as temporary, h5py.File(temporary, "w") as file:
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
