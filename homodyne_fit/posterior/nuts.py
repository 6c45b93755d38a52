"""Hamiltonian Monte Carlo by NumPyro's NUTS, from where a normal distribution says.

The chains run in the coordinates in which that distribution is standard, which is their first mass
matrix, one thread for each. Gradients are those of all points.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from numpyro.infer import NUTS

from homodyne_fit.kernel.decay_sums import Tiles, compiler_options
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
    tiles = target.resident()
    standard = np.linalg.solve(start.root, (starts - start.mean).T).T

    def kernel(tiles: Tiles) -> NUTS:
        def potential(w: jax.Array) -> jax.Array:
            xi = jnp.asarray(start.mean) + jnp.asarray(start.root) @ w
            return -target.log_density_of(xi, tiles)

        return NUTS(
            potential_fn=potential,
            dense_mass=True,
            target_accept_prob=TARGET_ACCEPT,
            max_tree_depth=MOST_DOUBLINGS,
        )

    def initial(key: jax.Array, w: jax.Array, tiles: Tiles) -> Any:
        return kernel(tiles).init(key, num_warmup, w, (), {})

    def stretch(state: Any, tiles: Tiles) -> Any:
        nuts = kernel(tiles)
        # The kernel keeps its settings from here; the state is that of the caller.
        nuts.init(state.rng_key, num_warmup, state.z, (), {})

        def step(state: Any, _: None) -> Any:
            state = nuts.sample(state, (), {})
            return state, (state.z, state.diverging, state.num_steps)

        return jax.lax.scan(step, state, None, length=STRETCH)

    done = [0] * len(starts)

    def run(chain: int) -> Any:
        parts = []
        with jax.enable_x64(True):
            key = jax.random.fold_in(jax.random.key(seed), chain)
            state = begin(key, jnp.asarray(standard[chain]), tiles)
            while done[chain] < num_warmup + num_samples:
                state, part = advance(state, tiles)
                parts.append(jax.device_get(part))
                done[chain] += STRETCH
                if progress is not None:
                    progress(sum(done))
        return [
            np.concatenate(each)[num_warmup:][:num_samples] for each in zip(*parts, strict=True)
        ]

    with jax.enable_x64(True):
        options = compiler_options()
        begin = jax.jit(initial, compiler_options=options)
        advance = jax.jit(stretch, compiler_options=options)
        # Compiled once, before the threads ask for it.
        example = begin(jax.random.key(seed), jnp.asarray(standard[0]), tiles)
        advance = advance.lower(example, tiles).compile()
    with ThreadPoolExecutor() as threads:
        w, diverging, steps = zip(*threads.map(run, range(len(starts))), strict=True)
    xi = start.mean + np.stack(w) @ start.root.T
    return NutsDraws(xi, np.stack(diverging), np.stack(steps))
