r"""The physical models: a transport coefficient J(t) and a shear rate :math:`\dot\gamma(t)`.

A two-time matrix depends on the physics through two curves of one time only,

.. math:: S(t) = \int_0^t J\,dt', \qquad \Gamma(t) = \int_0^t \dot\gamma\,dt',

as :math:`f = \exp(-q^2 \Delta S)\,\mathrm{sinc}^2(\tfrac12 q h \cos(\phi_0 - \phi)\,\Delta\Gamma)`
with :math:`\Delta` the difference between t2 and t1. A model is therefore the two functions and
the names of their parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homodyne_fit.errors import InputError, did_you_mean, suggestion

__all__ = [
    "LAMINAR_FLOW",
    "MODELS",
    "OWN_LAWS",
    "STATIC",
    "Curves",
    "Model",
    "curves",
    "decay",
    "is_own",
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

# Below this |z| the function (e**z − 1)/z and its slope are series.
SMALL_EXPONENT = 1e-3

Floats = NDArray[np.float64]

# Arguments: times (n,), a reference time, and the parameters of the rate. A law of this module
# takes NumPy arrays and JAX arrays; one that a user wrote takes JAX arrays.
RateFunction = Callable[[Any, Any, Sequence[Any]], Any]


def power_law(t: Any, tau: Any, p: Sequence[Any]) -> Any:
    """``p0 · t**p1 + p2``."""
    del tau
    return p[0] * t ** p[1] + p[2]


def _slopes_of_power_law(t: Floats, tau: float, p: Sequence[Floats]) -> Sequence[ArrayLike]:
    del tau
    power = t ** p[1]
    return power, p[0] * power * np.log(t), 1.0


def value_and_slope(t: Any, tau: Any, y: Sequence[Any]) -> Any:
    r"""The power law by its value r, its slope s in ln t, both at tau, and its exponent p.

    :math:`r + s\,((t/\tau)^p - 1)/p`, the Box-Cox form; :math:`r + s \ln(t/\tau)` at p = 0.
    """
    log = t.__array_namespace__().log(t / tau)
    return y[0] + y[1] * log * _quotient(y[2] * log)


def _slopes_of_value_and_slope(t: Floats, tau: float, y: Sequence[Floats]) -> Sequence[ArrayLike]:
    log = np.log(t / tau)
    z = y[2] * log
    quotient = _quotient(z)
    return 1.0, log * quotient, y[1] * log**2 * _slope_of_quotient(z, quotient)


def _quotient(z: Any) -> Any:
    """``(e**z − 1)/z``; by a series where z is small, for the slope that JAX takes of it."""
    xp = z.__array_namespace__()
    small = abs(z) < SMALL_EXPONENT
    series = 1 + z * (1 / 2 + z * (1 / 6 + z * (1 / 24 + z / 120)))
    safe = xp.where(small, 1.0, z)
    return xp.where(small, series, xp.expm1(safe) / safe)


def _slope_of_quotient(z: Floats, quotient: Floats) -> Floats:
    """``(e**z − quotient)/z``, the slope of `_quotient`; by a series where these two cancel."""
    small = np.abs(z) < SMALL_EXPONENT
    series = 1 / 2 + z * (1 / 3 + z * (1 / 8 + z / 30))
    return np.where(small, series, quotient + (1 - quotient) / np.where(small, 1.0, z))


def on_offset(t: Any, tau: Any, y: Sequence[Any]) -> Any:
    """The power law by its value r at tau, its exponent and its constant part.

    ``p2 + (r − p2) (t/τ)**p1``, in a form that keeps its digits where p2 is far larger than r.
    """
    xp = t.__array_namespace__()
    return y[0] + (y[0] - y[2]) * xp.expm1(y[1] * xp.log(t / tau))


def _slopes_of_on_offset(t: Floats, tau: float, y: Sequence[Floats]) -> Sequence[ArrayLike]:
    log = np.log(t / tau)
    growth = np.expm1(y[1] * log)
    return 1 + growth, (y[0] - y[2]) * (1 + growth) * log, -growth


def on_prefactor(t: Any, tau: Any, y: Sequence[Any]) -> Any:
    """The power law by its prefactor, its exponent and its value r at tau.

    ``r + p0 (t**p1 − τ**p1)``.
    """
    xp = t.__array_namespace__()
    return y[2] + y[0] * tau ** y[1] * xp.expm1(y[1] * xp.log(t / tau))


def _slopes_of_on_prefactor(t: Floats, tau: float, y: Sequence[Floats]) -> Sequence[ArrayLike]:
    log, power = np.log(t / tau), tau ** y[1]
    growth = np.expm1(y[1] * log)
    by_exponent = growth * np.log(tau) + (1 + growth) * log
    return power * growth, y[0] * power * by_exponent, 1.0


# Each law of this module, and its derivatives by its parameters.
OWN_LAWS: dict[RateFunction, Callable[[Floats, float, Sequence[Floats]], Sequence[ArrayLike]]] = {
    power_law: _slopes_of_power_law,
    value_and_slope: _slopes_of_value_and_slope,
    on_offset: _slopes_of_on_offset,
    on_prefactor: _slopes_of_on_prefactor,
}


def is_own(law: RateFunction) -> bool:
    """Whether a law is one of this module. By identity: a user's law may have no hash."""
    return any(law is own for own in OWN_LAWS)


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

    Notes
    -----
    Other laws than those of this module are functions that JAX can differentiate.
    """

    name: str
    transport: RateFunction
    transport_parameters: tuple[str, ...]
    shear_rate: RateFunction | None = None
    shear_parameters: tuple[str, ...] = ()

    def for_one_fit(self) -> Model:
        """The same model, whose laws are compiled once and stay as they are now.

        Outside of fits a user's law is compiled at each use: it may read what has changed.
        """
        transport, shear_rate = self.transport, self.shear_rate
        if is_own(transport) and (shear_rate is None or is_own(shear_rate)):
            return self
        shear_rate = None if shear_rate is None else _with_derivatives(shear_rate)
        return replace(self, transport=_with_derivatives(transport), shear_rate=shear_rate)

    def __hash__(self) -> int:
        # A user's law may have no hash.
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


# Parameters far beyond all bounds give infinite rates, which a search rejects.
@np.errstate(over="ignore", invalid="ignore")
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
    tau, sets = float(times[-1]) / 2, np.atleast_2d(full)
    laws = [_integral(law, dt) for law in _laws_at(model, sets, times, tau, dt)]
    transport, shear = laws if model.has_flow else (*laws, np.zeros((1, len(sets), n_frames)))
    return Curves(
        *(
            each.reshape(*full.shape[:-1], *each.shape[1:])
            for law in (transport, shear)
            for each in (law[0], np.moveaxis(law[1:], 0, -1))
        )
    )


def _integral(rate: Floats, dt: float) -> Floats:
    """By the cumulative trapezoid rule over the last axis."""
    integral = np.zeros_like(rate)
    np.cumsum(0.5 * dt * (rate[..., 1:] + rate[..., :-1]), axis=-1, out=integral[..., 1:])
    return integral


@np.errstate(over="ignore", invalid="ignore")
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
    for i, (own, law) in enumerate(zip(_owned(model), laws, strict=False)):
        values[i], jacobian[i][:, own] = law[0, 0], law[1:, 0].T
    return values, jacobian


def _owned(model: Model) -> tuple[slice, slice]:
    """Which parameters are those of J, and which those of the shear rate."""
    first = len(model.transport_parameters)
    return slice(first), slice(first, first + len(model.shear_parameters))


def _laws_at(model: Model, full: Floats, times: Floats, tau: float, dt: float) -> list[Floats]:
    """Each rate and its derivatives by its own a parameters, at parameters (s, p).

    That is J alone, or J and the shear rate: (1 + a, s, n) arrays.
    """
    laws = zip((model.transport, model.shear_rate), _owned(model), strict=True)
    t = np.maximum(times, dt / 2)
    found = [_with_slopes(law, t, tau, full[:, own]) for law, own in laws if law is not None]
    for values, *slopes in found:
        # Not maximum(): a NaN has to stay a NaN.
        low = values < RATE_FLOOR
        if low.any():
            values[low] = RATE_FLOOR
            for slope in slopes:
                slope[low] = 0.0
    return found


def _with_slopes(law: RateFunction, t: Floats, tau: float, p: Floats) -> Floats:
    """A law and its derivatives at parameters (s, a), (1 + a, s, n)."""
    if not is_own(law):
        return _with_derivatives(law).with_slopes(t, tau, p)
    of_sets, result = list(p.T[..., None]), np.empty((1 + p.shape[1], len(p), len(t)))
    result[0] = law(t, tau, of_sets)
    for row, slope in zip(result[1:], OWN_LAWS[law](t, tau, of_sets), strict=True):
        row[...] = slope
    return result


def _with_derivatives(law: RateFunction) -> Any:
    """A law of this module itself; a law that a user wrote as a `UserLaw`."""
    if is_own(law):
        return law
    # These alone need JAX.
    from homodyne_fit.model.user_laws import UserLaw

    return law if isinstance(law, UserLaw) else UserLaw(law)


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
            # NumPy squares fast; other powers it takes slowly.
            band *= np.square(np.sinc(x / np.pi)) ** (sinc_power // 2)
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
