"""A curve fit of N points and p parameters: NLSQ's three ways, SciPy, and chunks.

Every method fits the same points from the same start, each in a process of its own, with its
documented defaults where it has some:

  plain      nlsq.curve_fit
  chunked    nlsq.curve_fit_large, auto_size_detection=False, chunk_size 100,000 (N/5 for N below)
  streaming  nlsq.curve_fit, method="hybrid_streaming"
  scipy      scipy.optimize.least_squares, x_scale="jac", exact Jacobian (compiled by JAX)
  ours       curve_fit_large(chunks="auto", progressive=True), a thread for each processor
  local      the same with the group's parameters declared (p = 53 alone)

p = 4 is two decays, p = 13 four peaks and a baseline, p = 53 seven shared parameters with a
contrast and an offset for each of 23 groups, of which a point touches 9. The noise is 0.02.

The time is that of a second call, when nothing is left to compile, unless the first took more
than a minute. `off by` is the largest distance of a parameter from the least-squares answer, in
standard errors of that answer: SciPy's on the same points where it is run with tight tolerances
(N up to 1e5), else that of our fit to 1e-6 standard errors. `from truth` is the same from the true
parameters: of independent errors the largest of p is 1 to 3.

A run is left out where its arrays would not fit, by the count of Jacobian-sized ones that it
holds, or where an N ten times smaller took a tenth of the time limit.

    .venv/bin/python benchmarks/generic_path.py [--points 1e5 1e6] [--parameters 4 13 53]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHODS = ("plain", "chunked", "streaming", "scipy", "ours", "local")
GROUPS, NOISE = 23, 0.02
# Arrays of N x p float64 that a method holds at its peak, by measurement, rounded up.
JACOBIANS = {"plain": 6, "chunked": 0, "streaming": 0, "scipy": 6, "ours": 0, "local": 0}


def two_decays(x: Any, a: Any, b: Any, c: Any, d: Any, np: Any = np) -> Any:
    return a * np.exp(-b * x) + c * np.exp(-d * x)


def four_peaks(x: Any, *p: Any, np: Any = np) -> Any:
    peaks = (p[i] * np.exp(-(((x - p[i + 1]) / p[i + 2]) ** 2)) for i in range(0, 12, 3))
    return sum(peaks) + p[12]


def of_one_group(
    x: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, contrast: Any, offset: Any
) -> Any:
    """x is time plus ten times the number of the group."""
    import jax.numpy as jnp

    t = x - 10 * jnp.floor(x / 10)
    curve = jnp.exp(-a * t) + b * jnp.exp(-c * t) + d * jnp.cos(e * t) + f * jnp.sin(g * t)
    return offset + contrast * curve


def of_all_groups(x: Any, *p: Any) -> Any:
    import jax.numpy as jnp

    group = jnp.floor(x / 10).astype(int)
    contrast, offset = jnp.stack(p[7 : 7 + GROUPS]), jnp.stack(p[7 + GROUPS :])
    return of_one_group(x, *p[:7], contrast[group], offset[group])


def problem(p: int) -> tuple[Callable[..., Any], NDArray[np.float64], NDArray[np.float64]]:
    """Model in JAX, truth, start."""
    import jax.numpy as jnp

    if p == 4:
        truth = np.array([1.0, 0.5, 0.7, 3.0])
        return lambda x, a, b, c, d: two_decays(x, a, b, c, d, jnp), truth, truth * 1.1
    if p == 13:
        truth = np.array([1.0, 1, 0.3, 0.8, 2, 0.5, 1.2, 3, 0.4, 0.6, 4, 0.3, 0.2])
        return lambda x, *q: four_peaks(x, *q, np=jnp), truth, truth * 1.03
    shared = np.array([1.0, 0.5, 3.0, 0.2, 2.0, 0.1, 5.0])
    truth = np.concatenate([shared, np.linspace(0.25, 0.35, GROUPS), np.linspace(0.98, 1.02, 23)])
    return of_all_groups, truth, truth * 1.05


def write(folder: Path, p: int, n_points: int) -> None:
    """Simulate the points into two files."""
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(p)
    f, truth, _ = problem(p)
    xs = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float64, (n_points,))
    ys = np.lib.format.open_memmap(folder / "y.npy", "w+", np.float64, (n_points,))
    with jax.enable_x64(True):
        for i in range(0, n_points, 1_000_000):
            x = rng.uniform(0, 5, min(1_000_000, n_points - i))
            if p == 53:
                x += 10 * rng.integers(0, GROUPS, len(x))
            xs[i : i + len(x)] = x
            noise = rng.normal(0, NOISE, len(x))
            ys[i : i + len(x)] = np.asarray(f(jnp.asarray(x), *truth)) + noise


def fitted(method: str, p: int, x: Any, y: Any, executor: Any, **tight: Any) -> dict[str, Any]:
    """One fit: answer, covariance, whether it says that it converged."""
    import jax
    import jax.numpy as jnp
    import nlsq
    from scipy.optimize import least_squares

    from nlsq_stratified import LocalParameters, curve_fit_large

    f, _, start = problem(p)
    if method in ("ours", "local"):
        how: dict[str, Any] = {"chunks": "auto", "progressive": True, "executor": executor, **tight}
        if method == "local":
            names = ("contrast", "offset")
            f = of_one_group
            how["local"] = LocalParameters(names, lambda x: np.floor(x / 10), GROUPS)
        result: Any = curve_fit_large(f, x, y, start, **how)
    elif method == "plain":
        result = nlsq.curve_fit(f, x, y, p0=start)
    elif method == "chunked":
        size = min(100_000, len(y) // 5)
        result = nlsq.curve_fit_large(f, x, y, p0=start, auto_size_detection=False, chunk_size=size)
    elif method == "streaming":
        result = nlsq.curve_fit(f, x, y, p0=start, method="hybrid_streaming", verbose=0)
    else:
        on_device = jnp.asarray(x)
        values = jax.jit(lambda q: f(on_device, *q))
        jacobian = jax.jit(jax.jacfwd(lambda q: f(on_device, *q)))
        fit = least_squares(
            lambda q: np.asarray(values(q)) - y,
            start,
            lambda q: np.asarray(jacobian(q)),
            x_scale="jac",
            **tight,
        )
        variance = 2 * fit.cost / (len(y) - p)
        covariance = np.linalg.inv(fit.jac.T @ fit.jac) * variance
        return {"x": fit.x, "pcov": covariance, "success": bool(fit.success), "nfev": fit.nfev}
    popt, pcov = result
    return {
        "x": np.asarray(popt),
        "pcov": np.asarray(pcov),
        "success": getattr(result, "success", None),
        "nfev": getattr(result, "nfev", None),
    }


def measure(method: str, p: int, folder: Path) -> dict[str, Any]:
    """Fit once or twice; times, memory, answer."""
    logging.disable(logging.CRITICAL)
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        began = time.perf_counter()
        fit = fitted(method, p, x, y, executor)
        first = seconds = time.perf_counter() - began
        if first < 60:
            began = time.perf_counter()
            fit = fitted(method, p, x, y, executor)
            seconds = time.perf_counter() - began
    return {
        "first": first,
        "seconds": seconds,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        **fit,
    }


def reference(p: int, folder: Path, n_points: int) -> tuple[Any, Any, str]:
    """The least-squares answer, its standard errors, and whose it is."""
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    if n_points <= 100_000:
        tight = {"ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-14}
        fit, whose = fitted("scipy", p, x, y, None, **tight), "scipy"
    else:
        with ThreadPoolExecutor(os.cpu_count()) as executor:
            method = "local" if p == 53 else "ours"
            fit, whose = fitted(method, p, x, y, executor, tolerance=1e-6), "ours"
    return fit["x"], np.sqrt(np.diag(fit["pcov"])), whose


def in_process(arguments: list[str], limit: float) -> dict[str, Any] | str:
    """Run a part of this script in a process of its own; what it found, or why not."""
    command = [sys.executable, __file__, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return f"stopped after {limit:.0f} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["killed"])[-1][:60]
    return json.loads(done.stdout.splitlines()[-1])


def listed(found: dict[str, Any]) -> str:
    """JSON of what a process found."""
    return json.dumps({k: v.tolist() if hasattr(v, "tolist") else v for k, v in found.items()})


def line(method: str, p: int, n: int, found: dict[str, Any] | str, best: Any, error: Any) -> str:
    head = f"{p:>4}{n:>13,}  {method:10}"
    if isinstance(found, str):
        return f"{head} {found}"
    truth = problem(p)[1]
    x = np.array(found["x"])
    stated = np.sqrt(np.maximum(np.diag(np.array(found["pcov"], dtype=float)), 0))
    return (
        f"{head}{found['first']:>9.2f}{found['seconds']:>9.2f}{1e9 * found['seconds'] / n:>10.0f}"
        f"{found['gigabytes']:>8.1f}{np.max(np.abs(x - best) / error):>11.2g}"
        f"{np.max(np.abs(x - truth) / error):>8.1f}"
        f"{np.min(stated / error):>8.2f} to {np.max(stated / error):<7.3g}"
        f"{'-' if found['nfev'] is None else found['nfev']:>5}  {found['success']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=float, nargs="+", default=[1e5, 1e6, 1e7, 1e8])
    parser.add_argument("--parameters", type=int, nargs="+", default=[4, 13, 53])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--limit", type=float, default=600, help="seconds for a process")
    parser.add_argument("--memory", type=float, default=16, help="GB for a process")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        what, p, folder = arguments.one[0], int(arguments.one[1]), Path(arguments.one[2])
        noise = io.StringIO()
        with contextlib.redirect_stdout(noise):
            if what == "reference":
                n_points = len(np.load(folder / "y.npy", mmap_mode="r"))
                best, error, whose = reference(p, folder, n_points)
                found: dict[str, Any] = {"best": best, "error": error, "whose": whose}
            else:
                found = measure(what, p, folder)
        print(listed(found))
        return
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    print(
        f"{'p':>4}{'N':>13}  {'method':10}{'1st [s]':>9}{'2nd [s]':>9}{'ns/point':>10}"
        f"{'GB':>8}{'off by [σ]':>11}{'truth':>8}{'error bars / true':>18}{'nfev':>8}  converged"
    )
    for p in arguments.parameters:
        slow: set[str] = set()
        for n in map(int, arguments.points):
            with tempfile.TemporaryDirectory() as name:
                write(Path(name), p, n)
                right = in_process(["--one", "reference", str(p), name], arguments.limit)
                if isinstance(right, str):
                    print(f"{p:>4}{n:>13,}  no reference: {right}")
                    continue
                for method in arguments.methods:
                    if method == "local" and p != 53:
                        continue
                    needed = (JACOBIANS[method] * p + 4) * 8 * n / 1e9
                    found: dict[str, Any] | str
                    if method in slow:
                        found = "left out: too slow at a smaller N"
                    elif needed > arguments.memory:
                        found = f"left out: needs {needed:.0f} GB"
                    else:
                        found = in_process(["--one", method, str(p), name], arguments.limit)
                    best, error = np.array(right["best"]), np.array(right["error"])
                    print(line(method, p, n, found, best, error), flush=True)
                    took = np.inf if isinstance(found, str) else found["first"]
                    if took > arguments.limit / 10:
                        slow.add(method)


if __name__ == "__main__":
    main()
