r"""Bounds where none are given: what the measurement could resolve, with a decade to spare.

Over n frames dt apart, T = (n − 1) dt, transport at the rate J leaves no trace where
:math:`q^2 J T` is less than about 1e-5: so small a decay drowns in the noise, or in the contrast
that is not known. Where :math:`q^2 J\,dt` is more than about 10, all correlation is lost from one
frame to the next. The phase :math:`\tfrac12 q h \dot\gamma\,t` of a shear rate, of which the
decay is the square, is resolved between about 0.01 over T and 100 over dt: the sinc² falls slowly,
and an angle across the flow sees a small part of it. A decade further out on either side are the
slowest and the fastest rate at mid-measurement, τ = T/2.

A power law :math:`p_0 t^{p_1} + p_2` with t in seconds has these rates at τ for some exponent
within its bounds where p0 lies between

.. math:: \text{slowest} \cdot \min_{p_1} \tau^{-p_1}
          \quad\text{and}\quad \text{fastest} \cdot \max_{p_1} \tau^{-p_1}.

The constant part p2 lies between minus and plus the fastest. All of it is rounded outward to a
power of ten. Exponents, the direction of the flow, contrast and offset do not depend on the
measurement: their bounds are those of `homodyne_fit.model.parameters.PARAMETERS`.

Nothing here imports jax: a configuration is checked without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from homodyne_fit.model.parameters import DIFFUSION, PARAMETERS, SHEAR

__all__ = ["LARGEST_BOUND", "Limits", "bounds_in_force", "bounds_known", "default_bounds"]

# Lower and upper bound of a parameter.
Limits = tuple[float, float]

# No parameter comes near; squares of it are still numbers.
LARGEST_BOUND = 1e30
MOST_DECADES = 30

# q² J T of the slowest transport, q² J dt of the fastest.
SLOWEST_DECAY = 1e-6
FASTEST_DECAY = 1e2

# ½ q h γ̇ T of the slowest shear, ½ q h γ̇ dt of the fastest.
SLOWEST_PHASE = 1e-3
FASTEST_PHASE = 1e3

# By this factor a bound gives way to a start beyond it.
BEYOND_START = 10.0


def bounds_known(name: str, given: Mapping[str, Limits]) -> Limits | None:
    """Bounds of a parameter where they do not depend on the measurement, else None.

    Parameters
    ----------
    given : mapping
        (lower, upper) by parameter name: what the user wants.
    """
    return given.get(name, PARAMETERS[name].bounds)


def bounds_in_force(
    names: Iterable[str],
    *,
    q: ArrayLike,
    dt: float,
    n_frames: int,
    gap: float | None,
    given: Mapping[str, Limits],
    initial: Mapping[str, float],
    fixed: Mapping[str, float],
) -> dict[str, Limits]:
    """Bounds of parameters: those given, as they are, else the defaults for a measurement.

    Defaults that depend on the measurement give way to a start beyond them.

    Parameters
    ----------
    names : iterable of str
        Parameters of the model, contrast and offset.
    q, dt, n_frames, gap
        As in `default_bounds`.
    given, initial, fixed : mapping
        Bounds, starts and held values by parameter name.
    """
    exponents = {name: bounds_known(name, given) for _, name, _ in (DIFFUSION, SHEAR)}
    exponents |= {name: (fixed[name], fixed[name]) for name in exponents if name in fixed}
    defaults = default_bounds(q, dt, n_frames, gap, {k: v for k, v in exponents.items() if v})
    return {
        name: bounds_known(name, given) or _with_start(defaults[name], initial.get(name))
        for name in names
    }


def _with_start(limits: Limits, start: float | None) -> Limits:
    """Bounds that leave some room about a start, if that is beyond them."""
    lower, upper = limits
    if start is None or lower <= start <= upper:
        return limits
    if lower > 0:
        return min(lower, start / BEYOND_START), max(upper, start * BEYOND_START)
    return -abs(start) * BEYOND_START, abs(start) * BEYOND_START


def default_bounds(
    q: ArrayLike,
    dt: float,
    n_frames: int,
    gap: float | None,
    exponents: Mapping[str, Limits] | None = None,
) -> dict[str, Limits]:
    """Bounds of all parameters where none are given; without a gap those of shear are left out.

    Parameters
    ----------
    q : float or (K,) array
        Å⁻¹.
    dt : float
        Time between frames, seconds.
    n_frames : int
    gap : float or None
        Å.
    exponents : mapping, optional
        Bounds of the exponents, by name, where they are not the default ones.
    """
    fixed = {name: p.bounds for name, p in PARAMETERS.items() if p.bounds is not None}
    log_q, log_dt = np.log10(np.median(np.asarray(q, np.float64))), np.log10(dt)
    log_duration = log_dt + np.log10(n_frames - 1)
    rates: dict[tuple[str, str, str], tuple[float, float]] = {
        DIFFUSION: (
            np.log10(SLOWEST_DECAY) - 2 * log_q - log_duration,
            np.log10(FASTEST_DECAY) - 2 * log_q - log_dt,
        )
    }
    if gap is not None:
        log_phase = log_q + np.log10(gap) + np.log10(0.5)
        rates[SHEAR] = (
            np.log10(SLOWEST_PHASE) - log_phase - log_duration,
            np.log10(FASTEST_PHASE) - log_phase - log_dt,
        )
    log_tau, bounds = log_duration + np.log10(0.5), dict(fixed)
    for (prefactor, exponent, constant), (slowest, fastest) in rates.items():
        powers = -log_tau * np.array((exponents or {}).get(exponent, fixed[exponent]))
        low, high = slowest + np.min(powers), fastest + np.max(powers)
        bounds[prefactor] = _power_of_ten_below(low), _power_of_ten_above(high)
        bounds[constant] = -_power_of_ten_above(fastest), _power_of_ten_above(fastest)
    return {name: bounds[name] for name in PARAMETERS if name in bounds}


def _power_of_ten_below(logarithm: float) -> float:
    return 10.0 ** int(np.clip(np.floor(logarithm), -MOST_DECADES, MOST_DECADES - 1))


def _power_of_ten_above(logarithm: float) -> float:
    return 10.0 ** int(np.clip(np.ceil(logarithm), 1 - MOST_DECADES, MOST_DECADES))
