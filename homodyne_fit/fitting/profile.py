r"""Profile likelihood: the best fit of everything else, at given values of one parameter.

With the noise σ of the full fit, :math:`\Delta\chi^2(x) = 2\,(\mathrm{cost}(x) -
\mathrm{cost}_{\min})/\sigma^2`, divided by the square of how much wider the standard error of x is
than independent points, and spreads of contrast and offset that are known, would make it. A
confidence interval is where it stays below the quantile of the chi-squared distribution with one
degree of freedom; unlike a standard error it follows curved valleys and says on which side there is
no limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import InstanceOf
from scipy.special import chdtri

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.errors import InputError, did_you_mean, suggestion
from homodyne_fit.fitting.fit import FitSettings, fit
from homodyne_fit.fitting.options import MultiStart
from homodyne_fit.fitting.result import FitResult
from homodyne_fit.model.parameters import ALIASES
from homodyne_fit.validation import Count, NumberOrList, Positive, checked_arguments

__all__ = ["Profile", "profile", "rise_at"]

# Bounds further apart than this factor are spanned in equal ratios.
WIDE_BOUNDS = 100.0


@dataclass(frozen=True, eq=False)
class Profile:
    """The profile of one parameter at n values, in ascending order.

    Attributes
    ----------
    name, unit : str
    best : float
        Value of the full fit.
    values : (n,) array
    cost : (n,) array
        What the full fit minimised, everything else at its best: half the sum of squares, and the
        penalty on contrasts and offsets that differ between the angles.
    delta_chi2 : (n,) array
        Above the full fit. Negative where the full fit was not at the lowest minimum.
    parameters : dict of str to (n,) array
        The physics at each value, `name` itself included.
    contrast, offset : (n, K) array
    success : (n,) bool
        Whether the fit at that value converged.
    """

    name: str
    unit: str
    best: float
    values: NDArray[np.float64]
    cost: NDArray[np.float64]
    delta_chi2: NDArray[np.float64]
    parameters: dict[str, NDArray[np.float64]]
    contrast: NDArray[np.float64]
    offset: NDArray[np.float64]
    success: NDArray[np.bool_]

    def interval(self, level: float = 0.68) -> tuple[float | None, float | None]:
        """Where the profile closes below and above the best fit; None where it does not.

        Interpolated in the square root of the rise, which is straight for a parabola. Fits that
        did not converge are left out.
        """
        if not 0 < level < 1:
            raise InputError(f"a confidence level must be between 0 and 1, got {level:g}")
        most = float(np.sqrt(rise_at(level)))
        return self._closes(-1.0, most), self._closes(1.0, most)

    def _closes(self, side: float, most: float) -> float | None:
        """First value on one side of the best fit at which the root of the rise is `most`."""
        outward = side * (self.values - self.best)
        chosen = np.flatnonzero((outward > 0) & self.success)
        chosen = chosen[np.argsort(outward[chosen])]
        at = np.concatenate([[self.best], self.values[chosen]])
        root = np.sqrt(np.maximum(0.0, np.concatenate([[0.0], self.delta_chi2[chosen]])))
        above = np.flatnonzero(root >= most)
        if not len(above):
            return None
        last = above[0]
        share = (most - root[last - 1]) / (root[last] - root[last - 1])
        return float(at[last - 1] + share * (at[last] - at[last - 1]))


def rise_at(level: float) -> float:
    """Rise of chi-squared at the ends of an interval of a confidence level."""
    return float(chdtri(1, 1 - level))


@checked_arguments
def profile(
    data: InstanceOf[TwoTimeData],
    settings: InstanceOf[FitSettings],
    result: InstanceOf[FitResult],
    name: str,
    values: NumberOrList | None = None,
    n: Count = 11,
    span: Positive = 3.0,
) -> Profile:
    """Fit everything else with one parameter held at each of some values.

    Contrast and offset are treated as at the end of the full fit: a spread that it learned, and
    whether the angles differ at all, is not learned anew. The fits go outward from the best one,
    each from where its neighbour ended.

    Parameters
    ----------
    data : TwoTimeData
    settings : FitSettings
        Of the full fit.
    result : FitResult
        The full fit.
    name : str
        A physics parameter that was free.
    values : (n,) array, optional
        By default the best fit and n - 1 more within `span` standard errors of it; across the
        bounds where there is no standard error.
    n : int
    span : float

    Raises
    ------
    InputError
        If an argument is of a wrong type or size, the parameter does not exist or was fixed, the
        points were weighted, or the loss is robust.
    """
    name = ALIASES.get(name, name)
    if name not in result.parameters:
        near = did_you_mean(suggestion(name, result.parameters))
        raise InputError(f"profile: the model {result.model.name} has no parameter '{name}'{near}")
    if name in settings.fixed:
        raise InputError(f"profile: {name} is fixed")
    if result.weighting is not None and result.weighting.used:
        raise InputError(
            "profile: the points of this result are weighted, and a profile follows the sum of "
            "squares, of which it is not the minimum; fit with weighting: none"
        )
    if result.robust is not None:
        raise InputError(
            "profile: the loss of this result is robust, and a profile follows the sum of squares, "
            "of which it is not the minimum; fit with loss: linear"
        )
    # Holding an exponent would change the default bounds.
    settings = replace(settings, bounds={**settings.bounds, **_bounds_of(result)})
    best = result.parameters[name].value
    if not np.isfinite(best):
        raise InputError(f"profile: the best fit of {name} is not finite: {best:g}")
    default = values is None
    points = np.unique(_default_values(result, name, n, span) if default else values)
    fits = _outward(data, settings, result, name, points)
    cost, least = np.array([_minimised(at) for at in fits]), _minimised(result)
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = np.where(cost == least, 0.0, 2 * (cost - least) / result.noise**2)
    rise = rise / result.uncertainty.of(result.names.index(name)) ** 2
    return Profile(
        name=name,
        unit=result.parameters[name].unit,
        best=best,
        values=points,
        cost=cost,
        delta_chi2=rise,
        parameters={
            key: np.array([at.parameters[key].value for at in fits]) for key in result.parameters
        },
        contrast=np.array([[e.value for e in at.contrast] for at in fits]),
        offset=np.array([[e.value for e in at.offset] for at in fits]),
        success=np.array([at.success for at in fits]),
    )


def _bounds_of(result: FitResult) -> dict[str, tuple[float, float]]:
    """Bounds of the physics in a fit."""
    limits = zip(result.space.lower.tolist(), result.space.upper.tolist(), strict=True)
    return dict(zip(result.model.parameters, limits, strict=True))


def _minimised(result: FitResult) -> float:
    """Cost, with the penalty on the spread of contrasts and of offsets."""
    values = np.array([estimate.value for estimate in (*result.contrast, *result.offset)])
    return result.cost + result.objective.scaling.penalty_at(values)


def _outward(
    data: TwoTimeData,
    settings: FitSettings,
    result: FitResult,
    name: str,
    points: NDArray[np.float64],
) -> list[FitResult]:
    """One fit for each of the ascending `points`."""
    best = result.parameters[name].value
    fits: dict[float, FitResult] = {}
    for side in (points[points >= best], points[points < best][::-1]):
        near = result
        for value in side.tolist():
            if value != best:
                near = _fit_at(data, settings, name, value, near, result)
            fits[value] = near
    return [fits[value] for value in points.tolist()]


def _fit_at(
    data: TwoTimeData,
    settings: FitSettings,
    name: str,
    value: float,
    near: FitResult,
    full: FitResult,
) -> FitResult:
    """The fit with one parameter held, from where a neighbouring fit ended."""
    names = full.model.parameters
    zero = {names[index]: 0.0 for index in full.space.assumed}
    fixed = {**settings.fixed, **zero, name: value}
    before = {key: estimate.value for key, estimate in near.parameters.items()}
    start = {
        key: float(np.clip(x, *settings.bounds[key]))
        for key, x in _keeping_the_rate(before, near, fixed, name).items()
        if np.isfinite(x) and key not in fixed
    }
    alone = settings.search.model_copy(
        update={
            "multi_start": MultiStart(enable=False),
            "uncertainty": "white",
            "weighting": "none",
            "constant_parts": "free",
        }
    )
    held = replace(settings, fixed=fixed, initial=start, search=alone)
    return fit(data, held, like=full)


def _keeping_the_rate(
    before: Mapping[str, float], near: FitResult, fixed: Mapping[str, float], name: str
) -> dict[str, float]:
    """`before` with `name` at its new value, and J or the shear rate at mid-measurement kept.

    One parameter of the same power law that is not fixed makes up for the change. Else a rate
    of large parts that nearly cancel would become negative, where the model has no gradient.
    """
    after, tau, model = {**before, name: fixed[name]}, near.space.tau, near.model
    law = next(
        (law for law in (model.transport_parameters, model.shear_parameters) if name in law), None
    )
    if law is None:
        return after
    p0, p1, p2 = law
    amplitude = before[p0] * tau ** before[p1]
    if name != p0 and p0 not in fixed:
        after[p0] = (amplitude + before[p2] - after[p2]) / tau ** after[p1]
    elif name != p2 and p2 not in fixed:
        after[p2] = amplitude + before[p2] - after[p0] * tau ** after[p1]
    elif name == p0 and p1 not in fixed and min(amplitude, after[p0]) > 0 and tau != 1:
        after[p1] = float(np.log(amplitude / after[p0]) / np.log(tau))
    return after


def _default_values(result: FitResult, name: str, n: int, span: float) -> NDArray[np.float64]:
    """The best fit, and n - 1 values shared out between its two sides."""
    best, stderr = result.parameters[name].value, result.parameters[name].stderr
    lower, upper = _bounds_of(result)[name]
    if np.isfinite(stderr) and stderr > 0:
        low, high = max(lower, best - span * stderr), min(upper, best + span * stderr)
        between = np.linspace
    else:
        low, high = lower, upper
        between = np.geomspace if 0 < WIDE_BOUNDS * low < high else np.linspace
    below = 0 if best <= low else n - 1 if best >= high else (n - 1) // 2
    return np.concatenate(
        [between(low, best, below + 1)[:-1], [best], between(best, high, n - below)[1:]]
    )
