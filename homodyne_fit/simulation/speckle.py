"""XPCS measurement of a sheared Brownian suspension, simulated from first principles.

No formula for g1 or c2 enters. What is simulated is the experiment:

1. **Particles.** Each coherent mode of each pixel sees N particles of its own in the gap
   0 ≤ y ≤ h, at independent uniform heights and with independent uniform phases. From frame
   to frame a particle is carried by the flow and diffuses isotropically,

       Δx = γ̇ y dt + ξx,   Δy = ξy,   Δz = ξz,   ξ ~ N(0, ∫J dt) each,

   with reflecting walls in y; x is the flow and z the vorticity direction.
2. **Field.** E = Σ_j exp(i q·r_j). The scattering vector lies in the x-z plane, at the angle
   φ0 − φ from the flow, so a phase advances by

       q·Δr = q cos(φ0 − φ) γ̇ y dt + q ξ,   ξ ~ N(0, ∫J dt),

   where ξ is the projection of the isotropic (ξx, ξz) on q: one normal number per step.
3. **Detector.** A pixel receives the incoherent sum of its modes, and counts photons with
   Poisson statistics [1]_. A frame is instantaneous: there is no blur within an exposure.
4. **Correlator.** c2(t1, t2) = ⟨n(t1) n(t2)⟩ / (⟨n(t1)⟩ ⟨n(t2)⟩), averages over pixels [2]_.

Pixels share nothing, nor do modes or angles: particles, fields and photons of each are its own.
What a detector's pixels may have in common, a speckle that covers several of them or the beam's
fluctuations, is not simulated.

Why heights are drawn independently and not stratified over the gap: for independent particles
the pairs j ≠ k of ⟨I(t1) I(t2)⟩ give N(N − 1) |⟨exp(i q·Δr)⟩|², so the finite number of
particles lowers the contrast by 1 − 1/N and changes no shape. With one particle per stratum
the deficit would follow the (slower) decay within a stratum and distort the correlation.

With `particles` None their number is infinite. The field of a mode is then Gaussian and is drawn
as such, without particles (`homodyne_fit.simulation.gaussian_field`): the contrast is 1/M, and the
time that it takes no longer grows with their number.

Motion across the gap changes the advected phase by a number with standard deviation at most
s = q |cos(φ0 − φ)| ∫|γ̇| dt (∫J dt)^½ over the run, which changes |⟨exp(i q·Δr)⟩|² by less
than s². Where s < 0.01 the heights are held fixed; this saves half of the random numbers.
Infinitely many particles always keep theirs, and are refused where s > 0.1.

References
----------
.. [1] J. W. Goodman, Speckle Phenomena in Optics (2007), ch. 3 (sums of speckle patterns), and
   Statistical Optics (1985), ch. 9 (photocounts).
.. [2] M. Sutton, K. Laaziri, F. Livet, F. Bley, Opt. Express 11, 2268 (2003): two-time
   correlation of speckle intensities.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homodyne_fit.data.real_arrays import real_array
from homodyne_fit.errors import InputError, Problem
from homodyne_fit.simulation.gaussian_field import field_root, gaussian_intensities
from nlsq_stratified.processors import available_processors

__all__ = ["Experiment", "correlate", "counts", "two_time"]

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]

NEGLIGIBLE_PHASE = 0.01  # rad
# What motion across the gap may change of a phase where it is left out all the same.
NEGLECTED_PHASE = 0.1  # rad
BLOCK_SIZE = 32_768  # particles moved at a time: the working arrays stay in the cache
FIELD_BLOCK_SIZE = 1_048_576  # values of Gaussian fields drawn at a time
TWO_PI = np.float32(2 * math.pi)


@dataclass(frozen=True, eq=False, kw_only=True)
class Experiment:
    """A sheared suspension, and how it is measured at K azimuthal angles.

    Attributes
    ----------
    q : () or (K,)
        Wave vectors, Å⁻¹.
    phi : (K,)
        Azimuthal angles, degrees.
    phi0 : float
        Flow direction, degrees.
    gap : float
        Distance between the walls, Å.
    dt : float
        Time between two frames, s.
    transport : (n,)
        J at each frame, Å²/s; ⟨Δx²⟩ = ∫J dt by the trapezoidal rule.
    shear_rate : (n,)
        γ̇ at each frame, 1/s; integrated likewise.
    pixels : int
        Independent pixels averaged over. They share nothing: each mode of each pixel has
        particles, or a field, of its own.
    particles : int or None
        Number N of particles in each mode; None for infinitely many, whose field is Gaussian.
    modes : () or (K,)
        Number M of coherent modes in each pixel, a real number of at least 1. The contrast is
        (1 − 1/N)/M, of infinitely many particles 1/M.
    mean_counts : () or (K,)
        Photons in a pixel and frame.
    pixel_spread : () or (K,)
        Relative standard deviation σ of the pixels' mean intensities. It multiplies c2, baseline
        and contrast alike, by 1 + σ².
    """

    q: ArrayLike
    phi: ArrayLike
    phi0: float
    gap: float
    dt: float
    transport: ArrayLike
    shear_rate: ArrayLike
    pixels: int
    particles: int | None = 32
    modes: ArrayLike = 3
    mean_counts: ArrayLike = 0.2
    pixel_spread: ArrayLike = 0.0


# What may differ between the angles of an experiment.
OF_EACH_ANGLE = ("q", "modes", "mean_counts", "pixel_spread")


def two_time(experiment: Experiment, seed: int, *, workers: int | None = None) -> Floats:
    """Simulate the two-time matrices of K azimuthal angles.

    The result depends on the seed and on an angle's place in `phi` alone: every angle draws
    from a stream of its own. Angles, pixels and modes share nothing.

    Parameters
    ----------
    seed : int
        Entropy of the random numbers, at least 0.
    workers : int, optional
        Number of threads; one for each available processor by default.

    Returns
    -------
    (K, n, n) float32
        Symmetric; the diagonal carries the shot-noise spike 1/mean_counts. The expectation is off
        by terms of order 1/pixels, from the averages in the denominator.
    """
    _at_least("seed", seed, 0)
    if workers is not None:
        _at_least("workers", workers, 1)
    plans = _plans(experiment)
    streams = np.random.SeedSequence(seed).spawn(len(plans))

    def measure(stream: np.random.SeedSequence, plan: _Plan) -> Floats:
        return _average(_photons(np.random.default_rng(stream), plan))

    with ThreadPoolExecutor(workers or available_processors()) as executor:
        return np.stack(list(executor.map(measure, streams, plans)))


def counts(experiment: Experiment, rng: np.random.Generator) -> Counts:
    """Simulate the photon counts of the pixels at the one azimuthal angle of an experiment.

    Returns
    -------
    (pixels, n) int64
        Rows are independent: pixels share nothing.
    """
    (plan,) = _plans(experiment)
    return np.concatenate(list(_photons(rng, plan)))


def correlate(counts: ArrayLike) -> Floats:
    """Two-time correlation ⟨n1 n2⟩ / (⟨n1⟩ ⟨n2⟩) of photon counts, averaged over pixels.

    Parameters
    ----------
    counts : (pixels, n)

    Returns
    -------
    (n, n) float32, the raw diagonal included.
    """
    matrix = np.asarray(counts)
    if matrix.ndim != 2 or not matrix.size:
        raise InputError(f"counts must have shape (pixels, frames), not {matrix.shape}")
    return _average([matrix])


@dataclass(frozen=True)
class _Particles:
    """Particles of a mode at one angle, in the units of the simulation: turns, gaps and frames.

    advection : (n−1,), phase gained in each frame step by a particle at y = h, turns.
    diffusion : (n−1,), standard deviation of the phase step along q, turns.
    wandering : (n−1,), standard deviation of the step across the gap, in units of the gap;
        None where it is negligible.
    """

    number: int
    advection: Floats
    diffusion: Floats
    wandering: Floats | None


@dataclass(frozen=True)
class _Plan:
    """One angle's measurement.

    source : particles; or, of infinitely many, the root (n, n) of the covariance of their field.
    occupation : (m,), share of each coherent mode in the intensity.
    """

    source: _Particles | Floats
    occupation: Floats
    pixels: int
    mean_counts: float
    pixel_spread: float


def _plans(experiment: Experiment) -> list[_Plan]:
    """The plan of each angle."""
    angles = np.atleast_1d(_numbers("phi", experiment.phi))
    if angles.ndim != 1 or not angles.size:
        raise InputError(f"phi must be a list of angles, got an array of shape {angles.shape}")
    columns = [_per_angle(name, getattr(experiment, name), angles) for name in OF_EACH_ANGLE]
    return [_plan(experiment, *map(float, row)) for row in zip(angles, *columns, strict=True)]


def _plan(
    e: Experiment, phi: float, q: float, modes: float, mean_counts: float, pixel_spread: float
) -> _Plan:
    positive = {"q": q, "gap": e.gap, "dt": e.dt, "mean_counts": mean_counts}
    for name, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError([Problem(name, f"must be positive and finite, got {value}")])
    for name, value in {"phi": phi, "phi0": e.phi0}.items():
        if not math.isfinite(value):
            raise InputError(f"{name} must be a finite angle in degrees, got {value}")
    if not (math.isfinite(modes) and modes >= 1):
        raise InputError(f"modes must be a number of at least 1, got {modes}")
    if not (math.isfinite(pixel_spread) and pixel_spread >= 0):
        raise InputError(f"pixel_spread must not be negative, got {pixel_spread}")
    _at_least("pixels", e.pixels, 1)
    if e.particles is not None:
        _at_least("particles", e.particles, 2)
    j = _frames("transport", e.transport)
    rate = _frames("shear_rate", e.shear_rate)
    if len(rate) != len(j):
        raise InputError(f"shear_rate has {len(rate)} frames but transport has {len(j)}")
    if np.any(j < 0):
        raise InputError(f"transport must not be negative, got {j.min():g} Å²/s")

    variance = _steps(j, e.dt)
    along = q * math.cos(math.radians(e.phi0 - phi))
    advection = along * e.gap * _steps(rate, e.dt)
    wander = abs(along) * _steps(np.abs(rate), e.dt).sum() * math.sqrt(variance.sum())
    if e.particles is None:
        if wander > NEGLECTED_PHASE:
            what = (
                "of infinitely many the motion across the gap is neglected, and here it turns "
                f"phases by up to {wander:.2g} rad; give a number, as {Experiment.particles}"
            )
            raise InputError([Problem("particles", what)])
        source = field_root(_sums(advection), _sums(q**2 * variance))
    else:
        source = _Particles(
            number=e.particles,
            advection=_single(advection / (2 * math.pi)),
            diffusion=_single(q * np.sqrt(variance) / (2 * math.pi)),
            wandering=None if wander < NEGLIGIBLE_PHASE else _single(np.sqrt(variance) / e.gap),
        )
    return _Plan(source, _occupation(modes), e.pixels, mean_counts, pixel_spread)


def _photons(rng: np.random.Generator, plan: _Plan) -> Iterator[Counts]:
    """Counts (pixels, n), a block of pixels at a time."""
    if isinstance(plan.source, _Particles):
        of_a_pixel, at_a_time = plan.source.number * len(plan.occupation), BLOCK_SIZE
    else:
        of_a_pixel, at_a_time = len(plan.source) * len(plan.occupation), FIELD_BLOCK_SIZE
    block = max(1, at_a_time // of_a_pixel)
    for start in range(0, plan.pixels, block):
        pixels = min(block, plan.pixels - start)
        mean = plan.mean_counts * _intensities(rng, plan.source, plan.occupation, pixels)
        if plan.pixel_spread > 0:
            shape = plan.pixel_spread**-2
            mean = mean * rng.gamma(shape, 1 / shape, size=pixels)
        yield rng.poisson(mean).T


def _average(blocks: Iterable[NDArray]) -> Floats:
    """Two-time correlation of counts that come as blocks (pixels, n)."""
    # Sums of integers are exact in float64, so the order of summation is immaterial.
    pixels, total, product = 0, 0.0, 0.0
    for block in blocks:
        n = block.astype(np.float64)
        pixels += len(n)
        total = total + n.sum(axis=0)
        product = product + n.T @ n
    total = np.asarray(total)
    usable = (total > 0) & np.isfinite(total)
    if not np.all(usable):
        frame = int(np.argmin(usable))
        raise InputError(
            [
                Problem(
                    "mean_counts",
                    f"counts of frame {frame} sum to {total[frame]:g} over {pixels} pixels: every "
                    "frame needs a photon, so use more pixels or a larger number",
                )
            ]
        )
    return (pixels * product / np.outer(total, total)).astype(np.float32)


def _intensities(
    rng: np.random.Generator, source: _Particles | Floats, occupation: Floats, pixels: int
) -> Floats:
    """Intensities (n, pixels) of independent pixels, of ensemble mean 1."""
    if not isinstance(source, _Particles):
        return gaussian_intensities(rng, source, occupation, pixels)
    size = (source.number, len(occupation), pixels)
    y = rng.random(size, dtype=np.float32)
    turns = rng.random(size, dtype=np.float32)
    step = np.empty_like(turns)
    intensity = np.empty((len(source.diffusion) + 1, pixels), dtype=np.float32)
    intensity[0] = _intensity(turns, occupation, step)
    for i, advection in enumerate(source.advection):
        rng.standard_normal(out=step, dtype=np.float32)
        step *= source.diffusion[i]
        turns += step
        if source.wandering is None:
            np.multiply(y, advection, out=step)
        else:
            y_next = _wander(rng, y, source.wandering[i])
            np.multiply(y + y_next, advection / 2, out=step)
            y = y_next
        turns += step
        turns -= np.rint(turns, out=step)
        intensity[i + 1] = _intensity(turns, occupation, step)
    return intensity


def _wander(rng: np.random.Generator, y: Floats, deviation: np.float32) -> Floats:
    """Heights after one step across the gap 0 ≤ y ≤ 1, reflected by both walls."""
    free = y + deviation * rng.standard_normal(y.shape, dtype=np.float32)
    # Two mirrors at 0 and 1 are a period of 2 and a mirror at 0.
    return np.abs(free - 2 * np.rint(free / 2))


def _intensity(turns: Floats, occupation: Floats, work: Floats) -> Floats:
    """Incoherent sum of |Σ_j exp(2πi turns_j)|²/N over modes; (N, m, pixels) -> (pixels,)."""
    phase = turns * TWO_PI
    real = np.cos(phase, out=work).sum(axis=0)
    imaginary = np.sin(phase, out=work).sum(axis=0)
    return occupation @ (real * real + imaginary * imaginary) / np.float32(len(turns))


def _occupation(modes: float) -> Floats:
    """Shares w of the modes in the intensity with Σw = 1 and Σw² = 1/M, for real M.

    Of m = ⌈M⌉ modes, m − 1 are equally strong and one is weaker by a factor ε, the smaller
    root of (M − 1) ε² − 2 (m − 1) ε + (m − 1)(M − m + 1) = 0, so that
    (m − 1 + ε²)/(m − 1 + ε)² = 1/M. An integer M gives ε = 1.
    """
    strong = math.ceil(modes) - 1
    if strong == 0:
        return np.ones(1, dtype=np.float32)
    root = math.sqrt(max(0.0, strong**2 - (modes - 1) * strong * (modes - strong)))
    weights = np.append(np.ones(strong), (strong - root) / (modes - 1))
    return _single(weights / weights.sum())


def _steps(rate: NDArray[np.float64], dt: float) -> NDArray[np.float64]:
    """∫ rate dt over each frame step, by the trapezoidal rule."""
    return (rate[1:] + rate[:-1]) * (dt / 2)


def _sums(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """From steps (n−1,) to the sum up to each frame (n,)."""
    return np.concatenate([[0.0], np.cumsum(steps)])


def _single(values: NDArray[np.float64]) -> Floats:
    return values.astype(np.float32)


def _at_least(name: str, value: int, lowest: int) -> None:
    if not isinstance(value, (int, np.integer)) or value < lowest:
        raise InputError(f"{name} must be a whole number of at least {lowest}, got {value}")


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    try:
        return real_array(values).astype(np.float64)
    except ValueError as error:
        raise InputError(f"{name} {error}") from None


def _frames(name: str, values: ArrayLike) -> NDArray[np.float64]:
    frames = _numbers(name, values)
    if frames.ndim != 1 or len(frames) < 2:
        raise InputError(f"{name} must have shape (frames,) with 2 or more, not {frames.shape}")
    if not np.all(np.isfinite(frames)):
        i = int(np.argmin(np.isfinite(frames)))
        raise InputError(f"{name} must be finite, got {frames[i]} at frame {i}")
    return frames


def _per_angle(name: str, values: ArrayLike, angles: NDArray[np.float64]) -> NDArray[np.float64]:
    column = _numbers(name, values)
    if column.shape not in ((), (1,), angles.shape):
        raise InputError(
            f"{name} must be one number or one per angle ({len(angles)}), got shape {column.shape}"
        )
    return np.broadcast_to(column, angles.shape)
