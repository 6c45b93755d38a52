"""Windows in lag and age: over which residuals are averaged to see where a model fails."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.noise.blocks import Blocks

__all__ = ["Window", "cut_windows", "window_weights"]

Floats = NDArray[np.float64]

# Windows by lag alone, each longer than the one before by a factor.
PROFILE = 10

# Windows by lag and age: so many lags, and so many parts of the measurement.
LAGS, AGES = 4, 3


@dataclass(frozen=True, eq=False)
class Window:
    """A range of lags t2 − t1 and of ages (t1 + t2)/2.

    Attributes
    ----------
    inside : (B, B) bool
        Pairs of blocks in it, in both orders.
    lags, ages : (float, float)
        Least and largest, in frames.
    """

    inside: NDArray[np.bool_]
    lags: tuple[float, float]
    ages: tuple[float, float]


def cut_windows(blocks: Blocks) -> list[Window]:
    """Windows that together hold all pairs of blocks, twice: by lag, and by lag and age."""
    middles = blocks.starts + (blocks.sizes - 1) / 2
    lag = np.abs(middles - middles[:, None])
    lag[np.diag_indices(len(lag))] = (blocks.sizes + 1) / 3
    age = (middles + middles[:, None]) / 2
    last = float(blocks.sizes.sum() - 1)
    shortest = float(np.median(blocks.sizes))
    whole = [0.0, last]
    cuts = [
        *product(pairwise(_edges(shortest, last, PROFILE)), pairwise(whole)),
        *product(pairwise(_edges(shortest, last, LAGS)), pairwise(np.linspace(0, last, AGES + 1))),
    ]
    windows = []
    for (low, high), (early, late) in cuts:
        inside = (lag > low) & (lag <= high) & (age >= early) & ((age < late) | (late >= last))
        if np.any(inside & (blocks.pairs > 0)):
            ages = float(max(early, age[inside].min())), float(min(late, age[inside].max()))
            windows.append(Window(inside, (float(low), float(high)), ages))
    return windows


def _edges(shortest: float, last: float, parts: int) -> Floats:
    """Edges of lags (parts + 1,), of which the first is 0."""
    edges = np.geomspace(min(shortest, last), last, parts + 1)
    edges[0] = 0.0
    return edges


def window_weights(windows: list[Window], counts: Floats) -> Floats:
    """What makes means over windows of sums over pairs of blocks, (K, t, B, B).

    Zero where a window holds no point.

    Parameters
    ----------
    windows : list of t Window
    counts : (K, B, B) array
        Points in each pair of blocks, in both orders.
    """
    inside = np.stack([window.inside for window in windows]).astype(np.float64)
    points = np.einsum("tij,kij->kt", inside, counts) / 2
    return (
        inside
        * np.divide(1.0, points, out=np.zeros_like(points), where=points > 0)[..., None, None]
    )
