"""The layers that the settings ask for, made for the data at hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.estimates import estimated_scaling, noise_guess
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.layers.gradient_monitor import GradientMonitor
from homodyne_fit.fitting.layers.layer import Layer, Layers
from homodyne_fit.fitting.layers.regularization import Regularization
from homodyne_fit.fitting.layers.reparametrization import Reparametrization
from homodyne_fit.fitting.layers.shear_weighting import ShearWeighting
from homodyne_fit.fitting.layers.stages import HierarchicalStages
from homodyne_fit.fitting.options import Constant
from homodyne_fit.fitting.settings import FitSettings
from homodyne_fit.model.scaling import ScalingMap, scaling_map

__all__ = ["build_layers"]

Limits = tuple[float, float]


def build_layers(data: TwoTimeData, settings: FitSettings, start: NDArray[np.float64]) -> Layers:
    """Make the layers, in the order in which they act.

    Parameters
    ----------
    data : TwoTimeData
    settings : FitSettings
    start : (p,) array
        Parameters at which the search starts.
    """
    options = settings.search.anti_degeneracy
    bounds = settings.bounds_for(data.q, data.dt, data.n_frames)
    contrast, offset = bounds["contrast"], bounds["offset"]
    problems = list(options.problems(data.n_angles, {"contrast": contrast, "offset": offset}))
    if problems:
        raise InputError(problems)
    estimate = estimated_scaling(data)
    lower, upper = (np.repeat([contrast[i], offset[i]], data.n_angles) for i in (0, 1))
    estimate = np.clip(estimate, lower, upper)
    build: Callable[..., ScalingMap] = partial(
        scaling_map, phi=data.phi, contrast=contrast, offset=offset, order=options.fourier_order
    )
    held = estimate
    if options.per_angle_mode == "constant":
        held = _held(options.constant, estimate)
    regularization = options.regularization
    learned = options.per_angle_mode in ("auto", "hierarchical")
    shrink = learned if regularization.enable is None else regularization.enable
    by_evidence = shrink and regularization.mode == "evidence"
    layers: list[Layer] = [Reparametrization(options.per_angle_mode, build, held, by_evidence)]
    if options.hierarchical.enable and options.per_angle_mode != "constant":
        layers.append(HierarchicalStages(build("constant", held=estimate)))
    if shrink and data.n_angles > 1:
        typical = np.mean(np.abs(estimate.reshape(2, -1)), axis=1)
        layers.append(
            Regularization(
                regularization.mode,
                regularization.weight,
                noise_guess(data),
                (float(typical[0]), float(typical[1])),
            )
        )
    monitor = options.gradient_monitoring
    if monitor.enable:
        layers.append(
            GradientMonitor(
                monitor.ratio_threshold,
                monitor.consecutive_triggers,
                monitor.response,
                monitor.max_restarts,
                monitor.seed,
            )
        )
    shear, use = options.shear_weighting, options.use_of_shear_weights
    if use != "none" and settings.model.has_flow:
        phi0 = float(start[-1])
        layers.append(ShearWeighting(phi0, shear.min_weight, shear.alpha, kept=use == "fit"))
    return Layers(layers)


def _held(options: Constant, estimate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Contrasts, then offsets, (2K,): those given, else the estimates."""
    held = estimate.reshape(2, -1).copy()
    for row, values in zip(held, (options.contrast, options.offset), strict=True):
        if values is not None:
            row[:] = values
    return held.ravel()
