"""Windows in lag and age: over which residuals are averaged to see where a model fails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.noise.blocks import Blocks

__all__ = ["Window", "cut_windows", "window_weights"]

Floats = NDArray[np.float64]

# Windows by lag that are cut by age too, those that are not, and parts by age.
LAGS, PROFILE, AGES = 6, 12, 3


@dataclass(frozen=True, eq=False)
class Window:
    """Pairs of blocks, and the lags and ages, in frames, from the least to the largest of them."""

    inside: NDArray[np.bool_]
    lags: tuple[float, float]
    ages: tuple[float, float]


def cut_windows(blocks: Blocks) -> list[Window]:
    middles = blocks.starts + (blocks.sizes - 1) / 2
    lag = np.abs(middles - middles[:, None])
    lag[np.diag_indices(len(lag))] = (blocks.sizes + 1) / 3
    age = (middles + middles[:, None]) / 2
    n = float(blocks.sizes.sum())
    shortest = float(np.median(blocks.sizes))
    windows = []
    last = n - 1
    used = blocks.pairs > 0
    def edges(parts):
        e = np.geomspace(shortest, last, parts + 1)
        e[0], e[-1] = 0, np.inf
        return e
    def add(lo, hi, a0, a1):
        inside = used & (lag > lo) & (lag <= hi) & (age >= a0) & (age < a1)
        if inside.any():
            windows.append(Window(inside, (lo, min(hi, last)), (max(a0, 0.0), min(a1, last))))
    e = edges(PROFILE)
    for lo, hi in zip(e[:-1], e[1:]):
        add(lo, hi, -np.inf, np.inf)
    e = edges(LAGS)
    ages = [-np.inf, last / 3, 2 * last / 3, np.inf]
    for lo, hi in zip(e[:-1], e[1:]):
        for a0, a1 in zip(ages[:-1], ages[1:]):
            add(lo, hi, a0, a1)
    return windows


def window_weights(windows, counts) -> Floats:
    """(K, t, B, B)"""
    masks = np.stack([w.inside for w in windows]).astype(float)
    total = np.einsum("tij,kij->kt", masks, counts) / 2
    return masks[None] / np.maximum(total, 1)[:, :, None, None], total
