"""A fit together with the data it was made to: what Python users get, and what is saved."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BeforeValidator, GetPydanticSchema, InstanceOf, PlainValidator

from homodyne_fit.config.writing import settings_to_config
from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.loading import load
from homodyne_fit.data.units import Quantity, about_angles, about_gap, about_values, unconfirmed
from homodyne_fit.errors import InputError, Problem, collect
from homodyne_fit.fitting.fit import fit as fit_points
from homodyne_fit.fitting.options import (
    AntiDegeneracy,
    ConstantParts,
    Loss,
    MultiStart,
    PointWeighting,
    Precision,
    ScalingMode,
    SearchOptions,
    ShearForm,
    UncertaintyModel,
)
from homodyne_fit.fitting.settings import FitSettings
from homodyne_fit.model.rates import Model, model_named
from homodyne_fit.posterior.draws import Posterior
from homodyne_fit.posterior.extra import require_extra
from homodyne_fit.posterior.settings import PosteriorSettings, Prior, Sampler, SamplingOptions
from homodyne_fit.progress import Progress, not_told
from homodyne_fit.report.comparison import Comparison, Fit
from homodyne_fit.report.figure_files import FigureFiles
from homodyne_fit.results.names import RESULT
from homodyne_fit.results.record import FitRecord
from homodyne_fit.simulation.measurement import Measurement, from_formula
from homodyne_fit.validation import (
    Count,
    Listed,
    NotNegative,
    Number,
    NumberOrList,
    PathLike,
    Positive,
    Size,
    checked_arguments,
)
from nlsq_stratified.reduction import require_no_fork

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["Analysis", "compare", "fit", "load_result", "sample_posterior", "simulate"]

DEFAULTS = SearchOptions()
SAMPLING = SamplingOptions()

Search = Annotated[
    bool | MultiStart,
    GetPydanticSchema(
        lambda _, handler: handler(Annotated[MultiStart, BeforeValidator(_multi_start)])
    ),
]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Analysis(FitRecord):
    """A fit, its data, and how both came about: what `fit` and `load_result` return.

    In a notebook it shows as a table. Figures are `matplotlib.figure.Figure`.
    """

    @classmethod
    def from_record(cls, record: FitRecord) -> Analysis:
        """The same with figures, and ways to save it."""
        return cls(**{field.name: getattr(record, field.name) for field in fields(record)})

    @checked_arguments
    def save(
        self,
        folder: PathLike,
        *,
        overwrite: bool = False,
        exports: Listed[str] = (),
        plots: bool | InstanceOf[FigureFiles] = False,
        posterior: InstanceOf[Posterior] | None = None,
    ) -> Path:
        """Write all result files into a folder, which is made if need be; return it.

        Parameters
        ----------
        overwrite : bool
            Replace the results that the folder holds; it is an error otherwise.
        exports : collection of str
            Further files: 'homodyne' for a ``fitted_data.npz`` as that program writes it.
        plots : bool or FigureFiles
            Write each figure as a file of its own, too; `FigureFiles` has formats, dpi and style.
        posterior : Posterior, optional
            Of `sample_posterior`: its draws and what they say are written, too.

        Raises
        ------
        InputError
            If the folder holds results, or cannot be written.
        """
        from homodyne_fit.results.folder import (
            prepare_folder,
            require_exportable,
            write_outputs,
        )

        path = Path(folder)
        require_exportable(self.data, exports)
        prepare_folder(
            path,
            overwrite=overwrite,
            exports=exports,
            plots=bool(plots),
            permission="overwrite=True",
        )
        record = self if posterior is None else replace(self, posterior=posterior.summary)
        files = FigureFiles() if plots is True else (plots or None)
        write_outputs(record, path, exports=exports, plots=files, posterior=posterior)
        return path

    def to_dataframe(self) -> DataFrame:
        """The physics, then contrast and offset of each angle, as a table of pandas.

        The rows and columns are those of ``parameters.csv``: name, phi (degrees, of contrast and
        offset), value, stderr, unit, at_bound, fixed. A standard error is NaN where there is none,
        and infinite where the data do not determine the value.

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        from homodyne_fit.report.data_frame import data_frame
        from homodyne_fit.results.exports import COLUMNS, parameter_rows

        return data_frame(parameter_rows(self), COLUMNS)

    def plot_rates(self, times: ArrayLike | None = None) -> Figure:
        """J(t), and with flow the shear rate, with 68 % bands.

        Parameters
        ----------
        times : (n,) array, optional
            Seconds; those of the frames by default.
        """
        from homodyne_fit.report.figures import plot_rates

        return plot_rates(self, self.times if times is None else times)

    def plot_strain(self) -> Figure:
        """Strain since the first frame with its 68 % band; of a model with flow."""
        from homodyne_fit.report.figures import plot_strain

        return plot_strain(self)

    def plot_correlation(self) -> Figure:
        """Correlation of the estimates."""
        from homodyne_fit.report.figures import plot_correlation

        return plot_correlation(self)

    def plot_residuals(self, angle: int) -> Figure:
        """Residuals of the angle with this index: against age and frame, and their histogram."""
        from homodyne_fit.report.figures import plot_residuals
        from homodyne_fit.report.views import angle_view

        return plot_residuals(angle_view(self.data, self, angle))

    def plot_scaling(self) -> Figure:
        """Contrast and offset of each angle."""
        from homodyne_fit.report.figures import plot_scaling

        return plot_scaling(self)

    def plot_two_time(self, angle: int) -> Figure:
        """Data, fit and residual of the angle with this index."""
        from homodyne_fit.report.figures import plot_two_time
        from homodyne_fit.report.views import angle_view

        return plot_two_time(angle_view(self.data, self, angle))

    def plot_lag_cuts(self, angle: int) -> Figure:
        """Data and fit of the angle with this index, averaged at fixed lag."""
        from homodyne_fit.report.figures import plot_lag_cuts
        from homodyne_fit.report.views import angle_view

        return plot_lag_cuts(angle_view(self.data, self, angle))


def _data_or_path(value: Any) -> Any:
    if not isinstance(value, TwoTimeData | str | os.PathLike):
        raise ValueError(
            f"data of hf.load, or the path of a file, are needed, not {type(value).__name__}; "
            "hf.TwoTimeData makes data of arrays"
        )
    return value


def _model(model: str | Model) -> Model:
    return model if isinstance(model, Model) else model_named(model)


def _multi_start(choice: bool | MultiStart) -> MultiStart:
    if isinstance(choice, bool | np.bool_):
        return MultiStart(enable=bool(choice))
    if not isinstance(choice, MultiStart | dict):
        raise ValueError(f"True, False, or a mapping of its settings is needed (got {choice!r})")
    return choice


DataOrPath = Annotated[TwoTimeData | str | os.PathLike[str], PlainValidator(_data_or_path)]

ModelOrName = Annotated[str | Model, PlainValidator(_model)]


@checked_arguments
def fit(
    data: DataOrPath,
    model: ModelOrName = "laminar_flow",
    *,
    gap: Positive | None = None,
    q: Positive | None = None,
    dt: Positive | None = None,
    sigma: Any = None,
    initial: Mapping[str, Number] | None = None,
    fixed: Mapping[str, Number] | None = None,
    bounds: Mapping[str, tuple[Number, Number]] | None = None,
    per_angle_mode: ScalingMode = "auto",
    anti_degeneracy: AntiDegeneracy | None = None,
    multi_start: Search = True,
    tolerance: Positive = DEFAULTS.tolerance,
    max_nfev: Count = DEFAULTS.max_nfev,
    shear: ShearForm = FitSettings.shear,
    precision: Precision = DEFAULTS.precision,
    uncertainty: UncertaintyModel = DEFAULTS.uncertainty,
    weighting: PointWeighting = DEFAULTS.weighting,
    loss: Loss = DEFAULTS.loss,
    f_scale: Positive | None = None,
    constant_parts: ConstantParts = DEFAULTS.constant_parts,
    threads: Count | None = None,
    memory: Size | None = None,
    units_confirmed: Listed[Quantity] = (),
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Analysis:
    """Fit a model to all points t1 < t2 of all angles.

    Parameters
    ----------
    data : TwoTimeData or path
        From `load` or `simulate`; or a file, of which everything at `q` is taken.
    model : str or Model
        'laminar_flow' or 'static'.
    gap : float, optional
        Width of the sheared gap, Å; needed by a model with flow.
    q : float, optional
        Wave vector, Å⁻¹, where `data` is a file that has several, or none.
    dt : float, optional
        Time between two frames, seconds, where `data` is a file that does not say it.
    sigma : (K, n, n) or (K,) array, optional
        Standard deviation of the noise of each point, or of each angle, in place of that of the
        data. Only ratios count: how large the noise is, is found.
    initial, fixed : mapping, optional
        Start values, and values that are held, by parameter name.
    bounds : mapping, optional
        (lower, upper) by parameter name, 'contrast' and 'offset' included.
    per_angle_mode : str
        How contrast and offset may differ between the angles: 'auto', 'individual', 'averaged',
        'constant', 'fourier', 'hierarchical' or 'sequential'.
    anti_degeneracy : AntiDegeneracy or mapping, optional
        All settings of the layers against degeneracy, in place of `per_angle_mode`.
    multi_start : bool or MultiStart or mapping
        Whether, or how, the best basin is searched for.
    tolerance : float
        Distance from the minimum, in standard errors, at which the fit has converged.
    max_nfev : int
        Passes over the points that the fit may take; an evaluation of a sample counts by its share
        of the points.
    shear : str
        'documented', or 'homodyne' for the form that homodyne computes.
    precision : {'double', 'single'}
        Of what is computed for every point; sums are double.
    uncertainty : {'speckle', 'white'}
        What the error bars assume: the noise of speckles and photons, which neighbouring points
        of c2 share; or that the points are independent.
    weighting : {'none', 'speckle', 'auto'}
        How the points are weighted: all alike, which is least squares; by the noise of speckles
        that they share, from the solution of least squares on; or so where that makes the errors
        smaller by 10 % and the model stands the test. See docs/error-bars.md.
    loss : {'linear', 'huber', 'soft_l1', 'cauchy', 'arctan'}
        Least squares, or a loss by which outliers lose weight. See docs/robust-losses.md.
    f_scale : float, optional
        Where such a loss begins to act, in standard deviations of the noise found; needed with it.
    constant_parts : {'auto', 'free', 'zero'}
        Constant parts of the rates, D_offset and gamma_dot_t_offset: as the data need them, and
        exponents likewise, unless `initial`, `fixed` or `bounds` name them; searched; or 0.
    threads : int, optional
        One for each processor by default.
    memory : int or str, optional
        Bytes that may be used, or a size as '2GB'; three quarters of what is available by
        default. Of a file, matrices that need more than a quarter of that stay on the disk.
    units_confirmed : sequence of {'gap', 'q', 'dt', 'phi'}
        What is in the unit asked for although its value looks like another one. Data of `load`
        were asked about there.
    executor : concurrent.futures.Executor, optional
        Where chunks are summed, in place of threads.
    progress : callable, optional
        Called with a `Step` after every chunk and every evaluation, such as ``print``. It may raise
        `StopFit`: once all points have been evaluated, the fit returns the best values so far.

    Returns
    -------
    Analysis
        Also when the fit did not converge: see its ``success``.

    Raises
    ------
    InputError
        If an argument is of a wrong name, type or size, a unit is in doubt, the data cannot be
        read, or settings and data do not fit together; one line for each mistake.
    """
    if anti_degeneracy is not None and per_angle_mode != "auto":
        raise InputError("per_angle_mode is part of anti_degeneracy; give one of the two")
    if loss != "linear" and f_scale is None:
        raise InputError(
            f"fit: {loss} needs f_scale, in standard deviations of the noise; 1.345 is usual for "
            "huber, 2.385 for cauchy"
        )
    settings = FitSettings(
        model=_model(model),
        gap=gap,
        initial=dict(initial or {}),
        fixed=dict(fixed or {}),
        bounds=dict(bounds or {}),
        shear=shear,
        search=SearchOptions(
            tolerance=tolerance,
            max_nfev=max_nfev,
            precision=precision,
            uncertainty=uncertainty,
            weighting=weighting,
            loss=loss,
            f_scale=f_scale,
            constant_parts=constant_parts,
            threads=threads,
            memory=memory,
            anti_degeneracy=anti_degeneracy or AntiDegeneracy(per_angle_mode=per_angle_mode),
            multi_start=_multi_start(multi_start),
        ),
    )
    try:
        require_no_fork(executor)
    except ValueError as error:
        raise InputError(f"fit: executor: {error}") from error
    open_questions = {**_asked(settings), **_asked_of(data)}
    questions = unconfirmed(open_questions, units_confirmed, "give units_confirmed=['{}']".format)
    problems = [Problem("fit", question) for question in questions]
    with collect(problems):
        if not isinstance(data, TwoTimeData):
            data = load(data, q=q, dt=dt, memory=memory, units_confirmed=units_confirmed)
        elif q is not None or dt is not None:
            raise InputError("q and dt belong to a file; these data have theirs already")
    if problems:
        raise InputError(problems)
    assert isinstance(data, TwoTimeData)
    if sigma is not None:
        origin, data = data.origin, replace(data, sigma=sigma)
        data = data if origin is None else data.with_origin(origin)
    result = fit_points(data, settings, executor, progress or not_told)
    return Analysis.of(result, data, settings_to_config(settings, data, units_confirmed))


@checked_arguments
def load_result(path: PathLike) -> Analysis:
    """Read a result back: equal in all values, errors and bands to the one that was saved.

    Parameters
    ----------
    path : path
        ``result.h5``, or the folder that holds it.

    Returns
    -------
    Analysis
        Its `data` are read from the file when they are first asked for.

    Raises
    ------
    InputError
        If there is no such file, or it is no result of this program.
    """
    from homodyne_fit.results.result_file import read_result

    return Analysis.from_record(read_result(Path(path)))


def compare(
    results: Sequence[Analysis | str | os.PathLike[str]],
    labels: Sequence[str] | None = None,
) -> Comparison:
    """Set results side by side, each against the first.

    Parameters
    ----------
    results : sequence of Analysis or path
        Two or more, with models, modes, samples or times that may differ.
    labels : sequence of str, optional
        Names of the results; by default paths as far as they differ, or numbers.

    Returns
    -------
    Comparison
        It shows as a table, and has `plot`, `to_dataframe`, `to_json` and `write_html`.

    Raises
    ------
    InputError
        If a result cannot be read, there are fewer than two, or two have the same label.
    """
    if labels is not None and len(labels) != len(results):
        raise InputError(
            f"compare: {len(results)} results and {len(labels)} labels; give one for each"
        )
    records = [each if isinstance(each, Analysis) else load_result(each) for each in results]
    paths = [None if isinstance(each, Analysis) else Path(each) for each in results]
    names = labels or _distinct_names(paths)
    return Comparison(
        tuple(
            Fit(name, record, record.provenance, _first_frame(record))
            for name, record in zip(names, records, strict=True)
        )
    )


def _distinct_names(paths: Sequence[Path | None]) -> list[str]:
    """The last parts of paths, as few as tell them apart; numbers of results without one."""
    folders = [p.parent if p and p.name == RESULT else p for p in paths]
    parts = [folder.absolute().parts if folder else () for folder in folders]
    length = next(
        (
            count
            for count in range(1, max(map(len, parts)) + 1)
            if len({each[-count:] for each in parts if each}) == sum(map(bool, parts))
        ),
        1,
    )
    return [
        str(Path(*each[-length:])) if each else f"result {number}"
        for number, each in enumerate(parts, 1)
    ]


def _first_frame(record: FitRecord) -> int:
    """First frame of a fit in its file, counted from 0."""
    analyzer = record.config.get("analyzer_parameters") or {}
    return max(int(analyzer.get("start_frame") or 1), 1) - 1


@checked_arguments
def sample_posterior(
    result: InstanceOf[Analysis],
    priors: Mapping[str, InstanceOf[Prior]] | None = None,
    *,
    sampler: Sampler = SAMPLING.sampler,
    num_samples: Count = SAMPLING.num_samples,
    num_chains: Count = SAMPLING.num_chains,
    num_warmup: Count = SAMPLING.num_warmup,
    seed: NotNegative = SAMPLING.seed,
    shards: Count | None = None,
    threads: Count | None = None,
    memory: Size | None = None,
) -> Posterior:
    """Draw from the posterior of a fit.

    Parameters
    ----------
    result : Analysis
    priors : mapping, optional
        By name of a parameter, 'contrast' and 'offset' included; flat without one.
    sampler : {'auto', 'importance', 'nuts'}
    num_samples, num_chains : int
        Draws of a chain, and chains; of importance sampling, independent batches.
    num_warmup : int
        Steps of each NUTS chain before its draws.
    seed : int
    shards : int, optional
        Shards of angles for consensus Monte Carlo, to compare.
    threads : int, optional
        One for each processor by default.
    memory : int or str, optional
        As for `fit`.

    Returns
    -------
    Posterior
        Also when the draws did not converge: see its ``summary``.

    Raises
    ------
    InputError
        If the fit did not converge, an argument cannot be used, or the optional part ``mcmc`` is
        not installed.
    """
    require_extra()
    from homodyne_fit.posterior.sampling import sample_posterior as sample

    options = SamplingOptions(
        sampler=sampler,
        num_samples=num_samples,
        num_chains=num_chains,
        num_warmup=num_warmup,
        seed=seed,
        shards=shards,
    )
    settings = PosteriorSettings(options, priors or {})
    return sample(result.data, result, settings, threads=threads, memory=memory)


@checked_arguments
def simulate(
    parameters: Mapping[str, Number],
    *,
    phi: Listed[Number] = Measurement.phi,
    q: Positive = Measurement.q,
    gap: Positive = Measurement.gap,
    dt: Positive = Measurement.dt,
    n_frames: Count = Measurement.n_frames,
    contrast: NumberOrList = 0.3,
    offset: NumberOrList = 1.0,
    noise: Number = 0.05,
    seed: NotNegative = 0,
) -> TwoTimeData:
    """Matrices by the formula of the model, with white noise.

    Parameters
    ----------
    parameters : mapping
        The physics, by name: D0, alpha, D_offset, gamma_dot_t0, beta, gamma_dot_t_offset, phi0;
        the first three alone make data without flow.
    phi : (K,) sequence
        Degrees.
    q, gap, dt : float
        Å⁻¹, Å, seconds.
    n_frames : int
        Frames, 3 at least.
    contrast, offset : float or (K,) sequence
        One for all angles, or one for each.
    noise : float
        Standard deviation of a point.
    seed : int
        Of the noise.

    Raises
    ------
    InputError
        If an argument cannot be used.
    """
    m = Measurement(dict(parameters), q, tuple(phi), gap, dt, n_frames)
    c2 = from_formula(m, contrast=contrast, offset=offset, noise=noise, seed=seed)
    return TwoTimeData(
        c2, np.array(m.phi), np.full(len(m.phi), m.q), m.dt, f"a simulation with seed {seed}"
    )


def _asked_of(data: TwoTimeData | str | os.PathLike[str]) -> dict[str, str]:
    """What there is to ask about data that were made of arrays."""
    if not isinstance(data, TwoTimeData) or data.origin is not None:
        return {}
    return about_values(data.mean_q, data.dt, data.phi, "φ of the data")


def _asked(settings: FitSettings) -> dict[str, str]:
    """What there is to ask about the gap and the direction of the flow."""
    if not settings.model.has_flow or settings.gap is None:
        return {}
    open_questions = {"gap": about_gap(settings.gap)}
    open_questions["phi"] = about_angles("the bounds of phi0", settings.bounds.get("phi0", ()))
    for values in (settings.initial, settings.fixed):
        if "phi0" in values:
            open_questions["phi"] = open_questions["phi"] or about_angles("phi0", [values["phi0"]])
    return {quantity: text for quantity, text in open_questions.items() if text is not None}
