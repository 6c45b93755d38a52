r"""What the data fix and what they do not, in words.

Near the solution the cost is a quadratic form. With the searched coordinates y, the scaling
coordinates z, and the Gauss-Newton Hessian H of both, the scaling follows a step dy at its best by

.. math:: dz = -H_{zz}^{-1} H_{zy}\,dy,

and :math:`\chi^2 = 2\,\mathrm{cost}/\sigma^2` changes by

.. math:: \Delta\chi^2 = (2\,g^T dy + dy^T (H_{yy} - H_{yz} H_{zz}^{-1} H_{zy})\,dy) / \sigma^2,

where the gradient g vanishes unless a limit holds the solution. (A contrast or offset at a limit
follows inwards only, and its gradient counts.) Directions are eigenvectors of the
reduced Hessian in the parameters x, scaled to unit diagonal. They are followed along a straight
line in y rather than in x: there the valleys of the cost are straight
(`homodyne_fit.coordinates`), and the quadratic form holds for steps as long as are told here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from homodyne_fit.coordinates import SearchSpace
from homodyne_fit.dataset import along_one_line
from homodyne_fit.model import Model, rates
from homodyne_fit.number_format import format_estimate, format_number, listed, with_unit
from homodyne_fit.parameters import PARAMETERS
from homodyne_fit.scaling import JointEquations
from nlsq_stratified import Equations, spread

if TYPE_CHECKING:
    from homodyne_fit.results import Estimate, FitResult

__all__ = ["Solution", "hardly_determined", "parameter_factor", "tell_directions", "warnings"]

# Eigenvalue of the scaled Hessian, relative to the largest, below which a direction is called
# weak: parameters can move along it by 100 times what each alone could.
WEAK_EIGENVALUE = 1e-4
# Or one along which a step raises chi-squared by less than this.
NOTICED_RISE = 1.0
# Components of a direction below this are left out. A parameter is called hardly determined with
# a component of the second, and a change by this share of its scale.
LEAST_COMPONENT, NAMED_COMPONENT, NAMED_CHANGE = 0.05, 0.1, 0.005

# A direction is followed until a parameter, or the mean contrast, has changed by this share of
# its scale.
STEP = 0.1
# What counts as a change by all of itself, where that is not the value.
EXPONENT_SCALE, ANGLE_SCALE = 1.0, 10.0
# Changes below this share of the scale go unsaid, and so do those of contrast and offset below
# this share of the contrast.
UNSAID = 1e-3
# An angle is named whose contrast changes by this much, and so many times more than the mean.
ANGLE_CHANGE, ANGLE_FACTOR = 0.01, 2.0
# Rises of chi-squared below this are not told apart.
LEAST_RISE = 1e-3

# Transport vanishes where q² ∫ J dt over the whole measurement is below the first; the contrast
# is an extrapolation where the correlation falls by less than the second of it, as good as at its
# physical limit above the third, and out of line above that many times the median of the angles.
VANISHING, INCOMPLETE_DECAY, FULL_CONTRAST, OUTLYING_CONTRAST = 0.1, 0.2, 0.9, 2.0

# Relative error at mid-measurement up to which a rate is determined, and error of an exponent
# from which on it is not.
DETERMINED, LOOSE_EXPONENT = 0.1, 0.5


@dataclass(frozen=True, eq=False)
class Solution:
    """Where directions start.

    Attributes
    ----------
    space : SearchSpace
        Parameters it holds at a limit do not take part.
    y : (m,) array
        Its searched coordinates at the solution.
    joint : JointEquations
        There.
    scaling : (2K, k) array
        From z to contrast[0..K-1], offset[0..K-1].
    values : (2K,) array
        These.
    limits : (2K,) int
        -1 or 1 where one of them sits at its lower or upper limit.
    phi : (K,) array
        Degrees.
    at_bound : (p,) bool
        Parameters that sit at a bound.
    variance : float
        Of a residual, σ².
    dt : float
        Frame time, seconds.
    """

    space: SearchSpace
    y: NDArray[np.float64]
    joint: JointEquations
    scaling: NDArray[np.float64]
    values: NDArray[np.float64]
    limits: NDArray[np.int64]
    phi: NDArray[np.float64]
    at_bound: NDArray[np.bool_]
    variance: float
    dt: float


@dataclass(frozen=True, eq=False)
class Move:
    """A step along a direction, and what it does.

    Attributes
    ----------
    parameters : (p,) array
        Changes of the parameters, in their units.
    scaling : (2K,) array
        Changes of contrast[0..K-1], offset[0..K-1].
    delta_chi2 : float
    """

    parameters: NDArray[np.float64]
    scaling: NDArray[np.float64]
    delta_chi2: float


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


def tell_directions(solution: Solution) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The weak directions, and the weakest of all, weak or not; strongest first.

    A direction is weak if its eigenvalue is, or if contrast and offset make up for the whole
    step within the noise: the scaled Hessian, in which they are eliminated, does not show that.

    Each is a mapping for JSON: ``eigenvalue`` of the scaled Hessian; ``direction``, components
    in units of what each parameter alone could vary; ``changes`` of the parameters and of the
    means of contrast and offset, in their units, on the way that ``text`` tells; and
    ``delta_chi2`` there, None where it is not finite.
    """
    space, y = solution.space, solution.y
    if not (len(y) and np.all(np.isfinite(space.jacobian(y)))):
        return [], None
    factor = parameter_factor(space, y, solution.joint.reduced())
    norms = np.linalg.norm(factor, axis=0)
    scale = np.where(norms > 0, norms, 1.0)
    found = spread(factor, np.ones(len(y), dtype=bool))
    told = [
        _tell(solution, value, direction, direction / scale)
        for value, direction in zip(found.eigenvalues, found.directions, strict=True)
    ]
    least = WEAK_EIGENVALUE * found.eigenvalues[0]
    return [one for one in told if one["eigenvalue"] < least or _unnoticed(one)], told[-1]


def hardly_determined(result: FitResult) -> list[str]:
    """Parameters with a notable part in a weak direction, and a notable change along it."""
    scales = _scales(result.space, result.coordinates, result.objective.dt)
    return [
        name
        for name, scale in zip(result.parameters, scales, strict=True)
        if any(
            abs(weak["direction"].get(name, 0.0)) >= NAMED_COMPONENT
            and abs(weak["changes"][name]) >= NAMED_CHANGE * scale
            for weak in result.weak_directions
        )
    ]


def _unnoticed(told: dict[str, Any]) -> bool:
    """Whether the step is within the noise."""
    rise = told["delta_chi2"]
    return rise is not None and rise < NOTICED_RISE


def _tell(
    solution: Solution,
    eigenvalue: float,
    direction: NDArray[np.float64],
    step: NDArray[np.float64],
) -> dict[str, Any]:
    """One direction (m,) of the searched parameters; `step` is the same in their units."""
    space, half = solution.space, len(solution.phi)
    sign = _orientation(solution, direction, step)
    move = _follow(solution, sign * step)
    names = space.model.parameters
    searched = [name for name, free in zip(names, space.searched, strict=True) if free]
    changes = dict(zip(names, move.parameters.tolist(), strict=True))
    return {
        "eigenvalue": float(eigenvalue),
        "direction": {
            name: round(float(x), 3)
            for name, x in zip(searched, sign * direction, strict=True)
            if abs(x) >= LEAST_COMPONENT
        },
        "changes": {
            **{name: changes[name] for name in searched},
            "contrast": float(move.scaling[:half].mean()),
            "offset": float(move.scaling[half:].mean()),
        },
        "delta_chi2": move.delta_chi2 if np.isfinite(move.delta_chi2) else None,
        "text": _sentence(solution, move),
    }


def _orientation(
    solution: Solution, direction: NDArray[np.float64], step: NDArray[np.float64]
) -> float:
    """The sign that leads away from a bound; else the one by which the largest part grows."""
    space = solution.space
    x = space.to_parameters(solution.y)
    inward = np.where(x < (space.lower + space.upper) / 2, 1.0, -1.0)
    shares = (step / _scales(solution.space, solution.y, solution.dt)[space.searched]) * inward[
        space.searched
    ]
    said = np.abs(shares) * STEP >= UNSAID * np.max(np.abs(shares))
    bound = solution.at_bound[space.searched] & said
    if np.any(bound):
        shares = np.where(bound, shares, 0.0)
        return float(np.sign(shares[np.argmax(np.abs(shares))])) or 1.0
    return float(np.sign(direction[np.argmax(np.abs(direction))])) or 1.0


def _scales(space: SearchSpace, y: NDArray[np.float64], dt: float) -> NDArray[np.float64]:
    """What counts as a change of each parameter (p,) by all of itself.

    A prefactor is its own scale. The constant part of a rate is measured against the rate at
    mid-measurement where that is larger, for the constant part may vanish.
    """
    x = space.to_parameters(y)
    values, _ = rates(space.form, space.complete(y), space.tau, space.tau, dt)
    scales = np.full(len(x), ANGLE_SCALE)
    for law, (rate,) in zip(space.power_laws, values, strict=False):
        scales[law : law + 3] = abs(x[law]), EXPONENT_SCALE, max(abs(x[law + 2]), rate)
    return np.where(scales > 0, scales, 1.0)


def _follow(solution: Solution, step: NDArray[np.float64]) -> Move:
    """Go along `step` (m,), in units of the searched parameters, as far as `STEP` says."""
    space, y = solution.space, solution.y
    dy = np.linalg.pinv(space.jacobian(y)[space.searched]) @ step
    dy = dy * _length(solution, dy)
    dz = _response(solution, dy)
    share = _contrast_share(solution, solution.scaling @ dz)
    if share > STEP:
        dy = dy * (STEP / share)
        dz = _response(solution, dy)
    both, equations = np.concatenate([dy, dz]), solution.joint.equations
    rise = 2 * equations.gradient @ both + np.sum((equations.linear_problem()[0] @ both) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        delta_chi2 = float(np.float64(rise) / solution.variance)
    return Move(
        space.to_parameters(y + dy) - space.to_parameters(y), solution.scaling @ dz, delta_chi2
    )


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
    held = solution.limits != 0
    inward = -solution.limits[held, None] * (solution.scaling[held] @ outward)
    if len(inward):
        # The nearest point of a cone: what is missing is a positive sum of its normals.
        best = best + inward.T @ nnls(inward.T, -best)[0]
    return outward @ best


def _contrast_share(solution: Solution, change: NDArray[np.float64]) -> float:
    """Relative change of the mean contrast by a change of the scaling (2K,)."""
    half = len(solution.phi)
    mean = float(np.mean(solution.values[:half]))
    return abs(float(np.mean(change[:half]))) / mean if mean > 0 else 0.0


def _length(solution: Solution, dy: NDArray[np.float64]) -> float:
    """Multiple of `dy` at which the first parameter has changed by `STEP` of its scale."""
    space, y = solution.space, solution.y
    start, scales = space.to_parameters(y), _scales(solution.space, solution.y, solution.dt)

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


def _sentence(solution: Solution, move: Move) -> str:
    """Such as ``D0 up 10 %, D_offset down 95 Å²/s, contrast down 9 %: chi-squared rises by 2``."""
    model = solution.space.model
    start, scales = (
        solution.space.to_parameters(solution.y),
        _scales(solution.space, solution.y, solution.dt),
    )
    parts = [
        f"{name} {_change_in_words(model, name, change, value)}"
        for name, change, value, scale in zip(
            model.parameters, move.parameters, start, scales, strict=True
        )
        if abs(change) >= UNSAID * scale
    ]
    rise = move.delta_chi2
    if abs(rise) < LEAST_RISE:
        effect = f"chi-squared changes by less than {LEAST_RISE:g}"
    else:
        effect = f"chi-squared {'rises' if rise > 0 else 'falls'} by {_brief(abs(rise))}"
    return f"{', '.join([*parts, *_scaling_in_words(solution, move)])}: {effect}"


def _change_in_words(model: Model, name: str, change: float, value: float) -> str:
    """Prefactors in per cent, everything else in its unit: it may be zero."""
    if name in (model.transport_parameters[0], *model.shear_parameters[:1]):
        return _relative(change / abs(value))
    return f"{_way(change)} {with_unit(_brief(abs(change)), PARAMETERS[name].unit)}"


def _scaling_in_words(solution: Solution, move: Move) -> list[str]:
    """What the means of contrast and offset do, and an angle that does much more."""
    half = len(solution.phi)
    contrast, change = solution.values[:half], move.scaling[:half]
    mean = float(np.mean(contrast))
    if not mean > 0:
        return []
    share, shares = float(np.mean(change)) / mean, change / mean
    parts = ["contrast unchanged" if abs(share) < UNSAID else f"contrast {_relative(share)}"]
    most = int(np.argmax(np.abs(shares)))
    if abs(shares[most]) >= max(ANGLE_CHANGE, ANGLE_FACTOR * abs(share)) and contrast[most] > 0:
        own = _relative(change[most] / contrast[most])
        parts[0] += f" ({own} at φ = {format_number(solution.phi[most])}°)"
    offset = float(np.mean(move.scaling[half:]))
    if abs(offset) >= UNSAID * mean:
        parts.append(f"offset {_way(offset)} {_brief(abs(offset))}")
    return parts


def _way(change: float) -> str:
    return "up" if change > 0 else "down"


def _relative(share: float) -> str:
    return f"{_way(share)} {_brief(100 * abs(share))} %"


def _brief(value: float) -> str:
    """Two digits that count."""
    return format_number(float(f"{value:.2g}"))


def warnings(result: FitResult) -> list[str]:
    """What to know before using single numbers of a fit, a sentence or two each.

    A flow seen in one direction only; other minima that fit as well; transport that vanishes under
    an inflated contrast; parameters, contrasts and offsets at a bound; rates that the data
    determine though not their power laws; and whatever else has an infinite error. The last two
    only of a fit that converged: else every error is infinite.
    """
    texts = [
        *_one_direction(result),
        *_other_minima(result),
        *_vanishing_transport(result),
        *_at_bounds(result),
    ]
    if result.success:
        texts += [*_loose_power_laws(result), *_undetermined_scaling(result)]
    return texts


def _one_direction(result: FitResult) -> list[str]:
    """All angles along one line, so that a shear rate and cos(φ0 − φ) come as a product only."""
    flow = [*result.model.shear_parameters, "phi0"] if result.model.has_flow else []
    free = [name for name in flow if not result.parameters[name].fixed]
    if "phi0" not in free or len(free) == 1 or not along_one_line(result.objective.phi):
        return []
    return [
        "All angles lie along one line: the direction of the flow and the shear rate stand in for "
        "each other. Hold phi0 at a known direction, take more angles, or the static model."
    ]


def _other_minima(result: FitResult) -> list[str]:
    """Minima that the data do not tell from the one reported."""
    texts = []
    for other in result.info.alternatives:
        values = other["parameters"]
        if other["mirror"]:
            texts.append(
                f"phi0 = {format_number(result.parameters['phi0'].value, 4)}° and "
                f"{format_number(values['phi0'], 4)}° describe these angles equally well. Take "
                "an angle that is neither along nor across the others, or narrow the bounds of "
                "phi0 to the direction that you know."
            )
        else:
            listed = ", ".join(
                f"{name} = {'∞' if value is None else format_number(value, 4)}"
                for name, value in values.items()
            )
            rise = format_number(other["delta_chi2"], 2)
            texts.append(
                f"Another minimum fits hardly worse (Δχ² = {rise}): {listed}. The data do not "
                "decide between the two."
            )
    return texts


def _vanishing_transport(result: FitResult) -> list[str]:
    """J so small that a weak decay of a large contrast stands for a strong one of a small one."""
    o = result.objective
    times = np.arange(o.n_frames) * o.dt
    transport = float(np.trapezoid(result.J(times)[0], times))
    share = float(np.max(o.q) ** 2 * transport)
    contrast = np.array([estimate.value for estimate in result.contrast])
    at_bound = np.array([estimate.at_bound for estimate in result.contrast])
    fall = _falls(result)
    limit = (contrast >= FULL_CONTRAST) | (at_bound & (contrast > 0))
    usual = float(np.median(contrast))
    inflated = limit | (fall < INCOMPLETE_DECAY) | (contrast > OUTLYING_CONTRAST * usual)
    if not (share < VANISHING and np.any(contrast[inflated] > 0)):
        return []
    worst = int(np.argmax(np.where(inflated, contrast / np.maximum(fall, 1e-12), -1.0)))
    where = "" if len(contrast) == 1 else f" at φ = {format_number(o.phi[worst])}°"
    seen = fall[worst] * contrast[worst]
    text = (
        f"Transport all but vanishes: q² ∫ J dt over the whole measurement is only "
        f"{format_number(share, 2)}, while the contrast{where} is "
        f"{format_number(contrast[worst], 3)}"
    )
    if at_bound[worst]:
        text += ", its bound"
    if contrast[worst] > OUTLYING_CONTRAST * usual:
        text += f" (the median of the angles is {format_number(usual, 3)})"
    if fall[worst] < INCOMPLETE_DECAY:
        text += f", though the fitted c2 falls by {format_number(seen, 2)} at most"
    return [
        f"{text}. A slow decay of a large contrast looks like a faster one of a smaller contrast, "
        "so neither J(t) nor the contrast should be quoted. Bound the contrast by what a sample "
        "of known contrast shows, share it between the angles, or measure for longer."
    ]


def _falls(result: FitResult) -> NDArray[np.float64]:
    """How far the fitted correlation falls from 1 within the measurement, (K,)."""
    o = result.objective
    times = np.arange(o.n_frames) * o.dt
    decay = np.exp(-np.outer(o.q**2, _integral(result.J(times)[0], o.dt)))
    if result.model.has_flow:
        phase = o.phase_per_gap * o.q * o.gap
        phase = phase * np.cos(np.deg2rad(result.parameters["phi0"].value - o.phi))
        shear = _integral(result.gamma_dot(times)[0], o.dt)
        decay *= np.sinc(np.outer(phase, shear) / np.pi) ** o.sinc_power
    return 1.0 - decay.min(axis=1)


def _integral(rate: NDArray[np.float64], dt: float) -> NDArray[np.float64]:
    """Cumulative trapezoid from the first frame on, (n,)."""
    return np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2) * dt])


def _at_bounds(result: FitResult) -> list[str]:
    bounds = [
        f"{name} ({_bound(result, name)})" for name, e in result.parameters.items() if e.at_bound
    ]
    texts = []
    if bounds:
        verb = "is at its bound" if len(bounds) == 1 else "are at their bounds"
        texts.append(
            f"{listed(bounds)} {verb}: the sum of squares still falls beyond. A parameter at its "
            "bound has no error, and all other errors hold only with it there. Widen the bound "
            "only where physics allows more, and rather hold a parameter at a known value "
            f"(fixed_parameters){_offset_to_hold(result)}."
        )
    for kind, estimates in (("contrast", result.contrast), ("offset", result.offset)):
        flags = [estimate.at_bound for estimate in estimates]
        if any(flags):
            values = sorted({e.value for e, flag in zip(estimates, flags, strict=True) if flag})
            bound = listed([format_number(value) for value in values])
            texts.append(
                f"The {kind} is at its bound at {_angles_where(result, flags)} ({bound}), and has "
                f"no error there. Widen the bounds of the {kind} if it can be beyond; if not, the "
                "model or the data at that angle are in doubt."
            )
    return texts


def _offset_to_hold(result: FitResult) -> str:
    """Name the constant part of each power law that is at a bound, unless it is held already."""
    names = result.model.parameters
    offsets = [
        names[law + 2]
        for law in result.space.power_laws
        if any(result.parameters[name].at_bound for name in names[law : law + 3])
        and not result.parameters[names[law + 2]].fixed
    ]
    if not offsets:
        return ""
    return f": first {listed(offsets)} at 0, where a power law alone can describe the sample"


def _bound(result: FitResult, name: str) -> str:
    """Which bound a parameter sits at."""
    estimate, space = result.parameters[name], result.space
    index = result.model.parameters.index(name)
    middle = (space.lower[index] + space.upper[index]) / 2
    side = "lower" if estimate.value < middle else "upper"
    return f"{side}, {with_unit(format_number(estimate.value), estimate.unit)}"


def _loose_power_laws(result: FitResult) -> list[str]:
    """Parameters that are not determined, by the rate they belong to."""
    texts, model = [], result.model
    laws = [("J(t)", "Å²/s", result.J, model.transport_parameters)]
    if model.has_flow:
        laws.append(("γ̇(t)", "1/s", result.gamma_dot, model.shear_parameters))
    left = [name for name, e in result.parameters.items() if np.isinf(e.stderr)]
    middle = result.space.tau
    for symbol, unit, curve, names in laws:
        (value,), (error,) = curve(middle)
        loose = [name for name in names if _is_loose(result.parameters[name], name, names, value)]
        if loose and 0 < error <= DETERMINED * value:
            left = [name for name in left if name not in names]
            texts.append(
                f"{symbol} is determined, {with_unit(format_estimate(value, error), unit)} at "
                f"{format_number(middle, 3)} s, but its power law is not: the data do not "
                f"determine {listed(loose)}. Quote {symbol} with its band instead."
            )
    if left:
        texts.append(
            f"The data do not determine {listed(left)}: the error is infinite, the value "
            "arbitrary. Hold what is known at its value and fit again."
        )
    return texts


def _is_loose(estimate: Estimate, name: str, law: Sequence[str], rate: float) -> bool:
    """Whether the error of a parameter of a power law is as large as what it could matter by."""
    prefactor, exponent, _ = law
    if name == exponent:
        scale = max(abs(estimate.value), LOOSE_EXPONENT)
    elif name == prefactor:
        scale = abs(estimate.value)
    else:
        scale = max(abs(estimate.value), rate)
    return bool(estimate.stderr > scale)


def _undetermined_scaling(result: FitResult) -> list[str]:
    texts = []
    for kind, estimates in (("contrast", result.contrast), ("offset", result.offset)):
        flags = [bool(np.isinf(estimate.stderr)) for estimate in estimates]
        if any(flags):
            texts.append(f"The data do not determine the {kind} at {_angles_where(result, flags)}.")
    return texts


def _angles_where(result: FitResult, flags: Sequence[bool]) -> str:
    if len(flags) > 1 and all(flags):
        return "every angle"
    phi = [p for p, flag in zip(result.objective.phi, flags, strict=True) if flag]
    return "φ = " + ", ".join(f"{format_number(p)}°" for p in phi)
