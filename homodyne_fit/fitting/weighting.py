"""What weighting the points did: the estimates of least squares, and how the weighted ones differ.

Weights come from the noise of speckles; see `homodyne_fit.fitting.weighted_fit`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Difference", "Value", "Weighting"]

# And its standard error, if it is free and determined.
type Value = tuple[float, float | None]


@dataclass(frozen=True)
class Difference:
    """A quantity by least squares, and with the points weighted.

    Attributes
    ----------
    name, unit : str
    least_squares, weighted : (float, float or None)
        Value and standard error; None where it is not determined.
    sigmas : float
        Least squares minus weighted, in standard errors of this difference.
    """

    name: str
    unit: str
    least_squares: Value
    weighted: Value
    sigmas: float


@dataclass(frozen=True)
class Weighting:
    """How the points of a fit were weighted.

    Attributes
    ----------
    used : bool
        Whether they were; the estimates of the result are those of least squares otherwise.
    note : str
        Why they were not.
    automatic : bool
        Whether that was left to the data.
    steps : int
        Newton steps from least squares.
    differences : tuple of Difference
        Mean rates, direction of the flow, mean contrast and offset, those of them that are free.
    statistic : float
        Of Hausman's test: dᵀ Cov(d)⁻¹ d of the differences d of all that is free, of contrast and
        offset their means.
    degrees_of_freedom : int
    p_value : float
        Of a larger statistic if the model describes the data.
    least_squares : dict of str to (float, float or None)
        By the names of the result: value and standard error by least squares; None where the value
        was not free, or is not determined.
    """

    used: bool
    note: str = ""
    automatic: bool = False
    steps: int = 0
    differences: tuple[Difference, ...] = ()
    statistic: float = 0.0
    degrees_of_freedom: int = 0
    p_value: float = 1.0
    least_squares: dict[str, Value] | None = None

    def to_json(self) -> dict[str, Any]:
        """As in ``parameters.json``: with lists, which JSON has in place of tuples."""
        stored = asdict(self)
        stored["differences"] = [
            each | {kind: list(each[kind]) for kind in ("least_squares", "weighted")}
            for each in stored["differences"]
        ]
        if self.least_squares is not None:
            stored["least_squares"] = {n: list(each) for n, each in self.least_squares.items()}
        return stored

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Weighting:
        """Back from `to_json`."""
        differences = tuple(
            Difference(
                each["name"],
                each["unit"],
                tuple(each["least_squares"]),
                tuple(each["weighted"]),
                each["sigmas"],
            )
            for each in stored["differences"]
        )
        estimates = stored["least_squares"]
        if estimates is not None:
            estimates = {name: tuple(each) for name, each in estimates.items()}
        return cls(**{**stored, "differences": differences, "least_squares": estimates})
