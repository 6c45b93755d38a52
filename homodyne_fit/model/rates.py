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
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from homodyne_fit.errors import InputError, did_you_mean, suggestion
from nlsq_stratified.programs import Traced

__all__ = [
    "LAMINAR_FLOW",
    "MODELS",
    "STATIC",
    "Curves",
    "Model",
    "curves",
    "decay",
    "model_named",
    "on_offset",
    "on_prefactor",
    "power_law",
    "rates",
    "value_and_slope",
]

# Rates are floored here, so that S and Γ never run backwards.
RATE_FLOOR = 1e-10

# Rows of a matrix that are computed at a time.
DECAY_BAND = 64

# Sets of parameters of which one call of a compiled rate takes care.
AT_ONCE = 16

# Times that a rate is compiled for, at least.
FEWEST_TIMES = 128

Floats = NDArray[np.float64]

# Arguments: times (n,), a reference time, and the parameters of the rate.
RateFunction = Callable[[jax.Array, "jax.Array | float", Sequence[jax.Array]], jax.Array]


def power_law(t: jax.Array, tau: jax.Array | float, p: Sequence[jax.Array]) -> jax.Array:
    """``p0 · t**p1 + p2``."""
    del tau
    return p[0] * t ** p[1] + p[2]


def value_and_slope(t: jax.Array, tau: jax.Array | float, y: Sequence[jax.Array]) -> jax.Array:
    r"""The power law by its value r, its slope s in ln t, both at tau, and its exponent p.

    :math:`r + s\,((t/\tau)^p - 1)/p`, the Box-Cox form; :math:`r + s \ln(t/\tau)` at p = 0.
    """
    log = jnp.log(t / tau)
    z = y[2] * log
    small = jnp.abs(z) < 1e-2
    series = 1 + z / 2 * (1 + z / 3 * (1 + z / 4 * (1 + z / 5 * (1 + z / 6))))
    safe = jnp.where(small, 1.0, z)
    return y[0] + y[1] * log * jnp.where(small, series, jnp.expm1(safe) / safe)


def on_offset(t: jax.Array, tau: jax.Array | float, y: Sequence[jax.Array]) -> jax.Array:
    """The power law by its value r at tau, its exponent and its constant part.

    ``p2 + (r − p2) (t/τ)**p1``, in a form that keeps its digits where p2 is far larger than r.
    """
    return y[0] + (y[0] - y[2]) * jnp.expm1(y[1] * jnp.log(t / tau))


def on_prefactor(t: jax.Array, tau: jax.Array | float, y: Sequence[jax.Array]) -> jax.Array:
    """The power law by its prefactor, its exponent and its value r at tau.

    ``r + p0 (t**p1 − τ**p1)``.
    """
    return y[2] + y[0] * tau ** y[1] * jnp.expm1(y[1] * jnp.log(t / tau))


OWN_LAWS = (power_law, value_and_slope, on_offset, on_prefactor)


@dataclass(frozen=True)
class Model:
    r"""J(t), and where there is flow :math:`\dot\gamma(t)` and the direction phi0.

    Attributes
    ----------
    name : str
    transport : callable
        J(t, tau, parameters), Å²/s; tau is the middle of the measurement.
    transport_parameters : tuple of str
    shear_rate : callable or None
        Shear rate (t, tau, parameters), 1/s; None without flow.
    shear_parameters : tuple of str
    programs : dict or None
        The compiled laws of a caller, kept for one fit; None outside of fits, where such a law is
        compiled at each use because it may read what has changed.
    """

    name: str
    transport: RateFunction
    transport_parameters: tuple[str, ...]
    shear_rate: RateFunction | None = None
    shear_parameters: tuple[str, ...] = ()
    programs: dict[int, Traced] | None = field(default=None, compare=False, repr=False)

    def for_one_fit(self) -> Model:
        """The same model, whose laws are compiled once and stay as they are now."""
        laws = (self.transport, self.shear_rate)
        own = all(law is None or any(law is ours for ours in OWN_LAWS) for law in laws)
        return self if own else replace(self, programs={})

    def __getstate__(self) -> dict[str, Any]:
        # Compiled code stays in its process.
        return {**self.__dict__, "programs": None if self.programs is None else {}}

    def __hash__(self) -> int:
        # Callables of a caller's own class may have no hash.
        return hash((self.name, self.transport_parameters, self.shear_parameters))

    @property
    def has_flow(self) -> bool:
        """Whether there is a shear rate."""
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


@dataclass(frozen=True)
class Curves:
    """The integrals of a model on n frames, and their derivatives.

    Those of s sets of parameters have a leading axis s.

    Attributes
    ----------
    transport : (…, n) array
        S, Å².
    transport_jacobian : (…, n, a) array
        Derivatives of S by the a transport parameters.
    shear : (…, n) array
        Γ, dimensionless; zeros without flow.
    shear_jacobian : (…, n, b) array
        Derivatives of Γ by the b shear parameters.
    """

    transport: NDArray[np.float64]
    transport_jacobian: NDArray[np.float64]
    shear: NDArray[np.float64]
    shear_jacobian: NDArray[np.float64]


def curves(model: Model, params: ArrayLike, dt: float, n_frames: int) -> Curves:
    """Integrate the rates over the frame grid by the cumulative trapezoid rule.

    Parameters
    ----------
    params : (p,) or (s, p) array
        In the order of ``model.parameters``.
    dt : float
        Frame time, seconds.
    """
    times = dt * np.arange(n_frames, dtype=np.float64)
    full = np.asarray(params, np.float64)
    transport, *shear = _laws_at(model, np.atleast_2d(full), times, float(times[-1]) / 2, dt)
    if not shear:
        shear = [(np.zeros_like(transport[0]), np.zeros((*transport[0].shape, 0)))]
    of_all = [
        _integral(each.reshape(*full.shape[:-1], *each.shape[1:]), dt, axis=full.ndim - 1)
        for each in (*transport, *shear[0])
    ]
    return Curves(*of_all)


def _integral(rate: NDArray[np.float64], dt: float, axis: int) -> NDArray[np.float64]:
    rate = np.moveaxis(rate, axis, 0)
    integral = np.zeros_like(rate)
    np.cumsum(0.5 * (rate[1:] + rate[:-1]) * dt, axis=0, out=integral[1:])
    return np.moveaxis(integral, 0, axis)


def rates(
    model: Model, params: ArrayLike, times: ArrayLike, tau: float, dt: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """J and the shear rate at some times.

    Parameters
    ----------
    params : (p,) array
        In the order of ``model.parameters``.
    times : (n,) array
        Seconds. The rates are evaluated at ``max(t, dt / 2)``: t = 0 has no logarithm.
    tau, dt : float
        Middle of the measurement and frame time, seconds.

    Returns
    -------
    values : (2, n) array
        J in Å²/s; shear rate in 1/s, zeros without flow.
    jacobian : (2, n, p) array
        Their derivatives by the parameters.
    """
    t, full = np.atleast_1d(np.asarray(times, np.float64)), np.asarray(params, np.float64)
    values, jacobian = np.zeros((2, len(t))), np.zeros((2, len(t), len(full)))
    laws = _laws_at(model, full[None], t, tau, dt)
    for i, (own, (value, slope)) in enumerate(zip(_owned(model), laws, strict=False)):
        values[i], jacobian[i][:, own] = value[0], slope[0]
    return values, jacobian


def _owned(model: Model) -> tuple[slice, slice]:
    """Which parameters are those of J, and which those of the shear rate."""
    first = len(model.transport_parameters)
    return slice(first), slice(first, first + len(model.shear_parameters))


def _laws_at(
    model: Model, full: Floats, times: Floats, tau: float, dt: float
) -> list[tuple[Floats, Floats]]:
    """Each rate and its derivatives by its own parameters, at parameters (s, p).

    That is J alone, or J and the shear rate: (s, n) and (s, n, a) arrays of each.
    """
    # Filled up to a power of two: few lengths to compile for.
    grid = np.full(1 << max(len(times) - 1, FEWEST_TIMES - 1).bit_length(), dt)
    grid[: len(times)] = times

    def of_law(law: RateFunction, own: slice) -> tuple[Floats, Floats]:
        program, blocks = _compiled(model, law), []
        for first in range(0, len(full), AT_ONCE):
            block = full[first : first + AT_ONCE, own]
            filled = np.zeros((AT_ONCE, block.shape[1]))
            filled[: len(block)] = block
            found = program(filled, grid, np.float64(tau), np.float64(dt), np.int64(len(block)))
            blocks.append([np.asarray(each)[: len(block), : len(times)] for each in found])
        values, slopes = (np.concatenate(each) for each in zip(*blocks, strict=True))
        return values, slopes

    laws = zip((model.transport, model.shear_rate), _owned(model), strict=True)
    with jax.enable_x64(True):
        return [of_law(law, own) for law, own in laws if law is not None]


def _compiled(model: Model, law: RateFunction) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """A rate and its derivatives, of (parameters, times, tau, dt, sets that count).

    The laws of this module read nothing but their arguments and are compiled once for all fits.
    """
    if any(law is own for own in OWN_LAWS):
        return _compiled_for_good(law)
    if model.programs is None:
        return Traced(functools.partial(_rates_with_jacobians, law))
    # By identity: callables of a caller's own class may have no hash.
    key = id(law)
    if key not in model.programs:
        model.programs[key] = Traced(functools.partial(_rates_with_jacobians, law))
    return model.programs[key]


@functools.cache
def _compiled_for_good(law: RateFunction) -> Callable[..., tuple[jax.Array, jax.Array]]:
    return jax.jit(functools.partial(_rates_with_jacobians, law))


def _rates_with_jacobians(
    law: RateFunction, p: jax.Array, times: jax.Array, tau: jax.Array, dt: jax.Array, n: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """At the first n of the parameters (s, a): (s, t) and (s, t, a) arrays."""

    def of_one(i: jax.Array, of_all: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        values, jacobian = _rate_with_jacobian(law, p[i], times, tau, dt)
        return of_all[0].at[i].set(values), of_all[1].at[i].set(jacobian)

    nothing = jnp.zeros((len(p), len(times))), jnp.zeros((len(p), len(times), p.shape[1]))
    return jax.lax.fori_loop(0, n, of_one, nothing)


def _rate_with_jacobian(
    law: RateFunction, p: jax.Array, times: jax.Array, tau: jax.Array, dt: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def floored(p: jax.Array) -> jax.Array:
        values = law(jnp.maximum(times, dt / 2), tau, [p[i] for i in range(p.shape[0])])
        # Not maximum(): a NaN has to stay a NaN.
        return jnp.where(values < RATE_FLOOR, RATE_FLOOR, values)

    return floored(p), jax.jacfwd(floored)(p)


def decay(
    model: Model,
    params: ArrayLike,
    dt: float,
    n_frames: int,
    q: float,
    phi: float,
    gap: float | None,
    sinc_power: int = 2,
    phase_per_gap: float = 0.5,
) -> NDArray[np.float64]:
    """The full matrix f(t1, t2) of one angle, (n, n), for simulation and display.

    Parameters
    ----------
    params : (p,) array
        In the order of ``model.parameters``.
    dt : float
        Frame time, seconds.
    q, phi, gap : float
        Å⁻¹, degrees, Å.
    sinc_power, phase_per_gap : int, float
        As in `homodyne_fit.kernel.objective.TwoTimeObjective`.
    """
    params = np.asarray(params, dtype=np.float64)
    integrals = curves(model, params, dt, n_frames)
    s, gamma, phase = integrals.transport, integrals.shear, 0.0
    if model.has_flow:
        phi0 = params[model.parameters.index("phi0")]
        phase = phase_per_gap * q * (gap or np.nan) * np.cos(np.deg2rad(phi0 - phi))
    f = np.empty((n_frames, n_frames))
    for start in range(0, n_frames, DECAY_BAND):
        rows, later = slice(start, start + DECAY_BAND), slice(start, n_frames)
        band = np.exp(-(q**2) * np.abs(np.subtract.outer(s[rows], s[later])))
        if model.has_flow:
            x = phase * np.subtract.outer(gamma[rows], gamma[later])
            band *= np.sinc(x / np.pi) ** sinc_power
        f[rows, later], f[later, rows] = band, band.T
    return f


def model_named(name: object) -> Model:
    """The model that a configuration calls so.

    Raises
    ------
    InputError
        If there is none.
    """
    known = {**MODELS, "static_isotropic": STATIC, "static_anisotropic": STATIC}
    if not isinstance(name, str) or name not in known:
        near = did_you_mean(suggestion(str(name), known))
        raise InputError(f"there is no model {name!r}{near}; there are: {', '.join(MODELS)}")
    return known[name]
