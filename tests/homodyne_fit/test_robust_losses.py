"""Robust losses for two-time data: against SciPy on all points, and against the truth."""

import json
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy
from numpy.testing import assert_allclose

import homodyne_fit as hf
from homodyne_fit.config.configuration import parse_config
from homodyne_fit.fitting.goodness import criteria_differences
from homodyne_fit.kernel.moments import AngleFactors, _kernel, chunk_moments, compile_kernel
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.kernel.pseudo_data import PseudoData
from homodyne_fit.kernel.tiles import tile_chunks
from homodyne_fit.model.rates import LAMINAR_FLOW, curves
from homodyne_fit.model.scaling import scaling_map
from homodyne_fit.report.words import goodness_text

pytestmark = pytest.mark.numerics

ROBUST = ("huber", "soft_l1", "cauchy", "arctan")
FREE = (0, 1, 3, 6)  # D0, alpha, gamma_dot_t0 and phi0

# ρ, ρ' and ρ'' of z, as the documentation of scipy.optimize.least_squares has them.
RHO = {
    "huber": lambda z: np.where(z <= 1, z, 2 * np.sqrt(z) - 1),
    "soft_l1": lambda z: 2 * (np.sqrt(1 + z) - 1),
    "cauchy": np.log1p,
    "arctan": np.arctan,
}
SLOPES = {
    "huber": lambda z: np.where(z <= 1, 1, 1 / np.sqrt(np.maximum(z, 1))),
    "soft_l1": lambda z: 1 / np.sqrt(1 + z),
    "cauchy": lambda z: 1 / (1 + z),
    "arctan": lambda z: 1 / (1 + z**2),
}
CURVATURES = {
    "huber": lambda z: np.where(z <= 1, 0, -0.5 / np.maximum(z, 1) ** 1.5),
    "soft_l1": lambda z: -0.5 / (1 + z) ** 1.5,
    "cauchy": lambda z: -1 / (1 + z) ** 2,
    "arctan": lambda z: -2 * z / (1 + z**2) ** 2,
}


def spoil(data, seed=0, frames=(7, 23), share=0.01):
    """Some frames whose rows are too high, and some single points that are anywhere."""
    rng, c2 = np.random.default_rng(seed), data.c2
    for frame in frames:
        c2[:, frame, :] += 0.4
        c2[:, :, frame] += 0.4
    upper = np.triu(rng.random(c2.shape) < share, 1)
    c2[upper] += rng.normal(0, 1, np.count_nonzero(upper))
    c2[:] = np.triu(c2) + np.triu(c2, 1).transpose(0, 2, 1)
    return data


def fitted(m, **options):
    start = dict(zip(LAMINAR_FLOW.parameters, m.params, strict=True))
    zero = ("D_offset", "beta", "gamma_dot_t_offset")
    return hf.fit(
        m.data,
        gap=m.gap,
        initial={name: value for name, value in start.items() if name not in zero},
        fixed=dict.fromkeys(zero, 0.0),
        **{"per_angle_mode": "individual", "multi_start": False, "threads": 1, **options},
    )


TRUTH = (9000.0, -0.2, 0.0, 4e-4, 0.0, 0.0, 3.0)


def scipy_fit(m, result, numpy_c2):
    """The minimum of ½ Σ s²ρ(r²/s²) by parameters, contrasts and offsets, from the result on."""
    k, n = len(m.phi), m.n
    i, j = np.triu_indices(n, 1)
    data = m.data.c2[:, i, j].ravel()
    present = np.isfinite(data)
    scale = np.repeat(result.robust.noise * result.robust.f_scale, len(i))[present]
    units = np.array([1e3, 1, 1e-4, 1, *[1] * (2 * k)])

    def residuals(x):
        values = x * units
        params = np.zeros(7)
        params[list(FREE)] = values[:4]
        scaling = values[4:].reshape(2, k)
        model = numpy_c2(params, *scaling, q=m.q, phi=m.phi, gap=m.gap, dt=m.dt, n=n)
        return (model[:, i, j].ravel() - data)[present]

    def loss(square):
        z, name = square / scale**2, result.robust.loss
        return np.stack([scale**2 * RHO[name](z), SLOPES[name](z), CURVATURES[name](z) / scale**2])

    x0 = np.array(
        [
            *result.values[list(FREE)],
            *(e.value for e in result.contrast),
            *(e.value for e in result.offset),
        ]
    )
    found = scipy.optimize.least_squares(
        residuals, x0 / units, loss=loss, xtol=1e-14, ftol=1e-14, gtol=1e-12, max_nfev=100
    )
    return found.x * units, found.cost, x0


@pytest.mark.parametrize("loss", ROBUST)
def test_minimum_is_that_of_scipy_on_all_points(loss, measure, numpy_c2):
    m = measure(TRUTH, n=41, phi=(0.0, 40.0, 80.0, 130.0))
    m.data.c2[1] += np.random.default_rng(1).normal(0, 0.02, m.data.c2[1].shape)
    m.data.c2[0, 2:5, 10:14] = np.nan
    spoil(m.data)
    result = fitted(m, loss=loss, f_scale=1.5, tolerance=1e-3)
    assert result.success
    best, cost, x0 = scipy_fit(m, result, numpy_c2)
    errors = np.array([result.parameters[LAMINAR_FLOW.parameters[i]].stderr for i in FREE])
    errors = np.concatenate([errors, [e.stderr for e in (*result.contrast, *result.offset)]])
    assert np.max(np.abs(best - x0) / errors) < 0.01
    assert_allclose(result.cost, cost, rtol=1e-6)


def test_one_pair_for_all_angles_is_that_of_scipy(measure, numpy_c2):
    m = measure(TRUTH, n=41)
    spoil(m.data)
    result = fitted(m, loss="huber", f_scale=1.345, per_angle_mode="averaged", tolerance=1e-3)
    k, (i, j) = len(m.phi), np.triu_indices(m.n, 1)
    scale = np.repeat(result.robust.noise * 1.345, len(i))
    units = np.array([1e3, 1, 1e-4, 1, 1, 1])

    def cost(x):
        params = np.zeros(7)
        params[list(FREE)] = (x * units)[:4]
        pair = [np.full(k, value) for value in x[4:]]
        model = numpy_c2(params, *pair, q=m.q, phi=m.phi, gap=m.gap, dt=m.dt, n=m.n)
        ratio = (model[:, i, j] - m.data.c2[:, i, j]).ravel() / scale
        return 0.5 * np.sum(scale**2 * RHO["huber"](ratio**2))

    own = (*result.values[list(FREE)], result.contrast[0].value, result.offset[0].value)
    best = scipy.optimize.minimize(
        cost, np.array(own) / units, method="Powell", options={"xtol": 1e-9, "ftol": 1e-15}
    )
    # A distance of 0.03 standard errors at most.
    assert best.fun >= result.cost - 0.5 * (0.03 * result.noise) ** 2


@pytest.mark.parametrize("precision", ["double", "single"])
def test_pseudo_data_are_made_in_the_kernel(precision):
    rng, n = np.random.default_rng(5), 70
    phi, q, gap, dt = np.array([-20.0, 30.0, 85.0]), np.full(3, 0.0054), 2e6, 0.1
    c2 = rng.normal(1.1, 0.1, (3, n, n))
    c2[0, 2, 5:40] = np.nan
    data = hf.TwoTimeData(c2, phi, q, dt, "random")

    def at(params):
        integrals = curves(LAMINAR_FLOW, np.array(params), dt, n)
        b = 0.5 * q * gap * np.cos(np.deg2rad(params[6] - phi))
        return integrals, b

    integrals, b = at((1200.0, -0.4, 150.0, 4e-4, 0.25, 5e-5, 3.0))
    other, b_other = at((900.0, -0.3, 0.0, 5e-4, 0.0, 0.0, 10.0))
    scale, gain = np.array([0.05, 0.1, 0.2]), 1.2
    contrast, offset = np.array([0.2, 0.3, 0.25]), np.array([1.0, 1.01, 0.99])
    pseudo = PseudoData(
        "soft_l1", scale, gain, other.transport, other.shear, b_other, contrast, offset
    )
    s, g = other.transport, other.shear
    x = b_other[:, None, None] * (g[None, :] - g[:, None])
    f = np.exp(-(q[0] ** 2) * np.abs(s[None, :] - s[:, None])) * np.sinc(x / np.pi) ** 2
    fit = offset[:, None, None] + contrast[:, None, None] * f
    r = c2 - fit
    drawn = fit + gain * r / np.sqrt(1 + (r / scale[:, None, None]) ** 2)
    factors = AngleFactors(q**2, b, 0.1 * b, np.ones(3))
    with jax.enable_x64(True):
        ours, plain = (
            sum(
                chunk_moments(integrals, factors, chunk, precision=precision, pseudo_data=made)
                for chunk in tile_chunks(of)
            )
            for of, made in (
                (data, pseudo),
                (hf.TwoTimeData(drawn, phi, q, dt, "drawn"), None),
            )
        )
    norms = np.sqrt(np.einsum("kii->ki", plain))
    difference = np.abs(ours - plain) / (norms[:, :, None] * norms[:, None, :])
    assert np.max(difference) < (1e-12 if precision == "double" else 1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_compiled_ahead_is_what_is_used(weighted):
    n, rng = 70, np.random.default_rng(2)
    c2 = rng.normal(1.1, 0.1, (2, n, n))
    sigma = np.array([1.0, 2.0]) if weighted else None
    data = hf.TwoTimeData(c2, np.array([0.0, 50.0]), 0.0054, 0.1, "random", sigma=sigma)
    chunk, integrals = tile_chunks(data)[0], curves(LAMINAR_FLOW, np.array(TRUTH), 0.1, n)
    compile_kernel(LAMINAR_FLOW, chunk.room, c2.dtype, 2, "double", "arctan", weighted)
    kernel = _kernel("cpu", 2, "double", "arctan")
    compiled, one = kernel._cache_size(), np.ones(2)
    pseudo = PseudoData("arctan", one, 1.0, integrals.transport, integrals.shear, one, one, one)
    chunk_moments(integrals, AngleFactors(one, one, one, one), chunk, pseudo_data=pseudo)
    assert kernel._cache_size() == compiled > 0


def test_outliers_hardly_move_the_answer_and_are_named(measure):
    m = measure(TRUTH, n=81, phi=tuple(np.arange(0.0, 180.0, 30.0)))
    clean = fitted(m)
    spoil(m.data)
    squares, robust = fitted(m), fitted(m, loss="huber", f_scale=1.345)
    moved = [
        abs(each.mean_gamma_dot()[0] - clean.mean_gamma_dot()[0]) / clean.mean_gamma_dot()[1]
        for each in (squares, robust)
    ]
    assert robust.success
    assert moved[1] < min(1.0, moved[0])
    assert_allclose(robust.robust.lost_frames, [8, 24])
    assert np.all(robust.robust.lost_by_angle > robust.robust.lost_by_normal)
    assert_allclose(robust.robust.noise, 0.02, rtol=0.15)


@pytest.mark.parametrize("loss", ["huber", "cauchy"])
def test_clean_data_lose_little(loss, measure):
    m = measure(TRUTH, n=61, phi=(0.0, 40.0, 80.0, 130.0))
    scale = {"huber": 1.345, "cauchy": 2.385}[loss]  # 95 % efficient for normal noise
    plain, robust = (
        fitted(m, uncertainty="white", **options)
        for options in ({}, {"loss": loss, "f_scale": scale})
    )
    assert_allclose(robust.robust.lost_by_angle, robust.robust.lost_by_normal, rtol=0.2)
    assert robust.robust.lost_frames.size == 0
    for name in ("D0", "gamma_dot_t0", "phi0"):
        ours, theirs = robust.parameters[name], plain.parameters[name]
        assert abs(ours.value - theirs.value) < theirs.stderr
        assert ours.stderr == pytest.approx(theirs.stderr / np.sqrt(0.95), rel=0.03)


def test_standard_errors_hold_for_data_with_outliers():
    """Of 60 fits to noise with outliers, the scatter is what the errors say, to a fifth."""
    n, dt, q = 40, 0.1, 0.0054
    t = np.arange(n) * dt
    f = np.exp(-2 * (0.5 * q**2) * 2e4 * np.abs(t[None, :] - t[:, None]))
    pulls = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        noise = rng.normal(0, 0.02, f.shape)
        noise[rng.random(f.shape) < 0.02] *= 20
        c2 = (1 + 0.3 * f + noise)[None]
        data = hf.TwoTimeData(c2, np.zeros(1), np.array([q]), dt, "outliers")
        result = hf.fit(
            data,
            "static",
            initial={"D0": 2e4},
            fixed={"alpha": 0.0, "D_offset": 0.0},
            multi_start=False,
            threads=1,
            loss="huber",
            f_scale=1.345,
        )
        estimate = result.parameters["D0"]
        pulls.append((estimate.value - 2e4) / estimate.stderr)
    assert 0.8 < np.sqrt(np.mean(np.square(pulls))) < 1.25


def test_data_without_noise_are_fitted_as_they_are(measure):
    m = measure(TRUTH, n=31, noise=0.0)
    result = fitted(m, loss="huber", f_scale=1.345)
    assert_allclose(result.values[list(FREE)], np.array(TRUTH)[list(FREE)], rtol=1e-5)


def test_samples_and_the_global_search_see_the_same_loss(measure):
    """From no start, on data of several samples, with gross outliers."""
    m = measure(TRUTH, n=260, phi=(0.0, 40.0, 80.0, 130.0))
    c2 = m.data.c2
    for frame in (20, 150, 151):
        c2[:, frame, :] = c2[:, :, frame] = 9.0
    result = hf.fit(
        m.data,
        gap=m.gap,
        bounds={"contrast": (0.0, 1.0)},
        per_angle_mode="individual",
        constant_parts="zero",
        uncertainty="white",
        loss="huber",
        f_scale=1.345,
    )
    assert result.success
    assert result.parameters["phi0"].value == pytest.approx(3.0, abs=1.0)
    value, error = result.mean_gamma_dot()
    assert abs(value - 4e-4) < 5 * error + 0.01 * 4e-4
    assert_allclose(result.robust.lost_frames, [21, 151, 152])


def test_an_objective_that_was_sent_elsewhere_gives_the_same_bits(measure):
    m = measure(TRUTH, n=70)
    flat = scaling_map("individual", phi=m.phi, contrast=(0, 1), offset=(0, 2))
    integrals = curves(LAMINAR_FLOW, m.params, m.dt, m.n)
    pseudo = PseudoData(
        "cauchy",
        np.full(3, 0.05),
        1.1,
        integrals.transport,
        integrals.shear,
        0.5 * m.q * m.gap * np.cos(np.deg2rad(m.params[6] - m.phi)),
        m.contrast,
        m.offset,
    )
    objective = TwoTimeObjective(
        LAMINAR_FLOW,
        m.dt,
        m.n,
        m.q,
        m.phi,
        m.gap,
        flat,
        np.ones(3),
        np.ones(3),
        np.full(7, np.nan),
        pseudo_data=pseudo,
    )
    sent = pickle.loads(pickle.dumps(objective))
    (chunk, *_) = tile_chunks(m.data)
    here, there, plain = (
        one.chunk_sums(m.params, chunk)
        for one in (objective, sent, replace(objective, pseudo_data=None))
    )
    assert np.array_equal(here, there)
    assert not np.array_equal(here, plain)


def test_matrices_on_the_disk_give_the_same(measure, tmp_path):
    m = measure(TRUTH, n=90, phi=(0.0, 40.0, 80.0))
    spoil(m.data)
    np.save(tmp_path / "c2.npy", m.data.c2)
    stored = hf.load(tmp_path / "c2.npy", q=0.0054, dt=m.dt, phi=list(m.phi), memory=2**18)
    results = []
    for data in (m.data, stored):
        m.data = data
        results.append(fitted(m, loss="soft_l1", f_scale=1.0, memory=2**24))
    inside, outside = results
    assert type(stored.c2) is not type(inside.data.c2)
    for name in ("D0", "gamma_dot_t0"):
        ours, theirs = outside.parameters[name], inside.parameters[name]
        assert abs(ours.value - theirs.value) < 0.05 * theirs.stderr


def test_frames_that_are_masked_have_no_weight_to_lose(measure):
    m = measure(TRUTH, n=41)
    m.data.c2[:, 5] = m.data.c2[:, :, 5] = np.nan
    robust = fitted(m, loss="huber", f_scale=1.345).robust
    assert np.isnan(robust.lost_by_frame[5])
    assert np.all(np.isfinite(np.delete(robust.lost_by_frame, 5)))
    assert robust.to_json()["lost_by_frame"][5] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "huber"}, "huber needs f_scale, in standard deviations of the noise"),
        ({"loss": "huber", "f_scale": 0.01}, "below 0.5 hardly a point keeps its weight"),
        ({"loss": "huber", "f_scale": 0.0}, "f_scale"),
        ({"loss": "l3", "f_scale": 1.0}, "'linear', 'soft_l1', 'huber', 'cauchy' or 'arctan'"),
        (
            {"loss": "huber", "f_scale": 1.0, "weighting": "speckle"},
            "take loss: linear, or weighting: none",
        ),
    ],
)
def test_what_does_not_go_together_is_one_error(options, message, small, complaint):
    (line,) = complaint(hf.fit, small, gap=2e6, **options)
    assert message in line


@pytest.mark.parametrize(
    ("keys", "robust", "idle"),
    [
        ("loss: soft_l1", False, ["optimization.nlsq.loss"]),
        ("f_scale: 1.345", False, ["optimization.nlsq.f_scale"]),
        ("loss: huber, f_scale: 1.345", True, []),
    ],
)
def test_a_loss_of_a_configuration_needs_a_scale_to_act(keys, robust, idle):
    text = f"analysis_mode: static\noptimization: {{nlsq: {{{keys}}}}}\n"
    config = parse_config(text, Path("c.yaml"))
    assert config.root.optimization.nlsq.is_robust is robust
    assert [each.path for each in config.without_effect] == idle


def test_the_posterior_is_that_of_least_squares_alone(complaint):
    keys = "method: mcmc, nlsq: {loss: huber, f_scale: 1.345}"
    (line,) = complaint(parse_config, f"optimization: {{{keys}}}\n", Path("c.yaml"))
    assert line.startswith("c.yaml: optimization.method: the posterior is that of least squares")


def test_result_is_saved_and_read_back(measure, tmp_path, without_pictures):
    m = measure(TRUTH, n=41)
    spoil(m.data)
    result = fitted(m, loss="huber", f_scale=1.345)
    result.save(tmp_path / "out")
    stored = json.loads((tmp_path / "out/parameters.json").read_text())["fit"]["robust"]
    assert stored["lost_frames"] == [8, 24]
    back = hf.load_result(tmp_path / "out")
    assert_allclose(back.robust.lost_by_frame, result.robust.lost_by_frame)
    assert back.cost == result.cost
    assert back.objective.pseudo_data is None
    assert "The points of 2 frames (8, 24) have lost more than half" in str(result)


def test_numbers_of_quality_are_said_to_be_those_with_outliers_drawn_to_the_fit(measure, tmp_path):
    m = measure(TRUTH, n=41)
    spoil(m.data)
    squares, robust = fitted(m), fitted(m, loss="huber", f_scale=1.345)
    assert robust.goodness.rms < squares.goodness.rms
    assert np.isnan(robust.goodness.aic)
    assert np.isfinite(squares.goodness.aic)
    assert np.all(np.isnan(criteria_differences(squares.goodness, robust.goodness)))
    robust.save(tmp_path / "out")
    assert hf.load_result(tmp_path / "out").goodness.of_pseudo_data
    assert "outliers drawn to the fit" in goodness_text(robust)
    assert "outliers" not in goodness_text(squares)


def test_profile_and_posterior_refuse(measure, complaint):
    m = measure(TRUTH, n=31)
    result = fitted(m, loss="huber", f_scale=1.345)
    profile = partial(hf.profile, m.data, hf.FitSettings(gap=m.gap), result, "D0")
    for call in (profile, partial(hf.sample_posterior, result)):
        (line,) = complaint(call)
        assert "loss: linear" in line
