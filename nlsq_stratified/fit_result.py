r"""Results of fits, and what is computed from the points again after a fit with chunks.

The properties have NLSQ's definitions: residuals are y − f, not divided by sigma, and

.. math:: R^2 = 1 - \frac{\sum r^2}{\sum (y - \bar y)^2}, \quad
          \mathrm{AIC} = 2p + N \ln \frac{\sum r^2}{N}, \quad
          \mathrm{BIC} = p \ln N + N \ln \frac{\sum r^2}{N}.

The variance of the curve is :math:`J C J^T` with the covariance C of the parameters; a prediction
has the residual variance :math:`\sum r^2 / (N - p)` in addition.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from nlsq.result import CurveFitResult
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from nlsq_stratified.arguments import INSIDE
from nlsq_stratified.chunks import ArrayChunks
from nlsq_stratified.objectives.curve import ModelObjective
from nlsq_stratified.objectives.local import LocalObjective
from nlsq_stratified.reduction import ChunkSequence, in_order

__all__ = ["ChunkedResult", "FittedPoints", "TupleResult"]


class TupleResult(CurveFitResult):
    """NLSQ's result, which by position is also the tuple (popt, pcov), as NLSQ returns it."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, key: Any) -> Any:
        """A field by its name, or a part of (popt, pcov)."""
        return super().__getitem__(key) if isinstance(key, str) else (self.popt, self.pcov)[key]


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums of the residuals and of y over n points.

    Attributes
    ----------
    n : int
    squares, absolute : float
        Sums of squared and of absolute residuals.
    mean, about_mean : float
        Mean of y, and sum of squares of y about it.
    """

    n: int = 0
    squares: float = 0.0
    absolute: float = 0.0
    mean: float = 0.0
    about_mean: float = 0.0

    def with_points(self, y: NDArray[np.float64], residual: NDArray[np.float64]) -> _Sums:
        """The sums with more points added (T. F. Chan, G. H. Golub and R. J. LeVeque, 1979)."""
        if len(y) == 0:
            return self
        y = np.asarray(y, np.float64)
        mean, n = float(np.mean(y)), self.n + len(y)
        between = (mean - self.mean) ** 2 * self.n * len(y) / n
        return _Sums(
            n,
            self.squares + float(residual @ residual),
            self.absolute + float(np.sum(np.abs(residual))),
            self.mean + (mean - self.mean) * len(y) / n,
            self.about_mean + float(np.sum((y - mean) ** 2)) + between,
        )


@dataclass(frozen=True, eq=False)
class FittedPoints:
    """The model and the chunks of a fit, for further passes over the points.

    Arrays of all points are in the caller's order if the chunks are a partition, else in the order
    of the chunks. Points that were left out of the fit are not in them.
    """

    objective: ModelObjective
    data: ChunkSequence

    def sums(self, params: NDArray[np.float64]) -> _Sums:
        """Sums over all points."""
        sums = _Sums()
        for x, y, *_ in self._chunks():
            sums = sums.with_points(y, y - self.objective.values(params, x, len(y)))
        return sums

    def values(self, params: NDArray[np.float64]) -> NDArray[np.float64]:
        """The model at all points."""
        return self._together(
            self.objective.values(params, x, len(y)) for x, y, *_ in self._chunks()
        )

    def residuals(self, params: NDArray[np.float64]) -> NDArray[np.float64]:
        """y − f at all points."""
        return self._together(
            y - self.objective.values(params, x, len(y)) for x, y, *_ in self._chunks()
        )

    def weighted(self, params: NDArray[np.float64]) -> NDArray[np.float64]:
        """(f − y)/σ at all points, of which the cost is the sum of squares."""
        residual = self._together(
            (self.objective.values(params, x, len(y)) - y) / (sigma[0] if sigma else 1.0)
            for x, y, *sigma in self._chunks()
        )
        return self.objective.whitened(residual)

    def band(
        self, params: NDArray[np.float64], pcov: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The curve at all points and its variance."""
        parts = (band(self.objective, params, pcov, x, len(y)) for x, y, *_ in self._chunks())
        together = self._together(np.stack(part) for part in parts)
        return together[0], together[1]

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x and y of all points; x must have one feature."""
        parts = [(np.asarray(x), np.asarray(y)) for x, y, *_ in self._chunks()]
        if any(x.ndim > 1 for x, _ in parts):
            raise ValueError("plot draws x of one feature: this one has several")
        together = self._together(np.stack(part) for part in parts)
        return together[0], together[1]

    def _chunks(self) -> Iterator[Any]:
        with ThreadPoolExecutor(1) as reader:
            reads = (reader.submit(self.data.__getitem__, i) for i in range(len(self.data)))
            yield from in_order(reads, 2)

    def _together(self, parts: Iterator[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Arrays (..., n) of the chunks as one, in the order of the points."""
        whole = np.concatenate(list(parts), axis=-1)
        if isinstance(self.data, ArrayChunks) and self.data.chunks.order is not None:
            whole = whole[..., np.argsort(self.data.kept_order)]
        return whole


def band(
    objective: ModelObjective,
    params: NDArray[np.float64],
    pcov: NDArray[np.float64],
    x: ArrayLike,
    n_points: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The curve at some x and its variance, infinite where an undetermined parameter matters."""
    values, jacobian = objective.curve(params, x, n_points)
    known = np.isfinite(np.diag(pcov))
    of_known = jacobian[:, known]
    variance = np.sum(of_known @ pcov[np.ix_(known, known)] * of_known, axis=1)
    acts = np.any(jacobian[:, ~known] != 0, axis=1)
    return values, np.where(acts, np.inf, np.maximum(variance, 0.0))


class ChunkedResult(TupleResult):
    """The result of a fit with chunks.

    It has everything that `nlsq.result.CurveFitResult` has. Statistics of the points take one more
    pass over the chunks when they are first used. Arrays of all points are made only by
    `residuals`, `predictions`, and intervals without x.
    """

    def with_points(self, points: FittedPoints) -> ChunkedResult:
        """The same result, with the points that it belongs to."""
        # An attribute would become a field of the result. The copy holds no compiled code.
        objective = replace(points.objective)  # type: ignore[type-var]
        self.__dict__["_points"] = replace(points, objective=objective)
        return self

    def full_output(self) -> tuple[Any, ...]:
        """The tuple (popt, pcov, infodict, mesg, ier), as in SciPy and NLSQ."""
        info = {"nfev": self.nfev, "fvec": self._points.weighted(self.popt)}
        return self.popt, self.pcov, info, self.message, 1 if self.success else 5

    @functools.cached_property
    def _sums(self) -> _Sums:
        return self._points.sums(self.popt)

    @functools.cached_property
    def predictions(self) -> NDArray[np.float64]:  # type: ignore[override]
        """The model at all points (N,); see `FittedPoints` for their order."""
        return self._points.values(self.popt)

    @functools.cached_property
    def residuals(self) -> NDArray[np.float64]:  # type: ignore[override]
        """y − f at all points (N,), in the same order."""
        return self._points.residuals(self.popt)

    @property
    def r_squared(self) -> float:
        """Share of the variance of y that the model explains; NaN where all y are equal."""
        if self._sums.about_mean < np.finfo(float).tiny:
            return _undefined("R² is undefined: all y are equal")
        return 1 - self._sums.squares / self._sums.about_mean

    @property
    def adj_r_squared(self) -> float:
        """The share of the variance from unbiased estimates of both variances."""
        n, p = self._sums.n, len(self.popt)
        if n - p - 1 <= 0:
            return _undefined(f"{n} points are too few for an adjusted R² of {p} parameters")
        return 1 - (1 - self.r_squared) * (n - 1) / (n - p - 1)

    @property
    def rmse(self) -> float:
        return float(np.sqrt(self._sums.squares / self._sums.n))

    @property
    def mae(self) -> float:
        return self._sums.absolute / self._sums.n

    @property
    def aic(self) -> float:
        return 2 * len(self.popt) + self._deviance

    @property
    def bic(self) -> float:
        return len(self.popt) * np.log(self._sums.n) + self._deviance

    @property
    def _deviance(self) -> float:
        n, squares = self._sums.n, self._sums.squares
        if not 0 < squares < np.inf:
            return _undefined(f"AIC and BIC are undefined for a sum of squares of {squares:g}")
        return n * np.log(squares / n)

    def confidence_intervals(self, alpha: float = 0.95) -> NDArray[np.float64]:
        """Lower and upper end for each parameter, (p, 2); `alpha` is the confidence."""
        half = self._quantile(alpha) * np.sqrt(np.diag(self["pcov"]))
        return np.stack([self.popt - half, self.popt + half], axis=1)

    def prediction_interval(
        self, x: ArrayLike | None = None, alpha: float = 0.95
    ) -> NDArray[np.float64]:
        """Ends, (n, 2), of the interval for a new y at each x; at all points when x is None."""
        values, variance = self._band(x)
        noise = self._sums.squares / self._spare
        half = self._quantile(alpha) * np.sqrt(variance + noise)
        return np.stack([values - half, values + half], axis=1)

    def confidence_band(
        self, x: ArrayLike | None = None, alpha: float = 0.95
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper end, (n,) each, for the curve at each x; at all points when x is None."""
        values, variance = self._band(x)
        half = self._quantile(alpha) * np.sqrt(variance)
        return values - half, values + half

    def _band(self, x: ArrayLike | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if x is None:
            return self._points.band(self.popt, self["pcov"])
        return band(self._points.objective, self.popt, self["pcov"], x)

    @property
    def _spare(self) -> int:
        return max(1, self.n_points - len(self.popt))

    def _quantile(self, alpha: float) -> float:
        if self.n_points <= len(self.popt):
            warnings.warn(
                f"{self.n_points} points and {len(self.popt)} parameters leave nothing to "
                "estimate errors from: the intervals mean little",
                RuntimeWarning,
                skip_file_prefixes=INSIDE,
            )
        return float(student.ppf((1 + alpha) / 2, self._spare))

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        """Points, curve and residuals, as `nlsq.result.CurveFitResult.plot` draws them."""
        if isinstance(self._points.objective, LocalObjective):
            raise ValueError("plot draws one curve: here each group has its own curve")
        x, y = self._points.arrays()
        drawn = _Drawn(self)
        drawn.__dict__.update(self.__dict__)
        drawn.update(xdata=x, ydata=y)
        return drawn.plot(*args, **kwargs)


class _Drawn(ChunkedResult):
    """A result with x and y in memory, for NLSQ to draw."""

    plot = CurveFitResult.plot


def _undefined(reason: str) -> float:
    warnings.warn(reason, RuntimeWarning, skip_file_prefixes=INSIDE)
    return float("nan")
