r"""Exact linear least squares in a box: the step of the solver within the bounds.

The problem is :math:`\min \tfrac12 |A s - b|^2` over :math:`l \le s \le u`. It is convex, so s
solves it if and only if the gradient :math:`w = A^T (A s - b)` vanishes for every component
between its bounds and points out of the box for every component at one. An active-set method
(C. Lawson and R. Hanson, *Solving least squares problems*, chapter 23; P. Stark and R. Parker,
*Computational Statistics* 10, 129, 1995) ends there after a finite number of steps. Columns are
scaled to unit norm, and a component of w counts as zero where it is below its own rounding error,
so units and the distance between the box and the minimum without bounds do not matter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["possible_decrease", "solve_in_box"]

# Relative rounding error of each term in a scalar product; smaller values count as zero.
ROUNDING = 4 * np.finfo(float).eps

# Largest number of changes of the active set for each unknown; then the last point is returned.
MOST_CHANGES = 50


def solve_in_box(
    matrix: NDArray[np.float64],
    target: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The s (p,) in the box that minimises ``|matrix @ s - target|``.

    If there are several, it is the one of smallest scaled length that the method has found.

    Parameters
    ----------
    matrix : (m, p) array
    target : (m,) array
    lower, upper : (p,) array
        ``lower <= upper``; infinite where there is no bound.
    """
    columns, scale = _unit_columns(matrix)
    with np.errstate(over="ignore"):
        low, high = lower * scale, upper * scale
    x = _solve_scaled(columns, target, low, high)
    s = np.where(x <= low, lower, np.where(x >= high, upper, x / scale))
    return np.minimum(np.maximum(s, lower), upper)


def possible_decrease(
    matrix: NDArray[np.float64],
    target: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    s: NDArray[np.float64],
) -> float:
    r"""Upper bound for the decrease of ``½|matrix @ s - target|²`` from s, within the box.

    Apart from rounding, it is zero if and only if s is the solution. A step d changes the sum by
    :math:`w^T d + \tfrac12 |A d|^2`, which is convex. Each component of w is bounded either by the
    least value of :math:`w_j d_j` in the box or by :math:`-\tfrac12 |A^{-T} w|^2`, whichever bound
    is closer.
    """
    columns, scale = _unit_columns(matrix)
    w = columns.T @ (columns @ (s * scale) - target)
    room = np.where(w > 0, s - lower, upper - s) * scale
    linear = np.zeros_like(w)
    linear[w != 0] = np.abs(w[w != 0]) * np.maximum(room[w != 0], 0.0)
    by_curvature = linear > w**2
    rest = np.linalg.lstsq(columns.T, np.where(by_curvature, w, 0.0), rcond=None)[0]
    return float(linear[~by_curvature].sum() + 0.5 * rest @ rest)


def _unit_columns(
    matrix: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    norms = np.sqrt(np.einsum("ij,ij->j", matrix, matrix))
    scale = np.where(norms > 0, norms, 1.0)
    return matrix / scale, scale


def _solve_scaled(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> NDArray[np.float64]:
    """`solve_in_box` for columns of unit norm."""
    movable = low < high
    x = np.minimum(np.maximum(0.0, low), high)
    x = x + _step_to_minimum(a, b, x, movable)
    if np.all((low <= x) & (x <= high)):
        return x
    free = movable & (low < x) & (x < high)
    x = np.clip(x, low, high)
    barred = ~movable
    for _ in range(MOST_CHANGES * len(x)):
        x, free = _minimum_on_face(a, b, low, high, x, free)
        released = _to_release(a, b, low, x, free | barred)
        if released is None:
            break
        step = _step_to_minimum(a, b, x, free | _only(released, len(x)))
        inward = step[released] > 0 if x[released] <= low[released] else step[released] < 0
        if inward:
            free[released], barred = True, ~movable
        else:
            # The sign of its multiplier was a rounding error.
            barred = barred | _only(released, len(x))
    return x


def _only(index: int, length: int) -> NDArray[np.bool_]:
    return np.arange(length) == index


def _step_to_minimum(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    x: NDArray[np.float64],
    free: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """The shortest step from x to the minimum over the free components, without the bounds."""
    if free.all():
        return np.linalg.lstsq(a, b - a @ x, rcond=None)[0]
    step = np.zeros_like(x)
    if free.any():
        step[free] = np.linalg.lstsq(a[:, free], b - a @ x, rcond=None)[0]
    return step


def _minimum_on_face(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    x: NDArray[np.float64],
    free: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The minimum over the free components; a component that meets a bound is fixed there."""
    while np.any(free):
        step = _step_to_minimum(a, b, x, free)
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(step > 0, (high - x) / step, (low - x) / step)
        room = np.where(free & (step != 0), room, np.inf)
        way = float(room.min())
        if way > 1:
            return np.clip(x + step, low, high), free
        met = room <= way
        x = np.clip(x + way * step, low, high)
        x = np.where(met, np.where(step > 0, high, low), x)
        free = free & ~met
    return x, free


def _to_release(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    low: NDArray[np.float64],
    x: NDArray[np.float64],
    kept: NDArray[np.bool_],
) -> int | None:
    """The component at a bound for which the sum falls most steeply inwards, or None."""
    slopes = a.T @ (a @ x - b)
    sizes = np.abs(a).T @ (np.abs(a) @ np.abs(x) + np.abs(b))
    outward = np.where(x <= low, slopes, -slopes)
    outward = np.where(kept | (outward >= -ROUNDING * len(b) * sizes), 0.0, outward)
    steepest = int(np.argmin(outward)) if len(outward) else 0
    return steepest if len(outward) and outward[steepest] < 0 else None
