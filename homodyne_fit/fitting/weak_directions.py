r"""What the data fix and what they do not.

Near the solution the cost is a quadratic form. With the searched coordinates y, the scaling
coordinates z, and the Gauss-Newton Hessian H of both, the scaling follows a step dy at its best by

.. math:: dz = -H_{zz}^{-1} H_{zy}\,dy,

and :math:`\chi^2 = 2\,\mathrm{cost}/\sigma^2` changes by

.. math:: \Delta\chi^2 = (2\,g^T dy + dy^T (H_{yy} - H_{yz} H_{zz}^{-1} H_{zy})\,dy) / \sigma^2,

where the gradient g vanishes unless a limit holds the solution. Noise that points share makes the
same step less noticeable: the rise is multiplied by :math:`dy^T C^{-1} dy / dy^T C_w^{-1} dy`, with
the covariances of y for the noise found and for independent points. (A contrast or offset at a
limit follows inwards only, and its gradient counts.) Directions are eigenvectors of the reduced
Hessian in the parameters x, scaled to unit diagonal. They are followed along a straight
line in y rather than in x: there the valleys of the cost are straight
(`homodyne_fit.model.coordinates`), and the quadratic form holds for steps as long as are told here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from homodyne_fit.fitting.score_noise import NoiseOfPoints
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.rates import rates
from nlsq_stratified import Equations, covariance_of

__all__ = [
    "LEAST_CHANGE",
    "WeakDirection",
    "characteristic_changes",
    "find_directions",
    "hardly_determined",
    "parameter_factor",
]


# Eigenvalue of the scaled Hessian, relative to the largest, below which a direction is called
# weak: parameters can move along it by 100 times what each alone could.
WEAK_EIGENVALUE = 1e-4

# Or one along which a step raises chi-squared by less than this.
NOTICED_RISE = 1.0

# Smaller components of a direction are left out.
LEAST_COMPONENT = 0.05

# A parameter is hardly determined if a weak direction has at least this component of it and
# changes it by at least this share of its characteristic change.
NAMED_COMPONENT = 0.1
NAMED_CHANGE = 0.005

# Changes by smaller shares of the characteristic change do not count.
LEAST_CHANGE = 1e-3

# A direction is followed until a parameter, or the mean contrast, has changed by this share of
# its scale.
STEP = 0.1

# Characteristic changes of an exponent, and of a direction in degrees.
EXPONENT_SCALE = 1.0
ANGLE_SCALE = 10.0


@dataclass(frozen=True)
class WeakDirection:
    """A direction in which parameters can move together, and a step along it.

    Attributes
    ----------
    eigenvalue : float
        Of the scaled Hessian.
    direction : dict of str to float
        Components, in units of what each parameter alone could vary.
    changes : dict of str to float
        Of the searched parameters over the step, in their units.
    contrast_changes, offset_changes : (K,) tuple of float
        Over the same step, contrast and offset at their best.
    delta_chi2 : float
        Rise of chi-squared over the step; infinite where the data are exact.
    """

    eigenvalue: float
    direction: dict[str, float]
    changes: dict[str, float]
    contrast_changes: tuple[float, ...]
    offset_changes: tuple[float, ...]
    delta_chi2: float

    @property
    def within_noise(self) -> bool:
        """Whether the data do not notice the step."""
        return self.delta_chi2 < NOTICED_RISE

    def to_json(self) -> dict[str, Any]:
        """As in ``parameters.json``; `delta_chi2` is null where it is not finite."""
        return {
            "eigenvalue": self.eigenvalue,
            "direction": self.direction,
            "changes": {
                **self.changes,
                "contrast": float(np.mean(self.contrast_changes)),
                "offset": float(np.mean(self.offset_changes)),
            },
            "contrast_changes": list(self.contrast_changes),
            "offset_changes": list(self.offset_changes),
            "delta_chi2": self.delta_chi2 if np.isfinite(self.delta_chi2) else None,
        }


def parameter_factor(
    space: SearchSpace, y: NDArray[np.float64], state: Equations
) -> NDArray[np.float64]:
    """Square root of the Hessian in the searched parameters x, (m, m).

    Parameters
    ----------
    y : (m,) array
        Searched coordinates.
    state : Equations
        Normal equations in these, contrast and offset at their best.
    """
    return state.linear_problem()[0] @ np.linalg.pinv(space.jacobian(y)[space.searched])


def find_directions(
    solution: Solution, at_bound: NDArray[np.bool_], noise: NoiseOfPoints
) -> tuple[list[WeakDirection], WeakDirection | None]:
    """Return the weak directions, strongest first, and the weakest of all, weak or not.

    A direction is weak if its eigenvalue is, or if contrast and offset make up for the whole
    step within the noise: the scaled Hessian, in which they are eliminated, does not show that.

    Parameters
    ----------
    solution : Solution
        Parameters that its space holds at a bound do not take part.
    at_bound : (p,) bool
        Parameters that sit at a bound: directions lead away from it.
    noise : NoiseOfPoints
    """
    space, y = solution.space, solution.result.x
    if not (len(y) and np.all(np.isfinite(space.jacobian(y)))):
        return [], None
    factor = parameter_factor(space, y, solution.joint.reduced())
    norms = np.linalg.norm(factor, axis=0)
    scale = np.where(norms > 0, norms, 1.0)
    hessian = covariance_of(factor, np.ones(len(y), dtype=bool))
    rise_ratio = noise.rise_ratio(solution)
    scales = characteristic_changes(space, y, solution.objective.dt)
    # Where a parameter moves the coordinates by rounding errors only, it cannot be followed.
    to_coordinates = np.linalg.pinv(space.jacobian(y)[space.searched])
    directions = [
        _direction(
            solution,
            scales,
            at_bound,
            noise.variance,
            rise_ratio,
            value,
            direction,
            direction / scale,
        )
        for value, direction in zip(hessian.eigenvalues, hessian.directions, strict=True)
        if np.any(to_coordinates @ (direction / scale))
    ]
    if not directions:
        return [], None
    least = WEAK_EIGENVALUE * hessian.eigenvalues[0]
    weak = [one for one in directions if one.eigenvalue < least or one.within_noise]
    return weak, directions[-1]


def hardly_determined(
    space: SearchSpace,
    y: NDArray[np.float64],
    dt: float,
    weak_directions: Sequence[WeakDirection],
) -> list[str]:
    """Parameters with a notable part in a weak direction, and a notable change along it."""
    names, scales = space.model.parameters, characteristic_changes(space, y, dt)
    return [
        name
        for name, scale in zip(names, scales, strict=True)
        if any(
            abs(weak.direction.get(name, 0.0)) >= NAMED_COMPONENT
            and abs(weak.changes[name]) >= NAMED_CHANGE * scale
            for weak in weak_directions
        )
    ]


def _direction(
    solution: Solution,
    scales: NDArray[np.float64],
    at_bound: NDArray[np.bool_],
    variance: float,
    rise_ratio: Callable[[NDArray[np.float64]], float],
    eigenvalue: float,
    components: NDArray[np.float64],
    step: NDArray[np.float64],
) -> WeakDirection:
    """One direction (m,) of the searched parameters; `step` is the same in their units.

    `scales` (p,) are the characteristic changes of all parameters.
    """
    space, half = solution.space, solution.objective.scaling.n_angles
    sign = _orientation(solution, scales, at_bound, components, step)
    dy, parameters, scaling, rise = _follow(solution, scales, sign * step)
    names = np.array(space.model.parameters)[space.searched].tolist()
    return WeakDirection(
        eigenvalue=float(eigenvalue),
        direction={
            name: round(float(x), 3)
            for name, x in zip(names, sign * components, strict=True)
            if abs(x) >= LEAST_COMPONENT
        },
        changes=dict(zip(names, parameters[space.searched].tolist(), strict=True)),
        contrast_changes=tuple(scaling[:half].tolist()),
        offset_changes=tuple(scaling[half:].tolist()),
        delta_chi2=float(rise / variance * rise_ratio(dy)) if variance > 0 else np.inf,
    )


def _orientation(
    solution: Solution,
    scales: NDArray[np.float64],
    at_bound: NDArray[np.bool_],
    direction: NDArray[np.float64],
    step: NDArray[np.float64],
) -> float:
    """The sign that leads away from a bound; else the one by which the largest part grows."""
    space, x = solution.space, solution.parameters
    inward = np.where(x < (space.lower + space.upper) / 2, 1.0, -1.0)
    shares = (step / scales[space.searched]) * inward[space.searched]
    counted = np.abs(shares) * STEP >= LEAST_CHANGE * np.max(np.abs(shares))
    bound = at_bound[space.searched] & counted
    if np.any(bound):
        shares = np.where(bound, shares, 0.0)
        return float(np.sign(shares[np.argmax(np.abs(shares))])) or 1.0
    return float(np.sign(direction[np.argmax(np.abs(direction))])) or 1.0


def characteristic_changes(
    space: SearchSpace, y: NDArray[np.float64], dt: float
) -> NDArray[np.float64]:
    """A change of each parameter (p,) that changes what it describes by all of it.

    A prefactor is its own scale. The constant part of a rate is measured against the rate at
    mid-measurement where that is larger, for the constant part may vanish.
    """
    x = space.to_parameters(y)
    values, _ = rates(space.model_in_coordinates, space.complete(y), space.tau, space.tau, dt)
    scales = np.full(len(x), ANGLE_SCALE)
    for law, (rate,) in zip(space.power_laws, values, strict=False):
        scales[law : law + 3] = abs(x[law]), EXPONENT_SCALE, max(abs(x[law + 2]), rate)
    return np.where(scales > 0, scales, 1.0)


def _follow(
    solution: Solution, scales: NDArray[np.float64], step: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    """Go along `step` (m,), in units of the searched parameters, as far as `STEP` says.

    Returns the changes of the searched coordinates (m,), of all parameters (p,), those of contrast
    and offset (2K,), and the rise of twice the cost.
    """
    space, y = solution.space, solution.result.x
    dy = np.linalg.pinv(space.jacobian(y)[space.searched]) @ step
    dy = dy * _length(solution, scales, dy)
    dz = _response(solution, dy)
    share = _contrast_share(solution, solution.objective.scaling.matrix @ dz)
    if share > STEP:
        dy = dy * (STEP / share)
        dz = _response(solution, dy)
    both, equations = np.concatenate([dy, dz]), solution.joint.equations
    rise = 2 * equations.gradient @ both + np.sum((equations.linear_problem()[0] @ both) ** 2)
    changes = space.to_parameters(y + dy) - space.to_parameters(y)
    return dy, changes, solution.objective.scaling.matrix @ dz, float(rise)


def _response(solution: Solution, dy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Change of z (k,) that follows `dy` (m,) at its best.

    A contrast or offset at a limit moves inwards only: z minimises ``|A z - b|`` under
    ``G z >= 0``, in the coordinates in which A is a rotation.
    """
    factor, target = solution.joint.equations.linear_problem()
    of_z, rest = factor[:, len(dy) :], target - factor[:, : len(dy)] @ dy
    left, singular, rows = np.linalg.svd(of_z, full_matrices=False)
    kept = singular > len(singular) * np.finfo(float).eps * np.max(singular, initial=0.0)
    outward = (rows[kept] / singular[kept, None]).T
    best = left[:, kept].T @ rest
    held = solution.joint.limits != 0
    inward = -solution.joint.limits[held, None] * (
        solution.objective.scaling.matrix[held] @ outward
    )
    if len(inward):
        # The nearest point of a cone: what is missing is a positive sum of its normals.
        best = best + inward.T @ scipy.optimize.nnls(inward.T, -best)[0]
    return outward @ best


def _contrast_share(solution: Solution, change: NDArray[np.float64]) -> float:
    """Relative change of the mean contrast by a change of the scaling (2K,)."""
    half = solution.objective.scaling.n_angles
    mean = float(np.mean(solution.scaling[:half]))
    return abs(float(np.mean(change[:half]))) / mean if mean > 0 else 0.0


def _length(solution: Solution, scales: NDArray[np.float64], dy: NDArray[np.float64]) -> float:
    """Multiple of `dy` at which the first parameter has changed by `STEP` of its scale."""
    space, y = solution.space, solution.result.x
    start = space.to_parameters(y)

    def excess(length: float) -> bool:
        changes = np.abs(space.to_parameters(y + length * dy) - start) / scales
        return not np.max(changes) < STEP

    low, high = 0.0, STEP / np.max(np.abs(space.jacobian(y) @ dy) / scales)
    while not excess(high):
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) else (middle, high)
    return low
