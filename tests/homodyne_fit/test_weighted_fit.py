"""Fits with weighted points: against dense matrices, least squares, and the truth."""

import json
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import uniform_filter

import homodyne_fit as hf
from homodyne_fit.errors import InputError
from homodyne_fit.fitting import uncertainty
from homodyne_fit.fitting.score_noise import covariance_at_known_spreads
from homodyne_fit.fitting.weighting import Weighting
from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC, decay
from homodyne_fit.noise import weighted_scores
from homodyne_fit.noise.point_covariance import speckle_contrast
from homodyne_fit.simulation.measurement import Measurement, from_first_principles
from homodyne_fit.simulation.speckle import Experiment, two_time

pytestmark = pytest.mark.numerics

Q, GAP, DT = 0.0054, 2e6, 0.1
AT_REST = {"D0": 2e4, "alpha": 0.0, "D_offset": 0.0}
FLOWING = AT_REST | {"gamma_dot_t0": 2e-4, "beta": 0.0, "gamma_dot_t_offset": 0.0, "phi0": 5.0}


def measured(parameters, photons=2.0, seed=0, angles=3, frames=48, pixels=500):
    """Photon counts of the field of infinitely many particles, correlated."""
    phi = tuple(180.0 * k / angles for k in range(angles))
    m = Measurement(parameters, Q, phi, GAP, DT, frames)
    detector = {"pixels": pixels, "modes": 3, "mean_counts": photons}
    c2 = from_first_principles(m, particles=None, seed=seed, workers=1, **detector)
    return hf.TwoTimeData(c2, np.array(phi), np.full(angles, Q), DT)


def fitted(data, weighting="speckle", mode="averaged", **options):
    """All exponents and constant parts held at 0, from the truth on."""
    flows = data.n_angles > 1 and options.pop("flows", False)
    truth = FLOWING if flows else AT_REST
    held = {name: value for name, value in truth.items() if value == 0}
    given = {name: value for name, value in truth.items() if value != 0}
    if "anti_degeneracy" not in options:
        options["per_angle_mode"] = mode
    return hf.fit(
        data,
        "laminar_flow" if flows else "static",
        gap=GAP if flows else None,
        initial=options.pop("initial", given),
        fixed=held,
        multi_start=False,
        weighting=weighting,
        threads=1,
        **options,
    )


def dense_step(data, result):
    """Newton's step by frames, from the result on: parameters that are free, then z.

    Also the steps' standard errors if the weights were the best.
    """
    o, n = result.objective, data.n_frames
    model = LAMINAR_FLOW if result.model.has_flow else STATIC
    free = [i for i, e in enumerate(result.parameters.values()) if not e.fixed]
    truth, noise = result.values, result.uncertainty.speckle
    contrast, offset = (
        np.array([e.value for e in kind]) for kind in (result.contrast, result.offset)
    )
    beta = speckle_contrast(contrast, offset) * np.sqrt(noise.coherence)
    scaling, pairs = o.scaling.matrix.reshape(2, data.n_angles, -1), ~np.eye(n, dtype=bool)
    size = len(free) + scaling.shape[2]
    gradient, information = np.zeros(size), np.zeros((size, size))
    for k in range(data.n_angles):

        def f_at(values, k=k):
            f = decay(model, values, DT, n, Q, data.phi[k], GAP)
            return np.triu(f) + np.triu(f, 1).T

        f, columns = f_at(truth), []
        for i in free:
            step = np.zeros(len(truth))
            step[i] = 1e-4 * abs(truth[i])
            columns.append((f_at(truth + step) - f_at(truth - step)) * contrast[k] / (2 * step[i]))
        columns = np.stack([*columns, f, np.ones((n, n))])
        upper = np.triu(np.where(np.isfinite(data.c2[k]), data.c2[k], np.nan), 1)
        residual = np.nan_to_num(upper - np.triu(offset[k] + contrast[k] * f, 1), nan=0.0)
        present = np.isfinite(upper) & np.triu(pairs)
        seen = np.any(present | present.T, axis=0)
        part = np.ix_(seen, seen)
        inverse = np.linalg.inv(beta[k] * f[part] + np.eye(seen.sum()) / noise.photons)
        z = np.zeros_like(columns)
        for column, weights in zip(columns, z, strict=True):
            raw = inverse @ column[part] @ inverse
            alpha = np.linalg.solve(inverse**2, np.diag(raw))
            weights[part] = (raw - inverse @ np.diag(alpha) @ inverse) * noise.pixels[k]
        outward = np.zeros((len(columns), size))
        outward[: len(free), : len(free)] = np.eye(len(free))
        outward[len(free) :, len(free) :] = scaling[:, k]
        gradient += o.weights[k] * outward.T @ np.einsum("aij,ij->a", z, residual)
        slope = np.einsum("aij,bij,ij->ab", z, columns, present)
        information += o.weights[k] * outward.T @ slope @ outward
    prior = o.scaling.penalty / result.noise**2
    known = np.concatenate([contrast, offset]) - o.scaling.constant
    unknown = np.linalg.lstsq(o.scaling.matrix, known, rcond=None)[0]
    gradient[len(free) :] -= prior @ unknown
    information[len(free) :, len(free) :] += prior
    units = np.sqrt(np.diag(information))
    inverse = np.linalg.inv(information / np.outer(units, units)) / np.outer(units, units)
    return inverse @ gradient, np.sqrt(np.diag(inverse))


def with_missing(data):
    """Two frames and some points masked."""
    c2 = np.array(data.c2)
    c2[:, [5, 17]] = np.nan
    c2[:, :, [5, 17]] = np.nan
    rng = np.random.default_rng(1)
    c2[rng.random(c2.shape) < 0.05] = np.nan
    return hf.TwoTimeData(c2, data.phi, data.q, data.dt)


def shear_weighted(mode):
    return {"per_angle_mode": mode, "shear_weighting": {"enable": True}}


@pytest.mark.parametrize(
    "case",
    [
        {"mode": "averaged"},
        {"mode": "constant"},
        {"mode": "individual", "flows": True},
        {"mode": "hierarchical", "flows": True},
        {"mode": "averaged", "flows": True, "missing": True},
        {"anti_degeneracy": shear_weighted("averaged"), "flows": True},
    ],
    ids=["averaged", "constant", "individual", "hierarchical", "missing", "weights of angles"],
)
def test_the_weighted_score_vanishes(case, monkeypatch):
    flows, missing = case.get("flows", False), case.pop("missing", False)
    data = measured(FLOWING if flows else AT_REST)
    data = with_missing(data) if missing else data
    # The dense matrices take learned spreads as known.
    monkeypatch.setattr(uncertainty, "covariance_of_solution", covariance_at_known_spreads)
    result = fitted(data, **case)
    assert result.weighting.used, result.weighting.note
    step, errors = dense_step(data, result)
    # The steps end at 0.01 standard errors.
    assert_allclose(step / errors, 0, atol=0.02)
    before = fitted(data, "none", **case)
    assert np.any(np.abs(before.values - result.values) > 0)
    free = [e for e in result.parameters.values() if not e.fixed]
    # The fourth cumulants make errors larger than the information alone.
    ratios = [e.stderr / own for e, own in zip(free, errors, strict=False)]
    assert_allclose(ratios, 1.12, atol=0.2)
    if case.get("mode") == "hierarchical":
        # The prior of the angles is that of least squares.
        spread = list(result.info.layers["regularization"]["spread"].values())
        weights = np.array(result.objective.scaling.penalty_weights)
        # Weights stay as they are where later spreads would not move the answer.
        assert_allclose(result.noise / np.sqrt(weights), spread, rtol=0.1)


@pytest.fixture(scope="module")
def at_rest():
    """At 20 photons, where weights matter most."""
    return measured(AT_REST, photons=20.0, seed=2, angles=1, frames=100)


@pytest.fixture(scope="module")
def weighted(at_rest):
    return fitted(at_rest)


def test_weighted_errors_are_smaller_and_hold():
    """On 12 measurements; the scatter of 12 pulls around 1 has a standard error of 20 %."""
    deviations, pulls, probabilities = [], [], []
    for seed in range(12):
        result = fitted(measured(AT_REST, photons=20.0, seed=seed, angles=1, frames=100))
        (plain, error), truth = result.weighting.least_squares["D0"], AT_REST["D0"]
        found = result.parameters["D0"]
        assert found.stderr < 0.7 * error
        deviations.append([plain - truth, found.value - truth])
        pulls.append((found.value - truth) / found.stderr)
        probabilities.append(result.weighting.p_value)
    plain, found = np.sqrt(np.mean(np.square(deviations), axis=0))
    assert found < 0.85 * plain
    assert 0.5 < np.sqrt(np.mean(np.square(pulls))) < 1.6
    # Of 12 that are uniform, one in a thousand sets has one as small.
    assert min(probabilities) > 1e-4


def jump_of_rate():
    """J four times as large in the second half."""
    transport = np.where(np.arange(100) < 50, 1e4, 4e4)
    phi = np.array([0.0, 60.0, 120.0])
    experiment = Experiment(
        q=Q,
        phi=phi,
        phi0=0.0,
        gap=GAP,
        dt=DT,
        transport=transport,
        shear_rate=np.zeros(100),
        pixels=1500,
        modes=3,
        mean_counts=5.0,
    )
    return hf.TwoTimeData(two_time(experiment, 1), phi, np.full(3, Q), DT)


def test_a_model_that_fails_draws_the_two_estimates_apart():
    result = fitted(jump_of_rate())
    assert result.weighting.p_value < 1e-3
    assert any("by more than the noise explains" in text for text in result.warnings)


def test_blocks_of_frames_stand_for_frames(at_rest, weighted, monkeypatch):
    monkeypatch.setattr(weighted_scores, "FEWEST", 34)
    blocks = fitted(at_rest)
    ours, theirs = (each.parameters["D0"] for each in (blocks, weighted))
    assert ours.value != theirs.value
    # What is seen within a block is lost.
    assert theirs.stderr < ours.stderr < 1.2 * theirs.stderr
    assert abs(ours.value - theirs.value) < theirs.stderr


def test_what_is_at_a_bound_stays_there(at_rest):
    result = fitted(at_rest, initial={"D0": 1e4}, bounds={"D0": (1e3, 1.5e4)})
    assert result.weighting.used
    assert result.parameters["D0"].at_bound
    assert result.parameters["D0"].value == 1.5e4
    result = fitted(at_rest, bounds={"contrast": (0.0, 0.25)})
    assert result.contrast[0].at_bound
    assert result.contrast[0].value == 0.25


def test_a_bound_that_holds_least_squares_alone_is_left(at_rest, weighted):
    plain, found = weighted.weighting.least_squares["D0"][0], weighted.parameters["D0"]
    limit = (plain + found.value) / 2
    bounds = {"D0": (limit, 1e6) if plain < limit else (100.0, limit)}
    bounded = fitted(at_rest, bounds=bounds)
    assert bounded.weighting.least_squares["D0"] == (pytest.approx(limit), None)
    assert not bounded.parameters["D0"].at_bound
    assert bounded.parameters["D0"].value == pytest.approx(found.value, abs=0.05 * found.stderr)


def test_weights_judge_how_much_of_a_power_law_is_needed():
    ageing = AT_REST | {"alpha": -0.3, "D_offset": 4e3}
    data = measured(ageing, photons=20.0, seed=1, angles=2, frames=100)
    plain, result = (
        hf.fit(data, "static", per_angle_mode="averaged", weighting=each, threads=1)
        for each in ("none", "speckle")
    )
    assert result.weighting.used
    before, after = (
        {other["parameter"]: other for other in each.info.rate_forms["others"]}
        for each in (plain, result)
    )
    both = before["alpha"], after["alpha"]
    errors = [each["stderr"] for each in both]
    assert errors[1] < 0.5 * errors[0]
    # The criterion counts independent points of the same error: as many more.
    logarithms = [each["statistic"] - each["delta_bic"] for each in both]
    more = logarithms[1] - logarithms[0]
    assert more == pytest.approx(2 * np.log(errors[0] / errors[1]), abs=0.5)


def reason_for(result):
    assert not result.weighting.used
    (caution,) = [text for text in result.warnings if "not weighted" in text]
    assert result.weighting.note in caution
    return result.weighting.note


def test_weights_are_taken_where_they_pay(at_rest, weighted):
    """At 20 photons they do; at 0.02 photons make the noise, and all points are as good."""
    taken = fitted(at_rest, "auto")
    assert taken.weighting.used
    assert taken.weighting.automatic
    assert_allclose(taken.values, weighted.values, rtol=1e-6)
    assert_allclose(taken.covariance, weighted.covariance, rtol=1e-6)
    data = measured(AT_REST, photons=0.02, pixels=20_000)
    left, plain, forced = (fitted(data, each) for each in ("auto", "none", "speckle"))
    assert not left.weighting.used
    assert left.weighting.automatic
    assert_allclose(left.values, plain.values)
    assert_allclose(left.covariance, plain.covariance)
    assert left.warnings == plain.warnings
    assert "weights: none: the errors would be" in repr(left)
    before, after = (each.parameters["D0"].stderr for each in (plain, forced))
    said = float(re.search(r"be (\d+) % smaller", left.weighting.note)[1])
    assert said == pytest.approx(100 * (1 - after / before), abs=2)
    again = Weighting.from_json(json.loads(json.dumps(left.weighting.to_json())))
    assert again == left.weighting


def test_weights_are_not_taken_where_the_model_fails():
    result = fitted(jump_of_rate(), "auto")
    assert not result.weighting.used
    assert "more than the noise explains" in result.weighting.note


def test_points_that_cannot_be_weighted_are_told(at_rest):
    few = hf.TwoTimeData(at_rest.c2[:, :10, :10], at_rest.phi, at_rest.q, DT)
    result = fitted(few)
    assert "could not be found" in reason_for(result)
    # Of such a result a profile is as always.
    settings = hf.FitSettings(
        model=STATIC,
        fixed={"alpha": 0.0, "D_offset": 0.0},
        search=hf.SearchOptions(weighting="speckle"),
    )
    assert np.all(hf.profile(few, settings, result, "D0", n=3).success)
    fast = measured(AT_REST | {"D0": 2e5}, photons=0.05, angles=2, frames=80)
    c2 = np.array(fast.c2, dtype=np.float64)
    smooth = hf.TwoTimeData(uniform_filter(c2, (0, 5, 5)), fast.phi, fast.q, DT)
    result = fitted(smooth)
    assert "photons" in reason_for(result)
    plain = fitted(smooth, "none")
    assert_allclose(result.values, plain.values)
    assert_allclose(result.covariance, plain.covariance)


def test_a_fit_that_stops_short_is_not_weighted(at_rest):
    assert "did not converge" in reason_for(fitted(at_rest, max_nfev=1, tolerance=1e-9))


def test_weights_need_the_noise_of_speckles(at_rest):
    with pytest.raises(InputError, match="weighting.*take uncertainty: speckle"):
        fitted(at_rest, uncertainty="white")


def test_a_profile_is_that_of_least_squares(at_rest, weighted):
    settings = hf.FitSettings(model="static")
    with pytest.raises(InputError, match="weighted"):
        hf.profile(at_rest, settings, weighted, "D0")


def test_words_numbers_and_files_tell_of_weights(weighted, tmp_path):
    text = repr(weighted)
    assert "weights: by the noise of speckles" in text
    value, error = weighted.weighting.least_squares["D0"]
    (mean,) = [each for each in weighted.weighting.differences if each.name == "mean J"]
    assert mean.least_squares == pytest.approx((value, error))
    assert mean.weighted == pytest.approx(weighted.mean_J())
    folder = weighted.save(tmp_path / "weighted")
    again = hf.load_result(folder)
    assert again.weighting == weighted.weighting
    assert_allclose(again.covariance, weighted.covariance)
    assert again.config["optimization"]["nlsq"]["weighting"] == "speckle"
    assert "Weights" in (folder / "report.html").read_text(encoding="utf-8")
    plain = weighted.to_json()["fit"]["weighting"]
    assert Weighting.from_json(json.loads(json.dumps(plain))) == weighted.weighting
