"""What ``import homodyne_fit as hf`` offers: load, inspect, simulate, fit.

The functions here are short ways to those of the modules, for notebooks and scripts.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from homodyne_fit.analysis import Analysis
from homodyne_fit.dataset import TwoTimeData
from homodyne_fit.errors import InputError, suggestion
from homodyne_fit.evaluation import Progress
from homodyne_fit.fitting import fit as fit_points
from homodyne_fit.layers.settings import AntiDegeneracy
from homodyne_fit.loaders import TwoTimeFile, load, open_two_time
from homodyne_fit.model import MODELS, Model
from homodyne_fit.moments import Precision
from homodyne_fit.multi_start import MultiStart
from homodyne_fit.settings import FitSettings
from homodyne_fit.simulation.measurement import Measurement, from_formula

__all__ = ["fit", "inspect", "settings_to_config", "simulate"]

Path = str | os.PathLike[str]


def inspect(path: Path) -> TwoTimeFile:
    """What a two-time file says of itself: format, q, φ, dt, frames; no matrix is read."""
    return open_two_time(path)


def fit(
    data: TwoTimeData | Path,
    model: str | Model = "laminar_flow",
    *,
    gap: float | None = None,
    q: float | None = None,
    dt: float | None = None,
    initial: Mapping[str, float] | None = None,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    per_angle_mode: str = "auto",
    anti_degeneracy: AntiDegeneracy | None = None,
    multi_start: bool | MultiStart = True,
    tolerance: float = FitSettings.tolerance,
    max_nfev: int = FitSettings.max_nfev,
    shear: str = FitSettings.shear,
    precision: Precision = FitSettings.precision,
    threads: int | None = None,
    memory: int | None = None,
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
    anti_degeneracy : AntiDegeneracy, optional
        All settings of the layers against degeneracy, in place of `per_angle_mode`.
    multi_start : bool or MultiStart
        Whether, or how, the best basin is searched for.
    tolerance : float
        Distance from the minimum, in standard errors, at which the fit has converged.
    max_nfev : int
        Evaluations that a search may take, on a sample or on all points.
    shear : str
        'documented', or 'homodyne' for the form that homodyne computes.
    precision : {'double', 'single'}
        Of what is computed for every point; sums are double.
    threads : int, optional
        One for each processor by default.
    memory : int, optional
        Bytes that may be used; three quarters of what is available by default. Of a file,
        matrices that need more than a quarter of that stay on the disk.
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
        If the data cannot be read, or settings and data do not fit together.
    """
    if anti_degeneracy is not None and per_angle_mode != "auto":
        raise InputError("per_angle_mode is part of anti_degeneracy; give one of the two")
    settings = FitSettings(
        model=_model(model),
        gap=gap,
        initial=dict(initial or {}),
        fixed=dict(fixed or {}),
        bounds={
            name: (float(lower), float(upper)) for name, (lower, upper) in (bounds or {}).items()
        },
        anti_degeneracy=anti_degeneracy or _anti_degeneracy(per_angle_mode),
        multi_start=MultiStart(enable=multi_start)
        if isinstance(multi_start, bool)
        else multi_start,
        tolerance=tolerance,
        max_nfev=max_nfev,
        shear=shear,
        precision=precision,
        threads=threads,
        memory=memory,
    )
    if not isinstance(data, TwoTimeData):
        data = load(data, q=q, dt=dt, memory=memory)
    elif q is not None or dt is not None:
        raise InputError("q and dt belong to a file; these data have theirs already")
    result = fit_points(data, settings, executor, progress)
    return Analysis.of(result, data, settings_to_config(settings, data))


def simulate(
    parameters: Mapping[str, float],
    *,
    phi: Sequence[float] = Measurement.phi,
    q: float = Measurement.q,
    gap: float = Measurement.gap,
    dt: float = Measurement.dt,
    n_frames: int = Measurement.n_frames,
    contrast: float | Sequence[float] = 0.3,
    offset: float | Sequence[float] = 1.0,
    noise: float = 0.05,
    seed: int = 0,
) -> TwoTimeData:
    """Matrices by the formula of the model, with white noise.

    Parameters
    ----------
    parameters : mapping
        The physics, by name; those of the static model alone make data without flow.
    phi : (K,) sequence
        Degrees.
    q, gap, dt : float
        Å⁻¹, Å, seconds.
    n_frames : int
    contrast, offset : float or (K,) sequence
    noise : float
        Standard deviation of a point.
    seed : int

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


def settings_to_config(settings: FitSettings, data: TwoTimeData) -> dict[str, Any]:
    """The settings as a configuration file has them: what `Config.settings` turns back."""
    bounds = [
        {"name": name, "min": lower, "max": upper}
        for name, (lower, upper) in settings.bounds.items()
    ]
    dump = {"mode": "json", "by_alias": True}
    return {
        "analysis_mode": settings.model.name,
        "analyzer_parameters": {
            "dt": data.dt,
            "scattering": {"wavevector_q": float(data.q.mean())},
            "geometry": {"stator_rotor_gap": settings.gap},
        },
        "experimental_data": {"file_path": data.source},
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
                "anti_degeneracy": settings.anti_degeneracy.model_dump(**dump),
            }
        },
    }


def _model(model: str | Model) -> Model:
    if isinstance(model, Model):
        return model
    if model not in MODELS:
        raise InputError(
            f"there is no model '{model}'{suggestion(model, MODELS)}; there are: "
            f"{', '.join(MODELS)}"
        )
    return MODELS[model]


def _anti_degeneracy(mode: str) -> AntiDegeneracy:
    field = AntiDegeneracy.model_fields["per_angle_mode"]
    modes = typing.get_args(field.annotation)
    if mode not in modes:
        raise InputError(
            f"there is no per_angle_mode '{mode}'{suggestion(mode, modes)}; there are: "
            f"{', '.join(modes)}"
        )
    return AntiDegeneracy.model_validate({"per_angle_mode": mode})
