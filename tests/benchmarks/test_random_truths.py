"""χ², and what counts as the same direction, against other ways to get them."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import lsq_linear

import homodyne_fit as hf
from homodyne_fit.fitting.default_bounds import default_bounds
from homodyne_fit.model.parameters import PARAMETERS


@pytest.fixture(scope="module")
def truths():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        yield importlib.import_module("random_truths")


def values(truth):
    return np.array(list(truth.parameters.values()))


def test_the_box_is_within_the_default_bounds_where_these_need_no_measurement(truths):
    box = {**truths.BOX, "contrast": truths.CONTRAST_LIMITS, "offset": truths.OFFSET_LIMITS}
    assert list(box) == list(PARAMETERS)
    for name, known in PARAMETERS.items():
        assert known.bounds in (None, box[name])


def test_truths_are_within_the_bounds_of_their_measurement(truths):
    for regime in truths.REGIMES:
        for seed in range(20):
            truth = truths.draw(regime, seed)
            bounds = default_bounds(truth.q, truth.dt, truth.frames, truth.gap)
            for name, value in truth.parameters.items():
                lower, upper = bounds[name]
                assert lower < value < upper


def test_the_formula_is_that_of_the_package(truths):
    """Two implementations of PHYSICS, for a truth of every regime."""
    for regime in truths.REGIMES:
        truth = truths.draw(regime, 1)
        data = hf.simulate(
            truth.parameters,
            phi=truth.phi.tolist(),
            q=truth.q,
            gap=truth.gap,
            dt=truth.dt,
            n_frames=truth.frames,
            contrast=1.0,
            offset=0.0,
            noise=0.0,
        )
        # Simulated matrices are of single precision.
        np.testing.assert_allclose(truths.decays(truth, values(truth)), data.c2, atol=1e-6)


@pytest.mark.parametrize("contrast, offset", [(0.3, 1.0), (-0.2, 1.0), (0.3, 1.8), (1.4, 0.3)])
def test_sum_of_squares_within_limits(truths, contrast, offset):
    """SciPy's bounded linear least squares, free and with one or both at a limit."""
    rng = np.random.default_rng(0)
    f = rng.uniform(0, 1, 400)
    y = offset + contrast * f + 0.05 * rng.normal(size=400)
    columns = np.stack([f, np.ones_like(f)], axis=1)
    limits = np.transpose([truths.CONTRAST_LIMITS, truths.OFFSET_LIMITS])
    best = lsq_linear(columns, y, limits, tol=1e-14, lsmr_tol=1e-14)
    assert truths.sum_of_squares(f, y) == pytest.approx(2 * best.cost, rel=1e-9)


def test_chi2_is_the_cost_of_a_fit(truths):
    """With a free contrast and offset for each angle, and as the result reports them."""
    truth = replace(truths.draw("ordinary", 7), noise=0.02)
    c2 = truths.measured(truth, 7)
    data = hf.TwoTimeData(c2, truth.phi, truth.q, truth.dt)
    fixed = {name: value for name, value in truth.parameters.items() if name != "D0"}
    result = hf.fit(
        data, gap=truth.gap, fixed=fixed, per_angle_mode="individual", multi_start=False
    )
    cost = 2 * result.cost / truth.noise**2
    # The last step is not evaluated; it changes χ² by less than the square of the tolerance.
    assert truths.chi2(truth, c2, result.values) == pytest.approx(cost, abs=1e-3)
    assert truths.chi2_as_reported(truth, c2, result) == pytest.approx(cost, abs=1e-3)


@pytest.mark.parametrize(
    "phi, mirrored", [((0, 90, 270), True), ((30, -60), True), ((0, 45), False), ((10,), True)]
)
def test_directions_give_the_same_data(truths, phi, mirrored):
    truth = replace(truths.draw("ordinary", 2), phi=np.array(phi, dtype=float))
    expected = truths.decays(truth, values(truth))
    turned = values(truth)
    found = truths.directions(truth)
    for turned[6] in found:
        np.testing.assert_allclose(truths.decays(truth, turned), expected, atol=1e-9)
    mirror = 2 * phi[0] - truth.parameters["phi0"]
    assert np.any(np.abs(found - mirror) < 1e-9) == mirrored


def test_draws_lie_in_the_box_and_differ(truths):
    drawn = [truths.draw(regime, seed) for regime in truths.REGIMES for seed in range(40)]
    for truth in drawn:
        assert all(low <= truth.parameters[n] <= high for n, (low, high) in truths.BOX.items())
        assert 1 <= len(truth.phi) <= 23
        assert 64 <= truth.frames <= 200
    assert {truth.angles for truth in drawn} == {"over 180", "over 360", "random", "at 90"}
    assert len({len(truth.phi) for truth in drawn}) > 12


def test_verdicts(truths):
    """A row that fails in several ways, and one that does not."""
    good = {"chi2": 100.0, "cost": 50.0, "scaling": ["individual", 0.0, 0.0], "success": True}
    good |= {"pulls": {"J": 4.0, "phi0": None}, "warnings": [], "chi2_reported": 100.0}
    good |= {"chi2_as_reported": 100.0}
    row = {"chi2": 107.0, "noise": 1.0, "fit": good, "from_truth": good}
    assert truths.failures(row) == []
    bad = good | {"chi2": 120.0, "cost": 60.0, "pulls": {"J": 6.0}, "success": False}
    assert truths.failures(row | {"fit": bad}) == [
        "not converged",
        "wrong basin",
        "reported cost above",
        "pull J",
    ]
    assert truths.failures(row | {"fit": good | {"chi2_as_reported": 300.0}}) == [
        "cost not of the values"
    ]
    raised = {"exception": "LinAlgError", "warnings": []}
    assert truths.failures(row | {"fit": raised}) == ["exceptions"]
