"""Pixels, photons and the errors made of them, on photon counts and on other noise."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import uniform_filter

import homodyne_fit as hf
from homodyne_fit.noise.amplitudes import find_noise
from homodyne_fit.noise.differences import Differences
from homodyne_fit.report.words import uncertainty_text
from homodyne_fit.simulation.measurement import Measurement, from_first_principles
from homodyne_fit.simulation.speckle import Experiment, two_time

pytestmark = pytest.mark.numerics

PIXELS = 1000
N = 100


def measured(photons, seed=1, pixels=PIXELS, angles=4, transport=1.2e4):
    """Photon counts of a sample at rest, correlated."""
    experiment = Experiment(
        q=0.0054,
        phi=np.linspace(0, 135, angles),
        phi0=0.0,
        gap=2e6,
        dt=0.1,
        transport=np.full(N, transport),
        shear_rate=np.zeros(N),
        pixels=pixels,
        modes=3,
        mean_counts=photons,
    )
    return hf.TwoTimeData(two_time(experiment, seed), np.linspace(0, 135, angles), 0.0054, 0.1)


def fitted(data, **options):
    return hf.fit(
        data,
        "static",
        per_angle_mode="averaged",
        multi_start=False,
        fixed={"D_offset": 0.0, "alpha": 0.0},
        bounds={"D0": (100.0, 1e6)},
        **options,
    )


@pytest.fixture(scope="module")
def at_half_a_photon():
    return measured(0.5)


@pytest.mark.parametrize("photons", [0.1, 0.5, 5.0])
def test_pixels_and_photons_are_found(photons):
    speckle = fitted(measured(photons, seed=2)).uncertainty.speckle
    # Photons scatter by 10 to 20 % from one data set to the next, pixels with them. Best known is
    # the noise that prevails: (β + 1/κ)² / N at large lags, β = 1/3.
    noise = (1 / 3 + 1 / photons) ** 2
    found = (1 / 3 + 1 / speckle.photons) ** 2 * PIXELS / speckle.pixels.mean()
    assert found == pytest.approx(noise, rel=0.35)
    assert speckle.photons == pytest.approx(photons, rel=0.5)
    assert 1 <= speckle.coherence < 2


def test_errors_of_photon_counts_are_wider_than_those_of_independent_points(at_half_a_photon):
    white, speckle = (fitted(at_half_a_photon, uncertainty=model) for model in ("white", "speckle"))
    assert_allclose(speckle.values, white.values)
    assert speckle.mean_J()[1] > 2 * white.mean_J()[1]
    expected = speckle.parameters["D0"].stderr / white.parameters["D0"].stderr
    assert speckle.uncertainty.widening[0] == pytest.approx(expected, rel=1e-6)
    assert white.uncertainty.speckle is None
    assert white.uncertainty.widening[0] == 1.0


def test_errors_hold_on_photon_counts():
    # The scatter of 16 pulls around 1 has a standard error of 18 %.
    fits = [fitted(measured(1.0, seed, pixels=300, angles=2)) for seed in range(16)]
    pulls = [(fit.mean_J()[0] - 1.2e4) / fit.mean_J()[1] for fit in fits]
    assert 0.55 < np.sqrt(np.mean(np.square(pulls))) < 1.5


def test_white_noise_gives_the_errors_of_white_noise():
    data = hf.simulate(
        {"D0": 1.2e4, "alpha": 0.0, "D_offset": 0.0},
        phi=[0, 45, 90],
        q=0.0054,
        dt=0.1,
        n_frames=N,
        noise=0.05,
        seed=3,
    )
    white, speckle = (fitted(data, uncertainty=model) for model in ("white", "speckle"))
    # Points are weighted by 1 + βf in the noise of photons.
    ratio = speckle.mean_J()[1] / white.mean_J()[1]
    assert 0.95 < ratio < 1.15
    assert speckle.uncertainty.notes == ()


def test_the_diagonal_does_not_matter(at_half_a_photon):
    c2 = np.array(at_half_a_photon.c2)
    c2[:, np.arange(N), np.arange(N)] = np.nan
    other = hf.TwoTimeData(c2, at_half_a_photon.phi, 0.0054, 0.1)
    assert_allclose(fitted(other).covariance, fitted(at_half_a_photon).covariance)


def test_smoothed_matrices_are_told():
    # Dynamics so fast that speckles are not smooth by themselves.
    data = measured(0.05, transport=2e5)
    c2 = np.array(data.c2, dtype=np.float64)
    c2[:, np.arange(N), np.arange(N)] = 1.3
    smooth = uniform_filter(c2, (0, 5, 5))
    result = fitted(hf.TwoTimeData(smooth, data.phi, 0.0054, 0.1))
    assert "smoothed" in result.uncertainty.notes[0]
    assert np.isinf(result.uncertainty.speckle.photons)
    assert result.adequacy.adequate is None
    assert any("smoothed" in warning for warning in result.warnings)


def test_few_points_are_told():
    data = hf.simulate(
        {"D0": 1.2e4, "alpha": 0.0, "D_offset": 0.0},
        phi=[0],
        q=0.0054,
        dt=0.5,
        n_frames=10,
        noise=0.01,
    )
    result = fitted(data)
    assert result.uncertainty.model == "white"
    assert "too few points" in result.uncertainty.notes[0]


def test_masked_frames_leave_the_noise_as_it_is(at_half_a_photon):
    c2 = np.array(at_half_a_photon.c2)
    c2[:, 30:45], c2[:, :, 30:45] = np.nan, np.nan
    whole, masked = (
        fitted(data)
        for data in (at_half_a_photon, hf.TwoTimeData(c2, at_half_a_photon.phi, 0.0054, 0.1))
    )
    speckles = [fit.uncertainty.speckle for fit in (whole, masked)]
    assert_allclose(speckles[1].pixels, speckles[0].pixels, rtol=0.2)
    # 15 % of the frames are missing.
    assert 0.9 < masked.mean_J()[1] / whole.mean_J()[1] < 1.3


def noise_of_sums(coherence, cells=1e4, photons=0.7, pixels=(900.0, 1100.0)):
    """What is found in sums that are exactly those expected, of A = (ρ, x, x²)/N."""
    rng = np.random.default_rng(5)
    x, pixels = 1 / photons, np.array(pixels)

    def sums(sides, mixed, cells):
        expected = np.stack([sides, mixed], axis=-1)[:, None] * rng.uniform(1, 2, (2, 1))
        observed = np.einsum("c,cks->ks", [coherence, x, x * x], cells * expected)
        return Differences(np.full(2, cells), observed / pixels[:, None], cells * expected)

    # Speckles, both and photons: of neighbours, and of blocks far from each other.
    near = sums([0.1, 2.0, 4.0], [0.01, 1.0, 4.0], 1e4)
    far = sums([0.4, 0.2, 0.04], [0.4, 0.1, 0.04], cells)
    return find_noise(near, near, far)


def test_speckles_of_several_pixels_are_found():
    # Every speckle covers two pixels: half of them are copies, with photons of their own.
    speckle, notes = noise_of_sums(2.0)
    assert speckle.coherence == pytest.approx(2.0, rel=0.02)
    assert speckle.photons == pytest.approx(0.7, rel=0.02)
    assert_allclose(speckle.pixels, [900.0, 1100.0], rtol=0.02)
    assert notes == ()


def test_a_chance_excess_of_few_speckles_is_not_taken_for_larger_ones():
    # Squares of 100 cells in two angles scatter by 10 %, of which speckles are two thirds.
    assert noise_of_sums(1.12, cells=100.0)[0].coherence == 1.0
    assert 1.1 < noise_of_sums(1.3, cells=100.0)[0].coherence < 1.28
    assert noise_of_sums(1.3)[0].coherence == pytest.approx(1.3, rel=0.01)
    assert noise_of_sums(0.8)[0].coherence == 1.0


def test_frames_that_fluctuate_as_a_whole_are_told(at_half_a_photon):
    # As where c2 is normalised by a monitor that itself scatters by 10 %.
    intensity = np.random.default_rng(6).normal(1, 0.1, N)
    data = at_half_a_photon
    c2 = np.array(data.c2) * np.outer(intensity, intensity)
    result = fitted(hf.TwoTimeData(c2, data.phi, 0.0054, 0.1))
    assert "means of its frames" in result.uncertainty.notes[0]


def test_a_result_keeps_what_its_errors_are_made_of(at_half_a_photon, tmp_path):
    result = fitted(at_half_a_photon)
    restored = hf.load_result(result.save(tmp_path / "out"))
    before, after = result.uncertainty, restored.uncertainty
    assert_allclose(after.speckle.pixels, before.speckle.pixels)
    assert after.speckle.photons == before.speckle.photons
    assert_allclose(after.widening, before.widening)
    assert (after.model, after.notes) == (before.model, before.notes)


def static(data, **options):
    return hf.fit(
        data,
        "static",
        multi_start=False,
        fixed={"D_offset": 0.0, "alpha": 0.0},
        bounds={"D0": (100.0, 1e6)},
        **options,
    )


def mode_of(data, **options):
    result = static(data, **options)
    return result.objective.scaling.mode, result.info.layers["reparametrization"]


def learned_spread(data, uncertainty="speckle"):
    result = static(data, per_angle_mode="hierarchical", uncertainty=uncertainty)
    return result.info.layers["regularization"]["spread"]["contrast"]


def test_speckle_noise_is_not_taken_for_angles_that_differ():
    # Probability of one or more of six to be rejected at 0.1 %: 0.6 %.
    data = [measured(2.0, seed, pixels=400) for seed in range(20, 26)]
    modes = [mode_of(one)[0] for one in data]
    assert modes.count("auto: averaged") == 6
    assert mode_of(data[0], uncertainty="white")[0] == "auto: hierarchical"


def test_angles_that_differ_are_told(at_half_a_photon):
    contrast = np.array([0.7, 1.0, 1.3, 1.0])[:, None, None]
    c2 = 1 + contrast * (np.array(at_half_a_photon.c2) - 1)
    data = hf.TwoTimeData(c2, at_half_a_photon.phi, 0.0054, 0.1)
    mode, report = mode_of(data)
    assert mode == "auto: hierarchical"
    assert report["test"]["noise_found"]["probability"] < 1e-3
    assert report["effect"].startswith("the angles differ: pairs of their own deviate")


def test_the_spread_of_the_angles_is_not_that_of_speckle_noise(at_half_a_photon):
    """Learned by evidence: none of equal angles, and the true one of others."""
    data = [measured(2.0, seed, pixels=400) for seed in range(20, 24)]
    white, speckle = (
        [learned_spread(one, uncertainty) for one in data] for uncertainty in ("white", "speckle")
    )
    # Half of the time the likelihood has its maximum at zero, if the noise is known.
    assert min(speckle) < 1e-3
    assert np.mean(speckle) < 0.5 * np.mean(white)
    factors = np.array([0.7, 1.0, 1.3, 1.0])
    c2 = 1 + factors[:, None, None] * (np.array(at_half_a_photon.c2) - 1)
    data = hf.TwoTimeData(c2, at_half_a_photon.phi, 0.0054, 0.1)
    assert learned_spread(data) == pytest.approx(np.std(factors, ddof=1) / 3, rel=0.3)


def test_angles_that_differ_by_far_more_than_the_noise_are_told():
    """Residuals at the minimum of a wrong pair are no noise, and its search is a long one."""
    truth = {"D0": 400.0, "alpha": 0.46, "D_offset": 0.0}
    truth |= {"gamma_dot_t0": 1e-4, "beta": -0.3, "gamma_dot_t_offset": 3e-5, "phi0": -0.4}
    data = hf.simulate(
        truth,
        phi=[0, 90, 180],
        q=0.0058,
        dt=0.13,
        gap=8e6,
        n_frames=141,
        contrast=[0.4565, 0.4553, 0.487],
        offset=[0.978, 1.002, 1.006],
        noise=2e-4,
        seed=3,
    )
    result = hf.fit(data, gap=8e6, constant_parts="free")
    assert result.success
    assert result.objective.scaling.mode == "auto: hierarchical"
    assert result.adequacy.adequate
    # The angles are multiples of 90°, so that phi0 may have either sign.
    phi0 = result.parameters["phi0"]
    assert abs(phi0.value) == pytest.approx(0.4, abs=5 * phi0.stderr)


def test_statistic_of_independent_points_is_the_decrease_of_chi_squared():
    data = hf.simulate(
        {"D0": 1.2e4, "alpha": 0.0, "D_offset": 0.0},
        phi=[0, 45, 90],
        q=0.0054,
        dt=0.1,
        n_frames=N,
        contrast=[0.3, 0.31, 0.29],
        noise=0.05,
        seed=3,
    )
    _, report = mode_of(data, uncertainty="white")
    shared, apart = (static(data, per_angle_mode=mode) for mode in ("averaged", "individual"))
    for test in report["test"].values():
        assert test["degrees_of_freedom"] == 4
        decrease = 2 * (shared.cost - apart.cost) / apart.noise**2
        # Both tests go by a quadratic model, and by the variance on one side or the other.
        assert test["statistic"] == pytest.approx(decrease, rel=0.02)


def test_errors_do_not_depend_on_how_far_off_a_bound_is():
    """A constant part at a distant bound and the exponent hardly differ in what they do."""
    truth = {"D0": 2e4, "alpha": 0.0, "D_offset": 0.0}
    shear = {"gamma_dot_t0": 2e-4, "beta": 0.0, "gamma_dot_t_offset": 0.0, "phi0": 0.0}
    m = Measurement(truth | shear, n_frames=60)
    c2 = from_first_principles(m, pixels=500, mean_counts=2.0, particles=None, seed=6)
    data = hf.TwoTimeData(c2, np.array(m.phi), m.q, m.dt)

    def with_bound(bound):
        result = hf.fit(
            data,
            gap=m.gap,
            per_angle_mode="averaged",
            multi_start=False,
            initial=shear,
            fixed={"alpha": 0.0, "D_offset": 0.0},
            bounds={"gamma_dot_t_offset": (bound, 1.0), "gamma_dot_t0": (1e-8, 100.0)},
        )
        assert result.parameters["gamma_dot_t_offset"].value == bound
        return result

    near, far = map(with_bound, (-0.01, -10.0))
    times = np.array([0.5, 3.0, 5.5])
    assert_allclose(far.gamma_dot(times)[1], near.gamma_dot(times)[1], rtol=0.05)
    for name in ("D0", "phi0"):
        errors = [each.parameters[name].stderr for each in (far, near)]
        assert errors[0] == pytest.approx(errors[1], rel=0.05)


def test_pixels_are_not_told_where_points_share_no_noise():
    """White noise gives any number of pixels with few photons in each."""
    parameters = {"D0": 8000.0, "alpha": 0.0, "D_offset": 0.0}
    data = hf.simulate(parameters, phi=[0.0], n_frames=80, noise=0.05, seed=1)
    text = uncertainty_text(hf.fit(data, "static"))
    assert "pixels with" not in text
    assert text.endswith("as for independent points")
