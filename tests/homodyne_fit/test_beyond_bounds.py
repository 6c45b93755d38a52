"""A parameter at a bound that was given leads to the rate that the data ask for."""

import json

import numpy as np
import pytest

import homodyne_fit as hf

TAU = 2.0
GIVEN = {"D0": (100.0, 3000.0), "D_offset": (-100.0, 100.0)}
SHEAR = {"gamma_dot_t0": (1e-6, 5e-5), "gamma_dot_t_offset": (-1e-5, 1e-5)}


@pytest.fixture(scope="module")
def sheared_data():
    # J = 8000 · 2^-0.2 = 6964 Å²/s and γ̇ = 3e-4 · 2^0.2 = 3.4e-4 1/s in the middle.
    truth = {"D0": 8000, "alpha": -0.2, "D_offset": 0, "gamma_dot_t0": 3e-4, "beta": 0.2}
    truth |= {"gamma_dot_t_offset": 0.0, "phi0": 3.0}
    return hf.simulate(truth, phi=(0, 45, 90), dt=0.1, n_frames=41, noise=0.005)


def test_of_both_rates(sheared_data):
    result = hf.fit(sheared_data, gap=2e6, bounds=GIVEN | SHEAR, units_confirmed=("gap",))
    assert result.space.tau == TAU
    asked = result.info.beyond_bounds
    # The noise lets each be known to some per cent.
    assert asked["J"] == pytest.approx(8000 * TAU**-0.2, rel=0.1)
    assert asked["gamma_dot"] == pytest.approx(3e-4 * TAU**0.2, rel=0.1)
    text = next(text for text in result.warnings if "Without the bounds that were given" in text)
    assert "part of the data leads to J = " in text
    assert " Å²/s and γ̇ = " in text
    assert text.endswith(" 1/s at 2 s.")


def test_it_is_saved_and_read(sheared_data, tmp_path, without_pictures):
    static = sheared_data.select_angles(np.array([2]))
    result = hf.fit(static, "static", bounds={"D0": (100.0, 3000.0)}, fixed={"D_offset": 0.0})
    (key,) = result.info.beyond_bounds
    assert key == "J"
    result.save(tmp_path / "saved")
    again = hf.load_result(tmp_path / "saved")
    assert again.info.beyond_bounds == result.info.beyond_bounds
    assert again.warnings == result.warnings
    stored = json.loads((tmp_path / "saved" / "parameters.json").read_text())
    assert stored["fit"]["beyond_bounds"] == result.info.beyond_bounds
    limits = {name: (p["lower"], p["upper"]) for name, p in stored["parameters"].items()}
    assert limits == dict(
        zip(
            result.parameters,
            zip(result.space.lower.tolist(), result.space.upper.tolist(), strict=True),
            strict=True,
        )
    )
    assert limits["D0"] == (100.0, 3000.0)


def test_nothing_is_said_where_the_bound_costs_nothing(sheared_data):
    # Another exponent and constant part describe the data as well.
    static = sheared_data.select_angles(np.array([2]))
    result = hf.fit(static, "static", bounds={"D0": (1e5, 1e6)})
    assert result.parameters["D0"].at_bound
    assert result.info.beyond_bounds == {}


def test_nothing_is_searched_without_bounds_that_were_given(sheared_data):
    result = hf.fit(sheared_data, gap=2e6, fixed={"beta": 0.2}, units_confirmed=("gap",))
    assert result.info.beyond_bounds == {}
    assert not any("Without the bounds" in text for text in result.warnings)
