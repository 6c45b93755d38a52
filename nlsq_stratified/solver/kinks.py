r"""Minima at kinks of a cost, where the gradient jumps and never vanishes.

Where a model has kinks, the gradients g_i at points close to x differ by more than the curvature
explains. If a convex combination of them vanishes, no step from x lowers the cost by more than what
is gained within their distance (A. Goldstein, *Mathematical Programming* 13, 14, 1977). Otherwise
the shortest combination points down along the kink. Lengths are those of the Hessian
:math:`R^T R`: :math:`|R^{-T} g|`.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

__all__ = ["NearbyGradients"]

# Gradients that are remembered.
MOST_REMEMBERED = 30


class NearbyGradients:
    """Gradients at the points that a search has visited last."""

    def __init__(self) -> None:
        self._visited: deque[tuple[NDArray[np.float64], NDArray[np.float64]]] = deque(
            maxlen=MOST_REMEMBERED
        )

    def add(self, x: NDArray[np.float64], gradient: NDArray[np.float64]) -> None:
        """Remember the gradient (p,) at x (p,)."""
        self._visited.append((x, gradient))

    def shortest(
        self,
        x: NDArray[np.float64],
        gradient: NDArray[np.float64],
        factor: NDArray[np.float64],
        free: NDArray[np.bool_],
        weights: NDArray[np.float64],
        radius: float,
    ) -> NDArray[np.float64] | None:
        """The shortest convex combination of the gradients at x and close to it.

        None where no other point is close.

        Parameters
        ----------
        x, gradient : (p,) array
        factor : (m, p) array
            Square root R of the Hessian.
        free : (p,) bool
            Components that count.
        weights : (p,) array
            A point is close if ``norm(weights * (point - x)) <= radius``.
        radius : float
        """
        close = [g for at, g in self._visited if np.linalg.norm(weights * (at - x)) <= radius]
        if not close:
            return None
        gradients = np.column_stack([gradient, *close])
        reduced = np.linalg.lstsq(factor[:, free].T, gradients[free], rcond=None)[0]
        # In u = t w with Σ w = 1 the least |reduced u|² + (Σ u - 1)² has the w of least length.
        reduced = reduced / max(np.linalg.norm(reduced[:, 0]), np.finfo(float).tiny)
        unit = np.zeros(len(reduced) + 1)
        unit[-1] = 1.0
        shares, _ = nnls(np.vstack([reduced, np.ones(reduced.shape[1])]), unit)
        combined = gradient.copy()
        combined[free] = (gradients @ shares / shares.sum())[free]
        return combined
