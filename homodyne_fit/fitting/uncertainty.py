"""From the normal equations at the solution to values, standard errors and identifiability."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from homodyne_fit.fitting.result import Estimate, FitInfo, FitResult
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.fitting.weak_directions import find_directions, parameter_factor
from homodyne_fit.model.parameters import PARAMETERS
from nlsq_stratified import Covariance, covariance_of

__all__ = ["assemble_result"]


def assemble_result(solution: Solution, released: Solution, info: FitInfo) -> FitResult:
    """Turn the solution and the joint normal equations there into a result.

    Parameters
    ----------
    solution : Solution
        The solution.
    released : Solution
        The solution in a space that holds no parameter at a limit: what the data know of a
        parameter does not depend on its limits.
    info : FitInfo
    """
    space, y, joint = solution.space, solution.result.x, solution.joint
    scaling = solution.objective.scaling.matrix
    p, m = len(space.fixed), len(y)
    inverse = _joint_covariance(solution)
    root = inverse.root

    # From (coordinates, z) to (parameters, contrasts, offsets).
    outward = np.zeros((p + len(scaling), m + scaling.shape[1]))
    outward[:p, :m] = space.jacobian(y)
    outward[p:, m:] = scaling
    # Where a rate is constant, its prefactor moves infinitely fast.
    endless = ~np.all(np.isfinite(outward), axis=1)
    outward[endless] = 0.0
    # Away from a minimum the curvature says nothing about errors.
    undetermined = inverse.lost(outward) | endless | (not info.success)
    outward_root = outward @ root
    stderr = np.where(undetermined, np.inf, np.linalg.norm(outward_root, axis=1))

    at_bound = np.concatenate([space.at_limit(solution.result.active), joint.limits != 0])
    fixed = np.concatenate([~np.isnan(space.fixed), ~np.any(scaling, axis=1)])
    stderr[at_bound | fixed] = np.nan

    values = np.concatenate([solution.parameters, solution.scaling])
    half = len(scaling) // 2
    pairs = [(kind, k) for kind in ("contrast", "offset") for k in range(half)]
    kinds = [*space.model.parameters, *(kind for kind, _ in pairs)]
    estimates = [
        Estimate(float(v), float(e), PARAMETERS[name].unit, bool(b), bool(f))
        for name, v, e, b, f in zip(kinds, values, stderr, at_bound, fixed, strict=True)
    ]
    weak_directions, weakest = find_directions(released, at_bound[:p], solution.variance)
    return FitResult(
        model=space.model,
        parameters=dict(zip(space.model.parameters, estimates, strict=False)),
        contrast=tuple(estimates[p : p + half]),
        offset=tuple(estimates[p + half :]),
        names=(*space.model.parameters, *(f"{kind}[{k}]" for kind, k in pairs)),
        root=outward_root,
        undetermined=undetermined,
        space=space,
        coordinates=y,
        coordinates_root=root[:m],
        coordinates_null=inverse.null[:m],
        cost=0.5 * joint.sum_of_squares,
        noise=float(np.sqrt(solution.variance)),
        n_points=joint.equations.n_points,
        info=info,
        objective=solution.objective,
        condition_number=_physics_condition(released),
        weak_directions=weak_directions,
        weakest=weakest,
    )


def _joint_covariance(solution: Solution) -> Covariance:
    """Covariance of the searched coordinates and z for the noise found.

    The inverse Hessian H, times the noise variance. Where angles are weighted H⁻¹ is not the
    covariance, but H⁻¹ S H⁻¹ is, with S from squared weights; a penalty counts in both, being
    a prior.
    """
    joint, weights = solution.joint, solution.objective.weights
    directions = joint.free_directions(solution.free)
    factor = joint.equations.linear_problem()[0] @ directions
    inverse = covariance_of(factor, np.ones(directions.shape[1], dtype=bool))
    root = inverse.root
    if np.any(weights != weights[0]):
        penalty = np.zeros_like(joint.score_covariance)
        penalty[joint.n_physics :, joint.n_physics :] = joint.scaling.penalty
        ratio = root.T @ directions.T @ (joint.score_covariance + penalty) @ directions @ root
        values, vectors = np.linalg.eigh(ratio)
        root = root @ vectors * np.sqrt(np.maximum(values, 0.0))
    return replace(
        inverse,
        root=directions @ root * np.sqrt(solution.variance),
        null=directions @ inverse.null,
    )


def _physics_condition(released: Solution) -> float:
    """Of the Hessian in the parameters that are not fixed, contrast and offset at their best."""
    if not np.all(np.isfinite(released.space.jacobian(released.result.x))):
        return np.inf  # the prefactor and the constant part of a constant rate
    factor = parameter_factor(released.space, released.result.x, released.joint.reduced())
    return covariance_of(factor, np.ones(len(released.result.x), dtype=bool)).condition
