r"""Coordinates in which the search for the physics is well conditioned.

Over any window of time, :math:`p_0 t^{p_1} + p_2` with a small exponent hardly differs from
:math:`r + s \ln(t/\tau)`: the data fix its value r and its slope s at a time τ inside the window,
while p0 and p2 run off in opposite directions along a hyperbola. In (r, s, p1) the valley is
straight and there is no singularity at p1 = 0:

.. math:: r = p_0 \tau^{p_1} + p_2, \qquad s = p_0 p_1 \tau^{p_1}.

The search therefore runs in (r, s, p1), where the limits of p0 and p2 are not a box. A power law of
which p0 or p2 is held at a limit is searched in r and the exponent, for the same reason: a constant
part at a limit far above the rate would leave p0 and p1 to cancel it. So is one whose constant part
has a known value. A power law of which p0 or p1 is known is searched in what is left of
(p0, p1, p2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.model.rates import (
    RATE_FLOOR,
    Model,
    RateFunction,
    on_offset,
    on_prefactor,
    power_law,
    value_and_slope,
)

__all__ = ["SearchSpace"]

# Where in the coordinates of a power law its value at tau is.
VALUE_AT: dict[RateFunction | None, int] = {value_and_slope: 0, on_offset: 0, on_prefactor: 2}


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """The parameters x of a model, and the coordinates y in which they are searched.

    Attributes
    ----------
    model : Model
        In its own parameters.
    tau : float
        Reference time, seconds.
    lower, upper : (p,) array
        Limits of x.
    fixed : (p,) array
        Values that are known; NaN elsewhere.
    limited : frozenset of int
        Prefactors and offsets that are coordinates themselves though their values are not known.
    held : mapping of int to float
        Those of them that are held at a limit for the time being.
    assumed : frozenset of int
        Offsets and exponents that are known to be 0 only as long as the data do not ask for more.
    """

    model: Model
    tau: float
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    fixed: NDArray[np.float64]
    limited: frozenset[int] = frozenset()
    held: Mapping[int, float] = field(default_factory=dict)
    assumed: frozenset[int] = frozenset()

    @property
    def power_laws(self) -> tuple[int, ...]:
        """Index of the first parameter of each power law."""
        return (0, len(self.model.transport_parameters)) if self.model.has_flow else (0,)

    def law_form(self, law: int) -> RateFunction | None:
        """Coordinates of a power law; None where its own parameters are searched.

        They are if its prefactor or its exponent is known, or the user made the law.
        """
        function = self.model.shear_rate if law else self.model.transport
        if function is not power_law or not np.all(np.isnan(self.fixed[law : law + 2])):
            return None
        prefactor = law in self.limited
        offset = law + 2 in self.limited or not np.isnan(self.fixed[law + 2])
        if prefactor and offset:
            return power_law
        return on_prefactor if prefactor else on_offset if offset else value_and_slope

    @property
    def without_held(self) -> SearchSpace:
        """The space from which this one came by `hold_at_limit`.

        It has other coordinates: where a constant part is held far above the rate, it and the
        exponent make the same small changes, so that searching both would lose the digits in which
        they differ.
        """
        # Those that are coordinates because the parameter itself, or the exponent, is assumed.
        limited = {i for i in self.limited if self.assumed & {i, i + 1}}
        return replace(self, limited=frozenset(limited), held={})

    @property
    def released(self) -> SearchSpace:
        """The space in which nothing is held, nor a rate constant that is assumed to be.

        The data did not reject that it is constant, which is not to say that it is.
        """
        return self.with_exponents.without_held

    @property
    def opened(self) -> SearchSpace:
        """The space in which nothing is held, and what is assumed is searched."""
        return self.with_assumed.without_held

    @property
    def with_exponents(self) -> SearchSpace:
        """The space in which no rate is assumed to be constant, by the same coordinates."""
        laws = [law for law in self.power_laws if law + 1 in self.assumed]
        return self._searching([law + 1 for law in laws], laws)

    @property
    def with_assumed(self) -> SearchSpace:
        """The space in which what is assumed is searched, by the same coordinates.

        Of a rate assumed to be constant the exponent alone, without which a constant part would be
        a second prefactor.
        """
        offsets = [law + 2 for law in self.power_laws if law + 1 not in self.assumed]
        offsets = [offset for offset in offsets if offset in self.assumed]
        return self.with_exponents._searching(offsets, offsets)

    def _searching(self, parameters: list[int], limited: list[int]) -> SearchSpace:
        """The space that searches more, with prefactors or offsets as coordinates."""
        fixed = self.fixed.copy()
        fixed[parameters] = np.nan
        return replace(self, fixed=fixed, limited=self.limited.union(limited))

    @property
    def model_in_coordinates(self) -> Model:
        """The model as a function of y."""
        transport, *shear = (self.law_form(law) for law in self.power_laws)
        return replace(
            self.model,
            transport=transport or self.model.transport,
            shear_rate=(shear[0] if shear else None) or self.model.shear_rate,
        )

    @property
    def fixed_coordinates(self) -> NDArray[np.float64]:
        """Values of the y that are not searched, NaN for those that are, (p,)."""
        fixed = self.fixed.copy()
        fixed[list(self.held)] = list(self.held.values())
        return fixed

    @property
    def searched(self) -> NDArray[np.bool_]:
        """Which y are searched, (p,)."""
        return np.isnan(self.fixed_coordinates)

    @property
    def limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Limits of the searched y: those of x, and none but a positive rate for r and s."""
        lower, upper = self.lower.copy(), self.upper.copy()
        for i in self.power_laws:
            match self.law_form(i):
                case form if form is value_and_slope:
                    lower[i : i + 3] = RATE_FLOOR, -np.inf, self.lower[i + 1]
                    upper[i : i + 3] = np.inf, np.inf, self.upper[i + 1]
                case form if form is on_offset:
                    lower[i] = np.fmax(RATE_FLOOR, self.fixed_coordinates[i + 2])
                    upper[i] = np.inf
                case form if form is on_prefactor:
                    lower[i + 2], upper[i + 2] = RATE_FLOOR, np.inf
        return lower[self.searched], upper[self.searched]

    def natural_scales(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """By how much each searched y (m,) must change to make a difference of order one."""
        full, scales = self.complete(y), np.full(len(self.fixed), np.rad2deg(1.0))
        for i in self.power_laws:
            first, last = (max(abs(full[k]), RATE_FLOOR) for k in (i, i + 2))
            match self.law_form(i):
                case form if form is value_and_slope:
                    scales[i : i + 3] = first, first, 1.0
                case form if form is on_offset:
                    amplitude = max(abs(full[i] - full[i + 2]), RATE_FLOOR)
                    scales[i : i + 3] = first, _exponent_scale(full[i + 1], first / amplitude), last
                case form if form is on_prefactor:
                    amplitude = max(abs(full[i] * self.tau ** full[i + 1]), RATE_FLOOR)
                    scales[i : i + 3] = first, _exponent_scale(full[i + 1], last / amplitude), last
                case _:
                    scales[i : i + 3] = first, 1.0, last
        return scales[self.searched]

    def sizes(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """`natural_scales` of exponents and direction; infinite for rates, which may vanish."""
        scales = np.full(len(self.fixed), np.inf)
        scales[self.searched] = self.natural_scales(y)
        for i in self.power_laws:
            rates = [i, i + 1] if self.law_form(i) is value_and_slope else [i, i + 2]
            scales[rates] = np.inf
        return scales[self.searched]

    def to_coordinates(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The searched y at parameters x (p,)."""
        y = x.copy()
        for i in self.power_laws:
            y[i : i + 3] = self._from_law(i, x[i : i + 3])
        return y[self.searched]

    def _from_law(self, i: int, law: NDArray[np.float64]) -> tuple[float, ...]:
        """Coordinates of the power law i with parameters `law`."""
        form = self.law_form(i)
        if form is None:
            return tuple(law)
        p0, p1, p2 = law
        amplitude = p0 * self.tau**p1
        if form is value_and_slope:
            return amplitude + p2, amplitude * p1, p1
        if form is on_offset:
            return amplitude + p2, p1, p2
        if form is on_prefactor:
            return p0, p1, amplitude + p2
        return p0, p1, p2

    def _to_law(self, i: int, y: NDArray[np.float64]) -> tuple[float, ...]:
        """Parameters of the power law i with coordinates `y`."""
        form = self.law_form(i)
        if form is value_and_slope:
            r, s, p1 = y
            if s == 0 and p1 == 0:
                # A constant rate. Any split into prefactor and constant part is the same.
                p0 = float(np.clip(r, self.lower[i], self.upper[i]))
                return p0, 0.0, r - p0
            with np.errstate(divide="ignore", invalid="ignore"):
                amplitude = s / p1
            return amplitude * self.tau**-p1, p1, r - amplitude
        if form is on_offset:
            r, p1, p2 = y
            return (r - p2) * self.tau**-p1, p1, p2
        if form is on_prefactor:
            p0, p1, r = y
            return p0, p1, r - p0 * self.tau**p1
        return tuple(y)

    def _slopes_from_law(self, i: int, law: NDArray[np.float64]) -> NDArray[np.float64]:
        """Derivatives (3, 3) of `_from_law` by the parameters of the law."""
        p0, p1, _ = law
        power, log_tau = self.tau**p1, np.log(self.tau)
        value = [power, p0 * power * log_tau, 1.0]
        slope = [p1 * power, p0 * power * (1 + p1 * log_tau), 0.0]
        unit, form = np.eye(3), self.law_form(i)
        if form is value_and_slope:
            return np.array([value, slope, unit[1]])
        if form is on_offset:
            return np.array([value, unit[1], unit[2]])
        if form is on_prefactor:
            return np.array([unit[0], unit[1], value])
        return unit

    def _slopes_to_law(self, i: int, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Derivatives (3, 3) of `_to_law` by the coordinates of the law."""
        form, log_tau, result = self.law_form(i), np.log(self.tau), np.eye(3)
        if form is value_and_slope:
            _, s, p1 = y
            with np.errstate(divide="ignore", invalid="ignore"):
                a = s / p1
                power = self.tau**-p1
                return np.array(
                    [
                        [0, power / p1, -a * power * (1 / p1 + log_tau)],
                        [0, 0, 1],
                        [1, -1 / p1, a / p1],
                    ]
                )
        if form is on_offset:
            r, p1, p2 = y
            power = self.tau**-p1
            result[0] = power, -(r - p2) * power * log_tau, -power
        if form is on_prefactor:
            p0, p1, _ = y
            power = self.tau**p1
            result[2] = -power, -p0 * power * log_tau, 1
        return result

    def convert(self, y: NDArray[np.float64], from_space: SearchSpace) -> NDArray[np.float64]:
        """The searched y of this space at those of another space of the same model."""
        full = from_space.complete(y)
        for i in self.power_laws:
            part, (form, before) = slice(i, i + 3), (s.law_form(i) for s in (self, from_space))
            if form is not before:
                law = np.array(from_space._to_law(i, full[part]))
                own = np.array(self._from_law(i, law))
                here, there = VALUE_AT.get(form), VALUE_AT.get(before)
                if here is not None and there is not None:
                    # A sum of prefactor and constant part would lose digits of it.
                    own[here] = full[i + there]
                full[part] = own
        return full[self.searched]

    def derivatives_by(
        self, y: NDArray[np.float64], from_space: SearchSpace
    ) -> NDArray[np.float64]:
        """Derivatives (m, l) of what `convert` returns by its argument y (l,)."""
        result, full = np.eye(len(self.fixed)), from_space.complete(y)
        for i in self.power_laws:
            part = slice(i, i + 3)
            if self.law_form(i) is not from_space.law_form(i):
                law = np.array(from_space._to_law(i, full[part]))
                result[part, part] = self._slopes_from_law(i, law) @ from_space._slopes_to_law(
                    i, full[part]
                )
        return result[self.searched][:, from_space.searched]

    def to_parameters(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Parameters x (p,) from the searched y; p0 is infinite where p1 vanishes and s not."""
        x = self.complete(y)
        for i in self.power_laws:
            x[i : i + 3] = self._to_law(i, x[i : i + 3])
        return x

    def jacobian(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """dx/dy (p, m) by the m searched coordinates."""
        result, full = np.eye(len(self.fixed)), self.complete(y)
        for i in self.power_laws:
            part = slice(i, i + 3)
            result[part, part] = self._slopes_to_law(i, full[part])
        return result[:, self.searched]

    def at_limit(self, active: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which parameters (p,) sit at a limit.

        Parameters
        ----------
        active : (m,) array
            Nonzero where a searched coordinate does. Of the coordinates of a power law with no
            parameter fixed, the exponent alone is a parameter with limits of its own.
        """
        full = np.zeros(len(self.fixed), dtype=bool)
        full[self.searched] = active != 0
        for i in self.power_laws:
            form = self.law_form(i)
            if form is value_and_slope:
                full[i : i + 3] = False, full[i + 2], False
            elif form in (on_offset, on_prefactor):
                full[i : i + 3] = False, full[i + 1], False
        full[list(self.held)] = True
        return full

    def complete(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """All coordinates (p,) from those searched."""
        full = self.fixed_coordinates
        full[self.searched] = y
        return full

    def first_law_out_of_bounds(self, x: NDArray[np.float64]) -> int | None:
        """The first power law of which a parameter is beyond its limits, or None."""
        for i in self.power_laws:
            if self.law_form(i) in (None, power_law):
                continue  # its own parameters are searched, within their limits
            part = slice(i, i + 3)
            if not np.all((self.lower[part] <= x[part]) & (x[part] <= self.upper[part])):
                return i
        return None

    def hold_at_limit(
        self, law: int, limits: Mapping[int, float], y: NDArray[np.float64]
    ) -> tuple[SearchSpace, list[NDArray[np.float64]]]:
        """Hold parameters of a power law; return the new space and where to start in it.

        A start keeps the value of the power law at tau, and its slope as far as the limits allow.
        Where the prefactor is held a negative slope has two such exponents, a small one with a
        large negative offset and a large one with hardly any: each is a start.

        Parameters
        ----------
        law : int
            First parameter of a power law of which neither prefactor nor exponent is known.
        limits : mapping of int to float
            The parameters to hold, prefactor or offset or both, and where; others of this power
            law are released.
        y : (m,) array
            Searched coordinates.
        """
        part = slice(law, law + 3)
        full = self.without_held.complete(self.without_held.convert(y, self))
        if self.without_held.law_form(law) is on_offset:
            r, p1, p2 = full[part]
            s = (r - p2) * p1
        else:
            r, s, _ = full[part]
        offset = limits.get(law + 2, self.fixed[law + 2])
        exponents = np.linspace(self.lower[law + 1], self.upper[law + 1], 401)
        if law in limits:
            amplitudes = limits[law] * self.tau**exponents
        else:
            amplitudes = np.full_like(exponents, max(r - offset, RATE_FLOOR))
        misfits = np.abs(amplitudes * exponents - s)
        if law in limits and not np.isnan(offset):
            misfits = np.hypot(misfits, amplitudes + offset - r)
        of_others = self.limited - {law, law + 2}
        held = {i: value for i, value in self.held.items() if i in of_others} | dict(limits)
        space = replace(self, limited=frozenset(of_others | limits.keys()), held=held)
        full = self.complete(y)
        starts = []
        for best in _local_minima(misfits):
            p1, amplitude = exponents[best], amplitudes[best]
            start = np.array([amplitude * self.tau**-p1, p1, r - amplitude])
            start = np.clip(start, self.lower[part], self.upper[part])
            for index, value in limits.items():
                start[index - law] = value
            if not np.isnan(offset):
                start[2] = offset
            coordinates = full.copy()
            coordinates[part] = space._from_law(law, start)
            starts.append(coordinates[space.searched])
        return space, starts


def _exponent_scale(exponent: float, share: float) -> float:
    """Change of an exponent that changes the rate by about itself.

    `share` is the rate at tau over the part of it that varies, as small as one likes where the two
    parts cancel there; away from tau the rate varies by the exponent, relative to that part.
    """
    return min(1.0, max(share, abs(exponent)))


def _local_minima(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Where values (n,) are below both neighbours; of equal ones, the first."""
    padded = np.concatenate([[np.inf], values, [np.inf]])
    return np.flatnonzero((values < padded[:-2]) & (values <= padded[2:]))
