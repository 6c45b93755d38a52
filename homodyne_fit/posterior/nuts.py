"""Hamiltonian Monte Carlo by NumPyro's NUTS, from where a normal distribution says.

The chains run in the coordinates in which that distribution is standard, which is their first mass
matrix, one thread for each. Gradients are those of all points.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from numpyro.infer import NUTS

from homodyne_fit.kernel.decay_sums import Tiles, compiler_options
from homodyne_fit.posterior.density import Density
from homodyne_fit.posterior.gaussian import Gaussian
from homodyne_fit.posterior.target import Target

__all__ = ["NutsDraws", "run_nuts"]

Floats = NDArray[np.float64]

# Steps between two looks at whether the user has interrupted.
STRETCH = 50

TARGET_ACCEPT = 0.85

# Doublings of a trajectory at most: 2^7 leapfrog steps.
MOST_DOUBLINGS = 7


@dataclass(frozen=True, eq=False)
class NutsDraws:
    """Draws of the chains.

    Attributes
    ----------
    xi : (chains, draws, d) array
    diverging : (chains, draws) bool
    steps : (chains, draws) int
        Leapfrog steps, a value and a gradient each.
    """

    xi: Floats
    diverging: NDArray[np.bool_]
    steps: NDArray[np.int64]


class Sampled(NamedTuple):
    """What is drawn from: a density, its points, and the coordinates of the chains.

    Attributes
    ----------
    density : Density
    tiles : Tiles
    mean, root : (d,) and (d, d) array
        ξ is mean + root · w.
    """

    density: Density
    tiles: Tiles
    mean: Any
    root: Any


def run_nuts(
    target: Target,
    start: Gaussian,
    starts: Floats,
    num_warmup: int,
    num_samples: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> NutsDraws:
    """Run a chain from each of the starts (chains, d) in ξ.

    Parameters
    ----------
    start : Gaussian
        Whose root makes the coordinates of the chains.
    progress : callable, optional
        Called with the steps that all chains have made.
    """
    sampled = Sampled(target.density, target.resident(), start.mean, start.root)
    standard = np.linalg.solve(start.root, (starts - start.mean).T).T
    begin, advance = _programs(num_warmup)
    done = [0] * len(starts)

    def run(chain: int) -> Any:
        parts = []
        with jax.enable_x64(True):
            key = jax.random.fold_in(jax.random.key(seed), chain)
            state = begin(key, jnp.asarray(standard[chain]), sampled)
            while done[chain] < num_warmup + num_samples:
                state, part = compiled(state, sampled)
                parts.append(jax.device_get(part))
                done[chain] += STRETCH
                if progress is not None:
                    progress(sum(done))
        return [
            np.concatenate(each)[num_warmup:][:num_samples] for each in zip(*parts, strict=True)
        ]

    with jax.enable_x64(True):
        # Compiled once, before the threads ask for it.
        example = begin(jax.random.key(seed), jnp.asarray(standard[0]), sampled)
        compiled = advance.lower(example, sampled).compile()
    with ThreadPoolExecutor() as threads:
        w, diverging, steps = zip(*threads.map(run, range(len(starts))), strict=True)
    xi = start.mean + np.stack(w) @ start.root.T
    return NutsDraws(xi, np.stack(diverging), np.stack(steps))


@functools.cache
def _programs(num_warmup: int) -> tuple[Any, Any]:
    """Of a key, a start and what is sampled: a state; of that, another one and draws."""

    def kernel(sampled: Sampled) -> NUTS:
        def potential(w: jax.Array) -> jax.Array:
            xi = sampled.mean + sampled.root @ w
            return -sampled.density.log_density_of_points(xi, sampled.tiles)

        return NUTS(
            potential_fn=potential,
            dense_mass=True,
            target_accept_prob=TARGET_ACCEPT,
            max_tree_depth=MOST_DOUBLINGS,
        )

    def initial(key: jax.Array, w: jax.Array, sampled: Sampled) -> Any:
        return kernel(sampled).init(key, num_warmup, w, (), {})

    def stretch(state: Any, sampled: Sampled) -> Any:
        nuts = kernel(sampled)
        # The kernel keeps its settings from here; the state is that of the caller.
        nuts.init(state.rng_key, num_warmup, state.z, (), {})

        def step(state: Any, _: None) -> Any:
            state = nuts.sample(state, (), {})
            return state, (state.z, state.diverging, state.num_steps)

        return jax.lax.scan(step, state, None, length=STRETCH)

    options = compiler_options()
    return (
        jax.jit(initial, compiler_options=options),
        jax.jit(stretch, compiler_options=options),
    )
