"""The posterior of a fit: its density with the points that belong to it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from homodyne_fit.fitting.result import FitResult
from homodyne_fit.kernel.decay_sums import (
    SumsAndCurves,
    Tiles,
    compiled_for_draws,
    compiled_with_curves,
    compiler_options,
    constant_sums,
    tiles_of,
)
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.kernel.stored_chunks import Chunk
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.scaling import ScalingMap
from homodyne_fit.posterior.density import Conditional, CurvesOfDraw, Density, make_density
from homodyne_fit.posterior.likelihood import Center, adjustment_of
from homodyne_fit.posterior.settings import Priors

__all__ = ["Target", "make_target", "spreads_are_learned", "start_of"]

Floats = NDArray[np.float64]

# Draws that are evaluated at a time by one program.
BLOCK = 256

# Curves of draws that are held in memory, bytes at most, for each pass over the points.
CURVE_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class Target:
    """The posterior as a function of unbounded coordinates ξ.

    Attributes
    ----------
    density : Density
    center : Center
        The maximum of the likelihood.
    chunks : sequence of Chunk
    executor : concurrent.futures.Executor
        Threads.
    """

    density: Density
    center: Center
    chunks: Sequence[Chunk]
    executor: Executor

    @property
    def objective(self) -> TwoTimeObjective:
        return self.center.objective

    @property
    def space(self) -> SearchSpace:
        return self.center.space

    def sums(self, xi: Floats, block: int = BLOCK) -> Floats:
        """Sums of f², f and f d at draws (D, d): (D, K, 3), with few passes over the points."""
        o, d = self.objective, len(xi)
        filled = np.concatenate([xi, np.repeat(xi[-1:], -d % block, axis=0)])
        total = np.zeros((len(filled), len(o.q), 3))
        at_a_time = block * max(1, CURVE_BYTES // (16 * o.n_frames * block))
        for begin in range(0, len(filled), at_a_time):
            part = slice(begin, min(begin + at_a_time, len(filled)))
            with jax.enable_x64(True):
                curves = [
                    _of_draws(Density.curves)(self.density, filled[i : i + block])
                    for i in range(begin, part.stop, block)
                ]
            for sums in self.executor.map(partial(self._of_chunk, curves), self.chunks):
                total[part] += sums
        return total[:d]

    def _of_chunk(self, curves: Sequence[Any], chunk: Chunk) -> Floats:
        o, tiles = self.objective, self._tiles(chunk)
        sums_of = compiled_for_draws(o.sinc_power, o.precision, has_flow=o.model.has_flow)
        with jax.enable_x64(True):
            return np.concatenate(
                [np.asarray(sums_of(*self._arguments(each), tiles)) for each in curves]
            )

    def _tiles(self, chunk: Chunk) -> Tiles:
        o = self.objective
        return tiles_of(chunk.loaded(), o.reference, o.n_frames)

    def log_densities(self, xi: Floats, sums: Floats | None = None) -> Floats:
        """Of draws (D, d)."""
        sums = self.sums(xi) if sums is None else sums
        with jax.enable_x64(True):
            found = [
                _of_draws(Density.log_density)(self.density, *block) for block in _blocks(xi, sums)
            ]
            return np.concatenate(found)[: len(xi)]

    def bounded_values(self, xi: Floats) -> Floats:
        """Coordinates y and spreads of draws (D, d)."""
        with jax.enable_x64(True):
            found = [_of_draws(Density.bounded)(self.density, *each)[0] for each in _blocks(xi)]
            return np.concatenate(found)[: len(xi)]

    def value_and_gradient(self, xi: Floats) -> tuple[float, Floats]:
        """Log density at one ξ (d,), and its derivatives, by one pass over the points."""
        o = self.objective
        form = o.sinc_power, o.precision
        sum_up = compiled_with_curves(*form, has_flow=o.model.has_flow)
        with jax.enable_x64(True):
            s, gamma, b = jax.device_get(_curves_of_one()(self.density, xi))

        def of_chunk(chunk: Chunk) -> list[Floats]:
            with jax.enable_x64(True):
                return [np.asarray(x) for x in sum_up(s, gamma, self._a, b, self._tiles(chunk))]

        total = [sum(each) for each in zip(*self.executor.map(of_chunk, self.chunks), strict=True)]
        with jax.enable_x64(True):
            value, gradient = _value_and_gradient()(self.density, xi, SumsAndCurves(*total))
            return float(value), np.asarray(gradient)

    @cached_property
    def _a(self) -> Floats:
        return self.objective.q**2

    def _arguments(self, curves: CurvesOfDraw) -> tuple[Any, ...]:
        return curves.s, curves.gamma, self._a, curves.b

    def scaling(self, xi: Floats, sums: Floats, rng: np.random.Generator) -> Floats:
        """Draw contrasts and offsets given draws (D, d) of the rest: (D, 2K)."""
        map_ = self.objective.scaling
        with jax.enable_x64(True):
            blocks = [
                _of_draws(Density.conditional)(self.density, *block) for block in _blocks(xi, sums)
            ]
        of_all = Conditional(
            *(np.concatenate(each)[: len(xi)] for each in zip(*blocks, strict=True))
        )
        normal = rng.standard_normal(of_all.mean.shape)
        if normal.shape[1]:
            normal = np.linalg.solve(of_all.root.transpose(0, 2, 1), normal[:, :, None])[:, :, 0]
        return map_.constant + (of_all.mean + normal) @ map_.matrix.T

    def resident(self) -> Tiles:
        """All tiles, in memory."""
        each = [self._tiles(chunk) for chunk in self.chunks]
        with jax.enable_x64(True):
            return Tiles(*(jnp.concatenate(arrays) for arrays in zip(*each, strict=True)))


# Compiled once for all densities of a form: their numbers are arguments.


@functools.cache
def _of_draws(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a density, of draws instead of one."""

    def of_draws(density: Density, *each: jax.Array) -> Any:
        return jax.vmap(functools.partial(function, density))(*each)

    return jax.jit(of_draws, compiler_options=compiler_options())


@functools.cache
def _curves_of_one() -> Callable[..., Any]:
    return jax.jit(Density.curves, compiler_options=compiler_options())


@functools.cache
def _value_and_gradient() -> Callable[..., Any]:
    """Of a density, ξ and all sums and curves there: the log density and its derivatives by ξ."""

    def both(density: Density, xi: jax.Array, found: SumsAndCurves) -> tuple[Any, Any]:
        of_xi_and_sums = jax.value_and_grad(Density.log_density, argnums=(1, 2))
        value, (direct, slopes) = of_xi_and_sums(density, xi, found.sums)
        (s, gamma, b), pull = jax.vjp(density.curves, xi)
        by_s, by_gamma, _, by_b = found.derivatives(s, gamma, density.angles.a, b, slopes)
        return value, direct + pull(CurvesOfDraw(by_s, by_gamma, by_b))[0]

    return jax.jit(both, compiler_options=compiler_options())


def _blocks(*arrays: Floats) -> list[tuple[Floats, ...]]:
    """Blocks of one size, of arrays of one length."""
    n = len(arrays[0])
    filled = [np.concatenate([x, np.repeat(x[-1:], -n % BLOCK, axis=0)]) for x in arrays]
    return [tuple(x[i : i + BLOCK] for x in filled) for i in range(0, n, BLOCK)]


def make_target(
    center: Center,
    scaling: ScalingMap,
    chunks: Sequence[Chunk],
    executor: Executor,
    priors: Priors,
    *,
    learned: bool,
    prior_share: float = 1.0,
) -> Target:
    """The posterior around the maximum of its likelihood.

    Parameters
    ----------
    center : Center
    scaling : ScalingMap
        With the penalty of the fit.
    chunks : sequence of Chunk
        All points.
    executor : concurrent.futures.Executor
        Threads.
    priors : mapping
    learned : bool
        Whether the penalty is a normal prior whose widths the fit learned.
    prior_share : float
        Power of the priors.
    """
    objective = center.objective
    penalty = np.zeros_like(scaling.penalty)
    if not learned and np.any(scaling.penalty):
        penalty = scaling.penalty / _variance_of_prior(center)
    sums = np.zeros((len(objective.q), 3))
    for chunk in chunks:
        sums += constant_sums(tiles_of(chunk.loaded(), objective.reference, objective.n_frames))
    means = None
    if learned:
        contrast, offset = center.solution.scaling.reshape(2, -1).mean(axis=1)
        means = float(contrast), float(offset)
    density = make_density(
        objective, center.space, adjustment_of(center), sums, priors, penalty, means, prior_share
    )
    return Target(density, center, chunks, executor)


def spreads_are_learned(result: FitResult) -> bool:
    """Whether the fit ended with spreads over the angles that the evidence gave."""
    layer = result.info.layers.get("regularization", {})
    return layer.get("method") == "evidence" and any(result.objective.scaling.penalty_weights)


def start_of(center: Center, scaling: ScalingMap, *, learned: bool) -> Floats:
    """The coordinates of a center and, where they are learned, the spreads of the fit."""
    if not learned:
        return center.y
    spreads = np.sqrt(_variance_of_prior(center) / np.array(scaling.penalty_weights))
    return np.concatenate([center.y, spreads])


def _variance_of_prior(center: Center) -> float:
    """A penalty over this is a precision, as in the error bars of the fit."""
    return center.noise.variance * center.noise.dispersion(center.solution)
