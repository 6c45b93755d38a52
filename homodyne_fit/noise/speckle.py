r"""Covariance of the score of a fit, by the statistics of speckles and photons.

N independent pixels count photons, κ each in a frame on average, of an intensity of mean 1 that is
a sum of 1/β equal modes of a circular complex Gaussian field with the correlation
:math:`g_{ij}`. With :math:`f = g^2` and the relative fluctuations :math:`\delta_i` of a pixel's
counts, c2 differs from its expectation by the average over pixels of

.. math:: \psi_{ij} = \delta_i\delta_j - \beta f_{ij}(1 + \delta_i + \delta_j),

to first order in :math:`N^{-1/2}`; the last terms are what dividing by the mean of each frame does.
The score of a fit, :math:`\sum_{i<j} D_{ij} (c_2 - \text{model})_{ij}` with D the derivatives of
the model, is therefore an average of quadratic forms
:math:`\frac12 \delta^T W \delta - \beta r^T\delta`, with :math:`W = D + D^T`, F the matrix of f,
and :math:`r = (W\circ F)\,1` (∘ the product of entries). The cumulants of a Gaussian field up to
the fourth, :math:`\kappa_2 = \beta f`, :math:`\kappa_3 = 2\beta^2 g g g` and three 4-cycles of
:math:`2\beta^3 g g g g`, give its covariance in powers of x = 1/κ,

.. math:: N\,\mathrm{Cov} = V_0 + V_1 x + V_2 x^2,

.. math::
    V_{0,ab} &= \tfrac12\beta^2\,\mathrm{tr}(W^a F W^b F) + \beta^3 [\mathrm{tr}(A_a g A_b g)
        + \tfrac12 Q_{ab} - r_b\cdot\mathrm{diag}(g A_a g) - r_a\cdot\mathrm{diag}(g A_b g)
        + r_a^T F r_b], \\
    Q_{ab} &= \sum_{ijkl} W^a_{ij} W^b_{kl}\, g_{ik} g_{kj} g_{jl} g_{li}, \qquad
        A = W \circ g, \\
    V_{1,ab} &= \beta\,\mathrm{tr}(W^a F W^b)
        + \beta^2 [2\,\mathrm{tr}(A_a g A_b) - r_a\cdot r_b], \\
    V_{2,ab} &= \sum_{i<j} D^a D^b (1 + \beta f).

All of it are products of n × n matrices but Q, which is smooth enough for a coarse grid.

The same holds for blocks of m frames that are short against the correlation time: W then is summed
over the pairs of frames of two blocks, F and g are averaged, and the traces of V1, in which the two
W share a frame, are divided by m there. What is off is of second order in their length, so that the
result with pairs of blocks joined tells it.

The cumulants are those of J. W. Goodman, *Statistical Optics* (1985), chapters 6 and 9; noise of
photon correlation: E. Jakeman, E. R. Pike, S. Swain, *J. Phys. A* 4, 517 (1971), and K. Schätzel,
*Quantum Opt.* 2, 287 (1990).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.noise.blocks import group_sums

__all__ = ["COARSE", "score_covariances"]

Floats = NDArray[np.float64]

# Side of the coarse grid of Q: standard errors change by less than 0.1 % beyond 20.
COARSE = 24


def score_covariances(
    w: Floats,
    f: Floats,
    g: Floats,
    frames: Floats,
    beta: float,
    products: Floats,
    *,
    extrapolated: bool = True,
) -> Floats:
    """V0, V1 and V2, N times the covariance of the score in powers of 1/κ.

    Parameters
    ----------
    w : (c, n, n) array
        The c matrices W, symmetric, summed over blocks; zero where no point is.
    f, g : (n, n) array
        Averages over blocks, ones on the diagonal where a block is a frame.
    frames : (n,) array
        Frames m in each block, 1 where a block is one.
    beta : float
        Contrast of the speckles.
    products : (c, c) array
        V2.
    extrapolated : bool
        Whether blocks twice as long tell what the length of these puts off; so they do of W that
        hardly change from block to block.

    Returns
    -------
    (3, c, c) array
    """
    v0, v1 = _by_speckles(w, f, g, frames, beta)
    if extrapolated and np.any(frames > 1):
        joined_0, joined_1 = _by_speckles(*_joined(w, f, g, frames), beta)
        v0, v1 = v0 + (v0 - joined_0) / 3, v1 + (v1 - joined_1) / 3
    return np.stack([v0, v1, products])


def _joined(
    w: Floats, f: Floats, g: Floats, frames: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """The same with pairs of successive blocks made one."""
    edges = np.arange(0, len(frames), 2)
    return (
        group_sums(w, edges, edges),
        _averaged(f, frames, edges),
        _averaged(g, frames, edges),
        np.add.reduceat(frames, edges),
    )


def _averaged(matrix: Floats, frames: Floats, edges: NDArray[np.int64]) -> Floats:
    """Averages over groups, each block by its frames."""
    # Blocks without any frame that counts have W = 0, so that their weight does not matter.
    weight = np.maximum(frames, 1e-3)
    size = np.add.reduceat(weight, edges)
    sums = group_sums(matrix * np.outer(weight, weight), edges, edges)
    return sums / np.outer(size, size)


def _by_speckles(
    w: Floats, f: Floats, g: Floats, frames: Floats, beta: float
) -> tuple[Floats, Floats]:
    """V0 and V1 (c, c) of blocks."""
    inverse = np.divide(1.0, frames, out=np.zeros_like(frames), where=frames > 0)
    row_sums = np.einsum("aij,ij->ai", w, f)
    # New memory costs as much time as the products: there is one array for W F and for A g.
    along = w @ f
    v0 = 0.5 * beta**2 * _traces(along, along)
    along *= inverse[:, None]
    v1 = beta * _products(along, w)
    a = w * g
    np.matmul(a, g, out=along)
    # Diagonals of g A g: what two ends of A in the same frame share.
    ends = np.einsum("ij,aji->ai", g, along)
    shared = row_sums @ ends.T
    v0 += beta**3 * (
        _traces(along, along)
        + 0.5 * _four_cycles(w, g, frames)
        - shared
        - shared.T
        + row_sums @ f @ row_sums.T
    )
    along *= inverse[:, None]
    v1 += beta**2 * (2 * _products(along, a) - (row_sums * inverse) @ row_sums.T)
    return _symmetric(v0), _symmetric(v1)


def _traces(left: Floats, right: Floats) -> Floats:
    """tr(left_a right_b) of matrices (c, n, n), (c, c)."""
    return _products(left, right.transpose(0, 2, 1))


def _products(left: Floats, right: Floats) -> Floats:
    """tr(left_a right_bᵀ) of matrices (c, n, n), (c, c)."""
    c = len(left)
    return left.reshape(c, -1) @ right.reshape(c, -1).T


def _symmetric(matrix: Floats) -> Floats:
    return (matrix + matrix.T) / 2


def _four_cycles(w: Floats, g: Floats, frames: Floats) -> Floats:
    """Q (c, c), on a grid of at most `COARSE` groups of successive blocks."""
    edges = np.linspace(0, len(g), min(len(g), COARSE) + 1).round().astype(np.int64)[:-1]
    summed, mean = group_sums(w, edges, edges), _averaged(g, frames, edges)
    c, n = len(w), len(edges)
    # W is symmetric: each pair K ≤ L once. Row (K, L) holds g_IK g_IL at all I.
    rows, cols = np.triu_indices(n)
    pairs = mean[rows] * mean[cols]
    through = (pairs @ summed.transpose(1, 0, 2).reshape(n, -1)).reshape(-1, c, n)
    through = (through @ pairs[:, :, None])[:, :, 0]
    return through.T @ (summed[:, rows, cols] * np.where(rows == cols, 1.0, 2.0)).T
