r"""How much of each power law the data need: the simplest form that they do not reject.

The forms of a rate :math:`p_0 t^{p_1} + p_2` are nested: a constant (p1 = p2 = 0), a power law
(p2 = 0), and a power law with a constant part. The fit begins with power laws. At its solution, and
with the noise found there, each is compared with its neighbours:

- the next larger form by the score test of the parameter that it adds: the value to which a Newton
  step in the larger space would lead, over the standard error of it;
- the next smaller form by the Wald test of the parameter that it lacks: value over standard error.

Where a larger form is needed, or a smaller one not rejected, that one is fitted, and so on. The
Bayesian information criterion of two neighbours differs by the square of that ratio, less ln n,
where n is the number of independent points that would give the parameter the same error: the
points, over the square by which the noise of speckles widens it.

D. A. Freedman, *Am. Stat.* 60, 299 (2006): tests of models by the sandwich covariance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from homodyne_fit.fitting.score_noise import (
    NoiseOfPoints,
    covariance_at_known_spreads,
    covariance_of_solution,
    newton_step,
)
from homodyne_fit.fitting.search.solution import SearchPoint, Solution
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.parameters import RATES
from homodyne_fit.model.rates import rates

__all__ = [
    "FormTest",
    "RateForm",
    "assume_zero",
    "described",
    "form_tests",
    "point_in",
    "rate_form",
    "revised",
]

RateForm = Literal["constant", "power law", "power law with a constant part"]

# A constant part is needed where so large a value is less probable than this without one.
NEEDED = 0.01

# An exponent is left out where so large a value is more probable than this.
NOT_NEEDED = 0.16

# Statistic from which a neighbour is so far off that the quadratic model says nothing of its rates.
FAR_OFF = 10.0

Floats = NDArray[np.float64]


def assume_zero(space: SearchSpace, left_to_data: frozenset[str]) -> SearchSpace:
    """Begin without the constant parts that are left to the data."""
    names = space.model.parameters
    offsets = [law + 2 for law in space.power_laws if names[law + 2] in left_to_data]
    fixed = space.fixed.copy()
    fixed[offsets] = 0.0
    return replace(space, fixed=fixed, assumed=frozenset(offsets))


def rate_form(space: SearchSpace, law: int) -> RateForm:
    """The form of a power law in a space."""
    if law + 1 in space.assumed:
        return "constant"
    return "power law" if law + 2 in space.assumed else "power law with a constant part"


@dataclass(frozen=True)
class FormTest:
    """A neighbour of the fitted forms, and how it compares.

    Attributes
    ----------
    parameter : int
        Which the neighbour has and the fitted form lacks, or the other way round.
    larger : bool
        Whether the neighbour is the larger form.
    value, stderr : float
        Of that parameter.
    n_independent : float
        Independent points that would give it the same error.
    rates : (l, 2) array
        At mid-measurement by the neighbour, in the quadratic model: values and standard errors.
    """

    parameter: int
    larger: bool
    value: float
    stderr: float
    n_independent: float
    rates: Floats

    @property
    def statistic(self) -> float:
        """Square of the value over its standard error."""
        return (self.value / self.stderr) ** 2

    @property
    def p_value(self) -> float:
        """Probability of a larger statistic where the parameter is 0."""
        return float(chdtrc(1, self.statistic))

    @property
    def delta_bic(self) -> float:
        """Information criterion of the neighbour less that of the fitted form."""
        gain = self.statistic - np.log(max(self.n_independent, 1.0))
        return float(-gain if self.larger else gain)


def form_tests(
    solution: Solution, opened: Solution, noise: NoiseOfPoints, left_to_data: frozenset[str]
) -> list[FormTest]:
    """Compare the fitted forms with their neighbours.

    Parameters
    ----------
    solution : Solution
    opened : Solution
        The same where what is assumed to be 0 is searched.
    noise : NoiseOfPoints
    left_to_data : frozenset of str
        Parameters that the data decide on.
    """
    space, names = solution.space, solution.space.model.parameters
    tests = []
    for law in space.power_laws:
        exponent, offset = law + 1, law + 2
        if exponent in space.assumed:
            tests.append(_test(opened, noise, exponent, larger=True))
        elif offset in space.assumed:
            tests.append(_test(opened, noise, offset, larger=True))
            if names[exponent] in left_to_data:
                tests.append(_test(solution, noise, exponent, larger=False))
    return [test for test in tests if test is not None]


def _test(
    solution: Solution, noise: NoiseOfPoints, parameter: int, *, larger: bool
) -> FormTest | None:
    """Test a searched parameter against 0; None where nothing depends on it."""
    searched = np.flatnonzero(solution.space.searched)
    row = int(np.searchsorted(searched, parameter))
    covariances = [
        covariance_of_solution(solution, noise),
        covariance_at_known_spreads(solution, noise.white),
    ]
    unit = np.eye(len(solution.equations.gradient))[[row]]
    if solution.result.active[row] != 0 or covariances[0].lost(unit)[0]:
        return None
    variance, white = (float(np.sum(each.root[row] ** 2)) for each in covariances)
    step = newton_step(solution)
    value = solution.result.x[row] + step[row]
    if not larger:
        # The others at their best where the parameter is 0.
        step = step - covariances[1].root @ covariances[1].root[row] / white * value
    y = solution.result.x + step[: len(searched)]
    independent = noise.variances_of_independent_points(solution)[row]
    points = solution.equations.n_points * independent / variance
    rates = _middle_rates(solution, covariances[0].root, y)
    return FormTest(parameter, larger, float(value), float(np.sqrt(variance)), points, rates)


def _middle_rates(solution: Solution, root: Floats, y: Floats) -> Floats:
    """Rates at mid-measurement at coordinates y near a solution, and their errors, (l, 2).

    `root` is that of the covariance at the solution.
    """
    space = solution.space
    values, jacobians = rates(
        space.model_in_coordinates, space.complete(y), space.tau, space.tau, solution.objective.dt
    )
    errors = [np.linalg.norm(each[0, space.searched] @ root[: len(y)]) for each in jacobians]
    laws = len(space.power_laws)
    return np.column_stack([np.ravel(values)[:laws], errors[:laws]])


def revised(space: SearchSpace, tests: list[FormTest]) -> SearchSpace | None:
    """The space of other forms that the tests ask for; None where they ask for none."""
    needed = [t for t in tests if t.larger and t.p_value < _threshold(space, t)]
    if needed:
        return _freed(space, max(needed, key=lambda test: test.statistic).parameter)
    spare = [t.parameter for t in tests if not t.larger and t.p_value > NOT_NEEDED]
    if not spare:
        return None
    fixed = space.fixed.copy()
    fixed[spare] = 0.0
    laws = {index for exponent in spare for index in (exponent - 1, exponent + 1)}
    held = {index: value for index, value in space.held.items() if index not in laws}
    return replace(
        space,
        fixed=fixed,
        limited=space.limited - laws,
        held=held,
        assumed=space.assumed | set(spare),
    )


def _threshold(space: SearchSpace, test: FormTest) -> float:
    is_exponent = test.parameter - 1 in space.power_laws
    return NOT_NEEDED if is_exponent else NEEDED


def _freed(space: SearchSpace, parameter: int) -> SearchSpace:
    """A space that searches one more parameter; nothing is held in it."""
    fixed = space.fixed.copy()
    fixed[parameter] = np.nan
    return replace(
        space, fixed=fixed, limited=frozenset(), held={}, assumed=space.assumed - {parameter}
    )


def point_in(space: SearchSpace, solution: Solution) -> SearchPoint:
    """Where a search in a space begins that follows a solution in another."""
    parameters = solution.parameters
    for law in space.power_laws:
        p0, p1, p2 = parameters[law : law + 3]
        if law + 1 in space.assumed:
            parameters[law : law + 3] = p0 * space.tau**p1 + p2, 0.0, 0.0
    return SearchPoint(space, space.to_coordinates(parameters))


def described(space: SearchSpace, tests: list[FormTest]) -> dict[str, Any]:
    """The fitted forms and their neighbours, for the result."""
    keys = dict(zip(space.power_laws, RATES, strict=False))
    chosen = {key: rate_form(space, law) for law, key in keys.items()}
    others = []
    for test in tests:
        (law,) = (law for law in space.power_laws if law <= test.parameter < law + 3)
        other = _neighbour(rate_form(space, law), larger=test.larger)
        rates = {
            key: {"value": float(value), "stderr": float(error)}
            for key, (value, error) in zip(keys.values(), test.rates, strict=True)
            if test.statistic < FAR_OFF
        }
        others.append(
            {
                "forms": {**chosen, keys[law]: other},
                "parameter": space.model.parameters[test.parameter],
                "larger": test.larger,
                "value": test.value,
                "stderr": test.stderr,
                "statistic": test.statistic,
                "p_value": test.p_value,
                "delta_bic": test.delta_bic,
                "rates": rates,
            }
        )
    return {"chosen": chosen, "others": others}


def _neighbour(form: RateForm, *, larger: bool) -> RateForm:
    forms: tuple[RateForm, ...] = ("constant", "power law", "power law with a constant part")
    return forms[forms.index(form) + (1 if larger else -1)]
