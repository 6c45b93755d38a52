r"""Contrast and offset: eliminated exactly, in every mode, by linear algebra on the moments.

The model is linear in the scaling, :math:`c_2 = \text{contrast}_k f_k + \text{offset}_k`. A mode
is a matrix B with ``(contrast, offset) = constant + B z``, and perhaps a quadratic penalty on z.
At given physics the best z within the limits of contrast and offset solves a small linear
least-squares problem, and the cost as a function of the physics alone has the gradient of the
full cost and, to Gauss-Newton order, the Schur complement of its Hessian: variable projection
(G. Golub and V. Pereyra, *Inverse Problems* 19, R1, 2003; the Hessian in L. Kaufman's form, *BIT*
15, 49, 1975). Along a limit that holds, z cannot move.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.errors import InputError, Problem

__all__ = [
    "LEAST_MEAN",
    "TYPICAL_SPREAD",
    "ScalingMap",
    "centering_matrix",
    "fourier_problems",
    "scaling_map",
]

# Spread over the angles that contrast and offset typically have, relative to their means.
TYPICAL_SPREAD = (0.10, 0.02)

# Smallest mean that spreads are compared with.
LEAST_MEAN = 1e-3


@dataclass(frozen=True, eq=False)
class ScalingMap:
    """``(contrast_1..K, offset_1..K) = constant + matrix @ z`` within limits.

    Attributes
    ----------
    mode : str
    matrix : (2K, m) array
    constant : (2K,) array
    lower, upper : (2K,) array
        Limits of the contrasts and offsets.
    penalty_weights : (float, float)
        The cost gains ``½ (w_c Σ(c_k − c̄)² + w_o Σ(o_k − ō)²)``.
    learned : bool
        Whether these weights are those of the most probable spreads over the angles: the spreads
        are then unknowns of the errors.
    """

    mode: str
    matrix: NDArray[np.float64]
    constant: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    penalty_weights: tuple[float, float] = (0.0, 0.0)
    learned: bool = False

    @cached_property
    def penalty_root(self) -> NDArray[np.float64]:
        """D (2K, m) with ``½ |D z|²`` the penalty.

        Squares of differences, since the difference of squares would lose the digits in which
        angles of a strong penalty differ.
        """
        parts = self.matrix.reshape(2, self.n_angles, -1)
        deviations = parts - parts.mean(axis=1, keepdims=True)
        return (np.sqrt(self.penalty_weights)[:, None, None] * deviations).reshape(
            self.matrix.shape
        )

    @property
    def penalty(self) -> NDArray[np.float64]:
        """Curvature that the penalty adds, (m, m)."""
        return self.penalty_root.T @ self.penalty_root

    def penalty_at(self, values: NDArray[np.float64]) -> float:
        """What the cost gains at contrasts, then offsets, (2K,)."""
        parts = values.reshape(2, self.n_angles)
        squares = np.sum((parts - parts.mean(axis=1, keepdims=True)) ** 2, axis=1)
        return 0.5 * float(np.dot(self.penalty_weights, squares))

    @property
    def n_angles(self) -> int:
        """K."""
        return len(self.matrix) // 2

    @property
    def has_learned_spreads(self) -> bool:
        """Whether the angles differ, by spreads that the fit learned."""
        return self.learned and self.n_angles > 1 and all(self.penalty_weights)

    def values(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Contrasts, then offsets, (…, 2K) at z (…, m): on their limits where these hold."""
        return np.clip(self.constant + z @ self.matrix.T, self.lower, self.upper)

    def penalised(self, contrast: float, offset: float, *, learned: bool = False) -> ScalingMap:
        """The same map with other penalty weights."""
        return replace(self, penalty_weights=(float(contrast), float(offset)), learned=learned)

    def select_angles(self, angles: NDArray[np.int64]) -> ScalingMap:
        """The map of some of the angles, without the z that do not matter to them."""
        rows = np.concatenate([angles, self.n_angles + angles])
        matrix = self.matrix[rows]
        return replace(
            self,
            matrix=matrix[:, np.any(matrix, axis=0)],
            constant=self.constant[rows],
            lower=self.lower[rows],
            upper=self.upper[rows],
        )


def centering_matrix(n_angles: int) -> NDArray[np.float64]:
    """C with ``vᵀ C v = Σ(v_k − v̄)²``, (K, K)."""
    return np.eye(n_angles) - 1 / n_angles


def fourier_problems(order: int, n_angles: int) -> Iterator[Problem]:
    """Whether the angles are too few for a Fourier series of this order."""
    needed = 1 + 2 * order
    if n_angles < needed:
        yield Problem(
            "fourier_order",
            f"a series of order {order} needs at least {needed} angles, but {n_angles} are used; "
            "lower it, or take another per_angle_mode",
        )


def scaling_map(
    mode: str,
    *,
    phi: NDArray[np.float64],
    contrast: tuple[float, float],
    offset: tuple[float, float],
    held: NDArray[np.float64] | None = None,
    order: int = 2,
) -> ScalingMap:
    """Build the map of a mode.

    Parameters
    ----------
    mode : {'individual', 'averaged', 'constant', 'fourier'}
        A pair for each angle, one pair for all, the pairs `held`, or a Fourier series in φ.
    phi : (K,) array
        Degrees.
    contrast, offset : (lower, upper)
        Limits.
    held : (2K,) array
        Contrasts, then offsets, of the mode 'constant'.
    order : int
        Of the Fourier series: ``1, cos φ, sin φ, … cos(order φ), sin(order φ)``.

    Raises
    ------
    InputError
        If there are fewer angles than coefficients of the series.
    """
    n_angles = len(phi)
    constant = np.zeros(2 * n_angles)
    if mode == "averaged":
        matrix = np.kron(np.eye(2), np.ones((n_angles, 1)))
    elif mode == "constant":
        assert held is not None
        matrix, constant = np.zeros((2 * n_angles, 0)), held
    elif mode == "fourier":
        problems = list(fourier_problems(order, n_angles))
        if problems:
            raise InputError(problems)
        harmonics = np.deg2rad(phi)[:, None] * np.arange(1, order + 1)
        series = [np.ones((n_angles, 1)), np.cos(harmonics), np.sin(harmonics)]
        matrix = np.kron(np.eye(2), np.concatenate(series, axis=1))
    else:
        matrix = np.eye(2 * n_angles)
    lower, upper = (np.repeat([contrast[i], offset[i]], n_angles) for i in (0, 1))
    return ScalingMap(mode, np.asarray(matrix, np.float64), constant, lower, upper)
