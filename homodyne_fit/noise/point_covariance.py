r"""The covariance of two points of c2, of one pixel.

That of the points (i, j) and (k, l), with photons κ = 1/x in a pixel and frame, is
:math:`C_0 + x C_1 + x^2 (1 + \beta f)`, where C1 needs a common frame and the last term a common
point; see `homodyne_fit.noise.speckle`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["point_variances", "shared_frame", "speckle_contrast", "speckle_covariance"]

Floats = NDArray[np.float64]


def speckle_contrast(contrast: Floats, offset: Floats) -> Floats:
    """β of matrices of which the baseline is `offset`; that of one mode is 1."""
    beta = np.divide(contrast, offset, out=np.zeros_like(contrast), where=offset > 0)
    return np.clip(beta, 0.0, 1.0)


def speckle_covariance(
    beta: Floats, ij: Floats, kl: Floats, ik: Floats, jl: Floats, il: Floats, jk: Floats
) -> Floats:
    """C0: the covariance of c2 at (i, j) and (k, l) by the speckles, from g of the six pairs."""
    a, x, y = ij * kl, ik * jl, il * jk
    first = x * x + y * y
    second = 2 * (a * (x + y) + x * y) - 2 * a * (
        kl * (jk * ik + jl * il) + ij * (il * ik + jl * jk)
    )
    second += a * a * (ik * ik + il * il + jk * jk + jl * jl)
    return beta**2 * first + beta**3 * second


def shared_frame(beta: Floats, sj: Floats, sl: Floats, jl: Floats) -> Floats:
    """C1: the covariance of c2 at (s, j) and (s, l) by speckles and photons together."""
    return beta * jl**2 + beta**2 * (2 * sj * jl * sl - sj**2 * sl**2)


def point_variances(beta: Floats, f: Floats) -> Floats:
    """C0, C1 and the last term of one point, (3, ...), where the correlation has fallen to f."""
    g, one = np.sqrt(f), np.ones_like(f)
    speckle = speckle_covariance(beta, g, g, one, one, g, g)
    # It has both frames in common with itself.
    return np.stack([speckle, 2 * shared_frame(beta, g, g, one), 1 + beta * f])
