"""Sums of a curve fit: any JAX model ``f(x, *params)`` against y, weighted by sigma."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from nlsq_stratified.loss import LOSSES, robust
from nlsq_stratified.normal_equations import FactoredEquations
from nlsq_stratified.portable import Portable

__all__ = ["CurveObjective", "residual_and_jacobian", "triangular_sums"]


@dataclass(frozen=True)
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

    def chunk_sums(
        self, params: NDArray[np.float64], chunk: tuple[NDArray[Any], ...]
    ) -> FactoredEquations:
        """Cost and triangular factor of one chunk at `params` (p,)."""
        with jax.enable_x64(True):
            arrays = (jnp.asarray(array, jnp.float64) for array in chunk)
            rows = residual_and_jacobian(self.f, jnp.asarray(params, jnp.float64), *arrays)
            sums = triangular_sums(self.loss, self.f_scale, *rows)
            cost, triangle, majorant = jax.device_get(sums)
        return FactoredEquations(float(cost), triangle, len(chunk[1]), majorant)

    def normal_equations(
        self, params: NDArray[np.float64], sums: FactoredEquations
    ) -> FactoredEquations:
        """Return the sums as they are: they are the normal equations already."""
        return sums


def residual_and_jacobian(
    f: Callable[..., Any],
    params: jax.Array,
    x: jax.Array,
    y: jax.Array,
    sigma: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """``(f - y) / sigma`` (N,) and its derivatives by the parameters (N, p)."""
    # Compiled apart: in one function, or with the factorisation, XLA lays the Jacobian out column
    # by column and evaluates the model anew for each, four times as slow for 50 parameters.
    return _residual(f, params, x, y, sigma), _jacobian(f, params, x, y, sigma)


@functools.partial(jax.jit, static_argnums=0)
def _residual(
    f: Callable[..., Any], params: jax.Array, x: jax.Array, y: jax.Array, sigma: jax.Array | None
) -> jax.Array:
    residual = _values(f, params, x, y) - y
    return residual if sigma is None else residual / sigma


@functools.partial(jax.jit, static_argnums=0)
def _jacobian(
    f: Callable[..., Any], params: jax.Array, x: jax.Array, y: jax.Array, sigma: jax.Array | None
) -> jax.Array:
    jacobian = jax.jacfwd(_values, argnums=1)(f, params, x, y)
    return jacobian if sigma is None else jacobian / sigma[:, None]


def _values(f: Callable[..., Any], params: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    values = jnp.asarray(f(x, *params), jnp.float64)
    if values.shape != y.shape:
        raise ValueError(f"the model returned shape {values.shape} for y of shape {y.shape}")
    return values


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
