"""A pass over the points, beside the least that it could cost.

The floor is one exponential, one sine, one cosine and one read of each point t1 < t2, through the
same compiler on the same threads. Beside it a full pass of homodyne_fit: value, gradient and
Hessian of all angles, of least squares and of a robust loss; and what a general least-squares
program computes: the residuals and their dense Jacobian by the physics and by contrast and offset
of the point's angle, and its square.

    .venv/bin/python benchmarks/kernel.py [--angles 23] [--frames 1001] [--repeats 10]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.kernel.pseudo_data import PseudoData
from homodyne_fit.kernel.tiles import tile_chunks
from homodyne_fit.model.rates import LAMINAR_FLOW, curves
from homodyne_fit.model.scaling import scaling_map
from nlsq_stratified import reduce

Q, GAP, DT, NOISE = 0.0054, 2e6, 0.1, 0.02
TRUTH = np.array([8000.0, -0.2, 0.0, 1e-4, 0.2, 0.0, 3.0])
# Points of one call of the general program.
DENSE_POINTS = 2**17


def measurement(n_angles: int, n_frames: int) -> TwoTimeData:
    rng, phi = np.random.default_rng(0), np.arange(n_angles) * 180.0 / n_angles
    integrals = curves(LAMINAR_FLOW, TRUTH, DT, n_frames)
    c2 = np.empty((n_angles, n_frames, n_frames), dtype=np.float32)
    decay = np.exp(-(Q**2) * np.abs(np.subtract.outer(integrals.transport, integrals.transport)))
    for k in range(n_angles):
        b = 0.5 * Q * GAP * np.cos(np.deg2rad(TRUTH[6] - phi[k]))
        x = b * np.subtract.outer(integrals.shear, integrals.shear)
        c2[k] = 1 + 0.3 * decay * np.sinc(x / np.pi) ** 2 + NOISE * rng.normal(size=x.shape)
    return TwoTimeData(c2, phi, np.full(n_angles, Q), DT, "simulated")


def objective_of(data: TwoTimeData) -> TwoTimeObjective:
    return TwoTimeObjective(
        model=LAMINAR_FLOW,
        dt=data.dt,
        n_frames=data.n_frames,
        q=data.q,
        phi=data.phi,
        gap=GAP,
        scaling=scaling_map("individual", phi=data.phi, contrast=(0, 1), offset=(0, 2)),
        weights=np.ones(data.n_angles),
        reference=np.ones(data.n_angles),
        fixed=np.full(7, np.nan),
    )


def pseudo_data_of(objective: TwoTimeObjective) -> PseudoData:
    integrals, factors = objective.curves(TRUTH), objective.angle_factors(TRUTH)
    k = len(objective.phi)
    return PseudoData(
        "huber",
        np.full(k, 1.345 * NOISE),
        1.2,
        integrals.transport,
        integrals.shear,
        factors.shear,
        np.full(k, 0.3),
        np.ones(k),
    )


@jax.jit
def floor_of_chunk(row: jax.Array, col: jax.Array, c2: jax.Array) -> jax.Array:
    """One exp, one sin, one cos and one read of each of the (N, T, T) values."""

    def tile(args: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        r, c, values = args
        x = c - r[:, None]
        return jnp.sum(values * (jnp.exp(-x) + jnp.sin(x) + jnp.cos(x)))

    return jax.lax.map(tile, (row, col, c2)).sum()


@jax.jit
def dense(params: jax.Array, s: jax.Array, g: jax.Array, c2: jax.Array) -> jax.Array:
    """Residuals and Jacobian of points by forward differentiation, and their square.

    The integrals at the two times of each point are given: (2, 4, N), with derivatives.
    """

    def value(p: jax.Array) -> jax.Array:
        # Linear in the physics to first order, which is what a Jacobian needs.
        ds = (s[1, 0] - s[0, 0]) + jnp.einsum("a,an->n", p[:3], s[1, 1:] - s[0, 1:])
        dg = (g[1, 0] - g[0, 0]) + jnp.einsum("a,an->n", p[3:6], g[1, 1:] - g[0, 1:])
        x = 0.5 * Q * GAP * jnp.cos(p[6]) * dg
        f = jnp.exp(-(Q**2) * ds) * jnp.sinc(x / jnp.pi) ** 2
        return p[8] + p[7] * f - c2

    jacobian = jax.jacfwd(value)(params)
    rows = jnp.concatenate([jacobian, value(params)[:, None]], axis=1)
    return rows.T @ rows


def best(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--angles", type=int, default=23)
    parser.add_argument("--frames", type=int, default=1001)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    data = measurement(options.angles, options.frames)
    objective, chunks = objective_of(data), tile_chunks(data)
    robust = replace(objective, pseudo_data=pseudo_data_of(objective))
    points = options.angles * options.frames * (options.frames - 1) // 2
    integrals = curves(LAMINAR_FLOW, TRUTH, DT, options.frames)

    with jax.enable_x64(True), threadpool_limits(1, user_api="blas"):
        sizes = [(chunk.n_tiles * options.angles, 64, 64) for chunk in chunks]
        floors = []
        for chunk, size in zip(chunks, sizes, strict=True):
            frames = np.minimum([chunk.rows, chunk.cols], options.frames - 1)
            r, c = np.repeat(1e-4 * integrals.transport[frames], options.angles, axis=1)
            floors.append((r, c, np.nan_to_num(chunk.values).reshape(size)))
        rng = np.random.default_rng(1)
        i, j = np.sort(rng.integers(0, options.frames, (2, DENSE_POINTS)), axis=0)
        s, g = (
            np.stack([np.column_stack([v, d])[at].T for at in (i, j)])
            for v, d in (
                (integrals.transport, integrals.transport_jacobian),
                (integrals.shear, integrals.shear_jacobian),
            )
        )
        params, values = np.array([0.0] * 6 + [0.5, 0.3, 1.0]), data.c2[0, i, j].astype(float)
        rows = {}
        for threads in (1, 2):
            with ThreadPoolExecutor(threads) as pool:
                rows[f"floor, {threads} threads"] = (
                    points,
                    best(
                        lambda pool=pool: list(
                            pool.map(lambda a: floor_of_chunk(*a).block_until_ready(), floors)
                        ),
                        options.repeats,
                    ),
                )
                rows[f"pass, {threads} threads"] = (
                    points,
                    best(lambda pool=pool: reduce(objective, TRUTH, chunks, pool), options.repeats),
                )
                rows[f"pass of a robust loss, {threads} threads"] = (
                    points,
                    best(lambda pool=pool: reduce(robust, TRUTH, chunks, pool), options.repeats),
                )
        rows["dense Jacobian and its square"] = (
            DENSE_POINTS,
            best(lambda: dense(params, s, g, values).block_until_ready(), options.repeats),
        )
    print(f"{options.angles} angles × {options.frames} frames, {points:,} points\n")
    print("| what | ns a point | over the floor |\n|---|---|---|")
    for name, (count, seconds) in rows.items():
        base = rows[f"floor, {2 if '2 threads' in name else 1} threads"]
        ratio = seconds / count / (base[1] / base[0])
        print(f"| {name} | {seconds / count * 1e9:.2f} | {ratio:.2f} |")
    speed_up = rows["pass, 1 threads"][1] / rows["pass, 2 threads"][1]
    print(f"\nOne thread to two: a pass is {speed_up:.2f} times as fast.")


if __name__ == "__main__":
    main()
