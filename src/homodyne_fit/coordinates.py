r"""Coordinates in which the search for the physics is well conditioned.

Over any window of time, :math:`p_0 t^{p_1} + p_2` with a small exponent hardly differs from
:math:`r + s \ln(t/\tau)`: the data fix its value r and its slope s at a time τ inside the window,
while p0 and p2 run off in opposite directions along a hyperbola. In (r, s, p1) the valley is
straight and there is no singularity at p1 = 0:

.. math:: r = p_0 \tau^{p_1} + p_2, \qquad s = p_0 p_1 \tau^{p_1}.

The search therefore runs in (r, s, p1), where the limits of p0 and p2 are not a box; a power law
of which a parameter is fixed, or held at its limit, is searched in what is left of (p0, p1, p2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.model import RATE_FLOOR, Model, value_and_slope

__all__ = ["SearchSpace"]


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
        Values that the user fixed; NaN elsewhere.
    direct : frozenset of int
        Power laws, by their first parameter, that are searched in (p0, p1, p2) though nothing
        of them is fixed.
    held : mapping of int to float
        Parameters of these that are held at a limit for the time being.
    """

    model: Model
    tau: float
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    fixed: NDArray[np.float64]
    direct: frozenset[int] = frozenset()
    held: Mapping[int, float] = field(default_factory=dict)

    @property
    def power_laws(self) -> tuple[int, ...]:
        """Index of the first parameter of each power law."""
        return (0, len(self.model.transport_parameters)) if self.model.has_flow else (0,)

    @property
    def straight(self) -> tuple[int, ...]:
        """The power laws that are searched in (r, s, p1)."""
        return tuple(
            i
            for i in self.power_laws
            if np.all(np.isnan(self.fixed[i : i + 3])) and i not in self.direct
        )

    @property
    def base(self) -> SearchSpace:
        """The space from which this one came by `on_limit`."""
        return replace(self, direct=frozenset(), held={})

    @property
    def form(self) -> Model:
        """The model as a function of y."""
        first = (self.power_laws[0] in self.straight, self.power_laws[-1] in self.straight)
        return replace(
            self.model,
            transport=value_and_slope if first[0] else self.model.transport,
            shear_rate=value_and_slope
            if self.model.has_flow and first[1]
            else self.model.shear_rate,
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
        for i in self.straight:
            lower[i : i + 3] = RATE_FLOOR, -np.inf, self.lower[i + 1]
            upper[i : i + 3] = np.inf, np.inf, self.upper[i + 1]
        return lower[self.searched], upper[self.searched]

    def natural_scales(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """By how much each searched y (m,) must change to make a difference of order one."""
        full, scales = np.abs(self.complete(y)), np.full(len(self.fixed), np.rad2deg(1.0))
        for i in self.power_laws:
            size = max(full[i], RATE_FLOOR)
            if i in self.straight:
                scales[i : i + 3] = size, size, 1.0
            else:
                scales[i : i + 3] = size, 1.0, max(full[i + 2], RATE_FLOOR)
        return scales[self.searched]

    def to_coordinates(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The searched y at parameters x (p,)."""
        y = x.copy()
        for i in self.straight:
            y[i : i + 3] = self._straightened(x[i : i + 3])
        return y[self.searched]

    def _straightened(self, law: NDArray[np.float64]) -> tuple[float, float, float]:
        p0, p1, p2 = law
        amplitude = p0 * self.tau**p1
        return amplitude + p2, amplitude * p1, p1

    def released(self, y: NDArray[np.float64], limited: SearchSpace) -> NDArray[np.float64]:
        """The searched y of this space from those of one that came of it by `on_limit`."""
        full = limited.complete(y)
        for i in self.straight:
            if i not in limited.straight:
                full[i : i + 3] = self._straightened(full[i : i + 3])
        return full[self.searched]

    def to_parameters(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Parameters x (p,) from the searched y; p0 is infinite where p1 vanishes and s not."""
        x = self.complete(y)
        for i in self.straight:
            r, s, p1 = x[i : i + 3]
            with np.errstate(divide="ignore", invalid="ignore"):
                amplitude = s / p1
            x[i : i + 3] = amplitude * self.tau**-p1, p1, r - amplitude
        return x

    def jacobian(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """dx/dy (p, m) by the m searched coordinates."""
        result, full = np.eye(len(self.fixed)), self.complete(y)
        for i in self.straight:
            _, s, p1 = full[i : i + 3]
            with np.errstate(divide="ignore", invalid="ignore"):
                a = s / p1
                power = self.tau**-p1
                result[i : i + 3, i : i + 3] = [
                    [0, power / p1, -a * power * (1 / p1 + np.log(self.tau))],
                    [0, 0, 1],
                    [1, -1 / p1, a / p1],
                ]
        return result[:, self.searched]

    def at_limit(self, active: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which parameters (p,) sit at a limit.

        Parameters
        ----------
        active : (m,) array
            Nonzero where a searched coordinate does. Of (r, s, p1) the exponent alone is a
            parameter with limits of its own.
        """
        full = np.zeros(len(self.fixed), dtype=bool)
        full[self.searched] = active != 0
        for i in self.straight:
            full[i : i + 3] = False, full[i + 2], False
        full[list(self.held)] = True
        return full

    def complete(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """All coordinates (p,) from those searched."""
        full = self.fixed_coordinates
        full[self.searched] = y
        return full

    def outside(self, x: NDArray[np.float64]) -> int | None:
        """The first power law of which a parameter is beyond its limits, or None."""
        for i in self.straight:
            part = slice(i, i + 3)
            within = (self.lower[part] <= x[part]) & (x[part] <= self.upper[part])
            if not np.all(within):
                return i
        return None

    def on_limit(
        self, law: int, index: int, value: float, y: NDArray[np.float64]
    ) -> tuple[SearchSpace, list[NDArray[np.float64]]]:
        """Hold one parameter of a power law; return the new space and where to start in it.

        A start keeps the value of the power law at tau, and its slope as far as the limits allow.
        Where the prefactor is held a negative slope has two such exponents, a small one with a
        large negative offset and a large one with hardly any: each is a start.

        Parameters
        ----------
        law : int
            First parameter of a power law that is searched in (r, s, p1).
        index : int
            The parameter to hold at `value`: the prefactor or the offset.
        y : (m,) array
            Searched coordinates.
        """
        full = self.complete(y)
        r, s, _ = full[law : law + 3]
        exponents = np.linspace(self.lower[law + 1], self.upper[law + 1], 401)
        if index == law:
            amplitudes = value * self.tau**exponents
        else:
            amplitudes = np.full_like(exponents, max(r - value, RATE_FLOOR))
        space = replace(self, direct=self.direct | {law}, held={**self.held, index: value})
        starts = []
        for best in _local_minima(np.abs(amplitudes * exponents - s)):
            p1, amplitude = exponents[best], amplitudes[best]
            start = np.array([amplitude * self.tau**-p1, p1, r - amplitude])
            part = slice(law, law + 3)
            full[part] = np.clip(start, self.lower[part], self.upper[part])
            full[index] = value
            starts.append(full[space.searched])
        return space, starts


def _local_minima(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Where values (n,) are below both neighbours; of equal ones, the first."""
    padded = np.concatenate([[np.inf], values, [np.inf]])
    return np.flatnonzero((values < padded[:-2]) & (values <= padded[2:]))
