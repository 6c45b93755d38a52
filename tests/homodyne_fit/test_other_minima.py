"""Other minima, data without noise, the budget: what a fit ends with where the search is hard."""

import json
import math

import numpy as np
import pytest

import homodyne_fit as hf
import homodyne_fit.fitting.fit
from homodyne_fit.fitting.search.other_minima import mirror_images, rise_to
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.rates import LAMINAR_FLOW
from homodyne_fit.noise.point_covariance import shared_frame, speckle_covariance
from homodyne_fit.simulation.measurement import Measurement, from_first_principles

TRUTH = (1500.0, -0.3, 20.0, 3e-4, 0.2, 1e-5, 3.0)
CONFIRMED = ("gap", "q", "dt", "phi")


def fitted(m, model="laminar_flow", **how):
    gap = m.gap if model == "laminar_flow" else None
    return hf.fit(m.data, model, gap=gap, units_confirmed=CONFIRMED, **how)


# Mirrored directions


def space(phi0=(-10.0, 10.0), fixed=math.nan):
    lower = np.array([100.0, -2, -1e5, 1e-6, -2, -0.1, phi0[0]])
    upper = np.array([1e5, 2, 1e5, 0.5, 2, 0.1, phi0[1]])
    return SearchSpace(LAMINAR_FLOW, 5.0, lower, upper, np.array([*[math.nan] * 6, fixed]))


@pytest.mark.parametrize(
    ("phi", "phi0", "limits", "expected"),
    [
        ([0.0, 90.0], 3.0, (-10, 10), [-3.0]),
        ([0.0, 180.0, 270.0], 3.0, (-10, 10), [-3.0]),
        ([40.0, 130.0], 36.0, (30, 50), [44.0]),
        ([0.0, 90.0], 3.0, (-1, 10), []),
        ([0.0, 90.0], 0.0, (-10, 10), []),
        ([0.0, 45.0, 90.0], 3.0, (-10, 10), []),
        ([0.0, 30.0], 3.0, (-200, 10), [-177.0]),
    ],
)
def test_mirror_images(phi, phi0, limits, expected):
    x = np.array([1500.0, -0.3, 20.0, 3e-4, 0.2, 1e-5, phi0])
    images = mirror_images(space(limits), x, np.array(phi))
    assert [image[-1] for image in images] == pytest.approx(expected)
    for image in images:
        np.testing.assert_array_equal(image[:-1], x[:-1])


def test_a_fixed_direction_has_no_mirror_image():
    assert mirror_images(space(fixed=3.0), np.array(TRUTH), np.array([0.0, 90.0])) == []


def test_mirrored_directions_give_the_same_matrices(numpy_c2, measure):
    m = measure(TRUTH, n=30, phi=(0.0, 90.0, 270.0))
    (image,) = mirror_images(space(), m.params, m.phi)
    how = dict(q=m.q, phi=m.phi, gap=m.gap, dt=m.dt, n=m.n)
    np.testing.assert_allclose(
        numpy_c2(image, m.contrast, m.offset, **how),
        numpy_c2(m.params, m.contrast, m.offset, **how),
        rtol=1e-12,
    )


def test_a_mirrored_direction_is_said_with_its_value(measure):
    # Shear along the axis, so that the direction is determined but for its sign.
    m = measure((1500.0, -0.3, 20.0, 3e-3, 0.2, 1e-5, 6.0), n=60, phi=(0.0, 90.0), noise=0.002)
    result = fitted(m, per_angle_mode="individual")
    assert result.success
    phi0 = result.parameters["phi0"].value
    assert abs(phi0) == pytest.approx(6.0, abs=1.0)
    (other,) = [one for one in result.info.alternatives if one["mirror"]]
    assert other["parameters"]["phi0"] == pytest.approx(-phi0)
    assert any("describe these angles equally well" in text for text in result.warnings)
    assert result.to_json()["fit"]["alternatives"] == result.info.alternatives


@pytest.mark.parametrize("multi_start", [True, False])
def test_a_start_at_the_direction_of_symmetry_is_left(measure, multi_start):
    m = measure((1500.0, -0.3, 20.0, 3e-3, 0.2, 1e-5, 6.0), n=60, phi=(0.0, 90.0), noise=0.002)
    names = dict(zip(LAMINAR_FLOW.parameters, (*m.params[:6], 0.0), strict=True))
    result = fitted(m, per_angle_mode="individual", initial=names, multi_start=multi_start)
    assert result.success
    assert abs(result.parameters["phi0"].value) == pytest.approx(6.0, abs=1.0)


# Minima that the noise does or does not tell apart


def solution_of(data, monkeypatch, **options):
    """Where a fit ended: the solution, the noise and the residuals there."""
    found = []

    def spy(solution, others, noise, residuals, threads):
        found.append((solution, noise, residuals))
        return []

    monkeypatch.setattr(homodyne_fit.fitting.fit, "other_minima", spy)
    options = {"per_angle_mode": "averaged", "multi_start": False, **options}
    hf.fit(data, "static", threads=1, **options)
    return found[0]


def point_covariance(f, beta, x):
    """N times the covariance of all points i < j of a matrix, by the formula of two points."""
    g = np.sqrt(f)
    i, j = np.triu_indices(len(f), 1)
    (i, k), (j, l) = np.meshgrid(i, i, indexing="ij"), np.meshgrid(j, j, indexing="ij")
    total = speckle_covariance(beta, g[i, j], g[k, l], g[i, k], g[j, l], g[i, l], g[j, k])
    for s, a, t, b in [(i, j, k, l), (i, j, l, k), (j, i, k, l), (j, i, l, k)]:
        total += x * (s == t) * shared_frame(beta, g[s, a], g[t, b], g[a, b])
    return total + np.diag(x**2 * (1 + beta * np.diag(f[i, j])))


def test_the_rise_to_another_minimum_is_that_of_the_noise_found(monkeypatch):
    truth = {"D0": 6e4, "alpha": 0.0, "D_offset": 0.0}
    m = Measurement(truth, phi=(0.0, 50.0, 100.0, 150.0), n_frames=40)
    c2 = from_first_principles(m, pixels=300, mean_counts=1.0, particles=None, seed=3)
    data = hf.TwoTimeData(c2, np.array(m.phi), m.q, m.dt)
    solution, noise, residuals = solution_of(data, monkeypatch)
    other, _, _ = solution_of(data, monkeypatch, fixed={"D0": 3e4, "alpha": 0.3, "D_offset": 0.0})
    found = rise_to(other, solution, noise, residuals)

    squares = variance = 0.0
    points = np.triu_indices(m.n_frames, 1)
    half, n = m.n_frames, len(m.phi)
    for k in range(n):
        matrices = []
        for one in (solution, other):
            p0, p1, p2 = one.parameters
            t = np.maximum(np.arange(half) * m.dt, m.dt / 2)
            rate = p0 * t**p1 + p2
            s = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * m.dt)])
            f = np.exp(-(m.q**2) * np.abs(np.subtract.outer(s, s)))
            matrices.append((one.scaling[k], one.scaling[n + k], f))
        (contrast, offset, f), (contrast_2, offset_2, f_2) = matrices
        d = (contrast * f + offset - contrast_2 * f_2 - offset_2)[points]
        covariance = point_covariance(f, contrast / offset, 1 / noise.speckle.photons)
        squares += d @ d
        variance += d @ covariance @ d / noise.speckle.pixels[k]
    assert noise.speckle.coherence == 1.0
    expected = 2 * (other.equations.cost - solution.equations.cost) * squares / variance
    assert found == pytest.approx(expected, rel=0.02)
    # Points share their noise: the data tell less than the sum of squares seems to say.
    assert found < 0.5 * rise_to(other, solution, noise.white, residuals)


# Data without noise


@pytest.mark.parametrize("mode", ["auto", "hierarchical", "individual", "averaged", "sequential"])
@pytest.mark.parametrize("model", ["static", "laminar_flow"])
def test_exact_data_are_fitted_exactly(measure, mode, model):
    p = TRUTH if model == "laminar_flow" else TRUTH[:3]
    m = measure(p, n=40, phi=(0.0, 30.0, 60.0, 90.0), noise=0.0)
    m.data = hf.TwoTimeData(
        (m.data.c2 - m.offset[:, None, None]) / m.contrast[:, None, None] * 0.3 + 1,
        m.phi,
        m.q,
        m.dt,
    )
    result = fitted(m, model, per_angle_mode=mode)
    assert result.success, result.info.message
    times = np.linspace(0.5, 3.5, 7)
    expected = p[0] * times ** p[1] + p[2]
    np.testing.assert_allclose(result.J(times)[0], expected, rtol=1e-3)
    json.dumps(result.to_json(), allow_nan=False)


def test_constant_data_are_a_result():
    data = hf.TwoTimeData(np.ones((2, 10, 10)), [0, 90], 0.0054, 0.1)
    result = hf.fit(data, "static")
    assert not result.success
    assert "no decay" in result.info.message
    json.dumps(result.to_json(), allow_nan=False)


# The budget


@pytest.mark.parametrize("max_nfev", [1, 4, 12])
def test_the_budget_bounds_the_whole_fit(measure, max_nfev):
    m = measure(TRUTH, n=60)
    result = fitted(m, max_nfev=max_nfev, tolerance=1e-9)
    assert not result.success
    assert f" of {max_nfev} passes over the points without converging" in result.info.message
    # A look beyond it at the most where a parameter has to be held at a limit, and for the probe.
    assert float(result.info.message.split()[2]) == pytest.approx(result.info.passes, rel=1e-2)
    assert 0.25 * max_nfev <= result.info.passes <= max_nfev + 2


# Truths whose best basin was lost on the way, or whose search did not end.


def at_angles(measure, params, phi, noise, n):
    return measure(params, n=n, phi=phi, noise=noise, seed=1)


@pytest.mark.parametrize(
    ("params", "phi", "noise", "n"),
    [
        # A constant part at its limit, far above the rate.
        ((1500.0, -0.3, 20.0, 1.7e-4, 0.45, 0.0, 3.0), (0.0, 60.0, 120.0), 0.1, 64),
        # All angles at multiples of 90°, the direction near the axis of symmetry.
        ((2000.0, -0.2, 0.0, 3e-4, 0.3, 0.0, 0.5), (0.0, 90.0, 180.0, 270.0), 0.05, 64),
        # Side lobes.
        ((1000.0, -0.3, 100.0, 4e-3, 0.1, 0.0, -4.0), (0.0, 40.0, 80.0, 120.0, 160.0), 0.1, 80),
        # Transport that reaches zero within the measurement.
        ((3000.0, -1.2, -100.0, 3e-4, 0.2, 0.0, 2.0), (0.0, 45.0, 90.0), 0.02, 80),
    ],
)
def test_no_start_leads_as_low_as_the_truth(measure, params, phi, noise, n):
    m = at_angles(measure, params, phi, noise, n)
    found = fitted(m, per_angle_mode="individual", constant_parts="free")
    names = dict(zip(LAMINAR_FLOW.parameters, params, strict=True))
    from_truth = fitted(m, per_angle_mode="individual", initial=names, multi_start=False)
    assert found.success, found.info.message
    assert 2 * (found.cost - from_truth.cost) / noise**2 < 1.0
