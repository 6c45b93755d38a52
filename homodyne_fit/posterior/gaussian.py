"""The mode of a posterior, and the normal distribution with its curvature there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from homodyne_fit.posterior.density import Density
from homodyne_fit.posterior.target import Target

__all__ = ["Gaussian", "at_mode"]

Floats = NDArray[np.float64]

# Standard deviation of ξ in a direction that nothing determines: a bounded coordinate is then about
# evenly spread between its bounds.
WIDEST = 2.0

# Half the distance of the gradients that make a curvature, in standard deviations.
DIFFERENCE = 0.3

# Smallest and largest curvature of the mode over that of the first guess.
LEAST_CURVATURE, MOST_CURVATURE = 0.04, 1e4

MOST_STEPS = 200


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A normal distribution of ξ: mean (d,), and a root (d, d) of the covariance."""

    mean: Floats
    root: Floats

    def from_standard(self, w: Floats) -> Floats:
        """ξ of (n, d) standard normal variates."""
        return self.mean + w @ self.root.T


def first_guess(density: Density, start: Floats) -> Gaussian:
    """From the adjustment of the likelihood at its maximum, at y and spreads `start`."""
    adjustment, m = density.adjustment, density.form.n_physics
    xi = density.from_bounded(start)
    slopes = density.slopes(xi)
    to_white = adjustment.to_white * slopes[:m]
    precision = np.eye(len(xi)) / WIDEST**2
    precision[:m, :m] += to_white.T @ adjustment.precision @ to_white
    return Gaussian(xi, _inverse_root(precision))


def at_mode(target: Target, start: Floats) -> Gaussian:
    """Go up from y and spreads `start`, and take the curvature at the mode."""
    guess = first_guess(target.density, start)

    def minus_log(w: Floats) -> tuple[float, Floats]:
        value, gradient = target.value_and_gradient(guess.from_standard(w))
        if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
            return 1e30, np.zeros_like(w)
        return -value, -guess.root.T @ gradient

    found = minimize(
        minus_log,
        np.zeros(len(guess.mean)),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-2, "maxiter": MOST_STEPS},
    )
    w = found.x
    curvature = np.array(
        [
            (minus_log(w + step)[1] - minus_log(w - step)[1]) / (2 * DIFFERENCE)
            for step in DIFFERENCE * np.eye(len(w))
        ]
    )
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    values = np.clip(values, LEAST_CURVATURE, MOST_CURVATURE)
    return Gaussian(guess.from_standard(w[None])[0], guess.root @ (vectors / np.sqrt(values)))


def _inverse_root(precision: Floats) -> Floats:
    size = np.sqrt(np.diag(precision))
    values, vectors = np.linalg.eigh(precision / np.outer(size, size))
    return vectors / size[:, None] / np.sqrt(np.maximum(values, 1e-14))
