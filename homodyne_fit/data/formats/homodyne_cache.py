"""The cache of homodyne: a .npz with the matrices that it has read.

The matrices have one wave vector, and only the frames of the configuration that was used. The cache
does not contain the name or version of its data file, so it is never read instead of another file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from homodyne_fit.atomic import replacing
from homodyne_fit.data.formats import numpy_file
from homodyne_fit.data.formats.numpy_file import ArrayHeader
from homodyne_fit.data.formats.two_time_file import Format, TwoTimeFile
from homodyne_fit.data.formats.writing import as_list, checked_matrices, target_file
from homodyne_fit.errors import InputError

__all__ = ["HOMODYNE_CACHE", "write_homodyne_cache"]


C2 = "c2_exp"  # (K, N, N), full, the diagonal as measured

Q = "wavevector_q_list"  # (K,)

PHI = "phi_angles_list"  # (K,)

TIME = "t1"  # (N,), or a grid (N, N) of it; seconds from 0

OTHER_TIME = "t2"  # the same; written, and not read


def recognises(arrays: Mapping[str, ArrayHeader]) -> bool:
    """Whether there are the matrices and the two lists of homodyne."""
    return {C2, Q, PHI} <= set(arrays)


def describe(arrays: Mapping[str, ArrayHeader], path: Path) -> TwoTimeFile:
    """Describe a cache of homodyne."""
    header = arrays[C2]
    if not header.is_c2 or len(header.shape) != 3:
        raise InputError(
            f"{path}: {C2} has shape {header.shape} and type {header.dtype}; real matrices "
            "(K, N, N) are needed"
        )
    n_matrices, n_frames = header.shape[:2]
    q = numpy_file.companion(arrays, path, Q, (1, n_matrices))
    phi = numpy_file.companion(arrays, path, PHI, (n_matrices,))
    dt, note = numpy_file.frame_time(arrays, path, TIME, n_frames)
    note += ", which homodyne takes from its configuration" if dt is not None else ""
    stack = numpy_file.Stack(path, C2, header)
    return TwoTimeFile(
        path=path,
        format=HOMODYNE_CACHE.name,
        names=tuple(f"{C2}[{k}]" for k in range(n_matrices)),
        n_frames=n_frames,
        q=None if q is None else np.broadcast_to(q, n_matrices).copy(),
        phi=phi,
        dt=dt,
        dt_note=note,
        stored=stack,
        populated="all",
        release=stack.release,
        is_cut=True,
    )


def write_homodyne_cache(
    path: str | os.PathLike[str], c2: ArrayLike, q: ArrayLike, phi: ArrayLike, dt: float
) -> None:
    """Write a cache of homodyne; c2 (K, n, n), q (K,) in Å⁻¹ and phi (K,) in degrees.

    Parameters
    ----------
    dt : float
        Time between two frames, seconds.
    """
    angles = as_list(phi)
    matrices, _ = checked_matrices(c2, np.arange(len(angles)), len(angles))
    time = dt * np.arange(matrices.shape[1])
    arrays = {
        C2: matrices,
        Q: np.broadcast_to(as_list(q), len(angles)),
        PHI: angles,
        TIME: time,
        OTHER_TIME: time,
    }
    if Path(path).suffix != ".npz":
        raise InputError(f"{path}: the name must end with .npz")
    with replacing(target_file(path)) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


HOMODYNE_CACHE = Format(
    "homodyne cache",
    "homodyne-cache",
    f"arrays {C2}, {Q} and {PHI}",
    recognises,
    describe,
    write_homodyne_cache,
)
