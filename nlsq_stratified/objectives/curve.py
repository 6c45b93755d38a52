"""Sums of a curve fit: any JAX model ``f(x, *params)`` against y, weighted by sigma."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.normal_equations import FactoredEquations
from nlsq_stratified.objectives.loss import LOSSES, robust
from nlsq_stratified.objectives.portable import Portable
from nlsq_stratified.programs import Traced

__all__ = ["CurveObjective", "ModelObjective", "ResidualAndJacobian", "triangular_sums"]


class ResidualAndJacobian:
    """``(f - y) / sigma`` (N,) and its derivatives by the parameters (N, p), compiled.

    Parameters
    ----------
    f : callable
        ``f(x, *params) -> y``; its compiled code lives as long as this object.
    jac : callable, optional
        ``jac(x, *params)``, the derivatives of f (N, p); JAX's forward mode when None.
    """

    def __init__(self, f: Callable[..., Any], jac: Callable[..., Any] | None = None) -> None:
        def values(params: jax.Array, x: Any, y: jax.Array | None) -> jax.Array:
            f_x = _real("model", f(x, *params))
            if y is not None and f_x.shape != y.shape:
                raise ValueError(f"the model returned shape {f_x.shape} for y of shape {y.shape}")
            return f_x

        def residual(
            params: jax.Array, x: Any, y: jax.Array | None, sigma: jax.Array | None
        ) -> jax.Array:
            f_x = values(params, x, y)
            difference = f_x if y is None else f_x - y
            return difference if sigma is None else difference / sigma

        def jacobian(
            params: jax.Array, x: Any, y: jax.Array | None, sigma: jax.Array | None
        ) -> jax.Array:
            if jac is None:
                derivatives = jax.jacfwd(values)(params, x, y)
            else:
                derivatives = _real("jac", jac(x, *params))
                expected = (*(derivatives if y is None else y).shape[:1], *params.shape)
                if derivatives.shape != expected:
                    raise ValueError(f"jac returned shape {derivatives.shape}, not {expected}")
            return derivatives if sigma is None else derivatives / sigma[:, None]

        # Two separate programs: in one program, or in one with the factorisation, XLA stores the
        # Jacobian by columns and evaluates the model once for each column, four times as slow for
        # 50 parameters.
        self.residual, self._jacobian = Traced(residual), Traced(jacobian)

    def __call__(
        self,
        params: jax.Array,
        x: Any,
        y: jax.Array | None = None,
        sigma: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Residual and Jacobian of some points; without y it is 0, without sigma it is 1."""
        return self.residual(params, x, y, sigma), self._jacobian(params, x, y, sigma)


def _real(name: str, values: Any) -> jax.Array:
    """Values that the caller's function has returned, in double precision."""
    if jnp.iscomplexobj(values):
        raise ValueError(
            f"the {name} returned complex numbers: return real and imaginary parts as "
            "separate points"
        )
    return jnp.asarray(values, jnp.float64)


class ModelObjective(Portable):
    """Base of the objectives with a model f: evaluates the model."""

    rows: ResidualAndJacobian

    def values(self, params: NDArray[np.float64], x: ArrayLike) -> NDArray[np.float64]:
        """The model at the points of x, (n,)."""
        with jax.enable_x64(True):
            return jax.device_get(self.rows.residual(*self._arguments(params, x), None, None))

    def curve(
        self, params: NDArray[np.float64], x: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The model at the points of x, (n,), and its derivatives (n, p)."""
        with jax.enable_x64(True):
            return jax.device_get(self.rows(*self._arguments(params, x)))

    def whitened(self, residual: NDArray[np.float64]) -> NDArray[np.float64]:
        """The residuals of the cost, from those of all points divided by sigma."""
        return residual

    def _arguments(self, params: NDArray[np.float64], x: ArrayLike) -> tuple[Any, Any]:
        """The arguments of `rows` for parameters (p,) and x."""
        return jnp.asarray(params, jnp.float64), jnp.asarray(x, jnp.float64)


@dataclass(frozen=True, eq=False)
class CurveObjective(ModelObjective):
    """Least squares of ``(f(x, *params) - y) / sigma``, plain or robust.

    A chunk is a tuple ``(x, y)`` or ``(x, y, sigma)``; the model is called once on exactly the
    x of each chunk. All arithmetic is float64.

    Parameters
    ----------
    f : callable
        ``f(x, *params) -> y`` in jax.numpy operations. Picklable if chunks are to be summed in
        other processes.
    loss : str
        One of `nlsq_stratified.objectives.loss.LOSSES`.
    f_scale : float
        Residual, in units of sigma, beyond which a robust loss counts a point as an outlier.
    jac : callable, optional
        ``jac(x, *params)``, the derivatives of f, (N, p), in jax.numpy operations; JAX's forward
        mode when None.
    """

    f: Callable[..., Any]
    loss: str = "linear"
    f_scale: float = 1.0
    jac: Callable[..., Any] | None = None
    rows: ResidualAndJacobian = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", ResidualAndJacobian(self.f, self.jac))

    def chunk_sums(
        self, params: NDArray[np.float64], chunk: tuple[NDArray[Any], ...]
    ) -> FactoredEquations:
        """Cost and triangular factor of one chunk at `params` (p,)."""
        with jax.enable_x64(True):
            x, *others = chunk
            arrays = (jnp.asarray(array, jnp.float64) for array in others)
            rows = self.rows(*self._arguments(params, x), *arrays)
            sums = triangular_sums(self.loss, self.f_scale, *rows)
            cost, triangle, majorant = jax.device_get(sums)
        return FactoredEquations(float(cost), triangle, len(chunk[1]), majorant)

    def normal_equations(
        self, params: NDArray[np.float64], sums: FactoredEquations
    ) -> FactoredEquations:
        """The sums themselves, which are the normal equations already."""
        return sums


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
    # With rows of zeros, a chunk may have fewer points than the triangle has rows.
    columns = jnp.concatenate([jacobian, residual[:, None]], axis=1)
    padding = jnp.zeros((columns.shape[1], columns.shape[1]))
    return cost, jnp.linalg.qr(jnp.concatenate([columns, padding]), mode="r"), majorant
