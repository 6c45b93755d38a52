"""The kernel and whole fits on the device that JAX finds, such as a GPU, and that its sums agree
with those of the processor.

Agreement: the largest difference of a moment, over the norms of its two columns; in double
precision it is to be below 1e-9. A pass is the moments of all points. Beside it is the least that
it could cost on that device: reading every point once, at the rate of a large sum, and the
operations of the kernel, at the rate of a long chain of multiplications and additions; both are
measured here. "64 at once" is a probe at 64 sets of parameters, as a search asks for it, over the
time of one set. Everything is called once before it is timed.

    .venv/bin/python benchmarks/device.py [--quick]

Without a GPU the processor is timed, and agrees with itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from kernel import GAP, TRUTH, best, measurement, objective_of
from numpy.typing import NDArray

import homodyne_fit as hf
from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.kernel.precision import Precision
from homodyne_fit.kernel.tiles import TileChunk, probe_chunk, tile_chunks

SIZES = (23, 1001), (23, 3000), (60, 3000)
QUICK = ((4, 200),)
SETS, REPEATS = 64, 5
# Multiplications and additions of a point: 27 products of a matrix and a vector, and f and f_x.
OPERATIONS = 2 * 27 + 36
LARGEST_DIFFERENCE = 1e-9
# Of what the limits of the device are measured with.
NUMBERS, CHAIN = 1 << 26, 256


def moments(
    objective: TwoTimeObjective, params: NDArray[np.float64], chunks: list[TileChunk]
) -> NDArray[np.float64]:
    """Of all chunks, one after the other."""
    return np.sum([objective.chunk_sums(params, chunk) for chunk in chunks], axis=0)


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The largest, over the norms of the two columns."""
    norms = np.sqrt(np.einsum("...ii->...i", other))
    return float(np.max(np.abs(one - other) / (norms[..., :, None] * norms[..., None, :])))


def limits(dtype: Any, numbers: int) -> tuple[float, float]:
    """Bytes, and multiplications and additions, that the device can do in a second."""

    @jax.jit
    def chain(x: jax.Array) -> jax.Array:
        y = x
        for _ in range(CHAIN):
            y = y * x + 0.5
        return jnp.sum(y)

    with jax.enable_x64(True):
        x = jnp.full(numbers, 0.25, dtype)
        read = best(lambda: jnp.sum(x).block_until_ready(), REPEATS)
        computed = best(lambda: chain(x).block_until_ready(), REPEATS)
    return x.nbytes / read, 2 * CHAIN * numbers / computed


def fit_seconds(data: TwoTimeData) -> float:
    """Of a second fit, from 50 % off."""

    def fit() -> hf.FitResult:
        names = "D0", "alpha", "D_offset", "gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0"
        return hf.fit(data, gap=GAP, initial=dict(zip(names, 1.5 * TRUTH, strict=True)))

    fit()
    began = time.perf_counter()
    fit()
    return time.perf_counter() - began


def on_processor[T](function: Callable[[], T]) -> T:
    """What a function returns if JAX computes on the processor."""
    backend = jax.default_backend
    try:
        jax.default_backend = lambda: "cpu"
        with jax.default_device(jax.devices("cpu")[0]):
            return function()
    finally:
        jax.default_backend = backend


def rows(
    angles: int, frames: int, limits_of: dict[Precision, tuple[float, float]]
) -> Iterator[tuple[str, bool]]:
    """Lines of the table, and whether the sums are those of the processor."""
    data = measurement(angles, frames)
    chunks, probe = tile_chunks(data), probe_chunk(data)
    points, many = angles * frames * (frames - 1) // 2, np.tile(TRUTH, (SETS, 1))
    exact = objective_of(data)
    expected = on_processor(lambda: moments(exact, TRUTH, chunks[:8]))

    def times(objective: TwoTimeObjective) -> list[float]:
        return [
            best(work, REPEATS)
            for work in (
                lambda: moments(objective, TRUTH, chunks),
                lambda: objective.chunk_sums(TRUTH, probe),
                lambda: objective.chunk_sums(many, probe),
            )
        ]

    for precision, (read, computed) in limits_of.items():
        objective = replace(exact, precision=precision)
        apart = difference(moments(objective, TRUTH, chunks[:8]), expected)
        seconds, one, at_once = times(objective)
        memory, arithmetic = points * data.c2.dtype.itemsize / read, points * OPERATIONS / computed
        fit = f"{fit_seconds(data):.2f}" if precision == "double" else ""
        numbers = f"{1e3 * seconds:.2f} | {seconds / memory:.1f} | {seconds / arithmetic:.1f}"
        line = f"| {angles} × {frames} | {precision} | {numbers} | {at_once / one:.1f} "
        yield f"{line}| {apart:.0e} | {fit} |", precision == "single" or apart < LARGEST_DIFFERENCE


def main() -> None:
    """Print one line for each size and precision."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small size")
    quick = parser.parse_args().quick
    print(f"{jax.default_backend()}: {jax.devices()[0].device_kind}\n")
    types: dict[Precision, Any] = {"double": np.float64, "single": np.float32}
    numbers = NUMBERS // 64 if quick else NUMBERS
    limits_of: dict[Precision, tuple[float, float]] = {
        precision: limits(dtype, numbers) for precision, dtype in types.items()
    }
    for precision, (read, computed) in limits_of.items():
        print(f"{precision}: {read / 1e9:.0f} GB/s, {computed / 1e9:.0f} Gflop/s")
    print("\n| angles × frames | precision | a pass, ms | over memory | over arithmetic ", end="")
    print("| 64 at once | differs by | a fit, s |\n" + "|---" * 8 + "|")
    agree = True
    for size in QUICK if quick else SIZES:
        for line, agrees in rows(*size, limits_of):
            print(line, flush=True)
            agree &= agrees
    if not agree:
        raise SystemExit("the sums of the device differ from those of the processor")


if __name__ == "__main__":
    main()
