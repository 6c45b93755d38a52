r"""Several fits side by side: what they find, and by how much they differ.

Each fit is compared with the first. Estimates a and b of different points are independent: their
difference has the variance :math:`\sigma_a^2 + \sigma_b^2`. Of the same points they are not, and
their covariance is not known; there a difference is counted in the larger of the two errors, which
tells how far another model or mode moves an answer, and is no test.

Power laws begin with the first frame of a fit. Of parts of one file curves are compared at equal
times since the first frame of the file, else at equal times since the first frame of each fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.provenance import Provenance
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.goodness import criteria_differences
from homodyne_fit.fitting.result import Estimate, FitResult, finite_or_none
from homodyne_fit.model.parameters import PARAMETERS, SCALING
from homodyne_fit.report.data_frame import data_frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["Comparison", "Curve", "Difference", "Fit", "Quantity", "Relation"]

Floats = NDArray[np.float64]

# Times at which rates are compared, as shares of the time that all fits have in common.
COMPARED_TIMES = (0.1, 0.5, 1.0)

# Times at which a curve is given, at most.
CURVE_POINTS = 200

# Angles and wave vectors closer than this, relative, are the same.
SAME = 1e-6


@dataclass(frozen=True, eq=False)
class Fit:
    """A fit to be compared.

    Attributes
    ----------
    label : str
    result : FitResult
    provenance : Provenance
        Of its data.
    first_frame : int
        That of its file which is its first one, counted from 0.
    """

    label: str
    result: FitResult
    provenance: Provenance
    first_frame: int = 0

    @property
    def start(self) -> float:
        """Time from the first frame of its file to its own, seconds."""
        return self.first_frame * self.result.objective.dt

    @property
    def duration(self) -> float:
        """Time of its last frame, seconds."""
        return float(self.result.times[-1])


@dataclass(frozen=True)
class Relation:
    """What the data of a fit have to do with those of the first one.

    `kind` is 'same', 'shared' where some points are in both, or 'other'.
    """

    kind: str

    @property
    def is_independent(self) -> bool:
        """Whether the two have no point in common."""
        return self.kind == "other"


@dataclass(frozen=True)
class Difference:
    """A value less that of the first fit; NaN where it is not known.

    Attributes
    ----------
    value : float
    error : float
        What it is counted in: see the head of the module.
    """

    value: float
    error: float

    @property
    def sigmas(self) -> float:
        """The difference over its error."""
        return self.value / self.error if 0 < self.error < np.inf else np.nan


@dataclass(frozen=True)
class Quantity:
    """A number of all fits, None where a fit has none: its name, its unit, and what they found."""

    name: str
    unit: str
    estimates: tuple[Estimate | None, ...]


@dataclass(frozen=True, eq=False)
class Curve:
    """A rate of one fit and its standard error at some times, seconds; see `Fit.start`."""

    times: Floats
    values: Floats
    errors: Floats


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several fits side by side; the first is what the others are compared with.

    Attributes
    ----------
    fits : tuple of Fit
    """

    fits: tuple[Fit, ...]

    def __post_init__(self) -> None:
        if len(self.fits) < 2:
            raise InputError("compare: at least two results are needed")
        labels = [fit.label for fit in self.fits]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise InputError(f"compare: two results are called '{twice}'; give labels that differ")

    @cached_property
    def from_one_file(self) -> bool:
        """Whether all are of one file, so that times can be counted from its first frame."""
        return len({fit.provenance.source for fit in self.fits}) == 1

    def start(self, fit: Fit) -> float:
        """Where the times of a fit begin on the common axis, seconds."""
        return fit.start if self.from_one_file else 0.0

    @cached_property
    def relations(self) -> tuple[Relation, ...]:
        """Of each fit to the first one."""
        return tuple(_relation(self.fits[0], fit) for fit in self.fits)

    @cached_property
    def common_times(self) -> Floats:
        """Some times that lie within all fits, seconds on the common axis; none if there are none.

        Without the first frame, at which a power law may be endless.
        """
        low = max(self.start(fit) for fit in self.fits)
        high = min(self.start(fit) + fit.duration for fit in self.fits)
        return low + np.array(COMPARED_TIMES) * (high - low) if high > low else np.empty(0)

    @cached_property
    def rate_keys(self) -> tuple[str, ...]:
        """Of the rates that any fit has."""
        return tuple(dict.fromkeys(rate.key for fit in self.fits for rate in fit.result.rates))

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """Means of the rates, rates at common times, mean scaling, and parameters.

        Without those that are held at 0 in all fits.
        """
        return tuple(self._quantities())

    def _quantities(self) -> Iterator[Quantity]:
        results = [fit.result for fit in self.fits]
        for key in self.rate_keys:
            of_fits = [_rate(result, key) for result in results]
            (known, *_) = [rate for rate in of_fits if rate is not None]
            means = tuple(
                None if rate is None else _mean_rate(result, key)
                for rate, result in zip(of_fits, results, strict=True)
            )
            yield Quantity(f"mean {known.symbol}", known.unit, means)
            for time in self.common_times:
                at = tuple(
                    None if rate is None else _estimate(*rate.at(time - self.start(fit)))
                    for rate, fit in zip(of_fits, self.fits, strict=True)
                )
                yield Quantity(f"{known.symbol}({time:.4g} s)", known.unit, at)
        for kind in SCALING:
            estimates = tuple(_estimate(*result.mean_scaling(kind)) for result in results)
            yield Quantity(f"mean {kind}", "", estimates)
        names = dict.fromkeys(name for result in results for name in result.parameters)
        for name in sorted(names, key=lambda name: name != "phi0"):
            estimates = tuple(result.parameters.get(name) for result in results)
            held = {(e.value, e.fixed) for e in estimates if e is not None}
            if held != {(0.0, True)}:
                yield Quantity(name, PARAMETERS[name].unit, estimates)

    def difference(self, quantity: Quantity, number: int) -> Difference | None:
        """Of a fit, by its number, from the first one; None where one of both has no value."""
        first, other = quantity.estimates[0], quantity.estimates[number]
        if first is None or other is None or number == 0:
            return None
        errors = [_error(first), _error(other)]
        independent = self.relations[number].is_independent
        error = math.hypot(*errors) if independent else float(np.max(errors))
        return Difference(other.value - first.value, error)

    def criteria(self, number: int) -> tuple[float, float] | None:
        """ΔAIC and ΔBIC of a fit, by its number, to the first one; None of other data."""
        if self.relations[number].kind != "same":
            return None
        return criteria_differences(self.fits[0].result.goodness, self.fits[number].result.goodness)

    def curves(self, key: str) -> list[Curve | None]:
        """A rate of all fits, on the common axis; None of a fit without it."""
        curves: list[Curve | None] = []
        for fit in self.fits:
            rate, times = _rate(fit.result, key), fit.result.times
            if rate is None:
                curves.append(None)
                continue
            last = len(times) - 1
            frames = np.concatenate(
                [np.linspace(0, last, CURVE_POINTS // 2), np.geomspace(1, last, CURVE_POINTS // 2)]
            )
            shown = times[np.unique(np.rint(frames).astype(int))]
            curves.append(Curve(shown + self.start(fit), *rate.at(shown)))
        return curves

    def rate_name(self, key: str) -> tuple[str, str, str]:
        """Name, symbol and unit of a rate."""
        rates = (_rate(fit.result, key) for fit in self.fits)
        rate = next(rate for rate in rates if rate is not None)
        return rate.name, rate.symbol, rate.unit

    def to_json(self) -> dict[str, Any]:
        """All numbers; null where there is none."""
        return {
            "fits": [
                {
                    "label": fit.label,
                    "model": fit.result.model.name,
                    "per_angle_mode": fit.result.objective.scaling.mode,
                    "success": fit.result.success,
                    "source": fit.provenance.source,
                    "data": relation.kind,
                    "criteria": self._criteria_to_json(number),
                    "reduced_chi2": finite_or_none(fit.result.goodness.reduced_chi2),
                    "nrmse": finite_or_none(fit.result.goodness.nrmse),
                    "adequate": fit.result.adequacy.adequate,
                    "p_value": fit.result.adequacy.p_value,
                }
                for number, (fit, relation) in enumerate(
                    zip(self.fits, self.relations, strict=True)
                )
            ],
            "quantities": [self._quantity_to_json(quantity) for quantity in self.quantities],
        }

    def _criteria_to_json(self, number: int) -> dict[str, float | None] | None:
        criteria = self.criteria(number)
        if criteria is None:
            return None
        return dict(zip(("delta_aic", "delta_bic"), map(finite_or_none, criteria), strict=True))

    def _quantity_to_json(self, quantity: Quantity) -> dict[str, Any]:
        rows = []
        for number, estimate in enumerate(quantity.estimates):
            difference = self.difference(quantity, number)
            numbers = {
                "value": estimate and estimate.value,
                "stderr": estimate and estimate.stderr,
                "difference": difference and difference.value,
                "sigmas": difference and difference.sigmas,
            }
            rows.append(
                {name: None if x is None else finite_or_none(x) for name, x in numbers.items()}
            )
        return {"name": quantity.name, "unit": quantity.unit, "fits": rows}

    def to_dataframe(self) -> DataFrame:
        """A row for each quantity and fit: quantity, unit, fit, value, stderr, difference, sigmas.

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        rows = [
            {"quantity": q["name"], "unit": q["unit"], "fit": fit.label, **numbers}
            for q in map(self._quantity_to_json, self.quantities)
            for fit, numbers in zip(self.fits, q["fits"], strict=True)
        ]
        return data_frame(rows)

    def plot(self) -> Figure:
        """J(t), and the shear rate, of all fits with 68 % bands."""
        from homodyne_fit.report.figures import plot_comparison

        return plot_comparison(self)

    def write_html(self, path: Path | str) -> Path:
        """Write one self-contained page; return its path."""
        from homodyne_fit.report.comparison_page import write_comparison

        return write_comparison(Path(path), self)

    def __repr__(self) -> str:
        from homodyne_fit.report.comparison_text import comparison_text

        return comparison_text(self)

    def _repr_html_(self) -> str:
        from homodyne_fit.report.comparison_text import comparison_html

        return comparison_html(self)


def _rate(result: FitResult, key: str) -> Any:
    return next((rate for rate in result.rates if rate.key == key), None)


def _mean_rate(result: FitResult, key: str) -> Estimate:
    return _estimate(*(result.mean_J() if key == "J" else result.mean_gamma_dot()))


def _estimate(value: Any, error: Any) -> Estimate:
    return Estimate(float(np.ravel(value)[0]), float(np.ravel(error)[0]))


def _error(estimate: Estimate) -> float:
    """Standard error; 0 of a value that was held, NaN of one at a bound."""
    return 0.0 if estimate.fixed else estimate.stderr


def _relation(first: Fit, other: Fit) -> Relation:
    if first.provenance.sha256 == other.provenance.sha256:
        return Relation("same")
    if first.provenance.source == other.provenance.source and _overlap(first, other):
        return Relation("shared")
    return Relation("other")


def _overlap(first: Fit, other: Fit) -> bool:
    """Whether two fits of one file have frames and an angle in common."""
    begin = max(fit.first_frame for fit in (first, other))
    end = min(fit.first_frame + fit.result.objective.n_frames for fit in (first, other))
    pairs = [
        np.column_stack([fit.result.objective.phi, fit.result.objective.q])
        for fit in (first, other)
    ]
    return end - begin > 1 and _any_equal(*pairs)


def _any_equal(pairs: Floats, others: Floats) -> bool:
    close = np.isclose(pairs[:, None, :], others[None, :, :], rtol=SAME, atol=0.0)
    return bool(np.any(np.all(close, axis=2)))
