r"""Robust losses: least squares of pseudo-data, in which outliers are drawn to the fit.

With residuals r = c2 − fit and scales s the robust cost :math:`\tfrac12 \sum s^2 \rho(r^2/s^2)` is
stationary where :math:`\sum D\,\psi(r) = 0`, with D the derivatives of the model, :math:`\psi(r) =
\rho'(r^2/s^2)\,r`, and contrast and offset among the unknowns. (Where points have weights w, s/√w
stands for s, and a w before each term of a sum.) With m the mean of :math:`\psi'`, the same
unknowns are the least-squares solution of the pseudo-data

.. math:: c_2^* = \text{fit} + \psi(c_2 - \text{fit}) / m

made at that fit (P. J. Huber, *Robust Statistics*, 1981, chapter 7: modified residuals). Fitting
and making pseudo-data in turn is Newton's method with the Hessian :math:`m \sum D D^T`. To first
order the robust estimate is the truth plus :math:`(m \sum D D^T)^{-1} \sum D\,\psi`, which is what
the noise ψ/m of the pseudo-data does to their least squares. Hence error bars, tests and the noise
found of the pseudo-data are those of the robust fit.

Names and definitions of ρ are those of ``scipy.optimize.least_squares``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from nlsq_stratified.objectives.loss import LOSSES, Loss

__all__ = ["PseudoData", "loss_at", "pseudo_residual"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PseudoData:
    """What makes pseudo-data of the points of K angles and n frames.

    Attributes
    ----------
    loss : str
    scale : (K,) array
        s.
    gain : float
        1/m, one for all angles: else they would count by their own.
    transport, shear : (n,) array
        The integrals S and Γ of the fit.
    shear_factor : (K,) array
        Its factor b of Γ.
    contrast, offset : (K,) array
    key : object
        The same for some of the angles as for all.
    """

    loss: str
    scale: Floats
    gain: float
    transport: Floats
    shear: Floats
    shear_factor: Floats
    contrast: Floats
    offset: Floats
    key: object = field(default_factory=object)

    def select_angles(self, angles: NDArray[np.int64]) -> PseudoData:
        """Those of some of the angles."""
        return replace(
            self,
            scale=self.scale[angles],
            shear_factor=self.shear_factor[angles],
            contrast=self.contrast[angles],
            offset=self.offset[angles],
        )

    def residuals(
        self, residual: Floats, angles: slice = slice(None), weights: Floats | None = None
    ) -> Floats:
        """ψ/m of residuals (k, R, C) of successive angles, and of points with these weights."""
        scale = self.scale[angles, None, None]
        if weights is not None:
            scale = scale / np.sqrt(np.where(weights > 0, weights, 1.0))
        with jax.enable_x64(True):
            return np.asarray(_compiled_residual(self.loss)(residual, scale, self.gain))


def pseudo_residual(loss: str, residual: jax.Array, scale: jax.Array, gain: jax.Array) -> jax.Array:
    """ψ/m of residuals; NaN stays NaN."""
    _, slope, _ = _named(loss)((residual / scale) ** 2)
    return gain * slope * residual


def loss_at(loss: str, ratio: Floats) -> tuple[Floats, Floats, Floats]:
    """ρ, the weight ρ', and ψ', at residuals over their scales."""
    with jax.enable_x64(True):
        return _compiled_loss(loss)(ratio)


def _named(loss: str) -> Loss:
    return cast(Loss, LOSSES[loss])


@functools.cache
def _compiled_residual(loss: str) -> Callable[..., jax.Array]:
    return jax.jit(functools.partial(pseudo_residual, loss))


@functools.cache
def _compiled_loss(loss: str) -> Callable[[Floats], tuple[Floats, Floats, Floats]]:
    @jax.jit
    def at(ratio: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        z = ratio**2
        rho, slope, curvature = _named(loss)(z)
        return rho, slope, slope + 2 * z * curvature

    return lambda ratio: cast(
        tuple[Floats, Floats, Floats], tuple(np.asarray(each) for each in at(jnp.asarray(ratio)))
    )
