"""What an HDF5 file of no known layout holds, and how its matrices can be made readable."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import h5py

from homodyne_fit.data.formats import hdf5
from homodyne_fit.errors import InputError, shortened

__all__ = ["MULTI_TAU_ONLY", "describe_unknown", "has_multi_tau"]

# Groups and datasets with multi-tau results, at the top of a file or in an entry of NeXus.
MULTI_TAU = ("/xpcs/multitau", "/exchange/norm-0-g2", "/g2")
MULTI_TAU_IN_ENTRY = ("data/g2", "XPCS/data/g2")

MULTI_TAU_ONLY = "multi-tau results only; correlate again with the two-time option"

# Matrices over age and lag of ID02 at the ESRF: the end of the path.
ID02 = "/twotime/ttcf"

CONVERT = (
    "save them with numpy as a .npz of c2 (K, N, N) over the two times, q (K,) in Å⁻¹, phi (K,) in "
    "degrees, and dt in s"
)

# Largest number of groups and datasets that are looked at.
MOST_NODES = 10_000


def describe_unknown(file: h5py.File, path: Path, known: str) -> InputError:
    """The error for a file of no known layout.

    Parameters
    ----------
    known : str
        The known layouts.
    """
    over_lag, square = [], []
    for name, shape in _matrices(file):
        (over_lag if name.endswith(ID02) else square).append(f"{name} {shape}")
    if over_lag:
        return InputError(
            f"{path}: {shortened(over_lag)} is over age and lag, as ID02 of the ESRF writes it; "
            f"convert the matrices, c2(t1, t2) with the lag t2 − t1 and the age as `age` has it, "
            f"and {CONVERT}"
        )
    if square:
        return InputError(
            f"{path}: the HDF5 file has none of the known layouts, but square matrices: "
            f"{shortened(square)}; if they are c2(t1, t2), {CONVERT}"
        )
    if broken := _broken_links(file):
        return InputError(f"{path}: {'; '.join(broken)}")
    if where := has_multi_tau(file):
        return InputError(f"{path}: {where} has {MULTI_TAU_ONLY}")
    return InputError(
        f"{path}: the HDF5 file has none of the known layouts ({known}); it holds "
        f"{hdf5.contents(file)}"
    )


def has_multi_tau(file: h5py.File) -> str:
    """The path of multi-tau results, or an empty string."""
    in_entries = (f"/{entry}/{name}" for entry in file for name in MULTI_TAU_IN_ENTRY)
    return next((name for name in (*MULTI_TAU, *in_entries) if hdf5.exists(file, name)), "")


def _broken_links(file: h5py.File) -> list[str]:
    """What is wrong with links in the two uppermost levels."""
    names = []
    for name in file:
        group = file.get(name)
        inner = list(group) if isinstance(group, h5py.Group) else []
        names += [f"/{name}", *(f"/{name}/{key}" for key in inner)]
    return list(dict.fromkeys(filter(None, (hdf5.broken_link(file, name) for name in names))))


def _matrices(file: h5py.File) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Paths and shapes of datasets that may be two-time matrices, without links to other files."""
    waiting: list[h5py.Group] = [file]
    seen = 0
    while waiting and seen < MOST_NODES:
        group = waiting.pop(0)
        for key in group:
            seen += 1
            if isinstance(group.get(key, getlink=True), h5py.ExternalLink | h5py.SoftLink):
                continue
            node = group.get(key)
            if isinstance(node, h5py.Group):
                waiting.append(node)
            elif isinstance(node, h5py.Dataset) and _may_be_matrices(str(node.name), node.shape):
                yield str(node.name), node.shape


def _may_be_matrices(name: str, shape: tuple[int, ...] | None) -> bool:
    if shape is None or len(shape) not in (2, 3) or min(shape) == 0:
        return False
    return name.endswith(ID02) or any(first == second > 2 for first, second in pairwise(shape))
