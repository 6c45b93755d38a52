"""The failure that started this: chunked NLSQ on per-angle scaling, beside the exact answer.

One simulated measurement, 3 angles × 301 frames, 13 parameters (7 of the physics, contrast and
offset of each angle), cut into chunks of 20,000 points in the order of the data, so that chunks
lack angles. Prints, for NLSQ's chunked path, for `nlsq_stratified` on the same chunks and for
SciPy on the whole: wall time, χ² above SciPy's, distance from SciPy's answer in standard errors,
and the ratio of the standard errors to SciPy's.

    .venv/bin/python benchmarks/chunked_failure.py
"""

from __future__ import annotations

import time
import warnings

import jax
import jax.numpy as jnp
import nlsq
import numpy as np
from scipy.optimize import least_squares

from nlsq_stratified import curve_fit_large

FRAMES, DT, Q, GAP, CHUNK = 301, 0.1, 0.0054, 2e6, 20_000
PHI = np.array([0.0, 45.0, 90.0])
TRUTH = np.array([1200.0, -0.4, 150.0, 4e-4, 0.25, 5e-5, 3.0, 0.3, 0.25, 0.35, 1.0, 1.01, 0.99])
START = np.where(np.arange(13) < 7, 1.5 * TRUTH, TRUTH * 1.1)
LOWER = np.array([100, -2, -1e5, 1e-6, -2, -0.1, -10, *[0.0] * 3, *[0.5] * 3])
UPPER = np.array([1e5, 2, 1e5, 0.5, 2, 0.1, 10, *[1.0] * 3, *[1.5] * 3])

I, J = np.triu_indices(FRAMES, 1)
PAIRS = len(I)


def model(x, *p):  # type: ignore[no-untyped-def]
    """c2 of the points with the numbers x, angle by angle."""
    number = x.astype(jnp.int64)
    angle, pair = number // PAIRS, number % PAIRS
    first, second = jnp.asarray(I)[pair], jnp.asarray(J)[pair]
    t = jnp.maximum(jnp.arange(FRAMES) * DT, DT / 2)

    def integral(p0, p1, p2):  # type: ignore[no-untyped-def]
        rate = jnp.maximum(p0 * t**p1 + p2, 1e-10)
        return jnp.concatenate([jnp.zeros(1), jnp.cumsum((rate[1:] + rate[:-1]) / 2 * DT)])

    s, g = integral(*p[:3]), integral(*p[3:6])
    phase = 0.5 * Q * GAP * jnp.cos(jnp.deg2rad(p[6] - jnp.asarray(PHI)))[angle]
    f = jnp.exp(-(Q**2) * (s[second] - s[first]))
    f = f * jnp.sinc(phase * (g[second] - g[first]) / jnp.pi) ** 2
    return jnp.stack(p[10:13])[angle] + jnp.stack(p[7:10])[angle] * f


def main() -> None:
    """Run the three and print the table."""
    jax.config.update("jax_enable_x64", True)
    x = np.arange(3 * PAIRS, dtype=float)
    clean = np.asarray(model(jnp.asarray(x), *TRUTH))
    y = clean + np.random.default_rng(0).normal(0.0, 0.02, len(x))

    residual = jax.jit(lambda p: model(jnp.asarray(x), *p) - y)
    jacobian = jax.jit(jax.jacfwd(residual))

    def scipy_fit():  # type: ignore[no-untyped-def]
        fit = least_squares(
            lambda p: np.asarray(residual(p)),
            START,
            lambda p: np.asarray(jacobian(p)),
            bounds=(LOWER, UPPER),
            x_scale="jac",
            ftol=1e-14,
            xtol=1e-14,
            gtol=1e-14,
        )
        variance = 2 * fit.cost / (len(y) - 13)
        return fit.x, np.linalg.inv(fit.jac.T @ fit.jac) * variance

    def nlsq_fit():  # type: ignore[no-untyped-def]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return nlsq.curve_fit_large(
                model,
                x,
                y,
                START,
                bounds=(LOWER, UPPER),
                size_threshold=1000,
                chunk_size=CHUNK,
            )

    def ours():  # type: ignore[no-untyped-def]
        return curve_fit_large(model, x, y, START, bounds=(LOWER, UPPER), chunks=CHUNK)

    answers = {}
    for name, fit in (("scipy, whole", scipy_fit), ("nlsq, chunked", nlsq_fit), ("ours", ours)):
        began = time.perf_counter()
        popt, pcov = fit()
        answers[name] = np.asarray(popt), np.asarray(pcov), time.perf_counter() - began
    best, covariance, _ = answers["scipy, whole"]
    errors = np.sqrt(np.diag(covariance))

    def half_square(p):  # type: ignore[no-untyped-def]
        return 0.5 * float(np.sum(np.asarray(residual(p)) ** 2))

    least = half_square(best)
    variance = 2 * least / (len(x) - 13)
    print(f"{len(x):,} points, chunks of {CHUNK:,}; least cost {least:.3f}; χ² above its")
    print(f"least: the truth {2 * (half_square(TRUTH) - least) / variance:.2f}")
    print(f"{'':15}{'seconds':>9}{'χ² above':>12}{'worst error':>15}{'error bars':>23}")
    for name, (popt, pcov, seconds) in answers.items():
        above = 2 * (half_square(popt) - least) / variance
        ratio = np.sqrt(np.diag(pcov)) / errors
        print(
            f"{name:15}{seconds:9.1f}{above:12.2e}{np.max(np.abs(popt - best) / errors):13.2g} σ"
            f"{ratio.min():10.2g} to {ratio.max():.2g} of SciPy's"
        )


if __name__ == "__main__":
    main()
