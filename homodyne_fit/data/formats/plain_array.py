"""Plain arrays: C2 of shape (N, N), (K, N, N) or (N, N, K) in a .npy, or in a .npz with others.

The others are phi, q and dt, or the times t1 and t2, seconds, as in the documents of heterodyne;
and sigma, the standard deviation of each point, of the shape of C2, or of each matrix.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homodyne_fit.atomic import replacing
from homodyne_fit.data.formats import numpy_file
from homodyne_fit.data.formats.numpy_file import ArrayHeader
from homodyne_fit.data.formats.two_time_file import Format, TwoTimeFile
from homodyne_fit.data.formats.writing import target_file
from homodyne_fit.data.real_arrays import real_array
from homodyne_fit.errors import InputError

__all__ = ["PLAIN_ARRAY", "write_array"]


# Arrays that may be in a .npz beside C2.
COMPANIONS = ("phi", "q", "dt", "t1", "t2", "sigma")


# Largest relative difference of equal times between frames.
SAME_STEP = 1e-6


def recognises(arrays: Mapping[str, ArrayHeader]) -> bool:
    """Whether there is one array besides the companions, and it can be a C2."""
    others = [header for name, header in arrays.items() if name not in COMPANIONS]
    return len(others) == 1 and (others[0].is_c2 or others[0].is_c2_last)


def describe(arrays: Mapping[str, ArrayHeader], path: Path) -> TwoTimeFile:
    """Describe a plain array."""
    (name,) = (key for key in arrays if key not in COMPANIONS)
    header, shape = arrays[name], arrays[name].matrices
    n_matrices = shape[0] if len(shape) == 3 else 1
    q = numpy_file.companion(arrays, path, "q", (1, n_matrices))
    phi = numpy_file.companion(arrays, path, "phi", (n_matrices,))
    step, note = _frame_time(arrays, path, shape[-1])
    label, stack = name or "the array", numpy_file.Stack(path, name, header)
    number = "[:, :, {}]" if header.is_c2_last else "[{}]"
    return TwoTimeFile(
        path=path,
        format=PLAIN_ARRAY.name,
        names=tuple(label + number.format(k) for k in range(n_matrices))
        if len(shape) == 3
        else (label,),
        n_frames=shape[-1],
        q=None if q is None else np.broadcast_to(q, n_matrices).copy(),
        phi=phi,
        dt=step,
        dt_note=note,
        stored=stack,
        raw=partial(numpy_file.raw, path, name),
        release=stack.release,
        sigma=_sigma(arrays, path, header, n_matrices),
    )


def _sigma(
    arrays: Mapping[str, ArrayHeader], path: Path, c2: ArrayHeader, n_matrices: int
) -> Callable[[int, slice], NDArray[np.generic]] | None:
    """What reads the standard deviations of the points of a matrix; None where there are none."""
    if "sigma" not in arrays:
        return None
    if arrays["sigma"].shape == c2.shape:
        return numpy_file.Stack(path, "sigma", arrays["sigma"])
    of_each = numpy_file.companion(arrays, path, "sigma", (n_matrices,))
    assert of_each is not None
    return lambda index, frames: np.full((frames.stop - frames.start,) * 2, of_each[index])


def _frame_time(
    arrays: Mapping[str, ArrayHeader], path: Path, n_frames: int
) -> tuple[float | None, str]:
    """The time between frames, from dt or from t1 and t2, and an explanation."""
    known: dict[str, tuple[float | None, str]] = {}
    dt = numpy_file.companion(arrays, path, "dt", (1,))
    if dt is not None:
        usable = np.isfinite(dt[0]) and dt[0] > 0
        why = "array dt" if usable else f"its dt is {dt[0]:g}, not a positive number"
        known["dt"] = (float(dt[0]) if usable else None, why)
    for name in ("t1", "t2"):
        if name in arrays:
            known[name] = numpy_file.frame_time(arrays, path, name, n_frames)
    if not known:
        return None, "a plain array carries none"
    steps = [step for step, _ in known.values() if step is not None]
    if len(steps) == len(known) and not np.allclose(steps, steps[0], rtol=SAME_STEP, atol=0):
        listed = ", ".join(f"{name} {step:g} s" for name, (step, _) in known.items())
        return None, f"its arrays disagree: {listed}"
    return next((each for each in known.values() if each[0] is None), next(iter(known.values())))


def write_array(
    path: str | os.PathLike[str],
    c2: ArrayLike,
    *,
    q: ArrayLike | None = None,
    phi: ArrayLike | None = None,
    dt: float | None = None,
    sigma: ArrayLike | None = None,
) -> None:
    """Write C2, of shape (n, n) or (K, n, n), as a .npy, or with what is beside it as a .npz."""
    known = {"q": q, "phi": phi, "dt": dt, "sigma": sigma}
    beside = {name: np.asarray(value) for name, value in known.items() if value is not None}
    matrices = real_array(c2) if np.ma.isMaskedArray(c2) else np.asarray(c2)
    suffix = Path(path).suffix
    if suffix not in (".npy", ".npz") or (suffix == ".npy" and beside):
        raise InputError(f"{path}: the name must end with .npz{'' if beside else ' or .npy'}")
    with replacing(target_file(path)) as temporary, temporary.open("wb") as stream:
        if suffix == ".npy":
            np.save(stream, matrices)
        else:
            np.savez_compressed(stream, allow_pickle=False, c2=matrices, **beside)


PLAIN_ARRAY = Format(
    "plain array",
    "array",
    "one array of numbers of shape (N, N), (K, N, N) or (N, N, K), beside it at most phi, q, dt, "
    "t1, t2 and sigma",
    recognises,
    describe,
    lambda path, c2, q, phi, dt: write_array(path, c2, q=q, phi=phi, dt=dt),
)
