"""Per-group offsets in chunks: SciPy on all points, NLSQ's chunked fit, and a fit with chunks.

    python reproduce.py [package]

`package` is where ``curve_fit_large`` and ``Chunks`` with the argument ``chunks`` come from; they
are left out where it has none.
"""

import importlib
import inspect
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import nlsq
import numpy as np
from scipy.optimize import curve_fit

logging.disable(logging.CRITICAL)
package = importlib.import_module(sys.argv[1] if len(sys.argv) > 1 else "nlsq")

# Five groups of 19,988 points and one of 60; one decay, six offsets.
rng = np.random.default_rng(1)
group = np.repeat(np.arange(6), [19_988] * 5 + [60])
n = len(group)
t = rng.uniform(0, 5, n)
truth = np.array([0.5, 0.2, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5])
y = truth[2:][group] + truth[1] * np.exp(-truth[0] * t) + rng.normal(0, 0.1, n)
start = np.array([1.0, 0.5, 1, 1, 1, 1, 1, 1])


def by_index(i, rate, amplitude, *offsets):
    """The model with x the number of the point."""
    i = i.astype(int)
    decay = amplitude * jnp.exp(-rate * jnp.asarray(t)[i])
    return jnp.stack(offsets)[jnp.asarray(group)[i]] + decay


def by_columns(x, rate, amplitude, *offsets):
    """The model with x two columns, time and group."""
    return jnp.stack(offsets)[x[:, 1].astype(int)] + amplitude * jnp.exp(-rate * x[:, 0])


def in_numpy(i, rate, amplitude, *offsets):
    """The same for SciPy."""
    return np.array(offsets)[group] + amplitude * np.exp(-rate * t)


def show(name: str, fit: Callable[[], Any]) -> None:
    """One line: rate, largest distance from SciPy's answer in its errors, and relative time."""
    fit()  # compiles
    begin = time.perf_counter()
    popt, pcov = fit()
    seconds = time.perf_counter() - begin
    distance = np.max(np.abs(popt - exact) / errors)
    rate = f"{popt[0]:.4f} ± {np.sqrt(np.asarray(pcov)[0, 0]):.4f}"
    relative_time = seconds / times.setdefault("SciPy", seconds)
    print(f"{name:42} {rate:>16} {distance:12.5f} {relative_time:8.1f}")


exact, covariance = curve_fit(in_numpy, np.arange(n), y, start)
errors = np.sqrt(np.diag(covariance))
times: dict[str, float] = {}  # of SciPy's fit, which is the first one
index, columns = np.arange(n, dtype=float), np.column_stack([t, group])
print(f"true rate 0.5, start 1.0{'rate':>31} {'off by [σ]':>18} {'time':>8}")
show("SciPy, all points", lambda: curve_fit(in_numpy, np.arange(n), y, start))


def averaged(model: Callable[..., Any], x: Any, size: int) -> Callable[[], Any]:
    """NLSQ's own chunked fit."""
    return lambda: nlsq.curve_fit_large(
        model, x, y, start, auto_size_detection=False, chunk_size=size
    )


show("NLSQ, chunk_size=20_000", averaged(by_index, index, 20_000))
show("NLSQ, chunk_size=2_000", averaged(by_index, index, 2_000))
show("NLSQ, chunk_size=2_000, x of integers", averaged(by_index, index.astype(int), 2_000))
show("NLSQ, chunk_size=2_000, x of two columns", averaged(by_columns, columns, 2_000))

if "chunks" in inspect.signature(package.curve_fit_large).parameters:
    fit = package.curve_fit_large
    stratified = package.Chunks.stratified(group, 2_000)
    show("chunks=2_000", lambda: fit(by_index, index, y, start, chunks=2_000))
    show("chunks=2_000, x of two columns", lambda: fit(by_columns, columns, y, start, chunks=2_000))
    show(
        "chunks=Chunks.by_group(group)",
        lambda: fit(by_columns, columns, y, start, chunks=package.Chunks.by_group(group)),
    )
    show(
        "chunks=Chunks.stratified, progressive",
        lambda: fit(by_columns, columns, y, start, chunks=stratified, progressive=True),
    )
