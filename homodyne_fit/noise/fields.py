"""The field's correlation g, and the decay f = g² that c2 shows, between two frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.kernel.moments import AngleFactors
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.rates import Curves

__all__ = ["field_and_decay", "fields_of_tile", "largest_falls"]

Floats = NDArray[np.float64]

# Shear phase below which the sinc is a series: what is subtracted nearly cancels.
SMALL_PHASE = 1e-2

# Exponents of pairs of frames in the wrong order, which do not count, are cut off here.
LARGEST_EXPONENT = 300.0


def field_and_decay(
    transport: Floats, phase: Floats, sinc_power: int
) -> tuple[Floats, Floats, Floats]:
    """g, f, and the derivative of f by the shear phase.

    Parameters
    ----------
    transport : array
        q² ΔS.
    phase : array
        b ΔΓ.
    sinc_power : int
        Power m of the sinc in f; g has the sign of the sinc where m = 2.
    """
    sinc, slope = _sinc_and_slope(phase)
    field = np.exp(-transport / 2)
    g = field * sinc ** (sinc_power // 2)
    fx = sinc_power * field**2 * sinc ** (sinc_power - 1) * slope
    return g, g**2, fx


def _sinc_and_slope(phase: Floats) -> tuple[Floats, Floats]:
    """sin(x)/x and its derivative.

    Sine and cosine by the tangent t of x/2: NumPy's tangent is many times as fast as its sine.
    """
    small = np.abs(phase) <= SMALL_PHASE
    x = np.where(small, 1.0, phase)
    t = np.tan(x / 2)
    square = t * t
    sinc = 2 * t / ((1 + square) * x)
    slope = ((1 - square) / (1 + square) - sinc) / x
    if np.any(small):
        x = phase[small]
        square = x * x
        sinc[small] = _sinc_series(square)
        slope[small] = -x / 3 * (1 - square / 10 * (1 - square / 28))
    return sinc, slope


def _sinc_series(square: Floats) -> Floats:
    """sin(x)/x of small phases, given x²."""
    return 1 - square / 6 * (1 - square / 20 * (1 - square / 42))


def largest_falls(objective: TwoTimeObjective, params: Floats) -> Floats:
    """How far f falls from 1 within the measurement at each angle, (K,), at searched parameters."""
    full = objective.complete(params)
    curves, factors = objective.curves(full), objective.angle_factors(full)
    rise, turn = (each - each[0] for each in (curves.transport, curves.shear))
    _, f, _ = field_and_decay(
        factors.transport[:, None] * rise, factors.shear[:, None] * turn, objective.sinc_power
    )
    return 1 - f.min(axis=1)


def fields_of_tile(
    curves: Curves,
    factors: AngleFactors,
    sinc_power: int,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
) -> Floats:
    """g of K angles between rows (R,) of earlier frames and columns (C,) of later ones, (K, R, C).

    Frames beyond the last count as the last. The exponential, and sines and cosines, of a
    difference are products of those of the two frames.
    """
    i, j = (np.minimum(at, len(curves.transport) - 1) for at in (rows, cols))
    s, gamma = curves.transport, curves.shear
    half = factors.transport[:, None] / 2
    middle = (s[i[-1]] + s[j[0]]) / 2
    left, right = (
        np.exp(np.minimum(half * each, LARGEST_EXPONENT)) for each in (s[i] - middle, middle - s[j])
    )
    g = left[:, :, None] * right[:, None, :]
    if i[-1] > j[0]:
        np.minimum(g, 1.0, out=g)
    if not np.any(factors.shear) or not np.any(gamma):
        return g
    turns = [factors.shear[:, None] * (gamma[at] - gamma[i[-1]]) for at in (i, j)]
    (sin_i, sin_j), (cos_i, cos_j) = map(np.sin, turns), map(np.cos, turns)
    phase = turns[1][:, None, :] - turns[0][:, :, None]
    sinc = sin_j[:, None, :] * cos_i[:, :, None]
    sinc -= cos_j[:, None, :] * sin_i[:, :, None]
    small = np.abs(phase) <= SMALL_PHASE
    if np.any(small):
        square = phase[small] ** 2
        phase[small] = 1.0
        sinc /= phase
        sinc[small] = _sinc_series(square)
    else:
        sinc /= phase
    for _ in range(sinc_power // 2):
        g *= sinc
    return g
