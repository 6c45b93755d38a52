"""A start that is estimated from the data, as NLSQ does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from nlsq.precision.parameter_estimation import estimate_initial_parameters
from numpy.typing import NDArray

from nlsq_stratified.chunk_data import KeptPoints
from nlsq_stratified.chunks import ArrayChunks
from nlsq_stratified.objectives.local import LocalParameters
from nlsq_stratified.reduction import ChunkSequence

__all__ = ["estimated_start"]


def estimated_start(
    f: Callable[..., Any], data: ChunkSequence, local: LocalParameters | None, n_params: int
) -> NDArray[np.float64]:
    """What NLSQ estimates for all points, or for those of the first chunk where these are read.

    Parameters
    ----------
    f : callable
        Asked by its method ``estimate_p0(x, y)``, if it has one.
    data : sequence of chunks
    local : LocalParameters, optional
        All groups start from the same values.
    n_params : int
        All p parameters.

    Raises
    ------
    ValueError
        If nothing can be estimated for this model, or not p numbers.
    """
    if isinstance(data, KeptPoints):
        arrays, keep = data.chunks, data.chunks.arrays[-1]
        x, y = np.compress(keep, arrays.arrays[0], axis=arrays.axis), arrays.arrays[1][keep]
    else:
        x, y, *_ = data.arrays if isinstance(data, ArrayChunks) else data[0]
    start = np.atleast_1d(np.asarray(estimate_initial_parameters(f, x, y, "auto"), np.float64))
    if local is not None:
        names = local.signature(f)
        counts = [local.n_groups if name in local.names else 1 for name in names]
        if start.shape == (len(names),):
            start = np.repeat(start, counts)
    if start.shape != (n_params,) or not np.all(np.isfinite(start)):
        raise ValueError(f"p0='auto' gave {start.tolist()} for {n_params} parameters: pass p0")
    return start
