"""Writing two-time matrices in the formats that the loaders read."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from homodyne_fit.atomic import replacing
from homodyne_fit.errors import InputError
from homodyne_fit.loaders import aps_old, aps_u, homodyne_cache, nxxpcs, pychx
from homodyne_fit.real_arrays import real_array

__all__ = [
    "write_aps_old",
    "write_aps_u",
    "write_array",
    "write_homodyne_cache",
    "write_nxxpcs",
    "write_pychx",
]

# What of a matrix is written, by the value of the attribute populated_elements.
HALVES = {"all": np.asarray, "upper_half": np.triu, "lower_half": np.tril}


def write_aps_u(
    path: str | os.PathLike[str],
    c2: ArrayLike,
    q_values: ArrayLike,
    phi_values: ArrayLike,
    bins: ArrayLike,
    dt: float,
    *,
    stride: int = 1,
    avg: int = 1,
    pixel_bins: ArrayLike | None = None,
) -> None:
    """Write an APS-U file.

    Parameters
    ----------
    path : path
        A file that is there already is replaced, once the new one is complete.
    c2 : (M, n, n)
        Of each matrix the upper half is stored, with the diagonal, as float32.
    q_values : (nq,)
        Å⁻¹
    phi_values : (nphi,)
        Degrees.
    bins : (M,) int
        Natural bin of each matrix, from 0: q index · nphi + φ index.
    dt : float
        Time between two frames of c2, seconds.
    stride, avg : int
        How many detector frames make one frame of c2, by leaving out and by averaging.
    pixel_bins : int sequence, optional
        Bins that have pixels, ascending; those of the matrices by default.
    """
    q, phi = _list(q_values), _list(phi_values)
    matrices, natural = _checked(c2, bins, len(q) * len(phi))
    mapping = np.unique(natural if pixel_bins is None else np.asarray(pixel_bins, dtype=np.int64))
    if not np.all(np.isin(natural, mapping)):
        raise ValueError("a matrix lies in a bin without pixels")
    with replacing(_target(path)) as temporary, h5py.File(temporary, "w") as file:
        file[aps_u.LABELS] = np.searchsorted(mapping, natural) + 1
        file[aps_u.NATURAL_BINS] = mapping
        file[aps_u.GRID] = np.array([len(q), len(phi)])
        file[aps_u.Q], file[aps_u.PHI] = q, phi
        file[aps_u.AXES] = np.array([b"q", b"phi"])
        file[aps_u.UNITS] = np.array([b"1/A", b"degree"])
        file[aps_u.FRAME_TIME] = dt / (stride * avg)
        file[aps_u.STRIDE], file[aps_u.AVERAGE] = stride, avg
        _write_matrices(file.create_group(aps_u.MATRICES), "c2", matrices)


def write_aps_old(
    path: str | os.PathLike[str],
    c2: ArrayLike,
    q_values: ArrayLike,
    phi_values: ArrayLike,
    bins: ArrayLike,
    dt: float,
    *,
    stride: int = 1,
    avg: int = 1,
) -> None:
    """Write an old APS file; the parameters are those of `write_aps_u`."""
    q, phi = _list(q_values), _list(phi_values)
    matrices, natural = _checked(c2, bins, len(q) * len(phi))
    with replacing(_target(path)) as temporary, h5py.File(temporary, "w") as file:
        file[aps_old.LABELS] = (natural + 1)[:, np.newaxis]
        file[aps_old.Q] = np.repeat(q, len(phi))[np.newaxis]
        file[aps_old.PHI] = np.tile(phi, len(q))[np.newaxis]
        file[aps_old.FRAME_TIME] = np.array([[dt / (stride * avg)]])
        file[aps_old.STRIDE], file[aps_old.AVERAGE] = np.array([[stride]]), np.array([[avg]])
        _write_matrices(file.create_group(aps_old.MATRICES), "g2", matrices)


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
        As for `write_aps_u`, and so for all the others.
    c2 : (M, n, n)
    q, phi : (B,)
        Wave vector, Å⁻¹, and angle, degrees, of the bins with the labels 1 to B.
    dt : float
        Time between two frames, seconds.
    storage_mode, baseline_reference, populated_elements, time_origin_location
        Attributes of NXxpcs, and how the matrices are stored.
    labels : (M,) int, ascending, optional
        Which of the bins the matrices are of; all by default.
    """
    bins_q, bins_phi = _list(q), _list(phi)
    used = np.arange(1, len(bins_q) + 1) if labels is None else np.asarray(labels, dtype=np.int64)
    matrices, _ = _checked(c2, used - 1, len(bins_q))
    if len(bins_q) != len(bins_phi):
        raise ValueError(f"{len(bins_q)} q need as many φ, not {len(bins_phi)}")
    if baseline_reference == 0:
        matrices = matrices - 1
    stored = np.stack([HALVES[populated_elements](matrix) for matrix in matrices])
    if time_origin_location == "lower_left":
        stored = stored[:, ::-1]
    with replacing(_target(path)) as temporary, h5py.File(temporary, "w") as file:
        if storage_mode == nxxpcs.KEYS:
            group = file.create_group(nxxpcs.MATRICES)
            for label, matrix in zip(used, stored, strict=True):
                group[f"{label:05d}"] = matrix
        else:
            file[nxxpcs.MATRICES] = np.moveaxis(stored, 0, nxxpcs.Q_AXIS[storage_mode])
        file[nxxpcs.MATRICES].attrs.update(
            storage_mode=storage_mode,
            baseline_reference=baseline_reference,
            populated_elements=populated_elements,
            time_origin_location=time_origin_location,
        )
        file["/entry/definition"] = "NXxpcs"
        file[nxxpcs.ROI_MAP] = np.concatenate([[0], used])
        file[nxxpcs.Q], file[nxxpcs.PHI] = bins_q, bins_phi
        file[nxxpcs.Q].attrs["units"], file[nxxpcs.PHI].attrs["units"] = "1/angstrom", "degree"
        file[f"{nxxpcs.INSTRUMENT}/detector/frame_time"] = dt
        file[f"{nxxpcs.INSTRUMENT}/detector/frame_time"].attrs["units"] = "s"
        for name, kind in (
            ("/entry", "NXentry"),
            ("/entry/twotime", "NXdata"),
            (nxxpcs.INSTRUMENT, "NXinstrument"),
            (f"{nxxpcs.INSTRUMENT}/detector", "NXdetector"),
            (f"{nxxpcs.INSTRUMENT}/masks", "NXnote"),
        ):
            file[name].attrs["NX_class"] = kind


def write_pychx(
    path: str | os.PathLike[str],
    c2: ArrayLike,
    q: ArrayLike,
    phi: ArrayLike | None,
    frame_time: float,
) -> None:
    """Write two-time results as pyCHX exports them.

    Parameters
    ----------
    c2 : (M, n, n)
    q : (M,)
        Å⁻¹
    phi : (M,) or None
        Degrees; None for whole rings.
    frame_time : float
        What is stored as such; its unit is not certain in these files.
    """
    bins = _list(q)[:, np.newaxis] if phi is None else np.column_stack([_list(q), _list(phi)])
    matrices, _ = _checked(c2, np.arange(len(bins)), len(bins))
    with replacing(_target(path)) as temporary, h5py.File(temporary, "w") as file:
        file[pychx.MATRICES] = np.moveaxis(matrices, 0, -1)
        described = file.create_dataset(pychx.BINS, (1,), dtype="i")
        for index, values in enumerate(bins):
            described.attrs[str(index)] = values
        file.create_dataset(pychx.METADATA, (1,), dtype="i").attrs[pychx.FRAME_TIME] = frame_time


def write_homodyne_cache(
    path: str | os.PathLike[str], c2: ArrayLike, q: ArrayLike, phi: ArrayLike, dt: float
) -> None:
    """Write matrices as homodyne keeps them; c2 (K, n, n), q (K,) in Å⁻¹ and phi (K,) in degrees.

    Parameters
    ----------
    dt : float
        Time between two frames, seconds.
    """
    angles = _list(phi)
    matrices, _ = _checked(c2, np.arange(len(angles)), len(angles))
    time = dt * np.arange(matrices.shape[1])
    arrays = {
        homodyne_cache.C2: matrices,
        homodyne_cache.Q: np.broadcast_to(_list(q), len(angles)),
        homodyne_cache.PHI: angles,
        homodyne_cache.TIME: time,
        "t2": time,
    }
    if Path(path).suffix != ".npz":
        raise InputError(f"{path}: the name must end with .npz")
    with replacing(_target(path)) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def write_array(
    path: str | os.PathLike[str],
    c2: ArrayLike,
    *,
    q: ArrayLike | None = None,
    phi: ArrayLike | None = None,
    dt: float | None = None,
) -> None:
    """Write C2, of shape (n, n) or (K, n, n), as a .npy or, with what is known of it, a .npz."""
    known = {"q": q, "phi": phi, "dt": dt}
    beside = {name: np.asarray(value) for name, value in known.items() if value is not None}
    matrices = real_array(c2) if np.ma.isMaskedArray(c2) else np.asarray(c2)
    suffix = Path(path).suffix
    if suffix not in (".npy", ".npz") or (suffix == ".npy" and beside):
        raise InputError(f"{path}: the name must end with .npz{'' if beside else ' or .npy'}")
    with replacing(_target(path)) as temporary, temporary.open("wb") as stream:
        if suffix == ".npy":
            np.save(stream, matrices)
        else:
            np.savez_compressed(stream, allow_pickle=False, c2=matrices, **beside)


def _write_matrices(group: h5py.Group, prefix: str, matrices: NDArray[np.float32]) -> None:
    for number, matrix in enumerate(matrices, start=1):
        group.create_dataset(f"{prefix}_{number:05d}", data=np.triu(matrix), compression="lzf")


def _checked(
    c2: ArrayLike, bins: ArrayLike, n_bins: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    matrices = real_array(c2).astype(np.float32)
    natural = _list(bins).astype(np.int64)
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2]:
        raise ValueError(f"c2 must have shape (M, n, n), not {matrices.shape}")
    if len(natural) != len(matrices) or len(np.unique(natural)) != len(natural):
        raise ValueError(f"{len(matrices)} matrices need as many different bins")
    if len(natural) and not 0 <= natural.min() <= natural.max() < n_bins:
        raise ValueError(f"bins must be from 0 to {n_bins - 1}, got {natural.tolist()}")
    return matrices, natural


def _list(values: ArrayLike) -> NDArray[np.float64]:
    return np.atleast_1d(real_array(values).astype(np.float64))


def _target(path: str | os.PathLike[str]) -> Path:
    final = Path(path)
    if not final.parent.is_dir():
        raise InputError(f"{final}: there is no folder {final.parent}")
    return final
