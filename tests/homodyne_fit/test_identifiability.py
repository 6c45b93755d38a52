"""Sentences about a fit, against the cost in plain NumPy with contrast and offset at their best."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from homodyne_fit.fitting.fit import FitSettings, fit
from homodyne_fit.fitting.options import AntiDegeneracy, MultiStart, SearchOptions
from homodyne_fit.fitting.score_noise import NoiseOfPoints
from homodyne_fit.fitting.search.solution import Solution
from homodyne_fit.fitting.weak_directions import find_directions
from homodyne_fit.kernel.tiles import tile_chunks
from homodyne_fit.model.rates import STATIC
from homodyne_fit.report.words import direction_text, warnings
from homodyne_fit.results.record import FitRecord

pytestmark = pytest.mark.numerics

# Long enough for a full decay; the second decays by a few per cent only.
DECAYING, SLOW = (6000.0, -0.4, 0.0), (350.0, 0.0, 0.0)
STEADY = {"alpha": 0.0, "D_offset": 0.0}


# Standard errors from the minimum: close enough to compare digits with SciPy.
TIGHT = 1e-6


def settings_for(m, multi_start=True, **given):
    return FitSettings(
        search=SearchOptions(
            constant_parts="free",
            anti_degeneracy=AntiDegeneracy(per_angle_mode="individual"),
            multi_start=MultiStart(enable=multi_start),
            tolerance=TIGHT,
        ),
        **{"gap": m.gap} if len(m.params) == 7 else {"model": STATIC},
        **given,
    )


@pytest.fixture(scope="module")
def best(numpy_c2):
    """Chi-squared and contrasts at given physics, contrast and offset at their best."""

    def evaluate(m, result, x):
        i, j = np.triu_indices(m.n, 1)
        one, none = np.ones(len(m.phi)), np.zeros(len(m.phi))
        f = numpy_c2(x, one, none, q=m.q, phi=m.phi, gap=m.gap, dt=m.dt, n=m.n)
        chi2, contrasts = 0.0, []
        for model, c2 in zip(f, m.data.c2, strict=True):
            design = np.stack([model[i, j], np.ones(len(i))], axis=1)
            pair = lsq_linear(design, c2[i, j], ((0.0, 0.5), (1.0, 1.5)), method="bvls").x
            chi2 += np.sum((design @ pair - c2[i, j]) ** 2) / result.noise**2
            contrasts.append(pair[0])
        return chi2, np.array(contrasts)

    return evaluate


def moved(result, told):
    return result.values + [told.changes.get(name, 0.0) for name in result.parameters]


@pytest.fixture(scope="module")
def slow(measure):
    """Two angles of which hardly more than the product of contrast and transport is seen."""
    m = measure(SLOW, n=60, phi=(0.0, 90.0), noise=0.0004)
    return m, fit(m.data, settings_for(m, fixed=STEADY))


@pytest.fixture(scope="module")
def inflated(measure):
    """The same under more noise: one contrast runs to its limit."""
    m = measure(SLOW, n=60, phi=(0.0, 90.0), noise=0.002)
    result = fit(m.data, settings_for(m, fixed=STEADY))
    assert any(e.at_bound for e in (*result.contrast, *result.offset))
    return m, result


@pytest.fixture(scope="module")
def flowing(measure):
    m = measure(n=40, noise=0.01)
    return m, fit(m.data, settings_for(m))


@pytest.fixture(scope="module")
def decaying(measure):
    m = measure(DECAYING, n=60, phi=(0.0, 90.0), noise=0.01)
    return m, fit(m.data, settings_for(m, fixed={"D_offset": 0.0}))


@pytest.fixture(scope="module")
def constant(measure):
    """A constant J, given as the sum of two parts."""
    m = measure((4000.0, 0.0, 0.0), n=60, phi=(0.0, 90.0), noise=0.005)
    return m, fit(m.data, settings_for(m, fixed={"alpha": 0.0}))


class TestDirections:
    @pytest.mark.parametrize("which", ["slow", "inflated", "flowing", "decaying"])
    def test_chi_squared_rises_as_told(self, which, request, best):
        m, result = request.getfixturevalue(which)
        start, contrasts = best(m, result, result.values)
        for told in (*result.weak_directions, result.weakest):
            end, after = best(m, result, moved(result, told))
            # What the quadratic form leaves out over a step of 10 %; and rounding of chi-squared.
            assert end - start == pytest.approx(told.delta_chi2, rel=0.2, abs=1e-6)
            change = np.mean(after - contrasts)
            assert np.mean(told.contrast_changes) == pytest.approx(change, rel=0.2, abs=1e-4)

    @pytest.mark.parametrize("which", ["slow", "flowing", "decaying"])
    def test_the_step_is_ten_per_cent(self, which, request):
        m, result = request.getfixturevalue(which)
        (transport,), _ = result.J(result.space.tau)
        (shear,), _ = result.gamma_dot(result.space.tau)
        p = dict(zip(result.parameters, result.values, strict=True))
        scales = {
            "D0": p["D0"],
            "alpha": 1.0,
            "D_offset": max(abs(p["D_offset"]), transport),
            "contrast": np.mean([e.value for e in result.contrast]),
        }
        if m.params.size == 7:
            offset = max(abs(p["gamma_dot_t_offset"]), shear)
            scales |= {"gamma_dot_t0": p["gamma_dot_t0"], "beta": 1.0, "phi0": 10.0}
            scales |= {"gamma_dot_t_offset": offset}
        for told in (*result.weak_directions, result.weakest):
            shares = [abs(told.changes.get(k, 0.0)) / s for k, s in scales.items()]
            assert max(shares) == pytest.approx(0.1, rel=1e-6)

    def test_the_weakest_has_the_smallest_eigenvalue(self, decaying, numpy_c2):
        m, result = decaying
        i, j = np.triu_indices(m.n, 1)
        scaling = np.array([e.value for e in (*result.contrast, *result.offset)])
        full = np.concatenate([result.values[:2], scaling])

        def points(u):
            x = (u[0], u[1], 0.0)
            c2 = numpy_c2(x, u[2:4], u[4:], q=m.q, phi=m.phi, gap=m.gap, dt=m.dt, n=m.n)
            return c2[:, i, j].ravel()

        steps = np.diag(1e-5 * np.maximum(np.abs(full), 0.1))
        jacobian = np.stack(
            [(points(full + h) - points(full - h)) / (2 * h.sum()) for h in steps], axis=1
        )
        hessian = jacobian.T @ jacobian
        reduced = np.linalg.inv(np.linalg.inv(hessian)[:2, :2])
        d = np.sqrt(np.diag(reduced))
        smallest = np.linalg.eigvalsh(reduced / np.outer(d, d))[0]
        assert result.weakest.eigenvalue == pytest.approx(smallest, rel=1e-4)

    def test_what_the_contrast_makes_up_for_is_weak(self, slow):
        _, result = slow
        (told,) = result.weak_directions
        assert told == result.weakest
        # One over 1.1 is 9 % down.
        assert re.fullmatch(
            r"D0 up 10 %, contrast down (9|10|9\.\d) %, offset up 0\.0\d+: "
            r"chi-squared (rises by 0\.\d+|changes by less than 0\.001)",
            direction_text(result, told),
        )
        assert result.hardly_determined == ["D0"]

    def test_well_determined_parameters_have_no_weak_direction(self, decaying):
        _, result = decaying
        assert result.weak_directions == []
        assert result.hardly_determined == []
        assert result.weakest.delta_chi2 > 1
        assert re.search(r": chi-squared rises by \d", direction_text(result, result.weakest))

    def test_without_curvature_chi_squared_does_not_change(self, constant, best):
        m, result = constant
        told = result.weakest
        assert direction_text(result, told).endswith("chi-squared changes by less than 0.001")
        assert abs(told.delta_chi2) < 1e-6
        changes = told.changes
        assert changes["D_offset"] == pytest.approx(-changes["D0"], rel=1e-3)
        rise = best(m, result, moved(result, told))[0] - best(m, result, result.values)[0]
        assert abs(rise) < 1e-3

    def test_words_and_numbers_agree(self, flowing):
        _, result = flowing
        for told in (*result.weak_directions, result.weakest):
            said = dict(
                re.findall(
                    r"(\w+) ((?:up|down) [\d.]+(?: × 10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?)",
                    direction_text(result, told),
                )
            )
            for name, value in zip(result.parameters, result.values, strict=True):
                change = told.changes[name]
                relative = name in ("D0", "gamma_dot_t0")
                if name not in said:
                    assert abs(change) < 1e-3 * max(1.0, abs(value)) or name == "phi0"
                    continue
                way, number = said[name].split(" ", 1)
                mantissa, _, power = number.partition(" × 10")
                exponent = int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)
                spoken = float(mantissa) * 10.0**exponent
                assert way == ("up" if change > 0 else "down")
                expected = abs(change) * (100 / abs(value) if relative else 1.0)
                assert spoken == pytest.approx(expected, rel=0.051)

    def test_a_parameter_at_its_bound_moves_away_from_it(self, measure):
        m = measure(DECAYING, n=40, phi=(0.0, 90.0), noise=0.01)
        for limits, way in (((100.0, 4000.0), -1), ((8000.0, 1e5), 1)):
            given = {"fixed": {"D_offset": 0.0}, "bounds": {"D0": limits}}
            result = fit(m.data, settings_for(m, **given))
            assert result.parameters["D0"].at_bound
            assert result.weakest.changes["D0"] * way > 0

    def test_what_is_held_at_a_limit_takes_part_once_it_is_released(self, measure, best):
        m = measure((1500.0, -0.4, 300.0), n=40, phi=(0.0, 90.0), noise=0.002)
        result = fit(m.data, settings_for(m, bounds={"D0": (100.0, 1100.0)}))
        assert result.parameters["D0"].at_bound
        space = result.space
        objective = replace(
            result.objective, model=space.model_in_coordinates, fixed=space.fixed_coordinates
        )
        y = space.to_coordinates(result.values)
        sums = sum(objective.chunk_sums(y, chunk) for chunk in tile_chunks(m.data))
        solution = Solution(
            objective=objective,
            space=space,
            result=SimpleNamespace(x=y),
            sums=sums,
            joint=objective.joint_equations(sums),
        )
        at_bound = np.array([True, False, False])
        weak, weakest = find_directions(solution, at_bound, NoiseOfPoints(result.noise**2))
        assert weakest in weak
        # Away from the bound the cost rises linearly, too.
        assert weakest.changes["D0"] < 0
        moved_on = best(m, result, moved(result, weakest))[0]
        rise = moved_on - best(m, result, result.values)[0]
        assert rise == pytest.approx(weakest.delta_chi2, rel=0.3)

    def test_with_nothing_free_there_is_no_direction(self, measure):
        m = measure(DECAYING, n=30, phi=(0.0,))
        fixed = dict(zip(STATIC.parameters, DECAYING, strict=True))
        result = fit(m.data, settings_for(m, fixed=fixed, multi_start=False))
        assert (result.weak_directions, result.weakest) == ([], None)

    def test_json(self, flowing, decaying):
        for m, result in (flowing, decaying):
            record = FitRecord.of(result, m.data, {})
            found = json.loads(json.dumps(record.to_json(), allow_nan=False))["identifiability"]
            assert found["warnings"] == record.warnings == warnings(result)
            for told, weak in zip(
                [*found["weak_directions"], found["weakest"]],
                [*result.weak_directions, result.weakest],
                strict=True,
            ):
                assert told["text"] == direction_text(result, weak)
                assert told["eigenvalue"] == weak.eigenvalue
                assert told["delta_chi2"] == weak.delta_chi2
                assert told["changes"]["contrast"] == np.mean(weak.contrast_changes)
                assert told["changes"] | weak.changes == told["changes"]
            (value,), (error,) = result.J(result.space.tau)
            assert found["rates"]["J"] == {
                "time": result.space.tau,
                "value": value,
                "stderr": error,
                "unit": "Å²/s",
            }
            assert ("gamma_dot" in found["rates"]) == result.model.has_flow


class TestWarnings:
    def test_none_without_a_reason(self, decaying):
        assert warnings(decaying[1]) == []

    def test_angles_along_one_line(self, measure):
        m = measure(n=40, phi=(20.1, 200.1), noise=0.01)
        said = "All angles lie along one line"
        flow = dict.fromkeys(("gamma_dot_t0", "beta", "gamma_dot_t_offset"), 1e-3)
        for fixed, expected in (({}, True), ({"phi0": 4.0}, False), (flow, False)):
            result = fit(m.data, settings_for(m, fixed=fixed))
            assert any(text.startswith(said) for text in warnings(result)) is expected

    def test_transport_that_vanishes(self, slow):
        m, result = slow
        text, *others = warnings(result)
        assert all(text.startswith("Hardly determined one by one: ") for text in others)
        share = m.q[0] ** 2 * result.parameters["D0"].value * (m.n - 1) * m.dt
        assert share < 0.1
        assert f"q² ∫ J dt over the whole measurement is only {share:.2g}," in text
        worst = max(range(2), key=lambda k: result.contrast[k].value)
        assert f"contrast at φ = {m.phi[worst]:g}° is {result.contrast[worst].value:.3g}," in text
        fall = result.contrast[worst].value * -np.expm1(-share)
        assert f"c2 falls by {fall:.2g} at most" in text

    def test_transport_that_vanishes_under_a_contrast_at_its_bound(self, inflated):
        m, _ = inflated
        limits = {"contrast": (0.0, 0.6)}
        vanishing, *others = warnings(fit(m.data, settings_for(m, fixed=STEADY, bounds=limits)))
        assert "is 0.6, its bound, though the fitted c2 falls by" in vanishing
        assert any(text.startswith("The contrast is at its bound at ") for text in others)

    @pytest.mark.parametrize(
        ("phi0", "contrast", "angle", "said"),
        [
            (0.0, (0.3, 0.3, 0.3), "φ = 90°", "c2 falls by 0.00068 at most"),
            (-45.0, (0.3, 0.3, 0.3), "φ = 45°", "c2 falls by 0.00068 at most"),
            (20.0, (0.3, 0.3, 0.3), None, None),
            (20.0, (0.95, 0.3, 0.3), "φ = 0°", "is 0.95 (the median of the angles is 0.3). A"),
            (20.0, (0.95, 0.95, 0.95), "φ = ", "is 0.95. A"),
            (20.0, (0.3, 0.8, 0.3), "φ = 45°", "is 0.8 (the median of the angles is 0.3). A"),
        ],
    )
    def test_transport_that_vanishes_beside_a_flow(self, flowing, phi0, contrast, angle, said):
        # The shear completes the decay at every angle but the one across the flow.
        _, result = flowing
        coordinates = result.coordinates.copy()
        coordinates[[0, 1, 6]] = 20.0, 0.0, phi0
        direction = replace(result.parameters["phi0"], value=phi0)
        changed = replace(
            result,
            coordinates=coordinates,
            parameters={**result.parameters, "phi0": direction},
            contrast=tuple(
                replace(e, value=c) for e, c in zip(result.contrast, contrast, strict=True)
            ),
            objective=replace(result.objective, gap=10 * result.objective.gap),
        )
        texts = [text for text in warnings(changed) if "vanishes" in text]
        if angle is None:
            assert texts == []
        else:
            assert f"the contrast at {angle}" in texts[0]
            assert said in texts[0]

    def test_a_bound_is_named(self, measure):
        m = measure(DECAYING, n=40, phi=(0.0, 90.0), noise=0.01)
        given = {"fixed": {"D_offset": 0.0}, "bounds": {"D0": (100.0, 4000.0)}}
        texts = warnings(fit(m.data, settings_for(m, **given)))
        assert texts[0].startswith("D0 (upper, 4000 Å²/s) is at its bound: ")
        assert texts[0].endswith("rather hold a parameter at a known value (fixed_parameters).")

    def test_an_offset_is_offered_to_be_held_where_its_power_law_is_at_a_bound(self, measure):
        m = measure(DECAYING, n=40, phi=(0.0, 90.0), noise=0.01)
        texts = warnings(fit(m.data, settings_for(m, bounds={"D0": (100.0, 4000.0)})))
        assert texts[0].startswith("D0 (upper, 4000 Å²/s) is at its bound: ")
        assert texts[0].endswith(
            ": first D_offset at 0, where a power law alone can describe the sample."
        )

    def test_a_bound_of_the_contrast_is_named(self, measure):
        m = measure(DECAYING, n=40, phi=(0.0, 90.0), noise=0.01)
        given = {"fixed": {"D_offset": 0.0}, "bounds": {"contrast": (0.0, 0.3)}}
        result = fit(m.data, settings_for(m, **given))
        assert [e.at_bound for e in result.contrast] == [False, True]
        (text,) = warnings(result)
        assert text.startswith("The contrast is at its bound at φ = 90° (0.3), and has no error")

    def test_a_rate_is_determined_where_its_power_law_is_not(self, constant):
        _, result = constant
        (value,), (error,) = result.J(result.space.tau)
        assert error < 0.1 * value
        text, together = warnings(result)
        assert together.startswith("Hardly determined one by one: ")
        assert "J(t) is determined, " in text
        assert "do not determine D0 and D_offset." in text

    def test_an_error_larger_than_what_it_belongs_to(self, decaying):
        _, result = decaying
        for name, stderr, loose in (
            ("D0", 1.1 * result.parameters["D0"].value, True),
            ("D0", 0.9 * result.parameters["D0"].value, False),
            ("alpha", 0.6, True),
            ("alpha", 0.45, False),
        ):
            estimate = replace(result.parameters[name], stderr=stderr)
            doubtful = replace(result, parameters={**result.parameters, name: estimate})
            said = any(f"do not determine {name}." in text for text in warnings(doubtful))
            assert said == loose

    def test_what_no_rate_stands_for_is_not_determined_at_all(self, flowing):
        _, result = flowing
        lost = replace(result.parameters["phi0"], stderr=np.inf)
        offset = (replace(result.offset[0], stderr=np.inf), *result.offset[1:])
        parameters = {**result.parameters, "phi0": lost}
        text = " ".join(warnings(replace(result, parameters=parameters, offset=offset)))
        assert "do not determine phi0: the error is infinite" in text
        assert "do not determine the offset at φ = 0°." in text

    def test_errors_of_a_fit_that_did_not_converge_say_nothing(self, constant):
        _, result = constant
        broken_off = replace(result, info=replace(result.info, success=False))
        (text,) = warnings(broken_off)
        assert text.startswith("The fit did not converge: ")
