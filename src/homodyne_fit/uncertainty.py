"""From the normal equations at the solution to values, standard errors and identifiability."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.bounded_search import BoundedSolution
from homodyne_fit.coordinates import SearchSpace
from homodyne_fit.objective import TwoTimeObjective
from homodyne_fit.parameters import PARAMETERS
from homodyne_fit.results import Estimate, FitInfo, FitResult
from homodyne_fit.scaling import JointEquations
from nlsq_stratified import Equations, Spread, spread

__all__ = ["assemble_result", "physics_spread"]

# Eigenvalue of the scaled Hessian below which a direction is called weak: parameters can move
# along it by 100 times what each alone could.
WEAK_EIGENVALUE = 1e-4


def assemble_result(
    objective: TwoTimeObjective,
    solution: BoundedSolution,
    joint: JointEquations,
    physics: Spread,
    info: FitInfo,
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
        weak_directions=_weak_directions(
            physics, np.array(space.model.parameters)[np.isnan(space.fixed)]
        ),
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
    factor = state.linear_problem()[0]
    factor = factor @ np.linalg.pinv(space.jacobian(y)[space.searched])
    return spread(factor, np.ones(len(y), dtype=bool))


def _weak_directions(physics: Spread, names: NDArray[np.str_]) -> list[dict[str, Any]]:
    """Directions of small eigenvalue, in units of what each parameter alone could vary."""
    weak = []
    for value, direction in zip(physics.eigenvalues, physics.directions, strict=True):
        if value < WEAK_EIGENVALUE * physics.eigenvalues[0]:
            upward = direction * np.sign(direction[np.argmax(np.abs(direction))])
            components = {
                str(name): round(float(x), 3)
                for name, x in zip(names, upward, strict=True)
                if abs(x) >= 0.05
            }
            weak.append({"eigenvalue": float(value), "direction": components})
    return weak
