"""The fitted matrices of a result, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.moments import AngleFactors
from homodyne_fit.model.rates import Curves, curves
from homodyne_fit.noise.fields import fields_of_tile

if TYPE_CHECKING:
    from homodyne_fit.fitting.result import FitResult

__all__ = ["FittedMatrices"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FittedMatrices:
    """What is computed once for all blocks: some successive rows and columns of one angle.

    Entries at t1 > t2 are arbitrary.
    """

    result: FitResult
    curves: Curves
    factors: AngleFactors

    @classmethod
    def of(cls, result: FitResult) -> FittedMatrices:
        """Those of a result."""
        space, o = result.space, result.objective
        full = space.complete(result.coordinates)
        integrals = curves(space.model_in_coordinates, full, o.dt, o.n_frames)
        return cls(result, integrals, o.angle_factors(full))

    def decay(self, angle: int, rows: range, columns: range) -> Floats:
        """The fitted f(t1, t2), which falls from 1, (rows, columns)."""
        factors = AngleFactors(*(each[angle, None] for each in self.factors))
        power = self.result.objective.sinc_power
        (g,) = fields_of_tile(self.curves, factors, power, np.array(rows), np.array(columns))
        return np.square(g, out=g)

    def c2(self, angle: int, rows: range, columns: range) -> Floats:
        """The fitted c2, (rows, columns)."""
        c2 = self.decay(angle, rows, columns)
        c2 *= self.result.contrast[angle].value
        c2 += self.result.offset[angle].value
        return c2
