"""The two-time fit as an objective of sums: physics in, moment matrices through, cost out."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.elimination import JointEquations, eliminate, eliminate_each, reduce_each
from homodyne_fit.kernel.moments import AngleFactors, chunk_moments
from homodyne_fit.kernel.precision import Precision
from homodyne_fit.kernel.pseudo_data import PseudoData
from homodyne_fit.kernel.stored_chunks import Chunk
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.rates import Curves, Model
from homodyne_fit.model.rates import curves as integrated_curves
from homodyne_fit.model.scaling import ScalingMap
from nlsq_stratified import NormalEquations
from nlsq_stratified.objectives.portable import Portable

__all__ = ["TwoTimeObjective"]


@dataclass(frozen=True, eq=False)
class TwoTimeObjective(Portable):
    """Sum of squares of c2 − offset − contrast·f as a function of the physics alone.

    Attributes
    ----------
    model : Model
    dt : float
        Frame time, seconds.
    n_frames : int
    q, phi : (K,) array
        Å⁻¹ and degrees.
    gap : float
        Width of the sheared gap h, Å; not used without flow.
    scaling : ScalingMap
        How contrast and offset may differ between the angles.
    weights : (K,) array
        Of the squared residuals of each angle.
    reference : (K,) array
        Value near the mean of c2, subtracted before squares are summed.
    fixed : (p,) array
        Values of the parameters that are not searched; NaN for those that are.
    sinc_power, phase_per_gap : int, float
        f decays by sinc(phase_per_gap · q h cos(φ0 − φ) ΔΓ) to this power.
    precision : {'double', 'single'}
        Of what is computed for every point.
    pseudo_data : PseudoData or None
        That are fitted in place of c2.
    """

    model: Model
    dt: float
    n_frames: int
    q: NDArray[np.float64]
    phi: NDArray[np.float64]
    gap: float
    scaling: ScalingMap
    weights: NDArray[np.float64]
    reference: NDArray[np.float64]
    fixed: NDArray[np.float64]
    sinc_power: int = 2
    phase_per_gap: float = 0.5
    precision: Precision = "double"
    pseudo_data: PseudoData | None = None

    def in_coordinates(self, space: SearchSpace) -> TwoTimeObjective:
        """The same objective as a function of the coordinates of a search space."""
        return replace(self, model=space.model_in_coordinates, fixed=space.fixed_coordinates)

    @property
    def searched(self) -> NDArray[np.bool_]:
        """Which parameters the search may change, (p,)."""
        return np.isnan(self.fixed)

    def complete(self, params: NDArray[np.float64]) -> NDArray[np.float64]:
        """All parameters (…, p) from those searched."""
        full = np.broadcast_to(self.fixed, (*params.shape[:-1], len(self.fixed))).copy()
        full[..., self.searched] = params
        return full

    def chunk_sums(self, params: NDArray[np.float64], chunk: Chunk) -> NDArray[np.float64]:
        """Moment matrices (…, K, m, m) of one chunk at searched parameters (…, p)."""
        full = self.complete(params)
        integrals = self.curves(full)
        factors, tiles = self.angle_factors(full), chunk.loaded()
        options = self.sinc_power, self.precision, self.pseudo_data
        return chunk_moments(integrals, factors, tiles, *options)

    def select_angles(self, angles: NDArray[np.int64]) -> TwoTimeObjective:
        """The objective for data of some of the angles."""
        return replace(
            self,
            q=self.q[angles],
            phi=self.phi[angles],
            scaling=self.scaling.select_angles(angles),
            weights=self.weights[angles],
            reference=self.reference[angles],
            pseudo_data=self.pseudo_data and self.pseudo_data.select_angles(angles),
        )

    def joint_equations(
        self, sums: NDArray[np.float64], z: NDArray[np.float64] | None = None
    ) -> JointEquations:
        """Normal equations in the searched parameters and z, at the best z or at the one given."""
        return eliminate(self._moments(sums), self.reference, self.scaling, self.weights, z)

    def normal_equations(
        self, params: NDArray[np.float64], sums: NDArray[np.float64]
    ) -> NormalEquations:
        """Normal equations in the searched parameters, contrast and offset at their best."""
        return self.joint_equations(sums).reduced()

    def normal_equations_of_each(self, sums: NDArray[np.float64]) -> list[NormalEquations]:
        """`normal_equations` of sums (s, K, m, m) at s sets of parameters."""
        moments = self._moments(sums)
        return reduce_each(eliminate_each(moments, self.reference, self.scaling, self.weights))

    def _moments(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Those of the searched parameters."""
        keep = np.concatenate([np.flatnonzero(self.searched), len(self.fixed) + np.arange(3)])
        return sums[..., keep[:, None], keep]

    def angle_factors(self, full: NDArray[np.float64]) -> AngleFactors:
        """What distinguishes the angles, at all parameters (…, p)."""
        if not self.model.has_flow:
            shear = direction = np.zeros((*full.shape[:-1], len(self.q)))
        else:
            phase = self.phase_per_gap * self.q * self.gap
            phi0 = full[..., self.model.parameters.index("phi0"), None]
            angle = np.deg2rad(phi0 - self.phi)
            shear, direction = phase * np.cos(angle), -phase * np.sin(angle) * np.deg2rad(1.0)
        return AngleFactors(self.q**2, shear, direction, self.reference)

    @functools.cached_property
    def _last_curves(self) -> dict[tuple[tuple[int, ...], bytes], Curves]:
        return {}

    def curves(self, full: NDArray[np.float64]) -> Curves:
        """The integrals at all parameters (…, p), which all chunks of a pass share."""
        key, last = (full.shape, full.tobytes()), self._last_curves
        if (known := last.get(key)) is None:
            known = integrated_curves(self.model, full, self.dt, self.n_frames)
            last.clear()
            last[key] = known
        return known
