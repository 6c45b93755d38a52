"""The failure that the anti-degeneracy layers are for: J and contrast trade places.

Where c2 hardly decays during the measurement, c2 ≈ offset + contrast · (1 − q² J Δt): a larger
contrast with a lower offset does what a larger J does. With a contrast and an offset for each angle
the least-squares problem still has one answer, but it lies in a long curved valley, and NLSQ's
`curve_fit` stops somewhere in it: with J too large and contrasts too small, or the other way
around, far outside the error bars it states, and says that it succeeded. The floor of the valley
is not flat: χ² is larger there by a hundred. What holds it up are parameters of sizes 1e4 to 1e-3
in one trust region; `x_scale="jac"` gets it out where the start has the right order of magnitude.

3 angles × 101 frames, q² ∫J = 0.3, ½ q h ∫γ̇ = 3, contrasts 0.30, 0.28, 0.32, noise 0.02. Each
program gets the same start for the physics:

  - near: 1.5 × the truth, contrast 0.3, offset 1
  - round: D0 = 1000, γ̇0 = 1e-3, exponents, offsets and phi0 zero; contrast 0.5, offset 1
  - wide: the same with D0 = 1e4, the values that homodyne documents as its defaults
  - middle: the middle of the bounds, where homodyne and xpcsjax start if the configuration has null

Rows: NLSQ with all 13 parameters free, by `curve_fit`, by the same with x_scale="jac", and by
`curve_fit_large` in chunks of 2,500 points; `homodyne_fit.fitting.fit.fit` with its defaults.
Columns: J at mid-measurement over the truth with its stated error, distance from the truth in these
errors, contrasts, χ² above that of the truth (the least lies some 10 below), and whether the
program says that it succeeded.

    .venv/bin/python benchmarks/adr003.py [--seeds 1] [--decay 0.3] [--flow 3] [--spread 0.07]
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import nlsq
import numpy as np

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.fitting.fit import FitSettings, fit
from homodyne_fit.model.rates import LAMINAR_FLOW, RATE_FLOOR, decay, rates

FRAMES, DT, Q, GAP, NOISE, CHUNK = 101, 0.1, 0.0054, 2e6, 0.02, 2500
PHI = np.array([0.0, 45.0, 90.0])
TAU = (FRAMES - 1) * DT / 2
LOWER = np.array([100, -2, -1e5, 1e-6, -2, -0.1, -10, *[0.0] * 3, *[0.5] * 3])
UPPER = np.array([1e5, 2, 1e5, 0.5, 2, 0.1, 10, *[1.0] * 3, *[1.5] * 3])
SCALING_START = [0.5] * 3 + [1.0] * 3
STARTS = {
    "round": np.array([1e3, 0, 0, 1e-3, 0, 0, 0, *SCALING_START]),
    "wide": np.array([1e4, 0, 0, 1e-3, 0, 0, 0, *SCALING_START]),
    "middle": np.array([*((LOWER + UPPER) / 2)[:7], *SCALING_START]),
}

# What runs under each name, with which options.
PROGRAMS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "NLSQ curve_fit": (nlsq.curve_fit, {}),
    'NLSQ curve_fit, x_scale="jac"': (nlsq.curve_fit, {"x_scale": "jac"}),
    "NLSQ curve_fit_large": (
        nlsq.curve_fit_large,
        {"size_threshold": 1000, "chunk_size": CHUNK},
    ),
    "homodyne_fit": (fit, {}),
}

I, J = np.triu_indices(FRAMES, 1)
PAIRS = len(I)
POINTS = np.arange(3 * PAIRS, dtype=float)


def model(x, *p):  # type: ignore[no-untyped-def]
    """c2 of the points with the numbers x, angle by angle."""
    number = x.astype(jnp.int64)
    angle, pair = number // PAIRS, number % PAIRS
    first, second = jnp.asarray(I)[pair], jnp.asarray(J)[pair]
    t = jnp.maximum(jnp.arange(FRAMES) * DT, DT / 2)

    def integral(p0, p1, p2):  # type: ignore[no-untyped-def]
        rate = jnp.maximum(p0 * t**p1 + p2, RATE_FLOOR)
        return jnp.concatenate([jnp.zeros(1), jnp.cumsum((rate[1:] + rate[:-1]) / 2 * DT)])

    s, g = integral(*p[:3]), integral(*p[3:6])
    phase = 0.5 * Q * GAP * jnp.cos(jnp.deg2rad(p[6] - jnp.asarray(PHI)))[angle]
    f = jnp.exp(-(Q**2) * (s[second] - s[first]))
    f = f * jnp.sinc(phase * (g[second] - g[first]) / jnp.pi) ** 2
    return jnp.stack(p[10:13])[angle] + jnp.stack(p[7:10])[angle] * f


@dataclass(frozen=True)
class Answer:
    """J at mid-measurement with its error, contrasts, cost, and what the program says."""

    j: float
    error: float
    contrast: np.ndarray
    cost: float
    success: bool
    seconds: float


def true_parameters(decay_total: float, flow_total: float, spread: float) -> np.ndarray:
    """Half a power law, half constant, scaled to q² ∫J and ½ q h ∫γ̇."""
    t = np.maximum(np.arange(FRAMES) * DT, DT / 2)
    transport = decay_total / (Q**2 * np.trapezoid(t**-0.3 + 1, dx=DT))
    shear = flow_total / (0.5 * Q * GAP * np.trapezoid(t**0.2 + 1, dx=DT))
    physics = [transport, -0.3, transport, shear, 0.2, shear, 3.0]
    contrast = 0.3 * (1 + spread * np.array([0, -1, 1]))
    return np.array([*physics, *contrast, *(1 + spread / 10 * np.array([0, 1, -1]))])


def simulated(truth: np.ndarray, seed: int) -> TwoTimeData:
    """Matrices with symmetric white noise."""
    rng = np.random.default_rng(seed)
    c2 = np.empty((3, FRAMES, FRAMES))
    for k, phi in enumerate(PHI):
        noise = np.triu(rng.normal(0.0, NOISE, (FRAMES, FRAMES)), 1)
        f = decay(LAMINAR_FLOW, truth[:7], DT, FRAMES, Q, float(phi), GAP)
        c2[k] = truth[10 + k] + truth[7 + k] * f + noise + noise.T
    return TwoTimeData(c2, PHI, np.full(3, Q), DT, "simulated")


def plain(y: np.ndarray, start: np.ndarray, call: Callable[..., Any], **options: Any) -> Answer:
    """NLSQ with all 13 parameters free."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = call(model, POINTS, y, start, bounds=(LOWER, UPPER), **options)
    popt, pcov = (np.asarray(part) for part in found)
    curves, jacobian = rates(LAMINAR_FLOW, popt[:7], TAU, TAU, DT)
    slope = jacobian[0, 0]
    with np.errstate(invalid="ignore"):
        error = float(np.sqrt(slope @ pcov[:7, :7] @ slope))
    success = bool(getattr(found, "success", True))
    seconds = time.perf_counter() - began
    return Answer(float(curves[0, 0]), error, popt[7:10], cost(popt, y), success, seconds)


def ours(data: TwoTimeData, start: np.ndarray) -> Answer:
    """homodyne_fit with its defaults; contrasts and offsets need no start."""
    began = time.perf_counter()
    initial = dict(zip(LAMINAR_FLOW.parameters, map(float, start[:7]), strict=True))
    result = fit(data, FitSettings(gap=GAP, initial=initial))
    (j,), (error,) = result.J(TAU)
    contrast = np.array([estimate.value for estimate in result.contrast])
    seconds = time.perf_counter() - began
    return Answer(float(j), float(error), contrast, result.cost, result.success, seconds)


def cost(p: np.ndarray, y: np.ndarray) -> float:
    """Half the sum of squares."""
    return 0.5 * float(np.sum((np.asarray(model(jnp.asarray(POINTS), *p)) - y) ** 2))


def pull(answer: Answer, true_j: float) -> float:
    """Distance from the truth in stated errors: infinite without an error, or J at its floor."""
    if not (np.isfinite(answer.error) and answer.error > 0):
        return np.inf
    return (answer.j - true_j) / answer.error


def main() -> None:
    """Fit every data set from every start and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--decay", type=float, default=0.3, help="q² ∫J over the measurement")
    parser.add_argument("--flow", type=float, default=3.0, help="½ q h ∫γ̇ over the measurement")
    parser.add_argument("--spread", type=float, default=0.07, help="relative, of the contrasts")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    jax.config.update("jax_enable_x64", True)
    truth = true_parameters(options.decay, options.flow, options.spread)
    true_j = float(rates(LAMINAR_FLOW, truth[:7], TAU, TAU, DT)[0][0, 0])
    contrasts = ", ".join(f"{c:.3f}" for c in truth[7:10])
    print(f"q² ∫J = {options.decay:g}, ½ q h ∫γ̇ = {options.flow:g}; true contrasts {contrasts}\n")
    print("| seed | start | fit | J / true J | off by | contrasts | χ² above truth | success | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    pulls, ratios = defaultdict(list), defaultdict(list)
    for seed in range(options.seeds):
        data = simulated(truth, seed)
        y = np.concatenate([np.asarray(c2)[I, J] for c2 in data.c2]).astype(float)
        at_truth = cost(truth, y)
        near = np.array([*(1.5 * truth[:7]), *[0.3] * 3, *[1.0] * 3])
        for name, start in {"near": near, **STARTS}.items():
            for program in PROGRAMS:
                if program == "homodyne_fit":
                    found = ours(data, start)
                else:
                    call, how = PROGRAMS[program]
                    found = plain(y, start, call, **how)
                distance = pull(found, true_j)
                pulls[program].append(distance)
                ratios[program].append(found.j / true_j)
                off = "no error" if np.isinf(distance) else f"{distance:+.1f} σ"
                print(
                    f"| {seed} | {name} | {program} "
                    f"| {found.j / true_j:.2f} ± {found.error / true_j:.2g} | {off} "
                    f"| {', '.join(f'{c:.3f}' for c in found.contrast)} "
                    f"| {2 * (found.cost - at_truth) / NOISE**2:.3g} "
                    f"| {'yes' if found.success else 'no'} | {found.seconds:.1f} |"
                )
                sys.stdout.flush()
    print("\n| fit | smallest, largest J / true J | more than 3 σ off, or no error | worst |")
    print("|---|---|---|---|")
    for program, values in pulls.items():
        bad = sum(abs(value) > 3 for value in values)
        print(
            f"| {program} | {min(ratios[program]):.2f}, {max(ratios[program]):.2f} "
            f"| {bad} of {len(values)} | {max(np.abs(values)):.1f} σ |"
        )


if __name__ == "__main__":
    main()
