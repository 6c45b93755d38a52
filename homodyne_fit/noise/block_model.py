"""The model on pairs of blocks of frames.

An average over a pair of blocks is the value at their mean integrals S and Γ. Within a block it is
that at the mean distance of two of its frames, which S and Γ give as they never fall. Derivatives
by parameters nearly cancel each other, so that they are averaged over the pairs of parts of two
blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.moments import AngleFactors
from homodyne_fit.model.rates import Curves
from homodyne_fit.noise.blocks import Blocks
from homodyne_fit.noise.fields import field_and_decay

__all__ = ["BlockModel"]

Floats = NDArray[np.float64]

# Parts of a block for its derivatives.
PARTS = 2


@dataclass(frozen=True, eq=False)
class BlockModel:
    """Field and derivatives of c2 of all angles, on pairs of blocks.

    Attributes
    ----------
    curves : Curves
    factors : AngleFactors
    sinc_power : int
    blocks : Blocks
        Short against the correlation time.
    joined : Blocks or None
        Each of some of these; on pairs of them, if there are any, the averages are.
    """

    curves: Curves
    factors: AngleFactors
    sinc_power: int
    blocks: Blocks
    joined: Blocks | None = None

    def field(self, angle: int) -> tuple[Floats, Floats]:
        """Averages of f and g (B, B) of an angle, each frame with itself too."""
        a, b = float(self.factors.transport[angle]), float(self.factors.shear[angle])
        rise, turn = self._rises_of_blocks
        g, f, _ = field_and_decay(a * rise, b * turn, self.sinc_power)
        diagonal, share = np.diag_indices(len(f)), 1.0 / self.blocks.sizes
        for values in (f, g):
            values[diagonal] = share + (1 - share) * values[diagonal]
        if self.joined is None:
            return f, g
        frames, sizes = (np.outer(one.sizes, one.sizes) for one in (self.blocks, self.joined))
        f, g = self.joined.sums_of(self.blocks, np.stack([f, g]) * frames) / sizes
        return f, g

    def columns(self, angle: int, contrast: float, searched: NDArray[np.bool_]) -> Floats:
        """Derivatives of c2 by searched parameters, contrast and offset, (p + 2, B, B).

        Averages over the pairs of two different frames. That by the contrast is f.
        """
        factors = self.factors
        a, b, direction = (
            float(each[angle]) for each in (factors.transport, factors.shear, factors.direction)
        )
        rise, turn = self._rises_of_parts
        _, f, fx = field_and_decay(a * rise, b * turn, self.sinc_power)
        transport, shear = self._slopes_of_parts
        by_transport, by_shear = -a * contrast * f, contrast * fx
        weighted = [by_transport * slope for slope in transport]
        weighted += [b * by_shear * slope for slope in shear]
        if shear:
            weighted.append(direction * by_shear * turn * self._parts.pairs)
        blocks = self.joined or self.blocks
        columns = [
            blocks.sums_of(self._parts, column)
            for column, wanted in zip(weighted, searched, strict=True)
            if wanted
        ]
        columns += [blocks.sums_of(self._parts, f * self._parts.pairs), blocks.pairs]
        return np.stack(columns) / np.maximum(blocks.pairs, 1)

    @cached_property
    def _rises_of_blocks(self) -> tuple[Floats, Floats]:
        """S and Γ from block to block."""
        return self.blocks.between(self.curves.transport), self.blocks.between(self.curves.shear)

    @cached_property
    def _parts(self) -> Blocks:
        return self.blocks if self.joined else self.blocks.parts(PARTS)

    @cached_property
    def _rises_of_parts(self) -> tuple[Floats, Floats]:
        """S and Γ from part to part."""
        return self._parts.between(self.curves.transport), self._parts.between(self.curves.shear)

    @cached_property
    def _slopes_of_parts(self) -> tuple[list[Floats], list[Floats]]:
        """Derivatives of both by the parameters of their rates, times the pairs of frames."""
        transport, shear = (
            [self._parts.pairs * self._parts.between(slope) for slope in jacobian.T]
            for jacobian in (self.curves.transport_jacobian, self.curves.shear_jacobian)
        )
        return transport, shear
