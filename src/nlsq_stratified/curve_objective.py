"""Sums of a curve fit: any JAX model ``f(x, *params)`` against y, weighted by sigma."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from nlsq_stratified.loss import LOSSES, robust
from nlsq_stratified.normal_equations import FactoredEquations
from nlsq_stratified.portable import Portable
from nlsq_stratified.programs import Traced

__all__ = ["CurveObjective", "ResidualAndJacobian", "triangular_sums"]


@dataclass(frozen=True, eq=False)
class CurveObjective(Portable):
    """Least squares of ``(f(x, *params) - y) / sigma``, plain or robust.

    A chunk is a tuple ``(x, y)`` or ``(x, y, sigma)``; the model is called once on exactly the
    x of each chunk. The Jacobian is JAX's forward mode; all arithmetic is float64.

    Parameters
    ----------
    f : callable
        ``f(x, *params) -> y`` in jax.numpy operations. Picklable if chunks are to be summed in
        other processes.
    loss : str
        One of `nlsq_stratified.loss.LOSSES`.
    f_scale : float
        Residual, in units of sigma, beyond which a robust loss counts a point as an outlier.
    """

    f: Callable[..., Any]
    loss: str = "linear"
    f_scale: float = 1.0
    rows: ResidualAndJacobian = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", ResidualAndJacobian(self.f))

    def chunk_sums(
        self, params: NDArray[np.float64], chunk: tuple[NDArray[Any], ...]
    ) -> FactoredEquations:
        """Cost and triangular factor of one chunk at `params` (p,)."""
        with jax.enable_x64(True):
            arrays = (jnp.asarray(array, jnp.float64) for array in chunk)
            rows = self.rows(jnp.asarray(params, jnp.float64), *arrays)
            sums = triangular_sums(self.loss, self.f_scale, *rows)
            cost, triangle, majorant = jax.device_get(sums)
        return FactoredEquations(float(cost), triangle, len(chunk[1]), majorant)

    def normal_equations(
        self, params: NDArray[np.float64], sums: FactoredEquations
    ) -> FactoredEquations:
        """Return the sums as they are: they are the normal equations already."""
        return sums


class ResidualAndJacobian:
    """``(f - y) / sigma`` (N,) and its derivatives by the parameters (N, p), compiled.

    Parameters
    ----------
    f : callable
        ``f(x, *params) -> y``; the code compiled for it goes with this object.
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        def values(params: jax.Array, x: Any, y: jax.Array) -> jax.Array:
            found = jnp.asarray(f(x, *params), jnp.float64)
            if found.shape != y.shape:
                raise ValueError(f"the model returned shape {found.shape} for y of shape {y.shape}")
            return found

        def residual(params: jax.Array, x: Any, y: jax.Array, sigma: jax.Array | None) -> jax.Array:
            difference = values(params, x, y) - y
            return difference if sigma is None else difference / sigma

        def jacobian(params: jax.Array, x: Any, y: jax.Array, sigma: jax.Array | None) -> jax.Array:
            derivatives = jax.jacfwd(values)(params, x, y)
            return derivatives if sigma is None else derivatives / sigma[:, None]

        # Compiled apart: in one function, or with the factorisation, XLA lays the Jacobian out
        # column by column and evaluates the model anew for each, four times as slow for 50
        # parameters.
        self._residual, self._jacobian = Traced(residual), Traced(jacobian)

    def __call__(
        self, params: jax.Array, x: Any, y: jax.Array, sigma: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Residual and Jacobian of some points; x is what f takes."""
        return self._residual(params, x, y, sigma), self._jacobian(params, x, y, sigma)


@functools.partial(jax.jit, static_argnums=0)
def triangular_sums(
    loss: str, f_scale: float, residual: jax.Array, jacobian: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums of `FactoredEquations`: cost, triangle and majorant, reweighted for a robust loss."""
    cost, majorant = 0.5 * residual @ residual, (jacobian**2).sum(axis=0)
    if (function := LOSSES[loss]) is not None:
        cost, residual_factor, jacobian_factor, slope = robust(function, f_scale, residual)
        majorant = slope @ jacobian**2
        residual, jacobian = residual * residual_factor, jacobian * jacobian_factor[:, None]
    # Rows of zeros let a chunk be smaller than the triangle.
    columns = jnp.concatenate([jacobian, residual[:, None]], axis=1)
    padding = jnp.zeros((columns.shape[1], columns.shape[1]))
    return cost, jnp.linalg.qr(jnp.concatenate([columns, padding]), mode="r"), majorant
