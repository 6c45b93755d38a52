r"""From the normal equations at the solution to values, standard errors and identifiability.

Where the data do not ask for an exponent or a constant part, it is taken to be 0, which is not to
say that it is. The estimate of a quantity by the simpler form is off by its own noise and by a bias
b, of which the two forms' estimates tell: they are a distance d apart, whose expectation is b. The
standard error is that of the larger form and the distance together,

.. math:: \sqrt{\sigma^2 + d^2}.

The error of the simpler form is too small by b. That of the larger form alone is too small where a
form is taken that is only just not rejected: of intervals of 95 % as few as 70 % would hold for an
exponent of two standard errors, and 26 % for a constant part of two; with the distance 93 % or more
hold, whatever the exponent. In the quadratic model d is the change along Newton's step of the
larger form, so that the step is one more column of the square root of the covariance.

S. T. Buckland, K. P. Burnham, N. H. Augustin, *Biometrics* 53, 603 (1997), add the distance between
models to their errors in the same way; H. Leeb, B. M. Pötscher, *Econometric Theory* 21, 21 (2005),
on errors after a choice of models.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.adequacy import Adequacy
from homodyne_fit.fitting.goodness import Goodness
from homodyne_fit.fitting.result import Estimate, FitInfo, FitResult, Uncertainty
from homodyne_fit.fitting.score_noise import (
    NoiseOfPoints,
    covariance_of_solution,
    step_of_larger_form,
)
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.fitting.weak_directions import find_directions, parameter_factor
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.parameters import PARAMETERS
from nlsq_stratified import covariance_of

__all__ = ["assemble_result"]

Floats = NDArray[np.float64]


def assemble_result(
    solution: Solution,
    in_space: Callable[[SearchSpace], Solution],
    unlimited: Callable[[SearchSpace], Solution],
    noise: NoiseOfPoints,
    adequacy: Adequacy,
    goodness: Goodness,
    info: FitInfo,
) -> FitResult:
    """Turn the solution and the joint normal equations there into a result.

    Parameters
    ----------
    solution : Solution
        The solution.
    in_space, unlimited : callable
        The same point in other spaces: by the same coordinates, and where nothing is held or kept
        at a limit; see `homodyne_fit.fitting.search.samples.Sample`.
    noise : NoiseOfPoints
        Of which the errors are made.
    adequacy : Adequacy
    goodness : Goodness
    info : FitInfo
    """
    # No rate is constant for the errors of parameters: one that holds only with another parameter
    # at its bound, or with an exponent of exactly 0, would be too small.
    released = unlimited(solution.space.released)
    # Of which the errors of the rates are made: they do not hold only for the form that was taken.
    opened = unlimited(solution.space.opened)
    space, y, joint = released.space, released.result.x, released.joint
    scaling = released.objective.scaling.matrix
    p, m = len(space.fixed), len(y)
    inverse = covariance_of_solution(released, noise)
    root = _with_distance(inverse.root, in_space(solution.space.with_exponents), released, solution)

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
            widening = np.linalg.norm(outward @ inverse.root, axis=1)
            widening /= np.linalg.norm(white, axis=1)

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
    rates_root = _with_distance(
        of_rates.root, in_space(solution.space.with_assumed), opened, solution
    )
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
        coordinates_root=rates_root[:searched],
        coordinates_null=of_rates.null[:searched],
        scaling_root=scaling @ rates_root[searched:],
        scaling_null=scaling @ of_rates.null[searched:],
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
        goodness=goodness,
    )


def _with_distance(root: Floats, larger: Solution, free: Solution, solution: Solution) -> Floats:
    """The square root of a covariance with one more column, the step to the larger form."""
    if np.array_equal(larger.space.searched, solution.space.searched):
        return root
    return np.column_stack([root, step_of_larger_form(larger, free)])


def _physics_condition(solution: Solution) -> float:
    """Of the Hessian in the parameters that are not fixed, contrast and offset at their best."""
    space, y = solution.space, solution.result.x
    if not np.all(np.isfinite(space.jacobian(y))):
        return np.inf  # the prefactor and the constant part of a constant rate
    factor = parameter_factor(space, y, solution.joint.reduced())
    return covariance_of(factor, np.ones(len(y), dtype=bool)).condition
