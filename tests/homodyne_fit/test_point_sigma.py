"""Points with a standard deviation of their own: against SciPy, and against photon counts."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
import scipy
from numpy.testing import assert_allclose

import homodyne_fit as hf
from homodyne_fit.data.formats.plain_array import write_array
from homodyne_fit.kernel.moments import AngleFactors, chunk_moments
from homodyne_fit.kernel.tiles import tile_chunks
from homodyne_fit.model.rates import LAMINAR_FLOW, curves
from homodyne_fit.simulation.measurement import Measurement, from_first_principles

pytestmark = pytest.mark.numerics

TRUTH = (9000.0, -0.2, 0.0, 4e-4, 0.0, 0.0, 3.0)
ZERO = ("D_offset", "beta", "gamma_dot_t_offset")
FREE = [i for i, name in enumerate(LAMINAR_FLOW.parameters) if name not in ZERO]


def fitted(m, data, **options):
    start = dict(zip(LAMINAR_FLOW.parameters, m.params, strict=True))
    return hf.fit(
        data,
        gap=m.gap,
        initial={name: value for name, value in start.items() if name not in ZERO},
        fixed=dict.fromkeys(ZERO, 0.0),
        **{"per_angle_mode": "individual", "multi_start": False, "threads": 1, **options},
    )


def uneven(measure, seed=0, **options):
    """Data whose noise is the larger the later the first frame, and sigma (K, n, n)."""
    m = measure(TRUTH, noise=0.0, **options)
    rng, t = np.random.default_rng(seed), np.arange(m.n) / m.n
    sigma = np.broadcast_to(0.01 + 0.05 * t[:, None] * np.ones(m.n), m.data.c2.shape).copy()
    sigma[0] *= 2
    upper = np.triu(sigma * rng.normal(size=sigma.shape), 1)
    return m, m.data.c2 + upper + upper.swapaxes(1, 2), sigma


def scipy_fit(m, c2, sigma, result, numpy_c2):
    """The minimum by parameters, contrasts and offsets, with its errors, from the result on."""
    k, (i, j) = len(m.phi), np.triu_indices(m.n, 1)
    present = np.isfinite(c2[:, i, j])
    units = np.array([1e3, 1, 1e-4, 1, *[1] * (2 * k)])

    def residuals(x):
        params = np.zeros(7)
        params[FREE] = (x * units)[:4]
        scaling = (x * units)[4:].reshape(2, k)
        model = numpy_c2(params, *scaling, q=m.q, phi=m.phi, gap=m.gap, dt=m.dt, n=m.n)
        return ((model[:, i, j] - c2[:, i, j]) / sigma[:, i, j])[present]

    pairs = [e.value for e in (*result.contrast, *result.offset)]
    own = np.array([*result.values[FREE], *pairs])
    found = scipy.optimize.least_squares(residuals, own / units, xtol=1e-14, ftol=1e-14, gtol=1e-13)
    variance = 2 * found.cost / (np.count_nonzero(present) - len(own))
    errors = np.sqrt(variance * np.diag(np.linalg.inv(found.jac.T @ found.jac)))
    return found.x * units, errors * units, own


def test_minimum_and_errors_are_those_of_scipy(measure, numpy_c2):
    m, c2, sigma = uneven(measure, n=41, phi=(0.0, 40.0, 80.0, 130.0))
    c2[1, 3:6, 20:25] = np.nan
    data = replace(m.data, c2=c2, sigma=sigma)
    result = fitted(m, data, tolerance=1e-3, uncertainty="white")
    best, errors, own = scipy_fit(m, c2, sigma, result, numpy_c2)
    assert np.max(np.abs(best - own) / errors) < 0.01
    names = [*(LAMINAR_FLOW.parameters[i] for i in FREE)]
    ours = [result.parameters[name].stderr for name in names]
    ours += [e.stderr for e in (*result.contrast, *result.offset)]
    assert_allclose(ours, errors, rtol=0.01)
    assert result.n_points == np.count_nonzero(np.isfinite(c2[:, *np.triu_indices(41, 1)]))


def test_only_ratios_count(measure):
    m, c2, sigma = uneven(measure, n=31)
    results = [fitted(m, replace(m.data, c2=c2), sigma=factor * sigma) for factor in (1.0, 1e3)]
    assert_allclose(*(result.values for result in results), rtol=1e-9)
    assert_allclose(results[0].covariance, results[1].covariance, rtol=1e-6)


def test_equal_sigma_changes_nothing(measure):
    m = measure(TRUTH, n=31)
    plain, equal = fitted(m, m.data), fitted(m, m.data, sigma=np.full(3, 0.2))
    assert_allclose(equal.values, plain.values, rtol=1e-9)
    assert_allclose(equal.covariance, plain.covariance, rtol=1e-6)


def test_one_sigma_for_each_angle_is_that_of_its_points(measure):
    m, c2, _ = uneven(measure, n=31)
    data, of_each = replace(m.data, c2=c2), np.array([0.02, 0.01, 0.03])
    of_points = np.broadcast_to(of_each[:, None, None], c2.shape)
    assert_allclose(
        fitted(m, data, sigma=of_each).values, fitted(m, data, sigma=of_points).values, rtol=1e-12
    )


@pytest.mark.parametrize("precision", ["double", "single"])
def test_weighted_moments_are_sums_over_the_points(precision):
    """Against sums point by point, of the columns f, 1 and c2."""
    rng, n, q, dt, gap = np.random.default_rng(7), 70, 0.0054, 0.1, 2e6
    c2 = rng.normal(1.1, 0.1, (2, n, n))
    c2[1, 4, 30:50] = np.nan
    data = hf.TwoTimeData(c2, [10.0, 70.0], q, dt, "random", sigma=rng.uniform(1, 3, c2.shape))
    integrals = curves(LAMINAR_FLOW, np.array(TRUTH), dt, n)
    b = 0.5 * q * gap * np.cos(np.deg2rad(TRUTH[6] - data.phi))
    factors = AngleFactors(data.q**2, b, 0.1 * b, np.ones(2))
    with jax.enable_x64(True):
        ours = sum(
            chunk_moments(integrals, factors, chunk, precision=precision)
            for chunk in tile_chunks(data)
        )
    i, j = np.triu_indices(n, 1)
    s, g = integrals.transport, integrals.shear
    for k in range(2):
        present = np.isfinite(c2[k, i, j])
        weight = 1 / data.sigma[k, i, j] ** 2
        f = np.exp(-(q**2) * (s[j] - s[i])) * np.sinc(b[k] * (g[j] - g[i]) / np.pi) ** 2
        columns = np.stack([f, np.ones_like(f), c2[k, i, j] - 1])[:, present]
        expected = columns * weight[present] @ columns.T
        scale = data.weights[k, 0, 1] / weight[0]
        assert_allclose(
            ours[k, -3:, -3:], scale * expected, rtol=1e-11 if precision == "double" else 1e-4
        )


def test_robust_losses_see_residuals_over_sigma(measure):
    m, c2, sigma = uneven(measure, n=61)
    robust = fitted(m, replace(m.data, c2=c2, sigma=sigma), loss="huber", f_scale=1.345).robust
    # Where the noise is normal everywhere after all, no frame loses more than the others.
    assert_allclose(robust.lost_by_angle, robust.lost_by_normal, rtol=0.15)
    assert np.max(robust.lost_by_frame) < 3 * robust.lost_by_normal


def test_error_bars_hold_on_photon_counts_whatever_the_weights():
    """Weights that have nothing to do with the noise: the scatter is what the errors say."""
    truth = {"D0": 2e4, "alpha": 0.0, "D_offset": 0.0}
    lag = np.abs(np.subtract.outer(np.arange(40), np.arange(40)))
    pulls = []
    for seed in range(60):
        m = Measurement(truth, phi=(0.0,), dt=0.1, n_frames=40)
        detector = {"pixels": 400, "modes": 3, "mean_counts": 1.0}
        c2 = from_first_principles(m, particles=None, seed=seed, workers=1, **detector)
        result = hf.fit(
            hf.TwoTimeData(c2, [0.0], 0.0054, 0.1),
            "static",
            initial={"D0": 2e4},
            fixed={"alpha": 0.0, "D_offset": 0.0},
            multi_start=False,
            threads=1,
            sigma=(1 + 0.1 * lag)[None],
        )
        estimate = result.parameters["D0"]
        pulls.append((estimate.value - 2e4) / estimate.stderr)
    assert 0.75 < np.sqrt(np.mean(np.square(pulls))) < 1.3


def test_sigma_beside_c2_in_a_file(measure, tmp_path):
    m, c2, sigma = uneven(measure, n=31)
    path = tmp_path / "c2.npz"
    write_array(path, c2, q=0.0054, phi=m.phi, dt=m.dt, sigma=sigma)
    data = hf.load(path)
    assert_allclose(data.sigma, sigma)
    here, there = fitted(m, data), fitted(m, replace(m.data, c2=c2), sigma=sigma)
    assert_allclose(here.values, there.values, rtol=1e-12)
    write_array(path, np.triu(c2), q=0.0054, phi=m.phi, dt=m.dt, sigma=[0.1, 0.2, 0.3])
    assert_allclose(hf.load(path, frames=(1, 20)).sigma[:, 0, 1], [0.1, 0.2, 0.3])


def test_sigma_is_kept_in_a_result(measure, tmp_path, without_pictures):
    m, c2, sigma = uneven(measure, n=31)
    fitted(m, replace(m.data, c2=c2), sigma=sigma).save(tmp_path / "out")
    back = hf.load_result(tmp_path / "out").data
    upper = np.triu_indices(31, 1)
    assert_allclose(back.sigma[:, *upper], sigma[:, *upper])
    assert json.loads((tmp_path / "out/parameters.json").read_text())["fit"]["success"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s[:, :-1, :-1], "sigma must have the shape of c2, (3, 24, 24), or one value"),
        (lambda s: -s, "sigma must be positive at every point, and it is -1 at φ = 0°, frames 1"),
        (lambda s: np.where(s > 0, np.nan, s), "it is nan at φ = 0°, frames 1 and 2; a point to"),
        (lambda s: np.where(s > 0, np.inf, s), "it is inf at φ = 0°"),
        (lambda s: np.zeros(3), "it is 0 at φ = 0°"),
        (lambda s: "large", "sigma must be real numbers"),
    ],
)
def test_sigma_that_cannot_be_used_is_one_error(spoil, message, small, complaint):
    (line,) = complaint(hf.fit, small, gap=2e6, sigma=spoil(np.ones((3, 24, 24))))
    assert message in line


def test_sigma_of_missing_points_does_not_matter(small):
    sigma, c2 = np.ones((3, 24, 24)), small.c2.copy()
    c2[0, 2, 5] = sigma[0, 2, 5] = np.nan
    sigma[:, np.tri(24, dtype=bool)] = 0
    data = replace(small, c2=c2, sigma=sigma)
    assert np.all(np.isfinite(data.weights))


def test_what_does_not_go_with_sigma_says_so(small, complaint):
    (line,) = complaint(hf.fit, small, gap=2e6, sigma=[1, 2, 3], weighting="speckle")
    assert "take weighting: none, or data without sigma" in line
