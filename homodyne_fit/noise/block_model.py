"""The model on pairs of blocks of frames.

An average over a pair of blocks is one over the pairs of their parts, each of them the value at the
mean distances of its frames in the integrals S and Γ, which never fall. Derivatives by parameters,
which nearly cancel each other, need the parts most.

Of s parts in each block, and T pairs of blocks I ≤ J, values at the pairs of parts are (s, s, T).
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

__all__ = ["BlockModel", "ModelOfAngle"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

# Parts of a block.
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
        On pairs of which the averages are.
    parts : Blocks
        Short against the correlation time; each of the blocks is one or more of them.
    """

    curves: Curves
    factors: AngleFactors
    sinc_power: int
    blocks: Blocks
    parts: Blocks

    @classmethod
    def of(
        cls, curves: Curves, factors: AngleFactors, sinc_power: int, blocks: Blocks
    ) -> BlockModel:
        """On blocks that are short against the correlation time themselves."""
        return cls(curves, factors, sinc_power, blocks, blocks.parts(PARTS))

    def at(self, angle: int) -> ModelOfAngle:
        """That of one angle."""
        return ModelOfAngle(self, angle)

    def means(self, values: Floats) -> Floats:
        """Means (B, B) over the pairs of different frames, 0 where there is none.

        Of values (s, s, T) that are multiplied by `weights`.
        """
        return self.on_both_sides(values.sum(axis=(0, 1)) / np.maximum(self.weights_of_blocks, 1))

    def on_both_sides(self, values: Floats) -> Floats:
        """Values (…, T) of pairs I ≤ J, at both orders (…, B, B)."""
        return np.take(values, self._index, axis=-1)

    @cached_property
    def weights(self) -> Floats:
        """Pairs of different frames, of which those of one block count in both orders."""
        sizes = np.where(self._is_part, self.parts.sizes[self._part], 0).T.astype(np.float64)
        earlier, later = (np.take(sizes, blocks, axis=1) for blocks in self._pairs)
        weights = earlier[:, None] * later
        same = np.arange(len(sizes))
        weights[same[:, None], same[:, None], self._own] -= sizes
        return weights

    @cached_property
    def weights_of_blocks(self) -> Floats:
        """The sum of `weights` over the parts, (T,)."""
        return self.weights.sum(axis=(0, 1))

    @cached_property
    def rises(self) -> tuple[Floats, Floats]:
        """S and Γ from the earlier to the later part."""
        return self._rise(self.curves.transport), self._rise(self.curves.shear)

    @cached_property
    def slopes(self) -> tuple[list[Floats], list[Floats]]:
        """Derivatives of both by the parameters of their rates."""
        transport, shear = (
            [self._rise(slope) for slope in jacobian.T]
            for jacobian in (self.curves.transport_jacobian, self.curves.shear_jacobian)
        )
        return transport, shear

    def _rise(self, curve: Floats) -> Floats:
        """How far a curve (n,) rises from the earlier to the later part."""
        means = self.parts.means(curve)[self._part].T
        earlier, later = (np.take(means, blocks, axis=1) for blocks in self._pairs)
        rises = later - earlier[:, None]
        same = np.arange(len(means))
        rises[:, :, self._own] *= np.sign(same - same[:, None])[:, :, None]
        within = self.parts.mean_differences(curve)[self._part].T
        rises[same[:, None], same[:, None], self._own] = within
        return rises

    @cached_property
    def _part(self) -> Indices:
        """Parts of each block (B, s); the last one again where a block has fewer."""
        first = np.searchsorted(self.parts.starts, self.blocks.starts)
        last = np.append(first[1:], len(self.parts.starts)) - 1
        most = int(np.max(last - first)) + 1
        return np.minimum(first[:, None] + np.arange(most), last[:, None])

    @cached_property
    def _is_part(self) -> NDArray[np.bool_]:
        """Which of them are not there for the second time."""
        return np.diff(self._part, axis=1, prepend=-1) > 0

    @cached_property
    def _pairs(self) -> tuple[Indices, Indices]:
        """Pairs of blocks I ≤ J."""
        return np.triu_indices(len(self.blocks.starts))

    @cached_property
    def _own(self) -> Indices:
        """Which pairs are a block with itself, (B,)."""
        earlier, later = self._pairs
        return np.flatnonzero(earlier == later)

    @cached_property
    def _index(self) -> Indices:
        """Number of each pair of blocks, the same in both orders."""
        index = np.empty((len(self.blocks.starts),) * 2, dtype=np.int64)
        earlier, later = self._pairs
        index[earlier, later] = index[later, earlier] = np.arange(len(earlier))
        return index


@dataclass(frozen=True, eq=False)
class ModelOfAngle:
    """Field and derivatives of c2 of one angle, on pairs of blocks.

    Attributes
    ----------
    model : BlockModel
    angle : int
    """

    model: BlockModel
    angle: int

    @cached_property
    def decay(self) -> Floats:
        """Averages of f (B, B) over the pairs of two different frames."""
        return self.model.means(self._values[1] * self.model.weights)

    def field(self) -> tuple[Floats, Floats]:
        """Averages of f and g (B, B), each frame with itself too."""
        f, g = self.decay.copy(), self.model.means(self._values[0] * self.model.weights)
        diagonal, share = np.diag_indices(len(f)), 1.0 / self.model.blocks.sizes
        for values in (f, g):
            values[diagonal] = share + (1 - share) * values[diagonal]
        return f, g

    def columns(self, contrast: float, searched: NDArray[np.bool_]) -> Floats:
        """Derivatives of c2 by searched parameters, contrast and offset, (p + 2, B, B).

        Averages over the pairs of two different frames. That by the contrast is f.
        """
        model, (_, f, fx) = self.model, self._values
        a, b, direction = self._factors
        transport, shear = model.slopes
        by_transport, by_shear = -a * contrast * f * model.weights, contrast * fx * model.weights
        products = [(by_transport, slope) for slope in transport]
        products += [(b * by_shear, slope) for slope in shear]
        if shear:
            products.append((direction * by_shear, model.rises[1]))
        sums = np.array(
            [
                np.einsum("uvt,uvt->t", values, slope)
                for (values, slope), wanted in zip(products, searched, strict=True)
                if wanted
            ]
        ).reshape(-1, len(model.weights_of_blocks))
        of_parameters = model.on_both_sides(sums / np.maximum(model.weights_of_blocks, 1))
        of_scaling = self.decay, model.means(model.weights)
        return np.concatenate([of_parameters, np.stack(of_scaling)])

    @property
    def _factors(self) -> tuple[float, float, float]:
        factors = self.model.factors
        a, b, direction = (
            float(each[self.angle])
            for each in (factors.transport, factors.shear, factors.direction)
        )
        return a, b, direction

    @cached_property
    def _values(self) -> tuple[Floats, Floats, Floats]:
        """g, f, and the derivative of f by the shear phase."""
        a, b, _ = self._factors
        rise, turn = self.model.rises
        return field_and_decay(a * rise, b * turn, self.model.sinc_power)
