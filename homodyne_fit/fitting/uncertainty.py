r"""From the normal equations at the solution to values, standard errors and identifiability.

Where the data do not ask for an exponent or a constant part, it is taken to be 0, which is not to
say that it is. The error of a quantity by the simpler form alone is too small by the bias that this
brings; and the larger form's error alone is too small where the form taken is only just not
rejected: of intervals of 95 % as few as 70 % would hold for an exponent of two standard errors, and
26 % for a constant part of two. So the square of the error is the larger of

.. math:: \sigma_L^2 \quad\text{and}\quad \sigma_S^2 + d^2,

where σ_L and σ_S are the errors by the larger and by the simpler form, and d is the distance
between their estimates. The covariance of the larger form is that of the simpler one and U Uᵀ,
where U = C_e L⁻ᵀ belongs to the parameters e that were left out, with C_ee = L Lᵀ; and d = U w,
where w are their values in standard errors. So a column of U counts max(1, w²) times: more columns
of the square root of the covariance. In the worst case, of a value of two standard errors, 81 % of
the intervals of 95 % hold.

S. T. Buckland, K. P. Burnham, N. H. Augustin, *Biometrics* 53, 603 (1997), add the distance between
models to their errors likewise; H. Leeb, B. M. Pötscher, *Econometric Theory* 21, 21 (2005), on
errors after a choice of models.
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
    covariance_at_known_spreads,
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
    if noise.speckle is None and not released.joint.scaling.has_learned_spreads:
        widening = np.ones(len(stderr))
    else:
        white = outward @ covariance_at_known_spreads(released, noise.white).root
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
    """The square root of a covariance, with columns for the distance to the larger form.

    Parameters
    ----------
    root : (m + z, n) array
        Of the larger form where nothing is held.
    larger : Solution
        The solution, with the parameters that the larger form has.
    free : Solution
        The same where nothing is held.
    solution : Solution
    """
    left_out = larger.space.searched & ~solution.space.searched
    if not np.any(left_out):
        return root
    rows = left_out[free.space.searched].nonzero()[0]
    values = step_of_larger_form(larger, free)[rows]
    towards, factor = np.linalg.qr(root[rows].T)
    in_errors = np.linalg.lstsq(factor.T, values)[0]
    further = np.sqrt(np.maximum(in_errors**2 - 1, 0))
    return np.column_stack([root, root @ towards * further])


def _physics_condition(solution: Solution) -> float:
    """Of the Hessian in the parameters that are not fixed, contrast and offset at their best."""
    space, y = solution.space, solution.result.x
    if not np.all(np.isfinite(space.jacobian(y))):
        return np.inf  # the prefactor and the constant part of a constant rate
    factor = parameter_factor(space, y, solution.joint.reduced())
    return covariance_of(factor, np.ones(len(y), dtype=bool)).condition
