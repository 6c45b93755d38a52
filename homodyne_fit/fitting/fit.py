"""The fit: a page that names its steps, from the data to the result."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.adequacy import judge_model
from homodyne_fit.fitting.beyond_bounds import beyond_bounds
from homodyne_fit.fitting.found import (
    Found,
    found_at,
    residuals_and_noise,
    starts_of,
    with_needed_forms,
)
from homodyne_fit.fitting.goodness import goodness_of_fit
from homodyne_fit.fitting.layers.build import build_layers
from homodyne_fit.fitting.layers.layer import Layers
from homodyne_fit.fitting.problem import (
    finite_sums,
    global_search,
    require_reachable,
    search_space,
    start_parameters,
    two_time_objective,
)
from homodyne_fit.fitting.rate_forms import described
from homodyne_fit.fitting.result import FitInfo, FitResult
from homodyne_fit.fitting.robust_result import robust_result
from homodyne_fit.fitting.score_noise import NoiseOfPoints
from homodyne_fit.fitting.search.other_minima import other_minima
from homodyne_fit.fitting.search.refinement import Refinement
from homodyne_fit.fitting.search.robust import Robust
from homodyne_fit.fitting.search.samples import Budget, make_samples
from homodyne_fit.fitting.search.solution import SearchPoint, Solution
from homodyne_fit.fitting.settings import SHEAR_FORMS, FitSettings
from homodyne_fit.fitting.uncertainty import assemble_result
from homodyne_fit.fitting.weighted_result import weighted_result
from homodyne_fit.kernel.compilation import meanwhile, require_unforked
from homodyne_fit.kernel.moments import compile_kernel
from homodyne_fit.kernel.stored_chunks import Chunk, chunks_of
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.noise.fields import largest_falls
from homodyne_fit.progress import Progress, Step, StopFit, not_told
from nlsq_stratified.processors import available_processors

__all__ = ["FitSettings", "fit"]

# A contrast that is zero but for rounding.
NO_CONTRAST = 1e-12

# A fall of c2 that no measurement would show.
NO_FALL = 1e-7


def fit(
    data: TwoTimeData,
    settings: FitSettings,
    executor: Executor | None = None,
    progress: Progress = not_told,
    like: FitResult | None = None,
) -> FitResult:
    """Fit the model to all points t1 < t2 of all angles.

    Parameters
    ----------
    data : TwoTimeData
    settings : FitSettings
    executor : concurrent.futures.Executor, optional
        Where the chunks are summed; threads of this process when None.
    progress : callable
        Called with a `Step` after every chunk and every evaluation. It may raise `StopFit`.
    like : FitResult, optional
        An earlier fit of the same angles: contrast, offset and the weights of the angles are
        treated exactly as at its end, penalty included, and no layer acts.

    Returns
    -------
    FitResult
        Also when the fit did not converge: see its ``success`` and ``message``.

    Raises
    ------
    InputError
        If settings and data do not fit together, or no start within the bounds is finite.
    """
    require_unforked()
    # The matrices of a fit are small: threads of the linear algebra would only wait for each other.
    with _linear_algebra().limit(limits=1):
        if executor is not None:
            return _fit(data, settings, executor, progress, like)
        with ThreadPoolExecutor(settings.search.threads or available_processors()) as threads:
            return _fit(data, settings, threads, progress, like)


@functools.cache
def _linear_algebra() -> ThreadpoolController:
    """The libraries of it that are loaded, which takes some milliseconds to find out."""
    return ThreadpoolController().select(user_api="blas")


def _fit(
    data: TwoTimeData,
    settings: FitSettings,
    executor: Executor,
    progress: Progress,
    like: FitResult | None,
) -> FitResult:
    began = time.perf_counter()
    if data.sigma is not None and settings.search.weighting != "none":
        raise InputError(
            f"{data.source}: points are weighted either by their sigma or by the noise of "
            "speckles; take weighting: none, or data without sigma"
        )
    space, chunks = search_space(data, settings), chunks_of(data, settings.search.memory)
    _compile_kernels(data, settings, space, chunks)
    progress(Step("compiling the model"))
    samples = make_samples(data, chunks, executor, settings.search.max_nfev, progress)
    objective = two_time_objective(data, settings, space)
    require_reachable(data, objective.reference, settings)
    parameters = start_parameters(data, settings, space)
    if like is None:
        layers = build_layers(data, settings, parameters)
    else:
        layers = Layers([])
        scaling, weights = like.objective.scaling, like.objective.weights
        objective = replace(objective, scaling=scaling, weights=weights)
    search = global_search(data, settings, space, parameters)
    # The layers ask for the noise at what is most often the end of the search.
    noise_at = functools.lru_cache(maxsize=1)(
        functools.partial(residuals_and_noise, settings, samples)
    )
    robust = Robust.of(settings.search)
    refinement = Refinement(samples, layers, search, noise_at, robust)

    first = SearchPoint(space, space.to_coordinates(parameters))
    sums = finite_sums(samples, objective, first, data.source)
    objective, start = layers.prepare(objective, first, refinement.preliminary_fit)
    at_start = layers.for_sample(objective, all_points=True).joint_equations(sums)
    tolerance = settings.search.tolerance
    screening = None
    try:
        starts, screening = starts_of(refinement, objective, start)
        found = found_at(
            settings, refinement, *refinement.to_all_points(objective, starts, tolerance)
        )
        if like is None:
            found = with_needed_forms(data, settings, refinement, found)
        samples.budget.tell("whether the model describes the data")
    except StopFit:
        if (best := samples.all_points.best) is None:
            raise
        found = _found_when_stopped(best, samples.budget)

    solution, noise = found.solution, found.noise
    layers.conclude(solution, noise)
    samples.budget.can_stop = False
    success, message = _verdict(solution, layers, samples.budget)
    adequacy = judge_model(
        found.residuals, noise, settings.search.uncertainty, success, settings.search.threads
    )
    beyond = beyond_bounds(data, settings, solution, samples) if success and like is None else {}
    n_points = solution.equations.n_points
    info = FitInfo(
        success=success,
        message=message,
        cost_initial=0.5 * at_start.sum_of_squares * n_points / at_start.equations.n_points,
        passes=samples.budget.passes,
        seconds=time.perf_counter() - began,
        layers={**({"multi_start": screening.report()} if screening else {}), **layers.report()},
        alternatives=_alternatives(found, settings) if success else [],
        beyond_bounds=beyond,
        rate_forms=described(solution.space, found.tests) if settings.left_to_data else {},
    )
    in_space, unlimited = (
        functools.partial(other, solution)
        for other in (samples.all_points.in_space, samples.all_points.unlimited)
    )
    goodness = goodness_of_fit(solution, noise, found.residuals)
    result = assemble_result(solution, in_space, unlimited, noise, adequacy, goodness, info)
    if robust is not None:
        result = robust_result(result, solution, robust, samples.all_points, first, at_start)
    if found.weighted is not None:
        automatic = settings.search.weighting == "auto"
        result = weighted_result(found.weighted, result, automatic=automatic)
        effort = {"passes": samples.budget.passes, "seconds": time.perf_counter() - began}
        result = replace(result, info=replace(info, **effort))
    return result


def _alternatives(found: Found, settings: FitSettings) -> list[dict[str, Any]]:
    """Other minima that the data do not tell from the solution."""
    return other_minima(
        found.solution, found.others, found.noise, found.residuals, settings.search.threads
    )


def _found_when_stopped(best: Solution, budget: Budget) -> Found:
    """The best values so far of a fit that is stopped; none of their errors hold."""
    message = f"stopped in pass {int(budget.passes) + 1} over the points, before its end"
    solution = replace(best, result=replace(best.result, message=message))
    return Found(solution, [], None, NoiseOfPoints(solution.variance), [], None)


def _compile_kernels(
    data: TwoTimeData, settings: FitSettings, space: SearchSpace, chunks: Sequence[Chunk]
) -> None:
    """Begin to compile, in other threads, what the first evaluations will ask for."""
    power, _ = SHEAR_FORMS[settings.shear]
    losses = {None, settings.search.loss if settings.search.is_robust else None}
    for precision, loss in product({settings.search.precision, "double"}, losses):
        shape = space.model_in_coordinates, chunks[0].room, data.c2.dtype
        weighted = data.sigma is not None
        meanwhile(functools.partial(compile_kernel, *shape, power, precision, loss, weighted))


def _verdict(solution: Solution, layers: Layers, budget: Budget) -> tuple[bool, str]:
    """Whether the fit converged to something, and what to say about it."""
    result, contrast = solution.result, solution.scaling[: len(solution.objective.phi)]
    if (failure := layers.failure()) is not None:
        return False, failure
    if np.all(np.abs(contrast) <= NO_CONTRAST):
        return False, "the data show no decay: the contrast is zero at every angle"
    if np.all(np.abs(contrast) * largest_falls(solution.objective, solution.result.x) <= NO_FALL):
        return False, "the data show no decay: the fitted matrices are constant"
    if solution.without_effect:
        return False, "the model does not decay: no physical parameter has an effect"
    if not result.success and budget.running_out:
        return False, (
            f"stopped after {budget.spent:.3g} of {budget.max_passes} passes over the points "
            "without converging"
        )
    return result.success, result.message
