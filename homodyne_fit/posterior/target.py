"""The posterior of a fit: its density with the points that belong to it."""

from __future__ import annotations

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
    Tiles,
    compiled_derivatives,
    compiled_for_draws,
    compiler_options,
    constant_sums,
    decay_sums,
    tiles_of,
)
from homodyne_fit.kernel.stored_chunks import Chunk
from homodyne_fit.model.scaling import ScalingMap
from homodyne_fit.posterior.density import Conditional, CurvesOfDraw, Density
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
    chunks : sequence of Chunk
    executor : concurrent.futures.Executor
        Threads.
    """

    density: Density
    chunks: Sequence[Chunk]
    executor: Executor

    @cached_property
    def _draws(self) -> Any:
        o = self.density.objective
        return compiled_for_draws(o.sinc_power, o.precision, has_flow=o.model.has_flow)

    @cached_property
    def _curves(self) -> Any:
        return _compiled(jax.vmap(self.density.curves))

    @cached_property
    def _log_density(self) -> Any:
        return _compiled(jax.vmap(self.density.log_density))

    @cached_property
    def _conditional(self) -> Any:
        return _compiled(jax.vmap(self.density.conditional))

    def sums(self, xi: Floats, block: int = BLOCK) -> Floats:
        """Sums of f², f and f d at draws (D, d): (D, K, 3), with few passes over the points."""
        o, d = self.density.objective, len(xi)
        filled = np.concatenate([xi, np.repeat(xi[-1:], -d % block, axis=0)])
        total = np.zeros((len(filled), len(o.q), 3))
        at_a_time = block * max(1, CURVE_BYTES // (16 * o.n_frames * block))
        for begin in range(0, len(filled), at_a_time):
            part = slice(begin, min(begin + at_a_time, len(filled)))
            with jax.enable_x64(True):
                curves = [
                    self._curves(filled[i : i + block]) for i in range(begin, part.stop, block)
                ]
            for sums in self.executor.map(partial(self._of_chunk, curves), self.chunks):
                total[part] += sums
        return total[:d]

    def _of_chunk(self, curves: Sequence[Any], chunk: Chunk) -> Floats:
        tiles = self._tiles(chunk)
        with jax.enable_x64(True):
            return np.concatenate(
                [np.asarray(self._draws(*self._arguments(each), tiles)) for each in curves]
            )

    def _tiles(self, chunk: Chunk) -> Tiles:
        o = self.density.objective
        return tiles_of(chunk.loaded(), o.reference, o.n_frames)

    def log_densities(self, xi: Floats, sums: Floats | None = None) -> Floats:
        """Of draws (D, d)."""
        sums = self.sums(xi) if sums is None else sums
        with jax.enable_x64(True):
            return np.concatenate(
                [np.asarray(self._log_density(*block)) for block in _blocks(xi, sums)]
            )[: len(xi)]

    def value_and_gradient(self, xi: Floats) -> tuple[float, Floats]:
        """Log density at one ξ (d,), and its derivatives: two passes over the points."""
        o = self.density.objective
        form = o.sinc_power, o.precision
        slopes_of = compiled_derivatives(*form, has_flow=o.model.has_flow)
        sums = self.sums(xi[None], block=1)[0]
        with jax.enable_x64(True):
            curves = jax.device_get(self._curves(xi[None]))
            s, gamma, a, b = (
                each if each is self._a else each[0] for each in self._arguments(curves)
            )
            value, (direct, slopes) = self._value_and_slopes(xi, sums)

        def of_chunk(chunk: Chunk) -> list[Floats]:
            with jax.enable_x64(True):
                found = slopes_of(s, gamma, a, b, self._tiles(chunk), slopes)
                return [np.asarray(each) for each in found]

        by_curves = [
            sum(each) for each in zip(*self.executor.map(of_chunk, self.chunks), strict=True)
        ]
        with jax.enable_x64(True):
            along = self._pull(xi, CurvesOfDraw(*by_curves))
            return float(value), np.asarray(direct + along)

    @cached_property
    def _a(self) -> Floats:
        return self.density.objective.q**2

    @cached_property
    def _value_and_slopes(self) -> Any:
        return _compiled(jax.value_and_grad(self.density.log_density, argnums=(0, 1)))

    @cached_property
    def _pull(self) -> Any:
        return _compiled(lambda xi, slopes: jax.vjp(self.density.curves, xi)[1](slopes)[0])

    def _arguments(self, curves: CurvesOfDraw) -> tuple[Any, ...]:
        return curves.s, curves.gamma, self._a, curves.b

    def scaling(self, xi: Floats, sums: Floats, rng: np.random.Generator) -> Floats:
        """Draw contrasts and offsets given draws (D, d) of the rest: (D, 2K)."""
        map_ = self.density.objective.scaling
        with jax.enable_x64(True):
            blocks = [self._conditional(*block) for block in _blocks(xi, sums)]
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

    def log_density_of(self, xi: jax.Array, tiles: Tiles) -> jax.Array:
        """Of one ξ, for JAX to compile and to differentiate."""
        o = self.density.objective
        sum_up = decay_sums(o.sinc_power, o.precision, has_flow=o.model.has_flow)
        s, gamma, b = self.density.curves(xi)
        return self.density.log_density(xi, sum_up(s, gamma, jnp.asarray(o.q**2), b, tiles))


def _compiled(function: Callable[..., Any]) -> Any:
    return jax.jit(function, compiler_options=compiler_options())


def _blocks(xi: Floats, sums: Floats) -> list[tuple[Floats, Floats]]:
    """Blocks of one size."""
    missing = -len(xi) % BLOCK
    xi, sums = (np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) for x in (xi, sums))
    return [(xi[i : i + BLOCK], sums[i : i + BLOCK]) for i in range(0, len(xi), BLOCK)]


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
    penalty = np.zeros_like(scaling.penalty) if learned else scaling.penalty / center.noise.variance
    sums = np.zeros((len(objective.q), 3))
    for chunk in chunks:
        sums += constant_sums(tiles_of(chunk.loaded(), objective.reference, objective.n_frames))
    means = None
    if learned:
        contrast, offset = center.solution.scaling.reshape(2, -1).mean(axis=1)
        means = float(contrast), float(offset)
    density = Density(
        objective=objective,
        space=center.space,
        adjustment=adjustment_of(center),
        constant_sums=sums,
        priors=priors,
        penalty=penalty,
        means=means,
        prior_share=prior_share,
    )
    return Target(density, chunks, executor)


def spreads_are_learned(result: FitResult) -> bool:
    """Whether the fit ended with spreads over the angles that the evidence gave."""
    layer = result.info.layers.get("regularization", {})
    return layer.get("method") == "evidence" and any(result.objective.scaling.penalty_weights)


def start_of(center: Center, scaling: ScalingMap, *, learned: bool) -> Floats:
    """The coordinates of a center and, where they are learned, the spreads of the fit."""
    if not learned:
        return center.y
    spreads = np.sqrt(center.noise.variance / np.array(scaling.penalty_weights))
    return np.concatenate([center.y, spreads])
