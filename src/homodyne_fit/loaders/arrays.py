"""Plain arrays: C2 of shape (N, N) or (K, N, N) in a .npy, or in a .npz with phi, q and dt."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.errors import InputError
from homodyne_fit.loaders import numpy_file
from homodyne_fit.loaders.numpy_file import ArrayHeader
from homodyne_fit.loaders.two_time_file import TwoTimeFile

__all__ = ["FORMAT", "LAYOUT", "describe", "recognises"]

COMPANIONS = ("phi", "q", "dt")

FORMAT = "plain array"
LAYOUT = "one array of numbers of shape (N, N) or (K, N, N), beside it at most phi, q and dt"


def recognises(arrays: Mapping[str, ArrayHeader]) -> bool:
    """Whether there is one array besides the companions, and it can be a C2."""
    others = [header for name, header in arrays.items() if name not in COMPANIONS]
    return len(others) == 1 and _is_c2(others[0])


def describe(arrays: Mapping[str, ArrayHeader], path: Path) -> TwoTimeFile:
    """Say what a plain array holds.

    Raises
    ------
    InputError
        If phi, q or dt do not fit the number of matrices.
    """
    (name,) = (key for key in arrays if key not in COMPANIONS)
    shape = arrays[name].shape
    n_matrices = shape[0] if len(shape) == 3 else 1
    q = _companion(arrays, path, "q", (1, n_matrices))
    phi = _companion(arrays, path, "phi", (n_matrices,))
    dt = _companion(arrays, path, "dt", (1,))

    @cache
    def matrices() -> NDArray[np.generic]:
        return numpy_file.read(path, name).reshape(n_matrices, *shape[-2:])

    def stored(index: int, frames: slice) -> NDArray[np.generic]:
        return matrices()[index, frames, frames]

    label = name or "the array"
    return TwoTimeFile(
        path=path,
        format=FORMAT,
        names=tuple(f"{label}[{k}]" for k in range(n_matrices)) if len(shape) == 3 else (label,),
        n_frames=shape[-1],
        q=None if q is None else np.broadcast_to(q, n_matrices).copy(),
        phi=phi,
        dt=None if dt is None else float(dt[0]),
        dt_note="a plain array carries none" if dt is None else "array dt",
        stored=stored,
    )


def _is_c2(header: ArrayHeader) -> bool:
    shape = header.shape
    square = len(shape) in (2, 3) and shape[-1] == shape[-2]
    return square and 0 not in shape and header.dtype.kind in "fiu"


def _companion(
    arrays: Mapping[str, ArrayHeader], path: Path, name: str, sizes: tuple[int, ...]
) -> NDArray[np.float64] | None:
    if name not in arrays:
        return None
    header = arrays[name]
    if header.dtype.kind not in "fiu" or int(np.prod(header.shape)) not in sizes:
        wanted = " or ".join(map(str, sorted(set(sizes))))
        raise InputError(
            f"{path}: the array {name} has shape {header.shape} and type {header.dtype}; "
            f"{wanted} real number(s) are needed"
        )
    return np.ravel(numpy_file.read(path, name)).astype(np.float64)
