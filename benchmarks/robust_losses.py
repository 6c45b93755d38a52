"""What outliers do to the mean J and the mean shear rate, and what robust losses make of it.

Measurements are photon counts from first principles, in the limit of infinitely many particles:
1500 pixels at each of 4 angles, 300 frames of 0.1 s, a contrast of 1/3, constant rates, phi0 = 5°.
Each is fitted as it is, and spoilt in two ways:

- frames: one burst, whose correlation with all others is 0.3 too high; one dead frame, at 0; and
  one saturated frame, at 2, together 1 % of all frames;
- points: normal numbers of standard deviation 1 are added to 1 % of the points.

It is fitted by least squares, by robust losses, and, where frames are bad, by least squares after
the frames that ``homodyne_fit inspect`` finds are masked. Each fit is compared with that by least
squares to the same measurement as it was: the bias is the mean difference, in standard errors of
that fit and in per cent; the rms difference is in standard errors. The rms pull is that of the
deviations from the truth in units of the fit's own standard errors, J and shear rate together: 1
where error bars are right.

    .venv/bin/python benchmarks/robust_losses.py [--measurements 20] [--photons 0.5 5] [--first 0]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import homodyne_fit as hf
from homodyne_fit.data.quality import assess
from homodyne_fit.simulation.measurement import Measurement, from_first_principles

Q, GAP, DT, FRAMES = 0.0054, 2e6, 0.1, 300
PHI = (0.0, 45.0, 90.0, 135.0)
D0, SHEAR_RATE = 8000.0, 1e-4  # Å²/s, 1/s
TRUTH = {
    "D0": D0,
    "alpha": 0.0,
    "D_offset": 0.0,
    "gamma_dot_t0": SHEAR_RATE,
    "beta": 0.0,
    "gamma_dot_t_offset": 0.0,
    "phi0": 5.0,
}
LOSSES = {
    "linear": {},
    "huber": {"loss": "huber", "f_scale": 1.345},
    "soft_l1": {"loss": "soft_l1", "f_scale": 1.345},
    "cauchy": {"loss": "cauchy", "f_scale": 2.385},
}
MASKED = "linear, frames masked"


@dataclass(frozen=True)
class Row:
    """A fit: mean J and mean shear rate with their errors."""

    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    frames: tuple[int, ...]
    success: bool


def measured(photons: float, seed: int) -> hf.TwoTimeData:
    measurement = Measurement(TRUTH, Q, PHI, GAP, DT, FRAMES)
    detector = {"pixels": 1500, "modes": 3, "mean_counts": photons}
    c2 = from_first_principles(measurement, particles=None, seed=seed, **detector)
    return hf.TwoTimeData(c2, np.array(PHI), np.full(len(PHI), Q), DT, "photons")


def with_bad_frames(data: hf.TwoTimeData, rng: np.random.Generator) -> hf.TwoTimeData:
    c2 = data.c2.copy()
    burst, dead, saturated = rng.choice(FRAMES, 3, replace=False)
    for frame, level in ((dead, 0.0), (saturated, 2.0)):
        c2[:, frame, :] = c2[:, :, frame] = level
    c2[:, burst, :] += 0.3
    c2[:, :, burst] += 0.3
    return replace(data, c2=c2)


def with_bad_points(data: hf.TwoTimeData, rng: np.random.Generator) -> hf.TwoTimeData:
    upper = np.triu(rng.random(data.c2.shape) < 0.01, 1)
    added = np.where(upper, rng.normal(size=upper.shape), 0.0).astype(data.c2.dtype)
    return replace(data, c2=data.c2 + added + added.swapaxes(1, 2))


def with_frames_masked(data: hf.TwoTimeData) -> hf.TwoTimeData:
    qualities = [assess(matrix) for matrix in data.c2]
    found = np.unique(np.concatenate([each for q in qualities for each in (q.dead, q.odd)])) - 1
    c2 = data.c2.copy()
    c2[:, found] = c2[:, :, found] = np.nan
    return replace(data, c2=c2)


def fitted(data: hf.TwoTimeData, **options: object) -> Row:
    result = hf.fit(
        data,
        gap=GAP,
        initial={"D0": D0, "gamma_dot_t0": SHEAR_RATE, "phi0": 5.0},
        fixed={name: 0.0 for name, value in TRUTH.items() if value == 0},
        per_angle_mode="averaged",
        multi_start=False,
        **options,
    )
    (j, j_error), (rate, rate_error) = result.mean_J(), result.mean_gamma_dot()
    frames = () if result.robust is None else tuple(result.robust.lost_frames.tolist())
    return Row(np.array([j, rate]), np.array([j_error, rate_error]), frames, result.success)


def fits(photons: float, seed: int) -> Iterator[tuple[str, str, Row]]:
    """What is bad, how it was fitted, and the fit."""
    rng, clean = np.random.default_rng(seed), measured(photons, seed)
    for bad, data in (
        ("nothing", clean),
        ("frames", with_bad_frames(clean, rng)),
        ("points", with_bad_points(clean, rng)),
    ):
        for name, options in LOSSES.items():
            yield bad, name, fitted(data, **options)
        if bad == "frames":
            yield bad, MASKED, fitted(with_frames_masked(data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measurements", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--photons", type=float, nargs="+", default=[0.5, 5.0])
    options = parser.parse_args()
    truth = np.array([D0, SHEAR_RATE])
    print(
        "| photons | bad | fitted by | J: bias (σ, %), rms (σ) | γ̇: likewise | rms pull | failed |"
    )
    print("|---|---|---|---|---|---|---|")
    for photons in options.photons:
        found: dict[tuple[str, str], list[Row]] = {}
        for seed in range(options.first, options.first + options.measurements):
            for bad, name, row in fits(photons, seed):
                found.setdefault((bad, name), []).append(row)
        references = found["nothing", "linear"]
        for (bad, name), rows in found.items():
            moved = np.array([a.values - b.values for a, b in zip(rows, references, strict=True)])
            relative = moved / [b.errors for b in references]
            sigmas, spread = relative.mean(axis=0), np.sqrt(np.mean(relative**2, axis=0))
            shares = 100 * np.mean(moved, axis=0) / truth
            pulls = np.array([(row.values - truth) / row.errors for row in rows])
            failed = sum(not row.success for row in rows)
            columns = [
                f"{s:+.2f}, {p:+.2f}, {r:.2f}"
                for s, p, r in zip(sigmas, shares, spread, strict=True)
            ]
            rms = np.sqrt(np.mean(pulls**2))
            print(
                f"| {photons:g} | {bad} | {name} | {' | '.join(columns)} | {rms:.2f} | {failed} |"
            )


if __name__ == "__main__":
    main()
