"""Fits and simulations from Python: short ways to the modules, for notebooks and scripts."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from concurrent.futures import Executor
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, GetPydanticSchema, PlainValidator

from homodyne_fit.analysis import Analysis
from homodyne_fit.dataset import TwoTimeData
from homodyne_fit.errors import InputError, Mistakes
from homodyne_fit.evaluation import Progress
from homodyne_fit.fitting import fit as fit_points
from homodyne_fit.layers.settings import AntiDegeneracy, ScalingMode
from homodyne_fit.loading import load
from homodyne_fit.model import Model, model_named
from homodyne_fit.moments import Precision
from homodyne_fit.multi_start import MultiStart
from homodyne_fit.settings import FitSettings, ShearForm
from homodyne_fit.simulation.measurement import Measurement, from_formula
from homodyne_fit.unit_questions import (
    NAMES,
    Quantity,
    about_angles,
    about_gap,
    about_values,
    unconfirmed,
)
from homodyne_fit.validation import checked_arguments
from homodyne_fit.value_types import (
    Count,
    Listed,
    NotNegative,
    Number,
    NumberOrList,
    Positive,
    Size,
)
from nlsq_stratified.reduction import require_no_fork

__all__ = ["fit", "settings_to_config", "simulate"]


def _data_or_path(value: Any) -> Any:
    if not isinstance(value, TwoTimeData | str | os.PathLike):
        raise ValueError(
            f"data of hf.load, or the path of a file, are needed, not {type(value).__name__}; "
            "hf.TwoTimeData makes data of arrays"
        )
    return value


def _model(model: str | Model) -> Model:
    return model if isinstance(model, Model) else model_named(model)


def _multi_start(given: bool | MultiStart) -> MultiStart:
    if isinstance(given, bool | np.bool_):
        return MultiStart(enable=bool(given))
    if not isinstance(given, MultiStart | dict):
        raise ValueError(f"True, False, or a mapping of its settings is needed (got {given!r})")
    return given


DataOrPath = Annotated[TwoTimeData | str | os.PathLike[str], PlainValidator(_data_or_path)]
ModelOrName = Annotated[str | Model, PlainValidator(_model)]
Search = Annotated[
    bool | MultiStart,
    GetPydanticSchema(
        lambda _, handler: handler(Annotated[MultiStart, BeforeValidator(_multi_start)])
    ),
]


@checked_arguments
def fit(
    data: DataOrPath,
    model: ModelOrName = "laminar_flow",
    *,
    gap: Positive | None = None,
    q: Positive | None = None,
    dt: Positive | None = None,
    initial: Mapping[str, Number] | None = None,
    fixed: Mapping[str, Number] | None = None,
    bounds: Mapping[str, tuple[Number, Number]] | None = None,
    per_angle_mode: ScalingMode = "auto",
    anti_degeneracy: AntiDegeneracy | None = None,
    multi_start: Search = True,
    tolerance: Positive = FitSettings.tolerance,
    max_nfev: Count = FitSettings.max_nfev,
    shear: ShearForm = FitSettings.shear,
    precision: Precision = FitSettings.precision,
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
        Passes over the points that the fit may take after the global search; an evaluation of a
        sample counts by its share of the points.
    shear : str
        'documented', or 'homodyne' for the form that homodyne computes.
    precision : {'double', 'single'}
        Of what is computed for every point; sums are double.
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
        Called with stage, passes and cost per point after every evaluation.

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
    settings = FitSettings(
        model=_model(model),
        gap=gap,
        initial=dict(initial or {}),
        fixed=dict(fixed or {}),
        bounds=dict(bounds or {}),
        anti_degeneracy=anti_degeneracy or AntiDegeneracy(per_angle_mode=per_angle_mode),
        multi_start=_multi_start(multi_start),
        tolerance=tolerance,
        max_nfev=max_nfev,
        shear=shear,
        precision=precision,
        threads=threads,
        memory=memory,
    )
    try:
        require_no_fork(executor)
    except ValueError as error:
        raise InputError(f"fit: executor: {error}") from error
    asked = {**_asked(settings), **_asked_of(data)}
    questions = unconfirmed(asked, units_confirmed, "give units_confirmed=['{}']".format)
    mistakes = Mistakes(f"fit: {question}" for question in questions)
    with mistakes.collected():
        if not isinstance(data, TwoTimeData):
            data = load(data, q=q, dt=dt, memory=memory, units_confirmed=units_confirmed)
        elif q is not None or dt is not None:
            raise InputError("q and dt belong to a file; these data have theirs already")
    mistakes.raise_any()
    assert isinstance(data, TwoTimeData)
    result = fit_points(data, settings, executor, progress)
    return Analysis.of(result, data, settings_to_config(settings, data, units_confirmed))


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


def settings_to_config(
    settings: FitSettings, data: TwoTimeData, units_confirmed: Collection[str] = ()
) -> dict[str, Any]:
    """The settings as a configuration file has them: what `Config.settings` turns back."""
    bounds = [
        {"name": name, "min": lower, "max": upper}
        for name, (lower, upper) in settings.bounds.items()
    ]
    # Defaults are left out: of those, some have no effect with the others, which would be said.
    dump: Any = {"mode": "json", "by_alias": True, "exclude_defaults": True}
    analyzer = {**data.recipe.get("analyzer_parameters", {})}
    confirmed = {*analyzer.get("units_confirmed", ()), *(NAMES[each] for each in units_confirmed)}
    analyzer |= {"dt": data.dt, "scattering": {"wavevector_q": data.mean_q}}
    selected = {
        **data.recipe,
        "analyzer_parameters": {
            **analyzer,
            "units_confirmed": sorted(confirmed),
            "geometry": {"stator_rotor_gap": settings.gap},
        },
    }
    return {
        "analysis_mode": settings.model.name,
        **selected,
        "initial_parameters": {
            "values": dict(settings.initial),
            "fixed_parameters": dict(settings.fixed),
        },
        "parameter_space": {"bounds": bounds},
        "model": {"shear": settings.shear},
        "optimization": {
            "nlsq": {
                "standard_error_tolerance": settings.tolerance,
                "max_iterations": settings.max_nfev,
                "precision": settings.precision,
                "threads": settings.threads,
                "memory": settings.memory,
                "multi_start": settings.multi_start.model_dump(**dump),
                "anti_degeneracy": {
                    "per_angle_mode": settings.anti_degeneracy.per_angle_mode,
                    **settings.anti_degeneracy.model_dump(**dump),
                },
            }
        },
    }


def _asked_of(data: TwoTimeData | str | os.PathLike[str]) -> dict[str, str]:
    """What there is to ask about data that were made of arrays."""
    if not isinstance(data, TwoTimeData) or data.recipe:
        return {}
    return about_values(data.mean_q, data.dt, data.phi, "φ of the data")


def _asked(settings: FitSettings) -> dict[str, str]:
    """What there is to ask about the gap and the direction of the flow."""
    if not settings.model.has_flow or settings.gap is None:
        return {}
    asked = {"gap": about_gap(settings.gap)}
    asked["phi"] = about_angles("the bounds of phi0", settings.bounds.get("phi0", ()))
    for values in (settings.initial, settings.fixed):
        if "phi0" in values:
            asked["phi"] = asked["phi"] or about_angles("phi0", [values["phi0"]])
    return {quantity: text for quantity, text in asked.items() if text is not None}
