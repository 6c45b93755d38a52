r"""Contrast and offset: eliminated exactly, in every mode, by linear algebra on the moments.

The model is linear in the scaling, :math:`c_2 = \text{contrast}_k f_k + \text{offset}_k`. A mode
is a matrix B with ``(contrast, offset) = B z``. At given physics the best z solves a small linear
least-squares problem (in a box where contrast and offset have limits), and the cost as a
function of the physics alone has the gradient of the full cost and, to Gauss-Newton order, the
Schur complement of its Hessian: variable projection (G. Golub and V. Pereyra, *Inverse Problems*
19, R1, 2003; the Hessian in L. Kaufman's form, *BIT* 15, 49, 1975). A z component held at its
limit is a constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from homodyne_fit.errors import InputError, suggestion
from nlsq_stratified import NormalEquations

__all__ = ["MODES", "JointEquations", "ScalingMap", "eliminate", "scaling_map"]

MODES = ("individual", "averaged")


@dataclass(frozen=True, eq=False)
class ScalingMap:
    """``(contrast_1..K, offset_1..K) = matrix @ z`` within limits.

    Attributes
    ----------
    mode : str
    matrix : (2K, m) array
    lower, upper : (m,) array
        Limits of z.
    """

    mode: str
    matrix: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class JointEquations:
    """The normal equations in physics and z together, at the best z.

    Attributes
    ----------
    z : (m,) array
    active : (m,) int
        -1 or 1 where z is held at its lower or upper limit.
    equations : NormalEquations
        In the p physics parameters, then z.
    """

    z: NDArray[np.float64]
    active: NDArray[np.int64]
    equations: NormalEquations

    def reduced(self) -> NormalEquations:
        """Normal equations in the physics alone: z follows at its best."""
        joint, p = self.equations, len(self.equations.gradient) - len(self.z)
        free = p + np.flatnonzero(self.active == 0)
        hessian = joint.hessian[:p, :p]
        if joint.finite:
            cross = joint.hessian[:p, free]
            inner = np.linalg.pinv(joint.hessian[np.ix_(free, free)], hermitian=True)
            hessian = hessian - cross @ inner @ cross.T
        return NormalEquations(joint.cost, joint.gradient[:p], hessian, joint.n_points)


def scaling_map(
    mode: str, n_angles: int, contrast: tuple[float, float], offset: tuple[float, float]
) -> ScalingMap:
    """Build the map of a mode.

    Parameters
    ----------
    mode : {'individual', 'averaged'}
        A pair for each angle, or one pair for all.
    n_angles : int
    contrast, offset : (lower, upper)
        Limits.

    Raises
    ------
    InputError
        If the mode is unknown.
    """
    if mode == "individual":
        matrix = np.eye(2 * n_angles)
    elif mode == "averaged":
        matrix = np.repeat(np.eye(2), n_angles, axis=0)
    else:
        raise InputError(
            f"per-angle mode '{mode}' is not available{suggestion(mode, MODES)}: "
            f"use one of {', '.join(MODES)}"
        )
    half = matrix.shape[1] // 2
    lower, upper = (np.repeat([contrast[i], offset[i]], half) for i in (0, 1))
    return ScalingMap(mode, matrix, lower, upper)


def eliminate(
    moments: NDArray[np.float64], reference: NDArray[np.float64], scaling: ScalingMap
) -> JointEquations:
    """Solve for z and assemble the joint normal equations there.

    Parameters
    ----------
    moments : (K, p + 3, p + 3) array
        Of the columns [∂f/∂θ, f, 1, c2 - reference].
    reference : (K,) array
    scaling : ScalingMap
    """
    n_angles, size = moments.shape[:2]
    p = size - 3
    b = scaling.matrix.reshape(2, n_angles, -1)

    def design(k: int) -> NDArray[np.float64]:
        """The (f, 1) columns of angle k in terms of z: (2, m)."""
        return b[:, k, :]

    # c2 - reference = contrast f + (offset - reference): the constant goes to the right side.
    shift = np.zeros((n_angles, size))
    shift[:, p + 1], shift[:, p + 2] = reference, 1.0
    target = np.einsum("kij,kj->ki", moments, shift)
    normal = sum(
        design(k).T @ moments[k, p : p + 2, p : p + 2] @ design(k) for k in range(n_angles)
    )
    right = sum(design(k).T @ target[k, p : p + 2] for k in range(n_angles))
    z, active = _bounded_solution(np.asarray(normal), np.asarray(right), scaling)

    contrast, offset = (scaling.matrix @ z).reshape(2, n_angles)
    # Residual = contrast f + offset - c2, as coefficients on the columns of the moments.
    residual = np.zeros((n_angles, size))
    residual[:, p], residual[:, p + 1], residual[:, p + 2] = contrast, offset - reference, -1.0
    jacobian = np.zeros((n_angles, size, p + len(z)))
    jacobian[:, np.arange(p), np.arange(p)] = contrast[:, None]
    jacobian[:, p : p + 2, p:] = np.moveaxis(b, 0, 1)
    on_residual = np.einsum("kij,kj->ki", moments, residual)
    equations = NormalEquations(
        0.5 * np.maximum(0.0, np.einsum("ki,ki->", residual, on_residual)),
        np.einsum("kia,ki->a", jacobian, on_residual),
        np.einsum("kia,kij,kjb->ab", jacobian, moments, jacobian),
        int(np.rint(np.nan_to_num(moments[:, p + 1, p + 1].sum()))),
    )
    return JointEquations(z, active, equations)


def _bounded_solution(
    normal: NDArray[np.float64], right: NDArray[np.float64], scaling: ScalingMap
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Minimise ½ zᵀ normal z − rightᵀ z within the limits; say which limits hold z."""
    if not (np.all(np.isfinite(normal)) and np.all(np.isfinite(right))):
        return np.full_like(right, np.nan), np.zeros(len(right), dtype=np.int64)
    d = np.sqrt(np.diag(normal))
    d = np.where(d > 0, d, 1.0)
    values, vectors = np.linalg.eigh(normal / np.outer(d, d))
    keep = values > len(d) * np.finfo(float).eps
    root = np.sqrt(values[keep])
    factor, b = root[:, None] * vectors[:, keep].T, (vectors[:, keep].T @ (right / d)) / root
    z = np.linalg.lstsq(factor, b)[0] / d
    if np.all((z >= scaling.lower) & (z <= scaling.upper)):
        return z, np.zeros(len(z), dtype=np.int64)
    solution = lsq_linear(factor, b, (scaling.lower * d, scaling.upper * d), method="bvls")
    z = np.clip(solution.x / d, scaling.lower, scaling.upper)
    active = np.where(solution.active_mask != 0, solution.active_mask, 0).astype(np.int64)
    return np.where(active < 0, scaling.lower, np.where(active > 0, scaling.upper, z)), active
