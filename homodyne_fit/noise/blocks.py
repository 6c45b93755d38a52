"""Blocks of frames short against the correlation time, and the model on them.

An average over a pair of blocks is the value at their mean integrals S and Γ. Within a block it is
that at the mean distance of two of its frames, which S and Γ give as they never fall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.moments import AngleFactors
from homodyne_fit.model.rates import Curves

__all__ = ["Blocks", "Decay", "cut_blocks", "decay_on_blocks", "field_and_decay", "score_columns"]

Floats = NDArray[np.float64]

# Longest block, in decays of f to 1/e: standard errors are then low by less than 1 %.
BLOCK_LENGTH = 0.25

# Blocks at least, where there are so many frames, and at most.
FEWEST = 96
MOST = 512


@dataclass(frozen=True, eq=False)
class Blocks:
    """Successive frames in B blocks.

    Attributes
    ----------
    starts : (B,) int
        First frame of each.
    sizes : (B,) int
        Frames in each.
    """

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def means(self, curve: Floats) -> Floats:
        """Mean over each block of a curve (n, ...), (B, ...)."""
        return np.add.reduceat(curve, self.starts, axis=0) / _column(self.sizes, curve)

    def mean_differences(self, curve: Floats) -> Floats:
        """Mean of curve[j] − curve[i] over the pairs i < j of each block; 0 where there is none."""
        n, sizes = len(curve), self.sizes
        rank = np.arange(n) - np.repeat(self.starts, sizes)
        signs = 2 * rank - np.repeat(sizes, sizes) + 1
        pairs = np.maximum(sizes * (sizes - 1) / 2, 1)
        return np.add.reduceat(curve * _column(signs, curve), self.starts, axis=0) / _column(
            pairs, curve
        )

    def between(self, curve: Floats) -> Floats:
        """How far a curve (n, ...) rises from the earlier to the later block, (B, B, ...)."""
        means = self.means(curve)
        rises = means[None] - means[:, None]
        order = np.sign(np.arange(len(means)) - np.arange(len(means))[:, None])
        rises *= order.reshape(*order.shape, *[1] * (curve.ndim - 1))
        rises[np.diag_indices(len(means))] = self.mean_differences(curve)
        return rises

    @property
    def pairs(self) -> Floats:
        """Ordered pairs of two different frames of two blocks, (B, B)."""
        sizes = self.sizes.astype(np.float64)
        return np.outer(sizes, sizes) - np.diag(sizes)


def _column(values: NDArray, curve: Floats) -> NDArray:
    """Values (B,) that multiply the rows of a curve (n, ...)."""
    return values.reshape(-1, *[1] * (curve.ndim - 1))


def cut_blocks(curves: Curves, factors: AngleFactors) -> Blocks:
    """Cut the frames where f of no angle decays by more than `BLOCK_LENGTH` within a block.

    The exponent of f over a block is q² ΔS + (b ΔΓ)²/3 for small shear phases b ΔΓ.
    """
    n = len(curves.transport)
    s = np.max(np.abs(factors.transport)) * curves.transport
    gamma = np.max(np.abs(factors.shear)) * curves.shear / np.sqrt(3.0)
    longest = max(1, n // min(n, FEWEST))
    starts, start = [0], 0
    for i in range(1, n):
        decayed = (s[i] - s[start]) + (gamma[i] - gamma[start]) ** 2
        if decayed > BLOCK_LENGTH or i - start >= longest:
            starts.append(i)
            start = i
    if len(starts) > MOST:
        starts = starts[:: -(-len(starts) // MOST)]
    edges = np.array([*starts, n])
    return Blocks(edges[:-1], np.diff(edges))


@dataclass(frozen=True, eq=False)
class Decay:
    """The model of one angle on B blocks, and its derivatives.

    Attributes
    ----------
    f, g : (B, B) array
        Averages over pairs of frames, a frame with itself included.
    apart : (B, B) array
        f averaged over pairs of two different frames.
    derivatives : (B, B, p) array
        Of `apart` by all parameters of the model.
    """

    f: Floats
    g: Floats
    apart: Floats
    derivatives: Floats


def field_and_decay(
    transport: Floats, phase: Floats, sinc_power: int
) -> tuple[Floats, Floats, Floats]:
    """g, f, and the derivative of f by the shear phase.

    Parameters
    ----------
    transport : array
        q² ΔS.
    phase : array
        b ΔΓ.
    sinc_power : int
        Power m of the sinc in f; g has the sign of the sinc where m = 2.
    """
    sinc = np.sinc(phase / np.pi)
    field = np.exp(-transport / 2)
    g = field * sinc ** (sinc_power // 2)
    small = np.abs(phase) < 1e-4
    safe = np.where(small, 1.0, phase)
    slope = np.where(small, -phase / 3, (np.cos(phase) - sinc) / safe)
    fx = sinc_power * field**2 * sinc ** (sinc_power - 1) * slope
    return g, g**2, fx


def decay_on_blocks(
    curves: Curves, factors: AngleFactors, angle: int, sinc_power: int, blocks: Blocks
) -> Decay:
    """The model of one angle on blocks."""
    a, b, direction = (
        float(each[angle]) for each in (factors.transport, factors.shear, factors.direction)
    )
    rise, gamma = blocks.between(curves.transport), blocks.between(curves.shear)
    g, f, fx = field_and_decay(a * rise, b * gamma, sinc_power)
    by_transport = -(a * f)[:, :, None] * blocks.between(curves.transport_jacobian)
    derivatives = [by_transport]
    if curves.shear_jacobian.shape[1]:
        derivatives += [
            (b * fx)[:, :, None] * blocks.between(curves.shear_jacobian),
            (direction * fx * gamma)[:, :, None],
        ]
    averages = []
    share = 1.0 / blocks.sizes
    for values in (f, g):
        average = values.copy()
        diagonal = np.diag_indices(len(share))
        average[diagonal] = share + (1 - share) * values[diagonal]
        averages.append(average)
    return Decay(*averages, f, np.concatenate(derivatives, axis=2))


def score_columns(decay: Decay, contrast: float, searched: NDArray[np.bool_]) -> Floats:
    """Derivatives of c2 by the searched parameters, contrast and offset, (p + 2, B, B)."""
    physics = contrast * decay.derivatives[:, :, searched]
    return np.concatenate(
        [np.moveaxis(physics, 2, 0), decay.apart[None], np.ones((1, *decay.apart.shape))]
    )
