r"""The physical models: a transport coefficient J(t) and a shear rate :math:`\dot\gamma(t)`.

A two-time matrix depends on the physics through two curves of one time only,

.. math:: S(t) = \int_0^t J\,dt', \qquad \Gamma(t) = \int_0^t \dot\gamma\,dt',

as :math:`f = \exp(-q^2 \Delta S)\,\mathrm{sinc}^2(\tfrac12 q h \cos(\phi_0 - \phi)\,\Delta\Gamma)`
with :math:`\Delta` the difference between t2 and t1. A model is therefore the two functions and
the names of their parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LAMINAR_FLOW", "MODELS", "STATIC", "Curves", "Model", "curves", "rates"]

# Rates are floored here, so that S and Γ never run backwards.
RATE_FLOOR = 1e-10

# Arguments: times (n,) and the parameters of the power law.
RateFunction = Callable[[jax.Array, Sequence[jax.Array]], jax.Array]


def power_law(t: jax.Array, p: Sequence[jax.Array]) -> jax.Array:
    """``p0 · t**p1 + p2``."""
    return p[0] * t ** p[1] + p[2]


@dataclass(frozen=True)
class Model:
    """J(t), and where there is flow :math:`\\dot\\gamma(t)` and the direction phi0.

    Attributes
    ----------
    name : str
    transport : callable
        J(t; parameters), Å²/s.
    transport_parameters : tuple of str
    shear_rate : callable or None
        Shear rate (t; parameters), 1/s; None without flow.
    shear_parameters : tuple of str
    """

    name: str
    transport: RateFunction
    transport_parameters: tuple[str, ...]
    shear_rate: RateFunction | None = None
    shear_parameters: tuple[str, ...] = ()

    @property
    def has_flow(self) -> bool:
        return self.shear_rate is not None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names in the order of the parameter vector."""
        direction = ("phi0",) if self.has_flow else ()
        return self.transport_parameters + self.shear_parameters + direction


STATIC = Model("static", power_law, ("D0", "alpha", "D_offset"))
LAMINAR_FLOW = Model(
    "laminar_flow",
    power_law,
    ("D0", "alpha", "D_offset"),
    power_law,
    ("gamma_dot_t0", "beta", "gamma_dot_t_offset"),
)
MODELS = {model.name: model for model in (STATIC, LAMINAR_FLOW)}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Curves:
    """The integrals of a model on n frames, and their derivatives.

    Attributes
    ----------
    transport : (n,) array
        S, Å².
    transport_jacobian : (n, a) array
        Derivatives of S by the a transport parameters.
    shear : (n,) array
        Γ, dimensionless; zeros without flow.
    shear_jacobian : (n, b) array
        Derivatives of Γ by the b shear parameters.
    """

    transport: jax.Array
    transport_jacobian: jax.Array
    shear: jax.Array
    shear_jacobian: jax.Array


def rates(
    model: Model, params: ArrayLike, times: ArrayLike, dt: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """J (n,) in Å²/s and the shear rate (n,) in 1/s at `times` (n,) in seconds.

    The power laws are evaluated at ``max(t, dt / 2)``, since t = 0 has no logarithm.
    """
    with jax.enable_x64(True):
        t = jnp.maximum(jnp.asarray(times, jnp.float64), dt / 2)
        transport, shear = _split(model, jnp.asarray(params, jnp.float64))
        flow = _rate(model.shear_rate, t, shear) if model.shear_rate else jnp.zeros_like(t)
        return np.asarray(_rate(model.transport, t, transport)), np.asarray(flow)


@functools.partial(jax.jit, static_argnames=("model", "n_frames"))
def curves(model: Model, params: jax.Array, dt: float | jax.Array, n_frames: int) -> Curves:
    """Integrate the rates over the frame grid by the cumulative trapezoid rule.

    Parameters
    ----------
    params : (p,) array
        In the order of ``model.parameters``.
    dt : float
        Frame time, seconds.
    """
    t = jnp.maximum(jnp.arange(n_frames) * dt, dt / 2)

    def integral(rate: RateFunction, p: jax.Array) -> jax.Array:
        values = _rate(rate, t, p)
        steps = 0.5 * (values[1:] + values[:-1]) * dt
        return jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)])

    transport, shear = _split(model, params)
    s = functools.partial(integral, model.transport)
    if model.shear_rate is None:
        flow, flow_jacobian = jnp.zeros(n_frames), jnp.zeros((n_frames, 0))
    else:
        gamma = functools.partial(integral, model.shear_rate)
        flow, flow_jacobian = gamma(shear), jax.jacfwd(gamma)(shear)
    return Curves(s(transport), jax.jacfwd(s)(transport), flow, flow_jacobian)


def _split(model: Model, params: jax.Array) -> tuple[jax.Array, jax.Array]:
    a = len(model.transport_parameters)
    return params[:a], params[a : a + len(model.shear_parameters)]


def _rate(rate: RateFunction, t: jax.Array, p: jax.Array) -> jax.Array:
    values = rate(t, [p[i] for i in range(p.shape[0])])
    # Not maximum(): a NaN has to stay a NaN.
    return jnp.where(values < RATE_FLOOR, RATE_FLOOR, values)
