"""What a fit found: parameters with errors, and curves with bands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homodyne_fit.data.real_arrays import real_array
from homodyne_fit.data.storage.stored_matrices import mirror_upper
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.adequacy import NOT_JUDGED, Adequacy
from homodyne_fit.fitting.fitted_matrices import FittedMatrices
from homodyne_fit.fitting.goodness import Goodness
from homodyne_fit.fitting.options import UncertaintyModel
from homodyne_fit.fitting.robust_loss import RobustLoss
from homodyne_fit.fitting.weak_directions import WeakDirection, hardly_determined
from homodyne_fit.fitting.weighting import Weighting
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.parameters import RATES, SCALING
from homodyne_fit.model.rates import RATE_FLOOR, Model, rates
from homodyne_fit.noise.amplitudes import SpeckleNoise
from homodyne_fit.noise.fields import largest_falls
from homodyne_fit.validation import shown
from nlsq_stratified import Covariance

__all__ = [
    "Correlation",
    "Estimate",
    "FitInfo",
    "FitResult",
    "Rate",
    "Uncertainty",
    "finite_or_none",
]

# Rows of a fitted matrix that are computed at a time: they stay in the cache of a processor.
ROWS_AT_A_TIME = 64


def finite_or_none(value: float) -> float | None:
    """A number for JSON, which has no infinity and no NaN."""
    return value if np.isfinite(value) else None


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error.

    `stderr` is infinite where the data do not determine the value, and NaN where the value was
    not free: held fixed, or at a bound.
    """

    value: float
    stderr: float
    unit: str = ""
    at_bound: bool = False
    fixed: bool = False

    def to_json(self) -> dict[str, Any]:
        """JSON has no infinity and no NaN: such a standard error is null."""
        return {**asdict(self), "stderr": finite_or_none(self.stderr)}

    def __str__(self) -> str:
        error = "fixed" if self.fixed else "at bound" if self.at_bound else f"± {self.stderr:.2g}"
        error = "not determined" if np.isinf(self.stderr) else error
        return f"{self.value:.6g} {error} {self.unit}".rstrip()


@dataclass(frozen=True, eq=False)
class Correlation:
    """Correlation of the estimates that have a finite variance.

    Attributes
    ----------
    names : tuple of str
        Parameters, and the means over the angles of contrast and offset.
    matrix : (m, m) array
    """

    names: tuple[str, ...]
    matrix: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """As in ``parameters.json``."""
        return {"names": list(self.names), "matrix": self.matrix.tolist()}


class Rate(NamedTuple):
    """A rate of the model as a function of time.

    Attributes
    ----------
    key, name, symbol, unit : str
        Its name in files, in words, in formulas; and its unit.
    parameters : tuple of str
        Of its law.
    at : callable
        Times (n,), seconds, to values and standard errors, (n,) each.
    """

    key: str
    name: str
    symbol: str
    unit: str
    parameters: tuple[str, ...]
    at: Callable[[ArrayLike], tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True)
class FitInfo:
    """How the fit went.

    Attributes
    ----------
    success, message : bool, str
    cost_initial : float
        What `FitResult.cost` was at the start, contrast and offset at their best there.
    passes : float
        Points evaluated over points in the data.
    seconds : float
    layers : dict
        What each part of the search did.
    alternatives : list of dict
        Other minima that the data do not tell from this one: ``parameters``, by name,
        ``delta_chi2``, how far above this one they are by the noise found, and ``mirror``, whether
        they differ by the reflection of the flow direction alone.
    beyond_bounds : dict of str to float
        Where a bound that was given holds a parameter of a rate: that rate at mid-measurement,
        by its key, within wider bounds, as a part of the points has it.
    rate_forms : dict
        Where the data decide on the forms of the rates: those ``chosen`` by rate, and how the next
        simpler and the next larger ``others`` compare: ``forms`` by rate, the ``parameter`` that
        makes the difference, its ``value`` and ``stderr``, whether the form is ``larger``,
        ``statistic``, ``p_value`` and ``delta_bic``, and the ``rates`` at mid-measurement that it
        has, if it is not far off.
    """

    success: bool
    message: str
    cost_initial: float
    passes: float
    seconds: float
    layers: dict[str, Any] = field(default_factory=dict)
    alternatives: list[dict[str, Any]] = field(default_factory=list)
    beyond_bounds: dict[str, float] = field(default_factory=dict)
    rate_forms: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What the standard errors are made of.

    Attributes
    ----------
    model : str
        'speckle' for the noise of speckles and photons, 'white' for independent points.
    widening : (p + 2K,) array
        Errors over those of independent points, and of spreads of contrast and offset that are
        known, in the order of `FitResult.names`; NaN where there is no error.
    speckle : SpeckleNoise or None
        Pixels and photons; None where the points are taken to be independent.
    notes : tuple of str
        What the user should know about the errors.
    """

    model: UncertaintyModel
    widening: NDArray[np.float64]
    speckle: SpeckleNoise | None = None
    notes: tuple[str, ...] = ()

    @property
    def typical_widening(self) -> float:
        """Median of `widening`; 1 where nothing has an error."""
        finite = self.widening[np.isfinite(self.widening)]
        return float(np.median(finite)) if len(finite) else 1.0

    def of(self, row: int) -> float:
        """Widening of one of `FitResult.names`; the typical one where it has no error."""
        widening = float(self.widening[row])
        return widening if np.isfinite(widening) else self.typical_widening

    def to_json(self) -> dict[str, Any]:
        """As in ``parameters.json``."""
        speckle = self.speckle
        return {
            "model": self.model,
            "pixels": speckle and speckle.pixels.tolist(),
            "photons": speckle and finite_or_none(speckle.photons),
            "coherence": speckle and speckle.coherence,
            "widening": [finite_or_none(each) for each in self.widening.tolist()],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Uncertainty:
        """Back from `to_json`."""
        speckle = None
        if stored["pixels"] is not None:
            photons = np.inf if stored["photons"] is None else stored["photons"]
            speckle = SpeckleNoise(np.array(stored["pixels"]), photons, stored["coherence"])
        widening = np.array(
            [np.nan if each is None else each for each in stored["widening"]], dtype=np.float64
        )
        return cls(stored["model"], widening, speckle, tuple(stored["notes"]))


@dataclass(frozen=True, eq=False, repr=False)
class FitResult:
    """Fitted parameters of K angles, n frames.

    Attributes
    ----------
    model : Model
    parameters : dict of str to Estimate
        The physics, in the order of ``model.parameters``.
    contrast, offset : tuple of Estimate
        One of each for every angle.
    names : tuple of str
        Rows of `root`: the parameters, then contrast[0..K-1], offset[0..K-1].
    root : (p + 2K, m) array
        The covariance is ``root @ root.T``; zero rows for what was not free.
    undetermined : (p + 2K,) bool
        Whose variance is infinite.
    space : SearchSpace
        The coordinates in which the solution was found.
    coordinates : (m,) array
        The solution in these.
    coordinates_root, coordinates_null : (m, l) array, (m, k) array
        Likewise for the coordinates, and the directions in which they are not determined.
    scaling_root, scaling_null : (2K, l) array, (2K, k) array
        The same of contrasts and offsets, with the same columns; NaN where they are not known.
    cost : float
        Half the sum of squared residuals; of a robust loss, half the sum of s²ρ(r²/s²).
    noise : float
        Standard deviation of a residual.
    uncertainty : Uncertainty
        What the errors are made of.
    n_points : int
    info : FitInfo
    objective : TwoTimeObjective
    condition_number : float
        Of the Hessian of the free physics parameters, scaled to unit diagonal.
    weak_directions : list of WeakDirection
        Combinations of parameters that the data hardly fix.
    goodness : Goodness
        How far data and fit are apart; of least squares.
    weakest : WeakDirection or None
        The combination that they fix least, weak or not.
    adequacy : Adequacy
        Whether the model describes the data; of the residuals of least squares.
    weighting : Weighting or None
        What weighting the points did; None where it was not asked for.
    robust : RobustLoss or None
        What a robust loss did; None of least squares.
    """

    model: Model
    parameters: dict[str, Estimate]
    contrast: tuple[Estimate, ...]
    offset: tuple[Estimate, ...]
    names: tuple[str, ...]
    root: NDArray[np.float64]
    undetermined: NDArray[np.bool_]
    space: SearchSpace
    coordinates: NDArray[np.float64]
    coordinates_root: NDArray[np.float64]
    coordinates_null: NDArray[np.float64]
    scaling_root: NDArray[np.float64]
    scaling_null: NDArray[np.float64]
    cost: float
    noise: float
    uncertainty: Uncertainty
    n_points: int
    info: FitInfo
    objective: TwoTimeObjective
    condition_number: float
    weak_directions: list[WeakDirection]
    goodness: Goodness
    weakest: WeakDirection | None = None
    adequacy: Adequacy = NOT_JUDGED
    weighting: Weighting | None = None
    robust: RobustLoss | None = None

    @property
    def success(self) -> bool:
        """Whether the fit converged."""
        return self.info.success

    @property
    def values(self) -> NDArray[np.float64]:
        """Physics parameters (p,)."""
        return np.array([estimate.value for estimate in self.parameters.values()])

    @property
    def times(self) -> NDArray[np.float64]:
        """Time of each frame (n,), seconds."""
        return np.arange(self.objective.n_frames, dtype=np.float64) * self.objective.dt

    @property
    def not_needed(self) -> list[str]:
        """Parameters that are 0 because the data do not ask for more."""
        return [self.model.parameters[index] for index in sorted(self.space.assumed)]

    @property
    def hardly_determined(self) -> list[str]:
        """Parameters that can move together almost unnoticed."""
        return hardly_determined(
            self.space, self.coordinates, self.objective.dt, self.weak_directions
        )

    def J(self, times: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Transport coefficient at `times` (n,) and its standard error, Å²/s.

        Times are seconds from the first frame on; past the last one the model is extrapolated.

        Raises
        ------
        InputError
            If a time is negative or no number.
        """
        return self._rate(0, times)

    def gamma_dot(self, times: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Shear rate at `times` (n,), as those of `J`, and its standard error, 1/s."""
        return self._rate(1, times)

    @property
    def rates(self) -> list[Rate]:
        """J, and with flow the shear rate."""
        model = self.model
        rates = [
            Rate(RATES[0], "transport coefficient", "J", "Å²/s", model.transport_parameters, self.J)
        ]
        if model.has_flow:
            shear = model.shear_parameters
            rates.append(Rate(RATES[1], "shear rate", "γ̇", "1/s", shear, self.gamma_dot))
        return rates

    @property
    def falls(self) -> NDArray[np.float64]:
        """How far the fitted f falls from 1 within the measurement at each angle, (K,)."""
        return largest_falls(self.objective, self.coordinates)

    def mean_J(self) -> tuple[float, float]:
        """Transport coefficient averaged over the frames and its standard error, Å²/s."""
        return self._mean_rate(0)

    def mean_gamma_dot(self) -> tuple[float, float]:
        """Shear rate averaged over the frames and its standard error, 1/s."""
        return self._mean_rate(1)

    def mean_scaling(self, kind: str) -> tuple[float, float]:
        """Mean of 'contrast' or 'offset' over the angles, and its standard error.

        The error is infinite where the data do not determine it, and NaN where nothing was free.
        """
        estimates = self.contrast if kind == "contrast" else self.offset
        first = len(self.parameters) + (0 if kind == "contrast" else len(self.contrast))
        rows = slice(first, first + len(estimates))
        value = float(np.mean([estimate.value for estimate in estimates]))
        if np.any(self.undetermined[rows]):
            return value, np.inf
        error = float(np.linalg.norm(self.root[rows].mean(axis=0)))
        return value, error if error > 0 else np.nan

    def strain(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Strain since the first frame, the integral of the shear rate, and its standard error.

        Both (n,), at `times`; of a model without flow the strain is 0.
        """
        values, jacobian = self._curve(1, self.times)
        strain, derivatives = np.zeros_like(values), np.zeros_like(jacobian)
        for integral, rate in ((strain, values), (derivatives, jacobian)):
            # By the trapezoidal rule.
            np.cumsum((rate[1:] + rate[:-1]) * (self.objective.dt / 2), axis=0, out=integral[1:])
        return strain, self._errors(derivatives)

    def _rate(
        self, which: int, times: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Value and standard error at `times`; a rate at the floor of the model has none: NaN."""
        values, jacobian = self._curve(which, _seconds(times))
        return values, np.where(values <= RATE_FLOOR, np.nan, self._errors(jacobian))

    def _mean_rate(self, which: int) -> tuple[float, float]:
        values, jacobian = self._curve(which, self.times)
        return float(values.mean()), float(self._errors(jacobian.mean(axis=0)[None])[0])

    def _curve(
        self, which: int, times: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A rate (n,) and its derivatives by the searched coordinates (n, m)."""
        space = self.space
        values, jacobians = rates(
            space.model_in_coordinates,
            space.complete(self.coordinates),
            times,
            space.tau,
            self.objective.dt,
        )
        return values[which], jacobians[which][:, space.searched]

    def errors_at_angle(self, angle: int, jacobian: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standard errors (n,) of functions of the fit at one angle, as of its c2.

        Infinite where the data do not determine them.

        Parameters
        ----------
        angle : int
        jacobian : (n, m + 2) array
            Derivatives by the searched coordinates, and by contrast and offset of the angle.
        """
        rows = [angle, len(self.contrast) + angle]
        root = np.vstack([self.coordinates_root, self.scaling_root[rows]])
        null = np.vstack([self.coordinates_null, self.scaling_null[rows]])
        return self._propagated(jacobian, root, null)

    def _errors(self, jacobian: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standard errors (n,) by linear propagation from the coordinates of the search (n, m).

        There they are finite even where those of the parameters are not, but of a fit that did
        not converge nothing is known.
        """
        return self._propagated(jacobian, self.coordinates_root, self.coordinates_null)

    def _propagated(
        self,
        jacobian: NDArray[np.float64],
        root: NDArray[np.float64],
        null: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Standard errors (n,) of functions with derivatives (n, r), given root and null."""
        if not self.success:
            return np.full(len(jacobian), np.inf)
        covariance = Covariance(root, null, np.nan, np.empty(0), np.empty(0))
        # A square root with as few columns as rows, since n may be large.
        square = np.linalg.qr(root.T, mode="r").T
        # A product of so few columns takes longer with the threads of a BLAS.
        parts = np.einsum("ij,jk->ik", jacobian, square)
        errors = np.sqrt(np.einsum("ij,ij->i", parts, parts))
        return np.where(covariance.lost(jacobian), np.inf, errors)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Of all of `names`, (p + 2K, p + 2K); infinite where not determined."""
        covariance = self.root @ self.root.T
        covariance[self.undetermined, :] = covariance[:, self.undetermined] = np.inf
        return covariance

    @property
    def correlation(self) -> Correlation:
        """Of the determined parameters and of the means of contrast and offset over the angles."""
        count, half = len(self.parameters), len(self.contrast)
        rows = {name: slice(k, k + 1) for k, name in enumerate(self.parameters)}
        rows |= {
            kind: slice(first, first + half)
            for kind, first in zip(SCALING, (count, count + half), strict=True)
        }
        roots = {
            name: self.root[at].mean(axis=0)
            for name, at in rows.items()
            if not np.any(self.undetermined[at])
        }
        units = {name: r / np.linalg.norm(r) for name, r in roots.items() if np.any(r)}
        root = np.array(list(units.values())).reshape(len(units), self.root.shape[1])
        return Correlation(tuple(units), root @ root.T)

    def require_angle(self, angle: int) -> None:
        """Raise an `InputError` unless there is an angle with this index."""
        last = len(self.contrast) - 1
        whole = isinstance(angle, int | np.integer) and not isinstance(angle, bool)
        if not (whole and -last - 1 <= angle <= last):
            raise InputError(f"there is no angle {angle!r}; their indices are 0 to {last}")

    def c2(self, angle: int) -> NDArray[np.float64]:
        """The fitted matrix (n, n) of one angle."""
        c2 = self.decay(angle)
        c2 *= self.contrast[angle].value
        c2 += self.offset[angle].value
        return c2

    def decay(self, angle: int) -> NDArray[np.float64]:
        """The fitted f(t1, t2), which falls from 1, of one angle: (n, n)."""
        self.require_angle(angle)
        fitted, n = FittedMatrices.of(self), self.objective.n_frames
        f = np.empty((n, n))
        for start in range(0, n, ROWS_AT_A_TIME):
            rows, columns = range(start, min(start + ROWS_AT_A_TIME, n)), range(start, n)
            f[start : rows.stop, start:] = fitted.decay(angle, rows, columns)
        mirror_upper(f)
        np.fill_diagonal(f, 1.0)
        return f


def _seconds(times: ArrayLike) -> NDArray[np.float64]:
    """Times at which a rate is defined."""
    try:
        seconds = real_array(times).astype(np.float64)
    except ValueError:
        raise InputError(f"times are numbers, in seconds, not {shown(times)}") from None
    if seconds.ndim > 1:
        raise InputError(f"times are a number or a list of them, not of shape {seconds.shape}")
    if not np.all((seconds >= 0) & (seconds < np.inf)):
        wrong = seconds[~((seconds >= 0) & (seconds < np.inf))]
        raise InputError(
            f"times are seconds from the first frame on, none negative; got {wrong.flat[0]:g}"
        )
    return seconds
