"""The simulated experiment against closed-form limits and averages computed here.

Replicates are angles of equal geometry, so their scatter gives the standard error of the mean
without a noise model. A point agrees if it lies within 5 standard errors: of some hundred points
with some ten replicates each, a few in a thousand runs have one outside, and the seeds are fixed.
"""

import numpy as np
import pytest
from scipy.linalg import expm

from homodyne_fit.errors import InputError
from homodyne_fit.model.rates import LAMINAR_FLOW, decay
from homodyne_fit.simulation import speckle
from homodyne_fit.simulation.measurement import Measurement, from_first_principles
from homodyne_fit.simulation.speckle import Experiment, correlate, counts, two_time

Q = 0.005  # 1/Å
GAP = 2e6  # Å
DT = 0.1  # s
SIGMAS = 5.0

# A number of particles, and infinitely many.
few_and_infinite = pytest.mark.parametrize("particles", [16, None], ids=["few", "infinite"])


def measure(seed, phi, *, transport, shear_rate, phi0=0.0, q=Q, gap=GAP, **detector):
    experiment = Experiment(
        q=q,
        phi=phi,
        phi0=phi0,
        gap=gap,
        dt=DT,
        transport=transport,
        shear_rate=shear_rate,
        **detector,
    )
    return two_time(experiment, seed).astype(float)


def assert_agrees(samples, expected, resolution):
    """`samples` (R, ...) average to `expected`, with standard errors below `resolution`."""
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    assert np.max(error) < resolution
    assert np.max(np.abs(samples.mean(axis=0) - expected) / error) < SIGMAS


def full_contrast(particles):
    """Of one mode."""
    return 1.0 if particles is None else 1 - 1 / particles


def integral(rate):
    """∫ rate dt from t1 to t2 over the frames, by the trapezoidal rule: (n, n)."""
    steps = DT * (rate[1:] + rate[:-1]) / 2
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])
    return cumulative[None, :] - cumulative[:, None]


def advected(phase):
    """|⟨exp(i phase y)⟩|² over 0 ≤ y ≤ 1, by the midpoint rule."""
    y = (np.arange(2000) + 0.5) / 2000
    return np.abs(np.mean(np.exp(1j * np.multiply.outer(phase, y)), axis=-1)) ** 2


@few_and_infinite
def test_diffusion_decays_with_the_integral_of_transport(particles):
    n, replicates, modes = 24, 32, 2
    transport = 6e4 * np.maximum(np.arange(n) * DT, DT / 2) ** 0.7
    c2 = measure(
        1,
        np.zeros(replicates),
        transport=transport,
        shear_rate=np.zeros(n),
        pixels=2000,
        particles=particles,
        modes=modes,
        mean_counts=3.0,
    )
    upper = np.triu_indices(n, 1)
    expected = full_contrast(particles) / modes * np.exp(-(Q**2) * integral(transport))
    assert np.ptp(expected[upper]) > 0.4
    assert_agrees(c2[:, *upper] - 1, expected[upper], 0.012)
    by_lag = [np.diagonal(c2 - 1, lag, 1, 2).mean(axis=1) for lag in range(1, n)]
    expected_by_lag = [np.diagonal(expected, lag).mean() for lag in range(1, n)]
    assert_agrees(np.transpose(by_lag), expected_by_lag, 0.006)


@few_and_infinite
def test_shear_decays_with_the_phase_average_over_the_gap(particles):
    n, replicates = 20, 24
    phi0 = -10.0
    shear_rate = 6e-4 * (1 + np.arange(n) * DT)
    transport = np.full(n, 2000.0)
    directions = phi0 + np.array([0.0, 60.0, 90.0, 180.0])
    c2 = measure(
        2,
        np.repeat(directions, replicates),
        phi0=phi0,
        transport=transport,
        shear_rate=shear_rate,
        pixels=2000,
        particles=particles,
        modes=1,
        mean_counts=3.0,
    ).reshape(len(directions), replicates, n, n)
    upper = np.triu_indices(n, 1)
    diffusion = full_contrast(particles) * np.exp(-(Q**2) * integral(transport))
    for cosine, samples in zip([1.0, 0.5, 0.0, -1.0], c2, strict=True):
        expected = diffusion * advected(Q * GAP * cosine * integral(shear_rate))
        assert_agrees(samples[:, *upper] - 1, expected[upper], 0.022)
    parallel, oblique, perpendicular, _ = c2.mean(axis=1)
    assert parallel[0, 6] < oblique[0, 6] - 0.3 < perpendicular[0, 6] - 0.6


def test_infinitely_many_particles_are_the_limit_of_many():
    """The same decay as of 64 particles, which lack 1/64 of the contrast."""
    n, replicates, particles = 16, 60, 64
    detector = {"pixels": 500, "modes": 1, "mean_counts": 4.0}
    motion = {
        "transport": 1e4 * (1 + np.arange(n) * DT),
        "shear_rate": np.full(n, 2e-4),
        "phi0": 20.0,
    }
    angles = np.zeros(replicates)
    upper = np.triu_indices(n, 1)
    many, infinite = (
        (measure(seed, angles, particles=number, **motion, **detector)[:, *upper] - 1)
        / full_contrast(number)
        for seed, number in ((12, particles), (13, None))
    )
    assert np.ptp(infinite.mean(axis=0)) > 0.7
    assert_agrees(many - infinite, 0.0, 0.025)


def test_infinitely_many_particles_decay_by_the_formula_of_the_model():
    """The package's own f(t1, t2), ageing and shear that sets in included."""
    n, replicates = 30, 40
    law = {
        "D0": 6e3,
        "alpha": -0.5,
        "D_offset": 2e3,
        "gamma_dot_t0": 2e-4,
        "beta": 0.6,
        "gamma_dot_t_offset": 1e-4,
        "phi0": 7.0,
    }
    m = Measurement(law, q=Q, phi=(-30.0,) * replicates, gap=GAP, dt=DT, n_frames=n)
    c2 = from_first_principles(m, pixels=2000, modes=2, mean_counts=3.0, particles=None, seed=14)
    upper = np.triu_indices(n, 1)
    f = decay(LAMINAR_FLOW, m.vector, DT, n, Q, -30.0, GAP)[upper]
    assert np.ptp(f) > 0.9
    assert_agrees(c2[:, *upper] - 1.0, f / 2, 0.01)
    by_lag = [np.diagonal(c2 - 1.0, lag, 1, 2).mean(axis=1) for lag in range(1, n)]
    full = np.zeros((n, n))
    full[upper] = f / 2
    expected = [np.diagonal(full, lag).mean() for lag in range(1, n)]
    assert_agrees(np.transpose(by_lag), expected, 0.006)


@pytest.mark.parametrize("gap", [50.0, 150.0])
def test_motion_across_a_narrow_gap(gap):
    """⟨exp(i q·Δr)⟩ is propagated by ½J ∂²/∂y² + i q γ̇ y with no flux through the walls."""
    n, replicates, particles, cells = 16, 24, 16, 120
    transport = 4000.0
    shear_rate = 1.2e3 / gap
    c2 = measure(
        3,
        np.zeros(replicates),
        gap=gap,
        q=Q / 2,
        transport=np.full(n, transport),
        shear_rate=np.full(n, shear_rate),
        pixels=1500,
        particles=particles,
        modes=1,
        mean_counts=3.0,
    )
    y = (np.arange(cells) + 0.5) * gap / cells
    laplacian = np.diag(np.full(cells, -2.0)) + np.eye(cells, k=1) + np.eye(cells, k=-1)
    laplacian[0, 0] = laplacian[-1, -1] = -1.0
    rate = transport / 2 * laplacian * (cells / gap) ** 2 + 1j * Q / 2 * shear_rate * np.diag(y)
    lags = np.arange(1, n)
    g1 = np.array([expm(lag * DT * rate).sum() / cells for lag in lags])
    expected = (1 - 1 / particles) * np.abs(g1) ** 2 * np.exp(-(Q**2) / 4 * transport * lags * DT)
    assert_agrees(c2[:, 0, 1:] - 1, expected, 0.03)


def still(seed, replicates, n, **detector):
    """A sample in which nothing moves: every off-diagonal entry measures baseline + contrast."""
    rest = np.zeros(n)
    return measure(seed, np.zeros(replicates), transport=rest, shear_rate=rest, **detector)


@few_and_infinite
@pytest.mark.parametrize("modes", [1, 1.3, 2, 2.7, 3])
def test_contrast_is_one_over_modes(modes, particles):
    c2 = still(4, 32, 2, pixels=8000, particles=particles, modes=modes, mean_counts=5.0)
    assert_agrees(c2[:, 0, 1] - 1, full_contrast(particles) / modes, 0.01)


def test_modes_and_counts_may_differ_between_angles():
    c2 = measure(
        5,
        [0.0, 0.0],
        transport=np.zeros(2),
        shear_rate=np.zeros(2),
        pixels=20_000,
        modes=[1, 4],
        mean_counts=[2.0, 0.5],
    )
    contrast = (1 - 1 / 32) / np.array([1, 4])
    np.testing.assert_allclose(c2[:, 0, 1] - 1, contrast, atol=0.1)
    shot_noise = np.diagonal(c2, axis1=1, axis2=2) - c2[:, :1, 1]
    np.testing.assert_allclose(shot_noise, [[0.5, 0.5], [2.0, 2.0]], atol=0.1)


@pytest.mark.parametrize("mean_counts", [0.1, 2.0])
def test_diagonal_carries_the_shot_noise(mean_counts):
    c2 = still(6, 24, 2, pixels=10_000, modes=2, mean_counts=mean_counts)
    spike = c2[:, 0, 0] - c2[:, 0, 1]
    assert_agrees(spike, 1 / mean_counts, 0.02 / mean_counts)


def test_uneven_pixels_raise_the_baseline():
    n = 12
    c2 = measure(
        7,
        np.zeros(24),
        transport=np.full(n, 1e8),
        shear_rate=np.zeros(n),
        pixels=2000,
        modes=3,
        mean_counts=2.0,
        pixel_spread=0.2,
    )
    baseline = c2[:, *np.triu_indices(n, 1)].mean(axis=1)
    assert_agrees(baseline, 1 + 0.2**2, 0.003)


@few_and_infinite
@pytest.mark.parametrize("mean_counts", [0.25, 5.0])
def test_noise_of_uncorrelated_frames(mean_counts, particles):
    """With var n = k + k²/M the covariance of independent n1, n2 has variance (var n)²/P."""
    n, pixels, modes = 40, 2000, 2
    c2 = measure(
        8,
        np.zeros(16),
        transport=np.full(n, 1e8),
        shear_rate=np.zeros(n),
        pixels=pixels,
        particles=particles,
        modes=modes,
        mean_counts=mean_counts,
    )
    noise = c2[:, *np.triu_indices(n, 1)].std(axis=1)
    expected = (1 / mean_counts + full_contrast(particles) / modes) / np.sqrt(pixels)
    assert_agrees(noise, expected, 0.015 * expected)


@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("mean_counts", [0.25, 5.0])
def test_noise_of_equal_frames_of_infinitely_many_particles(mean_counts, modes):
    """The variance 2β²(1+β) + 2β(1+β)/κ + (1+β)/κ² over P, from Gaussian fourth moments.

    The sample variance of R replicates has a relative standard error of √(2/R), and somewhat more
    where a few bright pixels count most. What 1/P leaves out of the variance is 1/P of it.
    """
    pixels, replicates = 1000, 800
    c2 = still(
        15,
        replicates,
        2,
        pixels=pixels,
        particles=None,
        modes=modes,
        mean_counts=mean_counts,
    )
    variance = pixels * c2[:, 0, 1].var(ddof=1)
    b, x = 1 / modes, 1 / mean_counts
    expected = (1 + b) * (2 * b**2 + 2 * b * x + x**2)
    assert variance == pytest.approx(expected, rel=4 * np.sqrt(2 / replicates))


def flow(**changes):
    """A small measurement, with arguments changed."""
    arguments = {
        "seed": 9,
        "q": Q,
        "phi": [0.0, 45.0, 90.0],
        "phi0": 5.0,
        "gap": GAP,
        "dt": DT,
        "transport": np.full(8, 2000.0),
        "shear_rate": np.full(8, 1e-3),
        "pixels": 700,
        "particles": 16,
    }
    arguments |= changes
    seed, workers = arguments.pop("seed"), arguments.pop("workers", None)
    return two_time(Experiment(**arguments), seed, workers=workers)


@few_and_infinite
def test_reproducible_and_independent_of_threads_and_of_later_angles(particles):
    c2 = flow(particles=particles)
    np.testing.assert_array_equal(c2, flow(particles=particles, workers=1))
    np.testing.assert_array_equal(c2, flow(particles=particles, workers=3))
    np.testing.assert_array_equal(c2[:2], flow(particles=particles, phi=[0.0, 45.0]))
    other = flow(particles=particles, seed=10)
    assert np.all(c2[0] != other[0], where=~np.eye(8, dtype=bool))
    assert len(np.unique(flow(particles=particles, phi=np.zeros(3))[:, 0, 1])) == 3


@few_and_infinite
def test_pixels_share_nothing(particles, monkeypatch):
    """Correlations of two pixels are those of independent ones, in a block and across blocks."""
    n, pixels = 800, 40
    monkeypatch.setattr(speckle, "BLOCK_SIZE", 10 * 16)
    monkeypatch.setattr(speckle, "FIELD_BLOCK_SIZE", 10 * n)
    experiment = Experiment(
        q=Q,
        phi=0.0,
        phi0=0.0,
        gap=GAP,
        dt=DT,
        transport=np.full(n, 1e8),
        shear_rate=np.zeros(n),
        pixels=pixels,
        particles=particles,
        modes=1,
        mean_counts=2.0,
    )
    photons = counts(experiment, np.random.default_rng(16))
    correlation = np.corrcoef(photons)[np.triu_indices(pixels, 1)]
    # Frames are independent: each of these has the standard deviation 1/√n.
    assert np.max(np.abs(correlation)) < SIGMAS / np.sqrt(n)
    # And of 780 the standard deviation is known to 2.5 %.
    assert np.std(correlation) == pytest.approx(1 / np.sqrt(n), rel=SIGMAS * 0.025)


@few_and_infinite
def test_full_symmetric_single_precision(particles):
    c2 = flow(particles=particles)
    assert c2.shape == (3, 8, 8)
    assert c2.dtype == np.float32
    assert np.all(np.isfinite(c2))
    np.testing.assert_array_equal(c2, c2.swapaxes(1, 2))


@few_and_infinite
def test_counts_of_one_angle_give_the_matrix_of_that_angle(particles):
    stream = np.random.SeedSequence(9).spawn(1)[0]
    experiment = Experiment(
        q=Q,
        phi=[0.0],
        phi0=5.0,
        gap=GAP,
        dt=DT,
        transport=np.full(8, 2000.0),
        shear_rate=np.full(8, 1e-3),
        pixels=700,
        particles=particles,
    )
    photons = counts(experiment, np.random.default_rng(stream))
    assert photons.shape == (700, 8)
    assert np.issubdtype(photons.dtype, np.integer)
    np.testing.assert_array_equal(correlate(photons), flow(particles=particles)[0])


def test_correlate_by_hand():
    c2 = correlate([[1, 0], [2, 2], [0, 1]])
    np.testing.assert_allclose(c2, [[15 / 9, 12 / 9], [12 / 9, 15 / 9]], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": -0.1}, "q: must be positive and finite, got -0.1"),
        ({"q": [Q, Q]}, r"q must be one number or one per angle \(3\)"),
        ({"phi": []}, "phi must be a list of angles"),
        ({"phi": [np.nan]}, "phi must be a finite angle in degrees, got nan"),
        ({"phi0": np.inf}, "phi0 must be a finite angle in degrees, got inf"),
        ({"gap": 0.0}, "gap: must be positive and finite, got 0.0"),
        ({"dt": np.nan}, "dt: must be positive and finite, got nan"),
        ({"transport": np.full(8, -2.0)}, "transport must not be negative, got -2"),
        ({"transport": [1.0]}, r"transport must have shape \(frames,\)"),
        ({"transport": [1.0, np.nan]}, "transport must be finite, got nan at frame 1"),
        ({"shear_rate": [1.0, 2.0]}, "shear_rate has 2 frames but transport has 8"),
        ({"shear_rate": np.full(8, np.inf)}, "shear_rate must be finite, got inf at frame 0"),
        ({"pixels": 0}, "pixels must be a whole number of at least 1, got 0"),
        ({"particles": 2.5}, "particles must be a whole number of at least 2, got 2.5"),
        (
            {"particles": None, "shear_rate": np.full(8, 1.0)},
            "particles: .* motion across the gap is neglected, .* up to 0.13 rad; give a number",
        ),
        ({"modes": 0.5}, "modes must be a number of at least 1, got 0.5"),
        ({"modes": [1, 2]}, r"modes must be one number or one per angle \(3\)"),
        ({"mean_counts": [1.0, 1.0, 0.0]}, "mean_counts: must be positive and finite, got 0.0"),
        ({"pixel_spread": -0.1}, "pixel_spread must not be negative, got -0.1"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"workers": 0}, "workers must be a whole number of at least 1, got 0"),
        ({"mean_counts": 1e-9}, "counts of frame 0 sum to 0 over 700 pixels"),
    ],
)
def test_unusable_input_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        flow(**changes)


@pytest.mark.parametrize("photons", [[1, 2], np.zeros((0, 3)), [[1.0, np.nan]], [[1, 0]]])
def test_unusable_counts_are_named(photons):
    with pytest.raises(InputError, match="counts"):
        correlate(photons)
