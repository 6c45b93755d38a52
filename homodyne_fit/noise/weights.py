r"""Weights for points that share their noise: the score of a Wishart likelihood.

To the order of pairs of pairs, the pixels of an angle are N draws of n intensities with the
covariance :math:`S = \beta F + x 1`, and c2 − offset is their sample covariance, of which the
diagonal is not known. The score of its likelihood by a parameter a is the sum over :math:`i < j` of
:math:`N Z^a_{ij} r_{ij}`, r being the residuals,

.. math:: Z^a = M (D^a - \mathrm{diag}\,\alpha^a) M, \qquad M = S^{-1},

with D the derivatives of c2 and α such that the diagonal of Z vanishes. Whatever the noise is, a
sum of residuals with such weights has the expectation 0 at the true parameters. Its slope,
:math:`G_{ab} = \sum_{i<j} Z^a_{ij} D^b_{ij}`, is symmetric, and N G is the information of the
likelihood: N times the inverse of the covariance that the parameters have but for what the third
and fourth cumulants of the noise add.

**Blocks.** Of m frames that are short against the correlation time, F within a block is taken to be
its mean f over pairs of frames. With P the matrix that repeats a value of a block at its frames,

.. math:: S = P s P^T + \mathrm{diag}\,d, \qquad s = \beta f, \qquad d = x + \beta (1 - f_{II}),

and the covariance of means over blocks is :math:`\bar S = s + \mathrm{diag}(d/m)`. Then
:math:`M = P \mu P^T + \mathrm{diag}(1/d)` and :math:`M P = P T` with
:math:`T = \mathrm{diag}(1/m) \bar S^{-1}`, and between different frames

.. math:: Z_{IJ} = (T D T^T)_{IJ} - (\mu\,\mathrm{diag}(m \alpha)\,\mu)_{IJ}
          - (\alpha_I/d_I + \alpha_J/d_J)\,\mu_{IJ}.

A speckle that covers ρ pixels leaves N/ρ independent ones; the noise of its pairs of speckles and
of its pairs of photons is that of :math:`S = \sqrt\rho\,\beta F + x 1`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["weight_matrices"]

Floats = NDArray[np.float64]


def weight_matrices(columns: Floats, f: Floats, frames: Floats, beta: float, x: float) -> Floats:
    """Weights Z of the residuals between two frames, for each column.

    Parameters
    ----------
    columns : (c, B, B) array
        D, means over the pairs of two different frames of two blocks.
    f : (B, B) array
        Means over these pairs; 1 on the diagonal where a block is a frame.
    frames : (B,) array
        Frames m of each block that have points; blocks without any get no weight.
    beta : float
        Contrast of the speckles, times the root of ρ.
    x : float
        1/κ.

    Returns
    -------
    (c, B, B) array
        On the diagonal those of two different frames of a block, where there are any.
    """
    seen = frames > 0
    if not np.all(seen):
        weights = np.zeros_like(columns)
        part = np.ix_(seen, seen)
        inside = weight_matrices(columns[:, *part], f[part], frames[seen], beta, x)
        weights[:, *part] = inside
        return weights
    d = x + beta * (1 - np.diag(f))
    means = beta * f + np.diag(d / frames)
    t = np.linalg.inv(means) / frames[:, None]
    mu = t / frames - np.diag(1 / (d * frames))
    weights = t @ columns @ t.T
    system = mu**2 * frames + np.diag(2 * np.diag(mu) / d + 1 / d**2)
    alpha = np.linalg.solve(system, np.einsum("aii->ia", weights)).T
    weights -= (mu * (frames * alpha)[:, None]) @ mu
    weights -= (alpha / d)[:, :, None] * mu
    weights -= (alpha / d)[:, None, :] * mu
    return weights
