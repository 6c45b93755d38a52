"""A start that is estimated from the data, as in NLSQ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from nlsq.precision.parameter_estimation import estimate_initial_parameters
from numpy.typing import NDArray

from nlsq_stratified.chunks import ArrayChunks
from nlsq_stratified.objectives.local import LocalParameters
from nlsq_stratified.reduction import ChunkSequence

__all__ = ["estimated_start"]


def estimated_start(
    f: Callable[..., Any], data: ChunkSequence, local: LocalParameters | None, n_params: int
) -> NDArray[np.float64]:
    """NLSQ's estimate for all points, or for the first chunk if the chunks hold their own data.

    A method ``f.estimate_p0(x, y)`` makes the estimate, if there is one. Local parameters start
    from the same value in all groups.
    """
    if isinstance(data, ArrayChunks):
        x, y, *_ = data.arrays
        if data.keep is not None:
            x, y = np.compress(data.keep, x, axis=data.axis), y[data.keep]
    else:
        x, y, *_ = data[0]
    start = np.atleast_1d(np.asarray(estimate_initial_parameters(f, x, y, "auto"), np.float64))
    if local is not None:
        names = local.signature(f)
        counts = [local.n_groups if name in local.names else 1 for name in names]
        if start.shape == (len(names),):
            start = np.repeat(start, counts)
    if start.shape != (n_params,) or not np.all(np.isfinite(start)):
        raise ValueError(f"p0='auto' gave {start.tolist()} for {n_params} parameters: pass p0")
    return start
