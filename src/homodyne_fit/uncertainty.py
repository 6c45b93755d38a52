"""From the normal equations at the solution to values, standard errors and identifiability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.bounded_search import BoundedSolution
from homodyne_fit.coordinates import SearchSpace
from homodyne_fit.identifiability import Solution, parameter_factor, tell_directions
from homodyne_fit.objective import TwoTimeObjective
from homodyne_fit.parameters import PARAMETERS
from homodyne_fit.results import Estimate, FitInfo, FitResult
from homodyne_fit.scaling import JointEquations
from nlsq_stratified import Equations, Spread, spread

__all__ = ["Released", "assemble_result", "physics_spread"]


@dataclass(frozen=True, eq=False)
class Released:
    """The solution in a search space that holds nothing at a limit.

    Attributes
    ----------
    space : SearchSpace
    y : (m,) array
        Its searched coordinates.
    joint : JointEquations
        There.
    """

    space: SearchSpace
    y: NDArray[np.float64]
    joint: JointEquations


def assemble_result(
    objective: TwoTimeObjective,
    solution: BoundedSolution,
    joint: JointEquations,
    physics: Spread,
    info: FitInfo,
    released: Released | None = None,
) -> FitResult:
    """Turn the solution and the joint normal equations there into a result.

    Parameters
    ----------
    objective : TwoTimeObjective
        In the coordinates of the solution.
    solution : BoundedSolution
    joint : JointEquations
        At the solution.
    physics : Spread
        Of the parameters that are not fixed, from `physics_spread`.
    info : FitInfo
    released : Released, optional
        The solution with no parameter held, from which the weak directions are told. When None,
        parameters that are held at a limit take no part in them.
    """
    space, y = solution.space, solution.result.x
    scaling, equations = objective.scaling.matrix, joint.equations
    p, m = len(space.fixed), len(y)
    free = np.concatenate([solution.result.active, joint.active]) == 0
    inverse = spread(equations.linear_problem()[0], free)
    variance = 2 * equations.cost / max(1, equations.n_points - np.count_nonzero(free))
    root = inverse.root * np.sqrt(variance)

    # From (coordinates, z) to (parameters, contrasts, offsets).
    outward = np.zeros((p + len(scaling), m + scaling.shape[1]))
    outward[:p, :m] = space.jacobian(y)
    outward[p:, m:] = scaling
    # Away from a minimum the curvature says nothing about errors.
    undetermined = inverse.lost(outward) | (not info.success)
    outward_root = outward @ root
    stderr = np.where(undetermined, np.inf, np.linalg.norm(outward_root, axis=1))

    at_bound = np.concatenate(
        [space.at_limit(solution.result.active), (scaling != 0) @ (joint.active != 0)]
    )
    fixed = np.concatenate([~np.isnan(space.fixed), np.zeros(len(scaling), bool)])
    stderr[at_bound | fixed] = np.nan

    values = np.concatenate([space.to_parameters(y), scaling @ joint.z])
    half = len(scaling) // 2
    pairs = [(kind, k) for kind in ("contrast", "offset") for k in range(half)]
    kinds = [*space.model.parameters, *(kind for kind, _ in pairs)]
    estimates = [
        Estimate(float(v), float(e), PARAMETERS[name].unit, bool(b), bool(f))
        for name, v, e, b, f in zip(kinds, values, stderr, at_bound, fixed, strict=True)
    ]
    told = released or Released(space, y, joint)
    weak_directions, weakest = tell_directions(
        Solution(
            told.space,
            told.y,
            told.joint,
            scaling,
            values[p:],
            np.sign(scaling @ joint.active).astype(np.int64),
            objective.phi,
            at_bound[:p],
            variance,
            objective.dt,
        )
    )
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
        cost=equations.cost,
        noise=float(np.sqrt(variance)),
        n_points=equations.n_points,
        info=info,
        objective=objective,
        condition_number=physics.condition,
        weak_directions=weak_directions,
        weakest=weakest,
    )


def physics_spread(space: SearchSpace, y: NDArray[np.float64], state: Equations) -> Spread:
    """Spread of the parameters that are not fixed, contrast and offset at their best.

    Parameters
    ----------
    space : SearchSpace
        With nothing held: what the data know of a parameter does not depend on its limits.
    y : (m,) array
        Its searched coordinates.
    state : NormalEquations
        There.
    """
    return spread(parameter_factor(space, y, state), np.ones(len(y), dtype=bool))
