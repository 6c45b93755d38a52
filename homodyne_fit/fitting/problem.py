"""The problem of a fit: its coordinates, its objective, and where its search starts."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.storage.stored_matrices import Matrices, upper_bands
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.options import zero_parts
from homodyne_fit.fitting.rate_forms import assume_zero
from homodyne_fit.fitting.search.refinement import GlobalSearch
from homodyne_fit.fitting.search.samples import Sample, Samples
from homodyne_fit.fitting.search.solution import SearchPoint
from homodyne_fit.fitting.search.starts import (
    MOST_ON_A_LARGER_SAMPLE,
    Screening,
    draw_starts,
    screen_starts,
)
from homodyne_fit.fitting.settings import SHEAR_FORMS, FitSettings
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.parameters import PARAMETERS
from homodyne_fit.model.scaling import scaling_map

__all__ = [
    "finite_sums",
    "global_search",
    "require_reachable",
    "search_space",
    "start_parameters",
    "two_time_objective",
]

# How far the mean of a matrix may lie outside of what the bounds of contrast and offset span.
SLACK = 0.1

# Evaluations of the probe for each start that is screened, those of the refinement of some of them
# included.
EVALUATIONS_OF_A_START = 6

# Degrees from a direction of symmetry within which no search starts.
STATIONARY = 1.0


def search_space(data: TwoTimeData, settings: FitSettings) -> SearchSpace:
    """The coordinates of the search, with the bounds and fixed values of the settings."""
    names = settings.model.parameters
    bounds = settings.bounds_for(data.q, data.dt, data.n_frames)
    limits = np.array([bounds[name] for name in names])
    fixed = {**zero_parts(settings.search.constant_parts, names), **settings.fixed}
    space = SearchSpace(
        model=settings.model.for_one_fit(),
        tau=float(data.times[-1]) / 2,
        lower=limits[:, 0],
        upper=limits[:, 1],
        fixed=np.array([fixed.get(name, np.nan) for name in names]),
    )
    return assume_zero(space, settings.left_to_data)


def two_time_objective(
    data: TwoTimeData, settings: FitSettings, space: SearchSpace
) -> TwoTimeObjective:
    """The sum of squares of all points, contrast and offset of each angle free."""
    power, phase = SHEAR_FORMS[settings.shear]
    bounds = settings.bounds_for(data.q, data.dt, data.n_frames)
    return TwoTimeObjective(
        model=space.model_in_coordinates,
        dt=data.dt,
        n_frames=data.n_frames,
        q=data.q,
        phi=data.phi,
        gap=np.nan if settings.gap is None else settings.gap,
        scaling=scaling_map(
            "individual",
            phi=data.phi,
            contrast=bounds["contrast"],
            offset=bounds["offset"],
        ),
        weights=np.ones(data.n_angles),
        # Numbers of single precision, so that subtracting them is exact there, too.
        reference=np.array([_mean_off_diagonal(data.c2, k) for k in range(data.n_angles)])
        .astype(np.float32)
        .astype(np.float64),
        fixed=space.fixed_coordinates,
        sinc_power=power,
        phase_per_gap=phase,
        precision=settings.search.precision,
    )


def _mean_off_diagonal(c2: Matrices, k: int) -> float:
    """Mean of the finite entries of c2[k] at t1 < t2."""
    total, count = 0.0, 0
    for _, band in upper_bands(c2, k):
        counted = np.triu(np.isfinite(band), 1)
        total += float(band.sum(dtype=np.float64, where=counted))
        count += int(np.count_nonzero(counted))
    return total / count


def require_reachable(data: TwoTimeData, means: NDArray[np.float64], settings: FitSettings) -> None:
    """Refuse matrices whose mean no contrast and offset within their bounds can have."""
    bounds = settings.bounds_for(data.q, data.dt, data.n_frames)
    (low, high), (_, contrast) = bounds["offset"], bounds["contrast"]
    slack = SLACK * (high + contrast - low)
    outside = (means < low - slack) | (means > high + contrast + slack)
    if not np.any(outside):
        return
    k = int(np.argmax(outside))
    hint = "is it c2 - 1? add 1; else " if low <= means[k] + 1 <= high + contrast else ""
    raise InputError(
        f"{data.source}: the mean of the matrix at φ = {data.phi[k]:g}° is {means[k]:.3g}, which "
        f"no offset from {low:g} to {high:g} and contrast up to {contrast:g} gives; {hint}widen "
        "the bounds of contrast and offset"
    )


def start_parameters(
    data: TwoTimeData, settings: FitSettings, space: SearchSpace
) -> NDArray[np.float64]:
    """All parameters (p,): fixed, given, read off the data, or the default, in that order."""
    q = float(np.median(data.q))
    defaults = {
        **{p.name: p.start for p in PARAMETERS.values() if p.start is not None},
        # Transport decays to 1/e, and the shear phase reaches 1, in a quarter of the measurement.
        "D0": 2 / (q**2 * space.tau),
        "gamma_dot_t0": 4 / (q * (settings.gap or np.nan) * space.tau),
    }
    start = np.empty(len(space.fixed))
    for i, name in enumerate(settings.model.parameters):
        if not np.isnan(space.fixed[i]):
            start[i] = space.fixed[i]
        elif name in settings.initial:
            start[i] = settings.initial[name]
        else:
            start[i] = np.clip(defaults[name], space.lower[i], space.upper[i])
    return _off_symmetry(start, space, data.phi)


def _off_symmetry(
    start: NDArray[np.float64], space: SearchSpace, phi: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Leave a flow direction at which nothing depends on it to first order.

    Where all angles are along the flow or across it the cost is stationary, and a maximum as often
    as a minimum.
    """
    names = space.model.parameters
    if not space.model.has_flow or not np.isnan(space.fixed[index := names.index("phi0")]):
        return start
    off = (phi - start[index] + 45.0) % 90.0 - 45.0
    if np.all(np.abs(off) < STATIONARY):
        start = start.copy()
        room = space.upper[index] - start[index], start[index] - space.lower[index]
        start[index] += (
            min(STATIONARY, room[0]) if room[0] >= room[1] else -min(STATIONARY, room[1])
        )
    return start


def finite_sums(
    samples: Samples, objective: TwoTimeObjective, start: SearchPoint, source: str
) -> NDArray[np.float64]:
    """Sums (K, m, m) at the start, of the smallest sample that can determine all unknowns.

    Raises
    ------
    InputError
        If the model is not finite there, or all points are too few.
    """
    space = start.space
    unknowns = np.count_nonzero(space.searched) + objective.scaling.matrix.shape[1]
    n_points = 0
    for sample in samples.growing:
        sums = sample.sums(objective, space, start.y)
        equations = objective.normal_equations(start.y, sums)
        n_points = equations.n_points
        if not equations.finite:
            values = zip(space.model.parameters, start.parameters, strict=True)
            raise InputError(
                f"{source}: the model is not finite at the start, "
                + ", ".join(f"{name} = {value:g}" for name, value in values)
            )
        if n_points > unknowns:
            return sums
    raise InputError(f"{source}: {n_points} points cannot determine {unknowns} unknowns")


def global_search(
    data: TwoTimeData, settings: FitSettings, space: SearchSpace, parameters: NDArray[np.float64]
) -> GlobalSearch | None:
    """The search from many starts, if the settings ask for it."""
    if not settings.search.multi_start.enable:
        return None
    gap = np.nan if settings.gap is None else settings.gap
    drawn = functools.cache(
        lambda: draw_starts(space, parameters, data, gap, settings.search.multi_start)
    )

    def search(
        objective: TwoTimeObjective, start: SearchPoint, samples: Sequence[Sample]
    ) -> Screening:
        most = samples[0].evaluations_left // EVALUATIONS_OF_A_START
        if most < 1:
            return Screening(start.y[None], 0, 0, 0)
        starts = np.array([start.y, *map(space.to_coordinates, drawn()[:most])])
        affordable = (s for s in samples[1:] if s.evaluations_left >= MOST_ON_A_LARGER_SAMPLE)
        cost_functions = [s.cost_functions(objective, space) for s in (samples[0], *affordable)]
        return screen_starts(cost_functions, starts, *space.limits)

    return search
