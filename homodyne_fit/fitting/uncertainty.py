"""From the normal equations at the solution to values, standard errors and identifiability."""

from __future__ import annotations

import numpy as np

from homodyne_fit.fitting.adequacy import Adequacy
from homodyne_fit.fitting.result import Estimate, FitInfo, FitResult, Uncertainty
from homodyne_fit.fitting.score_noise import NoiseOfPoints, covariance_of_solution
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.fitting.weak_directions import find_directions, parameter_factor
from homodyne_fit.model.parameters import PARAMETERS
from nlsq_stratified import covariance_of

__all__ = ["assemble_result"]


def assemble_result(
    solution: Solution,
    released: Solution,
    opened: Solution,
    noise: NoiseOfPoints,
    adequacy: Adequacy,
    info: FitInfo,
) -> FitResult:
    """Turn the solution and the joint normal equations there into a result.

    Parameters
    ----------
    solution : Solution
        The solution.
    released : Solution
        The same point where nothing is held or kept at a limit, and no rate is constant, of which
        the errors of parameters are made: one that holds only with another parameter at its bound,
        or with an exponent of exactly 0, would be too small.
    opened : Solution
        The same where all that is assumed to be 0 is searched, of which the errors of the rates are
        made: they do not hold only for the form that was taken.
    noise : NoiseOfPoints
        Of which the errors are made.
    adequacy : Adequacy
    info : FitInfo
    """
    space, y, joint = released.space, released.result.x, released.joint
    scaling = released.objective.scaling.matrix
    p, m = len(space.fixed), len(y)
    inverse = covariance_of_solution(released, noise)
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
    at_bound = np.concatenate(
        [solution.space.at_limit(solution.result.active), solution.joint.limits != 0]
    )
    fixed = np.concatenate([~np.isnan(solution.space.fixed), ~np.any(scaling, axis=1)])
    outward[at_bound | fixed] = 0.0
    undetermined &= ~(at_bound | fixed)
    outward_root = outward @ root
    stderr = np.where(undetermined, np.inf, np.linalg.norm(outward_root, axis=1))
    if noise.speckle is None:
        widening = np.ones(len(stderr))
    else:
        white = outward @ covariance_of_solution(released, noise.white).root
        with np.errstate(invalid="ignore", divide="ignore"):
            widening = stderr / np.linalg.norm(white, axis=1)

    stderr[at_bound | fixed] = np.nan
    widening[~np.isfinite(stderr)] = np.nan

    values = np.concatenate([solution.parameters, solution.scaling])
    half = len(scaling) // 2
    pairs = [(kind, k) for kind in ("contrast", "offset") for k in range(half)]
    kinds = [*space.model.parameters, *(kind for kind, _ in pairs)]
    estimates = [
        Estimate(float(v), float(e), PARAMETERS[name].unit, bool(b), bool(f))
        for name, v, e, b, f in zip(kinds, values, stderr, at_bound, fixed, strict=True)
    ]
    of_rates, searched = covariance_of_solution(opened, noise), len(opened.result.x)
    weak_directions, weakest = find_directions(released, at_bound[:p], noise)
    return FitResult(
        model=space.model,
        parameters=dict(zip(space.model.parameters, estimates, strict=False)),
        contrast=tuple(estimates[p : p + half]),
        offset=tuple(estimates[p + half :]),
        names=(*space.model.parameters, *(f"{kind}[{k}]" for kind, k in pairs)),
        root=outward_root,
        undetermined=undetermined,
        space=opened.space,
        coordinates=opened.result.x,
        coordinates_root=of_rates.root[:searched],
        coordinates_null=of_rates.null[:searched],
        cost=0.5 * joint.sum_of_squares,
        noise=float(np.sqrt(solution.variance)),
        uncertainty=Uncertainty(
            "speckle" if noise.speckle else "white", widening, noise.speckle, noise.notes
        ),
        n_points=joint.equations.n_points,
        info=info,
        objective=opened.objective,
        condition_number=_physics_condition(released),
        weak_directions=weak_directions,
        weakest=weakest,
        adequacy=adequacy,
    )


def _physics_condition(solution: Solution) -> float:
    """Of the Hessian in the parameters that are not fixed, contrast and offset at their best."""
    space, y = solution.space, solution.result.x
    if not np.all(np.isfinite(space.jacobian(y))):
        return np.inf  # the prefactor and the constant part of a constant rate
    factor = parameter_factor(space, y, solution.joint.reduced())
    return covariance_of(factor, np.ones(len(y), dtype=bool)).condition
