"""What the rates could be instead: other forms, other minima, and the weakest direction."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.result import FitResult
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.parameters import RATES
from homodyne_fit.model.rates import curves, rates
from homodyne_fit.report.numbers import format_number
from homodyne_fit.report.words import FORMS

__all__ = ["Move", "Rival", "rivals", "weakest_move"]

Floats = NDArray[np.float64]

# Chi-squared rises by this at the ends of the slider: three standard errors.
LARGEST_RISE = 9.0

# Steps of a weak direction, each of 10 % of a parameter, that the slider goes at most.
MOST_STEPS = 10.0

# Positions of the slider on either side of the fit.
POSITIONS = 20


@dataclass(frozen=True, eq=False)
class Rival:
    """Another curve of a rate that fits about as well.

    Attributes
    ----------
    rate : str
        Key of the rate.
    label : str
    values : (n,) array
    """

    rate: str
    label: str
    values: Floats


def rivals(result: FitResult, times: Floats) -> list[Rival]:
    """Curves of neighbouring forms of the rates, as far as the fit fixes them, and other minima.

    A neighbour is known by its value at mid-measurement and the parameter that makes the
    difference: enough for a constant, and for the power law in place of a constant.
    """
    found = []
    for other in result.info.rate_forms.get("others", []):
        (rate,) = (rate for rate in result.rates if other["parameter"] in rate.parameters)
        form = other["forms"][rate.key]
        if rate.key in other["rates"] and form != "power law with a constant part":
            middle = other["rates"][rate.key]["value"]
            exponent = other["value"] if other["larger"] else 0.0
            elapsed = np.maximum(times, result.objective.dt / 2) / result.space.tau
            values = middle * elapsed**exponent
            found.append(Rival(rate.key, f"{rate.symbol}(t) {FORMS[form]}", values))
    for other in result.info.alternatives:
        if not other["mirror"]:
            label = f"other minimum, Δχ² = {format_number(other['delta_chi2'], 2)}"
            found += _other_minimum(result, times, other["parameters"], label)
    return found


def _other_minimum(
    result: FitResult, times: Floats, parameters: dict[str, float | None], label: str
) -> list[Rival]:
    if any(value is None for value in parameters.values()):
        return []
    known = {name: estimate.value for name, estimate in result.parameters.items()}
    full = np.array([(known | parameters)[name] for name in known], dtype=np.float64)
    values, _ = rates(result.model, full, times, result.space.tau, result.objective.dt)
    return [
        Rival(key, label, each)
        for key, each in zip(RATES, values[: len(result.rates)], strict=False)
    ]


@dataclass(frozen=True, eq=False)
class Move:
    """The fit moved along the direction that the data notice least.

    Attributes
    ----------
    steps : (s,) array
        Multiples of the step of the direction; 0 is the fit.
    rise : (s,) array
        Of chi-squared in its quadratic approximation.
    parameters : dict of str to (s,) array
        Of the parameters that move.
    rates : dict of str to (s, n) array
        J and the shear rate at some times, by key.
    integrals : dict of str to (s, n) array
        Their integrals from 0.
    phi0 : (s,) array or None
    contrast_changes, offset_changes : tuple of float
        Of each angle over one step.
    """

    steps: Floats
    rise: Floats
    parameters: dict[str, Floats]
    rates: dict[str, Floats]
    integrals: dict[str, Floats]
    phi0: Floats | None
    contrast_changes: tuple[float, ...]
    offset_changes: tuple[float, ...]


def weakest_move(result: FitResult, frames: NDArray[np.int64]) -> Move | None:
    """Follow the weakest direction; None where there is none, or it leads nowhere.

    Along the straight line in the coordinates of the search that `WeakDirection` describes. It ends
    where chi-squared has risen by `LARGEST_RISE`, after `MOST_STEPS`, or at a bound. Away from a
    bound, where the rise is not quadratic in the step, there is none.

    Parameters
    ----------
    frames : (n,) array
        At which the curves are given.
    """
    weakest = result.weakest
    stuck = any(e.at_bound for e in (*result.parameters.values(), *result.contrast, *result.offset))
    if not result.success or weakest is None or stuck or not 0 <= weakest.delta_chi2 < np.inf:
        return None
    space, x = _space_of_directions(result), result.values
    end = x.copy()
    for name, change in weakest.changes.items():
        end[result.model.parameters.index(name)] += change
    start = space.to_coordinates(x)
    step = space.to_coordinates(end) - start
    if not (np.all(np.isfinite(start)) and np.all(np.isfinite(step))):
        return None
    length = min(MOST_STEPS, np.sqrt(LARGEST_RISE / max(weakest.delta_chi2, 1e-12)))
    steps = length * np.linspace(-1, 1, 2 * POSITIONS + 1)
    points = [space.to_parameters(start + s * step) for s in steps]
    inside = np.array([_is_inside(space, point) for point in points])
    inside[POSITIONS] = True
    first, last = _run_around(inside, POSITIONS)
    kept = slice(first, last + 1)
    if last == first:
        return None
    return _followed(result, space, start, step, steps[kept], frames)


def _followed(
    result: FitResult,
    space: SearchSpace,
    start: Floats,
    step: Floats,
    steps: Floats,
    frames: NDArray[np.int64],
) -> Move:
    assert result.weakest is not None
    o, model = result.objective, space.model_in_coordinates
    keys = [rate.key for rate in result.rates]
    at = frames * o.dt
    values, integrals, parameters = [], [], []
    for s in steps:
        y = space.complete(start + s * step)
        both = curves(model, y, o.dt, o.n_frames)
        values.append(rates(model, y, at, space.tau, o.dt)[0])
        integrals.append([both.transport[frames], both.shear[frames]])
        parameters.append(space.to_parameters(start + s * step))
    by_name = dict(zip(result.model.parameters, np.array(parameters).T, strict=True))
    return Move(
        steps=steps,
        rise=result.weakest.delta_chi2 * steps**2,
        parameters={name: by_name[name] for name in result.weakest.changes},
        rates=dict(zip(keys, np.swapaxes(values, 0, 1), strict=False)),
        integrals=dict(zip(keys, np.swapaxes(integrals, 0, 1), strict=False)),
        phi0=by_name.get("phi0"),
        contrast_changes=result.weakest.contrast_changes,
        offset_changes=result.weakest.offset_changes,
    )


def _space_of_directions(result: FitResult) -> SearchSpace:
    """The space in which directions are straight: `FitResult.space` searches more than that."""
    fixed = result.space.fixed.copy()
    fixed[list(result.space.assumed)] = 0.0
    return replace(result.space, fixed=fixed).released


def _is_inside(space: SearchSpace, x: Floats) -> bool:
    free = np.isnan(space.fixed)
    x = x[free]
    return bool(np.all(np.isfinite(x) & (space.lower[free] <= x) & (x <= space.upper[free])))


def _run_around(flags: NDArray[np.bool_], middle: int) -> tuple[int, int]:
    """First and last index of the run of true flags around the middle."""
    false = np.flatnonzero(~flags)
    before, after = false[false < middle], false[false > middle]
    first = int(before[-1]) + 1 if len(before) else 0
    last = int(after[0]) - 1 if len(after) else len(flags) - 1
    return first, last
