"""Speckle of infinitely many particles: a Gaussian field takes the place of the particles.

The field of a coherent mode, E = N^-½ Σ_j exp(i q·r_j), is a sum over independent particles. For
N → ∞ it becomes a circular complex Gaussian process over the frames [1]_, and the covariance is all
that is needed to draw from it. With S = ∫J dt and Γ = ∫γ̇ dt up to a frame, and the average over
heights 0 ≤ y ≤ h in the gap,

    ⟨E_i E_j*⟩ = ⟨exp(i b y (Γ_i − Γ_j))⟩ exp(−½ q² |S_i − S_j|),    b = q cos(φ0 − φ).

**Layers.** The average is a sum over layers of height y and thickness w. The gap is cut into slabs
across which phases differ by 32 radians at most, and a slab into the 24 layers of Gauss's rule,
whose error is then below rounding. No closed form of the average enters.

**Real covariance.** Heights are counted from the middle of the gap. That turns each E_i by the
phase −½ b h Γ_i, which no intensity shows. The layers are then symmetric about 0, and the sum over
them is real:

    K_ij = Σ_y w (cos b y Γ_i cos b y Γ_j + sin b y Γ_i sin b y Γ_j) · exp(−½ q² |S_i − S_j|).

**Draws.** E = R z, R the symmetric root of K, and z independent circular complex normals of
variance 1. K may be singular: frames between which nothing moves are the same. Eigenvalues that
rounding makes negative are 0. Unlike other roots, the symmetric one does not depend on the signs of
eigenvectors, so that a seed means the same on all machines, to rounding.

What is neglected: a particle keeps its height. Motion across the gap is in
`homodyne_fit.simulation.speckle`, which also says how much it matters.

References
----------
.. [1] J. W. Goodman, Speckle Phenomena in Optics (2007), ch. 2 (sums of random phasors).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["field_root", "gaussian_intensities"]

Floats = NDArray[np.float32]

SLAB_PHASE = 32.0  # rad
LAYERS = 24  # of a slab


def field_root(advection: NDArray[np.float64], spread: NDArray[np.float64]) -> Floats:
    """The symmetric root R of the covariance of the field over n frames.

    Parameters
    ----------
    advection : (n,)
        b h Γ: the phase up to each frame of a particle at y = h, radians.
    spread : (n,)
        q² S: the variance of the phase up to each frame, radians².

    Returns
    -------
    (n, n) float32
        Of unit variance: the rows of R have length 1.
    """
    values, vectors = np.linalg.eigh(_covariance(advection, spread))
    return ((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T).astype(np.float32)


def gaussian_intensities(
    rng: np.random.Generator, root: Floats, occupation: Floats, pixels: int
) -> Floats:
    """Intensities of independent pixels, each the incoherent sum of independent modes.

    Parameters
    ----------
    root : (n, n)
        That of `field_root`.
    occupation : (m,)
        Share of each mode in the intensity.

    Returns
    -------
    (n, pixels) float32
        Of ensemble mean 1 if the shares add up to 1.
    """
    n, m = len(root), len(occupation)
    parts: Floats = root @ rng.standard_normal((2, n, m * pixels), dtype=np.float32)
    # Real and imaginary part of a field of variance 1 have variance ½ each.
    parts *= np.float32(math.sqrt(0.5))
    return occupation @ np.square(parts).sum(axis=0).reshape(n, m, pixels)


def _covariance(advection: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """The real covariance K (n, n)."""
    slabs = max(1, math.ceil(np.ptp(advection) / SLAB_PHASE))
    nodes, weights = np.polynomial.legendre.leggauss(LAYERS)  # on −1 … 1
    # Heights and thicknesses in units of the gap.
    middles = (np.arange(slabs) + 0.5) / slabs - 0.5
    heights = np.add.outer(middles, nodes / (2 * slabs)).ravel()
    thickness = np.tile(weights / (2 * slabs), slabs)
    phase = np.multiply.outer(heights, advection - advection[0])
    share = np.sqrt(thickness)[:, None]
    cosine, sine = share * np.cos(phase), share * np.sin(phase)
    decay = np.exp(-np.abs(np.subtract.outer(spread, spread)) / 2)
    return (cosine.T @ cosine + sine.T @ sine) * decay
