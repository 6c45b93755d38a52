"""Values that look as if they were in another unit lead to a question, which can be answered."""

from pathlib import Path

import numpy as np
import pytest

from homodyne_fit.config import parse_config
from homodyne_fit.data.formats.plain_array import write_array
from homodyne_fit.errors import InputError

GAP = "analyzer_parameters.geometry.stator_rotor_gap"


def parsed(text, folder=Path()):
    return parse_config(text, folder / "c.yaml")


def asked(text):
    with pytest.raises(InputError) as caught:
        parsed(text)
    (line,) = str(caught.value).splitlines()
    return line.removeprefix("c.yaml: ")


def geometry(gap, more=""):
    return f"analyzer_parameters: {{{more}geometry: {{stator_rotor_gap: {gap}}}}}\n"


class TestGap:
    @pytest.mark.parametrize(
        ("gap", "meant"),
        [
            ("1e-3", "0.001 m is 1e+07 Å"),
            ("2e-4", "0.0002 m is 2e+06 Å"),
            ("0.2", "0.2 mm is 2e+06 Å"),
            ("1", "1 mm is 1e+07 Å"),
            ("50", "50 µm is 500000 Å"),
            ("200", "200 µm is 2e+06 Å"),
            ("5000", "5000 µm is 5e+07 Å"),
        ],
    )
    def test_in_another_unit(self, gap, meant):
        line = asked(geometry(gap))
        assert line.startswith(f"{GAP}: a gap of {float(gap):g} Å is not plausible; ")
        assert f"is it in another unit? {meant};" in line
        assert line.endswith(
            "if it is in Å, set analyzer_parameters.units_confirmed: [stator_rotor_gap]"
        )

    def test_in_no_likely_unit(self):
        assert "not plausible; 1 mm is 1e7 Å; if it is" in asked(geometry("1e-9"))

    @pytest.mark.parametrize("gap", ["1e4", "2e6", "2e7", "1e9"])
    def test_of_a_shear_cell(self, gap):
        root = parsed(geometry(gap)).root
        assert root.analyzer_parameters.geometry.stator_rotor_gap == float(gap)

    def test_can_be_confirmed(self):
        config = parsed(geometry("5000", "units_confirmed: [stator_rotor_gap], "))
        assert config.settings().gap == 5000

    def test_is_of_no_interest_without_flow(self):
        assert GAP in parsed("analysis_mode: static\n" + geometry("0.2")).ignored

    def test_what_is_confirmed_is_one_of_the_questions(self):
        line = asked("analyzer_parameters: {units_confirmed: [gap]}")
        assert "units_confirmed.0: must be 'stator_rotor_gap', 'wavevector_q', 'dt' or" in line


RADIANS = {
    "±π": "parameter_space: {bounds: [{name: phi0, min: -3.14159, max: 3.14159}]}",
    "±π in three digits": "parameter_space: {bounds: [{name: phi0, min: -3.14, max: 3.14}]}",
    "bounds of ±π/2": "parameter_space: {bounds: [{name: phi0, min: -1.571, max: 1.571}]}",
    "bounds from 0": "parameter_space: {bounds: [{name: phi0, min: 0, max: 6.2832}]}",
    "a held value": "initial_parameters: {fixed_parameters: {phi0: 0.7854}}",
    "a start": "initial_parameters: {values: {phi0: -1.5708}}",
    "angles of the matrices": "experimental_data: {phi_angles: [0, 0.7854, 1.5708]}",
    "a range of angles": "preprocessing: {phi_range: [-1.5708, 1.5708]}",
    "ranges of angles": "phi_filtering: {target_ranges: [{min_angle: 0, max_angle: 3.1416}]}",
}


class TestAngles:
    @pytest.mark.parametrize("text", RADIANS.values(), ids=RADIANS)
    def test_in_radians(self, text):
        line = asked(text)
        assert "looks like radians, but degrees are needed: " in line
        assert line.endswith("if it is in degrees, set analyzer_parameters.units_confirmed: [phi]")
        confirmed = f"analyzer_parameters: {{units_confirmed: [phi]}}\n{text}"
        assert parsed(confirmed).root.analyzer_parameters.units_confirmed == ["phi"]

    def test_says_what_they_would_be(self):
        assert asked(RADIANS["bounds from 0"]).startswith(
            "parameter_space.bounds.0: the bounds of phi0: 0, 6.2832 looks like radians, but "
            "degrees are needed: 0, 360; "
        )
        assert "degrees are needed: 0, 45, 90;" in asked(RADIANS["angles of the matrices"])

    @pytest.mark.parametrize(
        "text",
        [
            "parameter_space: {bounds: [{name: phi0, min: -3, max: 3}]}",
            "parameter_space: {bounds: [{name: phi0, min: -5.5, max: 5.5}]}",
            "parameter_space: {bounds: [{name: phi0, min: -3.1416, max: 10}]}",
            "parameter_space: {bounds: [{name: beta, min: -1.5708, max: 1.5708}]}",
            "initial_parameters: {values: {phi0: 0.35}}",
            "initial_parameters: {values: {phi0: 0}}",
            "experimental_data: {phi_angles: [0, 0.5, 1]}",
            "experimental_data: {phi_angles: [0]}",
            "analysis_mode: static\ninitial_parameters: {values: {phi0: 1.5708}}",
        ],
    )
    def test_small_ones_are_no_proof(self, text):
        parsed(text)


class TestWhatTheFileDoesNotKnow:
    @pytest.fixture
    def selected(self, tmp_path):
        write_array(tmp_path / "a.npz", 1 + np.eye(6), phi=0)

        def select(analyzer):
            text = f"experimental_data: {{file_path: a.npz}}\nanalyzer_parameters: {{{analyzer}}}"
            return parsed(text, tmp_path).selection()

        return select

    @pytest.mark.parametrize(
        ("analyzer", "question", "name"),
        [
            (
                "dt: 1, scattering: {wavevector_q: 5.4}",
                "5.4 µm⁻¹ is 0.00054 Å⁻¹",
                "wavevector_q",
            ),
            ("dt: 1, scattering: {wavevector_q: 54.0}", "54 µm⁻¹ is 0.0054 Å⁻¹", "wavevector_q"),
            (
                "dt: 500, scattering: {wavevector_q: 0.1}",
                "500 ms is 0.5 s and 500 µs is 0.0005 s",
                "dt",
            ),
        ],
    )
    def test_is_asked_about(self, selected, analyzer, question, name):
        with pytest.raises(InputError, match=rf"{question}; if it is in .*: \[{name}\]$"):
            selected(analyzer)
        selection = selected(f"{analyzer}, units_confirmed: [{name}]")
        assert str(selection.q[0]) in analyzer
        assert f"dt: {selection.dt:g}," in analyzer

    def test_both_at_once(self, selected):
        with pytest.raises(InputError) as caught:
            selected("dt: 500, scattering: {wavevector_q: 5.4}")
        assert len(str(caught.value).splitlines()) == 2


class TestWhatTheFileContradicts:
    @pytest.fixture
    def selected(self, tmp_path):
        c2 = np.broadcast_to(1 + np.eye(6), (2, 6, 6))
        write_array(tmp_path / "a.npz", c2, q=[0.004, 0.0054], phi=[0, 0], dt=0.1)

        def select(analyzer):
            text = f"experimental_data: {{file_path: a.npz}}\nanalyzer_parameters: {{{analyzer}}}"
            return parsed(text, tmp_path).selection()

        return select

    def test_a_wave_vector_in_inverse_nanometres(self, selected):
        with pytest.raises(InputError, match=r"is it in nm⁻¹\? 0\.054 nm⁻¹ is 0\.0054 Å⁻¹\)$"):
            selected("scattering: {wavevector_q: 0.054}")
        with pytest.raises(InputError, match=r"is it in µm⁻¹\? 54 µm⁻¹ is 0\.0054 Å⁻¹\)$"):
            selected("scattering: {wavevector_q: 54}")
        with pytest.raises(InputError, match="wavevector_q: .*; choose one of them$"):
            selected("scattering: {wavevector_q: 0.1}")

    @pytest.mark.parametrize(("dt", "unit"), [("100", "ms"), ("1e5", "µs")])
    def test_a_frame_time_in_another_unit(self, selected, dt, unit):
        with pytest.raises(InputError, match=rf"is it in {unit}\? .* {unit} is 0\.1 s\)$"):
            selected(f"scattering: {{wavevector_q: 0.004}}, dt: {dt}")
        with pytest.raises(InputError, match="set dt_override to true$"):
            selected("scattering: {wavevector_q: 0.004}, dt: 7")
