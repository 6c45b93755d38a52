"""Configurations of homodyne and xpcsjax of all generations: what becomes of their keys."""

import json
from pathlib import Path

import numpy as np
import pytest

from homodyne_fit.config import load_config, parse_config
from homodyne_fit.config.consistency import held_values
from homodyne_fit.data.formats.homodyne_cache import write_homodyne_cache
from homodyne_fit.errors import InputError

CONFIGS = Path(__file__).parents[3] / "shared" / "data" / "real" / "configs"

MINIMAL = "experimental_data: {file_path: a.h5}\n"


def parsed(text):
    return parse_config(text, Path("c.yaml"))


def problems(text):
    with pytest.raises(InputError) as raised:
        parsed(text)
    return str(raised.value).splitlines()


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="the sample configurations are not there")
class TestRealConfigurations:
    """Each with what its program would take from it."""

    @pytest.fixture(autouse=True)
    def root(self, monkeypatch):
        monkeypatch.setenv("XPCSJAX_DATA_ROOT", "/beamline")

    @pytest.mark.parametrize(
        ("name", "mode", "q", "dt", "frames", "path"),
        [
            (
                "ha_head_laminar_flow.json",
                *("laminar_flow", 0.01, 0.1, (100, 1000)),
                "data/SAMPLE_NAME/your_data_file.hdf",
            ),
            ("ha_my_config_462696e.json", "laminar_flow", 0.0054, 0.1, (1001, 2000), None),
            (
                "ha_my_config_e75ed9e.json",
                *("static_isotropic", 0.0237, 0.5, (400, 1000)),
                "data/Simon/your_data_file.hdf",
            ),
            ("hom_multistart_example.yaml", "laminar_flow", None, None, (1, -1), None),
            (
                "legacy_temporal_handmade.yaml",
                *("static", 0.0054, 0.1, (1, 500)),
                "data_q0.0054.h5",
            ),
            (
                "xj_static_fixture_79654cb.yaml",
                *("static", 0.0237, 0.5, (401, 1000)),
                "/beamline/Simon/cached_c2_frames_401_1000.npz",
            ),
        ],
    )
    def test_each_is_read(self, name, mode, q, dt, frames, path):
        root = load_config(CONFIGS / name).root
        analyzer = root.analyzer_parameters
        assert root.analysis_mode == mode
        assert (analyzer.scattering.wavevector_q, analyzer.dt) == (q, dt)
        assert (analyzer.start_frame, analyzer.end_frame) == frames
        assert path is None or root.experimental_data.path == Path(path)

    def test_every_one_is_known_here(self):
        assert len(list(CONFIGS.iterdir())) == 6

    def test_values_and_bounds_of_an_older_generation(self):
        root = load_config(CONFIGS / "ha_my_config_462696e.json").root
        assert root.initial_parameters.start == {
            "D0": 23312.0,
            "alpha": -0.8,
            "D_offset": 1070.0,
            "gamma_dot_t0": 0.0006,
            "beta": -0.4,
            "gamma_dot_t_offset": -5e-05,
            "phi0": 1.0,
        }
        (bound,) = [each for each in root.parameter_space.bounds if each.name == "gamma_dot_t0"]
        assert (bound.min, bound.max) == (1e-6, 1.0)
        assert root.analyzer_parameters.geometry.stator_rotor_gap == 2e6
        ranges = root.phi_filtering.target_ranges
        assert [(each.min_angle, each.max_angle) for each in ranges] == [(-10, 10), (170, 190)]
        head = load_config(CONFIGS / "ha_head_laminar_flow.json").root
        assert head.initial_parameters.start["gamma_dot_t0"] == 1.0

    def test_a_filter_that_is_off_stays_off(self):
        assert not load_config(CONFIGS / "ha_my_config_e75ed9e.json").root.phi_filtering.enabled

    def test_what_was_taken_from_elsewhere_is_said(self):
        notes = load_config(CONFIGS / "ha_my_config_e75ed9e.json").notes
        assert notes == (
            "the start of D0, 16000, is outside its bounds, 0.01 to 10000; the search starts at "
            "10000",
            "analysis_mode is not given; static_isotropic is taken from metadata.analysis_mode",
        )
        (note,) = load_config(CONFIGS / "xj_static_fixture_79654cb.yaml").notes
        assert "the static model is fitted, as homodyne and xpcsjax do" in note
        assert load_config(CONFIGS / "hom_multistart_example.yaml").notes == ()

    def test_keys_without_effect_are_named(self):
        ignored = load_config(CONFIGS / "hom_multistart_example.yaml").ignored
        assert "optimization.nlsq.multi_start.subsample_size" in ignored
        assert "optimization.nlsq.multi_start.warmup_only_threshold" in ignored
        ignored = load_config(CONFIGS / "ha_head_laminar_flow.json").ignored
        assert "experimental_data.preprocessing" in ignored
        assert not [path for path in ignored if path.rpartition(".")[2].startswith("_")]


class TestKeysWithAnotherPlace:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("dt: 0.5\n", 0.5),
            ("analyzer_parameters: {temporal: {dt: 0.5}}\n", 0.5),
            ("analyzer_parameters: {dt: 0.5, temporal: {dt: 0.5, dt_unit: seconds}}\n", 0.5),
        ],
    )
    def test_the_frame_time(self, text, value):
        assert parsed(MINIMAL + text).root.analyzer_parameters.dt == value

    def test_two_values_that_differ(self):
        (line,) = problems("analyzer_parameters: {dt: 0.5, temporal: {dt: 0.1}}\n")
        assert line == (
            "c.yaml: analyzer_parameters.temporal.dt: analyzer_parameters.dt is given, too, with "
            "another value (0.5 and 0.1); keep one"
        )

    def test_a_flat_data_file(self):
        assert parsed("data_file: b.h5\n").root.experimental_data.path == Path("b.h5")

    def test_the_number_of_evaluations(self):
        found = parsed("optimization: {nlsq: {max_nfev: 77}}\n").root
        assert found.optimization.nlsq.max_nfev == 77

    def test_an_unknown_key_of_a_moved_section_is_still_a_mistake(self):
        (line,) = problems("analyzer_parameters: {temporal: {dt: 1, start: 3}}\n")
        assert "analyzer_parameters.temporal: there is no such key" in line

    def test_names_of_older_generations(self):
        text = "initial_parameters: {values: {gamma0: 0.1, gamma_offset: 0.2}}\n"
        start = parsed(text).root.initial_parameters.start
        assert start == {"gamma_dot_t0": 0.1, "gamma_dot_t_offset": 0.2}

    def test_bounds_that_fix_hold_the_value(self):
        text = (
            "analysis_mode: laminar_flow\n"
            "parameter_space: {bounds: [{name: beta, min: 0.5, max: 0.5, type: fixed}]}\n"
        )
        config = parsed(text)
        assert held_values(config.root) == {"beta": 0.5}
        assert config.root.parameter_space.bounds == []


class TestComments:
    def test_keys_that_begin_with_an_underscore_are_comments_at_any_depth(self):
        text = json.dumps(
            {
                "_comment": "x",
                "_troubleshooting": {"a": [1]},
                "analysis_mode": "static",
                "experimental_data": {"_note": "x", "file_path": "a.h5"},
                "parameter_space": {"bounds": [{"name": "D0", "min": 1, "max": 2, "_min": 3}]},
            }
        )
        config = parsed(text)
        assert config.ignored == ()
        assert config.root.experimental_data.file_path == "a.h5"

    def test_a_misspelt_key_is_no_comment(self):
        (line,) = problems("analysismode: static\n")
        assert "did you mean 'analysis_mode'?" in line
        (line,) = problems("optimization_config: {}\nanalyzer_parameters: {start_fram: 3}\n")
        assert "did you mean 'start_frame'?" in line


class TestAnalysisMode:
    @pytest.mark.parametrize(
        ("text", "mode"),
        [
            ("metadata: {analysis_mode: static_anisotropic}\n", "static_anisotropic"),
            ("analysis_settings: {static_mode: true}\n", "static"),
            (
                "analysis_settings: {static_mode: true, static_submode: anisotropic}\n",
                "static_anisotropic",
            ),
            ("analysis_settings: {static_mode: false, static_submode: null}\n", "laminar_flow"),
            ("", "static"),
        ],
    )
    def test_what_is_taken_is_said(self, text, mode):
        config = parsed(MINIMAL + text)
        assert config.root.analysis_mode == mode
        (note,) = config.notes
        assert note.startswith("analysis_mode is not given")

    @pytest.mark.parametrize(
        "text",
        [
            "analyzer_parameters: {geometry: {stator_rotor_gap: 2e6}}\n",
            "initial_parameters: {values: {gamma_dot_t0: 0.1}}\n",
            "initial_parameters: {parameter_names: [D0, beta], values: [1, 0]}\n",
            "parameter_space: {bounds: [{name: phi0, min: -10, max: 10}]}\n",
        ],
    )
    def test_what_only_flow_has_means_flow(self, text):
        config = parsed(MINIMAL + text)
        assert (config.root.analysis_mode, config.notes) == ("laminar_flow", ())

    def test_a_mode_that_is_given_counts(self):
        text = "analysis_mode: laminar_flow\nmetadata: {analysis_mode: static}\n"
        config = parsed(MINIMAL + text)
        assert (config.root.analysis_mode, config.notes) == ("laminar_flow", ())

    def test_it_is_said_by_check(self, tmp_path, called):
        write_homodyne_cache(tmp_path / "a.npz", np.ones((1, 5, 5)) + np.eye(5), 0.004, [0.0], 0.1)
        (tmp_path / "c.yaml").write_text("experimental_data: {file_path: a.npz}\n")
        done = called("check", tmp_path / "c.yaml")
        assert done.status == 0
        assert "note        analysis_mode is not given, and neither are a gap" in done.out

    @pytest.mark.parametrize("mode", ["two_component", "heterodyne"])
    def test_two_components_are_not_available(self, mode):
        (line,) = problems(f"analysis_mode: {mode}\nparameters: {{reference: {{D0_ref: 1}}}}\n")
        assert line.startswith(f"c.yaml: analysis_mode: the model '{mode}' of xpcsjax is not avail")


# A key that would change the result: the text, and the beginning of the only line.
REFUSED = {
    "q filter": (
        "data_filtering: {enabled: true, q_range: {min: 0.004, max: 0.006}}\n",
        "data_filtering.q_range: is not available; use analyzer_parameters.scattering.wavevector_q",
    ),
    "φ filter": (
        "data_filtering: {enabled: true, phi_range: {min: -10, max: 10}}\n",
        "data_filtering.phi_range: is not available; use preprocessing.phi_range, or phi_filtering",
    ),
    "tied parameters": (
        "initial_parameters: {tied_parameters: {beta: alpha}}\n",
        "initial_parameters.tied_parameters: tied parameters are not available; hold one with",
    ),
    "parameters of two components": (
        "parameters: {reference: {D0_ref: {value: 1}}}\n",
        "parameters: these are parameters of the two-component model, which is not available",
    ),
    "smoothing": (
        "preprocessing: {enabled: true, stages: {noise_reduction: {enabled: true}}}\n",
        "preprocessing.stages.noise_reduction: the matrices are fitted as they are measured",
    ),
    "each angle by itself": (
        "optimization: {nlsq: {anti_degeneracy: {per_angle_mode: independent}}}\n",
        "optimization.nlsq.anti_degeneracy.per_angle_mode: fits of each angle by itself are not",
    ),
    "a loss with a scale of c2": (
        "optimization: {nlsq: {loss: soft_l1, f_scale: 0.1}}\n",
        "optimization.nlsq.f_scale: is in standard deviations of the noise, and below 0.5 hardly",
    ),
    "a time in ms": (
        "analyzer_parameters: {temporal: {dt: 100, dt_unit: ms}}\n",
        "analyzer_parameters.temporal.dt_unit: the unit is 'ms', but s is needed; convert",
    ),
    "q in 1/nm": (
        "analyzer_parameters: {scattering: {wavevector_q: 0.05, q_unit: nm⁻¹}}\n",
        "analyzer_parameters.scattering.q_unit: the unit is 'nm⁻¹', but Å⁻¹ is needed; convert",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_key_that_changes_the_result_is_refused_with_the_name_of_ours(kind):
    text, beginning = REFUSED[kind]
    lines = [line.removeprefix("c.yaml: ") for line in problems(text)]
    assert lines[0].startswith(beginning)


@pytest.mark.parametrize(
    "text",
    [
        "data_filtering: {enabled: false, q_range: {min: 1, max: 2}}\n",
        "initial_parameters: {tied_parameters: {}}\n",
        "preprocessing: {enabled: false, stages: {noise_reduction: true}}\n",
        "preprocessing: {enabled: true, stages: {diagonal_correction: {enabled: true}}}\n",
        "optimization: {nlsq: {f_scale: 0.1, diff_step: 1e-6, use_adapter: true}}\n",
        "optimization: {lsq: {}, fast_chi2_mode: true}\nmemory: {max_gb: 4}\n",
        "config_version: '2.0'\nhardware: {force_cpu: true}\nv2_features: {a: 1}\n",
        "q_tolerance_fraction: 0.1\noutput: {plots: {enabled: true}}\n",
        "output_settings: {}\nadvanced_features: {}\nbasic_optimization: {}\n",
        "analyzer_parameters: {scattering: {q_unit: Å⁻¹, q_description: x}}\n",
    ],
)
def test_a_key_that_changes_nothing_is_only_named(text):
    parsed(text)


class TestPaths:
    @pytest.mark.parametrize("written", ["${SOMEWHERE}/a.h5", "$SOMEWHERE/a.h5"])
    def test_variables_of_the_environment(self, monkeypatch, written):
        monkeypatch.setenv("SOMEWHERE", "/beamline")
        config = parsed(f"experimental_data: {{file_path: {written!r}}}\n")
        assert config.root.experimental_data.path == Path("/beamline/a.h5")

    def test_home(self, monkeypatch):
        monkeypatch.setenv("HOME", "/home/someone")
        text = "experimental_data: {data_folder_path: '~/run', data_file_name: a.h5}\n"
        assert parsed(text).root.experimental_data.path == Path("/home/someone/run/a.h5")

    def test_a_variable_that_is_not_set(self, monkeypatch, tmp_path):
        monkeypatch.delenv("NOWHERE", raising=False)
        text = "experimental_data: {file_path: '${NOWHERE}/a.h5'}\n"
        (line,) = problems(text)
        assert line.endswith(
            "the variable NOWHERE is not set in the environment (got '${NOWHERE}/a.h5')"
        )
        replaced = [("experimental_data.file_path", "$x.h5")]
        config = parse_config(text, tmp_path / "c.yaml", replaced)
        assert config.root.experimental_data.path == Path("$x.h5")

    @pytest.mark.parametrize("quoted", [r"C:\data\run.h5", r"'C:\data\run.h5'"])
    def test_a_path_of_windows(self, quoted):
        config = parsed(f"experimental_data:\n  file_path: {quoted}\n")
        assert config.root.experimental_data.file_path == r"C:\data\run.h5"

    @pytest.mark.parametrize("path", [r"C:\data", r"C:\temp", r"C:\new", r"\\server\raw"])
    def test_a_path_of_windows_in_double_quotes(self, path):
        text = f'experimental_data:\n  file_path: "{path}"\n'
        if path.startswith("\\"):
            text = text.replace("\\\\", "\\")
        (line,) = problems(text)
        assert "single quotes" in line


class TestEncodings:
    TEXT = "# wave vector in Å⁻¹\nexperimental_data: {file_path: 'Meßung.h5'}\n"

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    def test_unicode(self, tmp_path, encoding):
        (tmp_path / "c.yaml").write_bytes(self.TEXT.encode(encoding))
        config = load_config(tmp_path / "c.yaml", [("analysis_mode", "static")])
        assert config.root.experimental_data.file_path == "Meßung.h5"
        assert config.notes == ()

    def test_latin_1_is_said(self, tmp_path):
        (tmp_path / "c.yaml").write_bytes(self.TEXT.replace("⁻¹", "^-1").encode("latin-1"))
        config = load_config(tmp_path / "c.yaml", [("analysis_mode", "static")])
        assert config.root.experimental_data.file_path == "Meßung.h5"
        assert config.notes == (f"{tmp_path / 'c.yaml'} is not in UTF-8, and is read as cp1252",)

    @pytest.mark.parametrize("content", [b"\x89HDF\r\n\x1a\n\0\0\0\xff", b"\x93NUMPY\x01\0v\0{'d"])
    def test_data_are_no_text(self, tmp_path, content):
        (tmp_path / "c.yaml").write_bytes(content)
        with pytest.raises(InputError, match="a configuration is a text file, and this is none"):
            load_config(tmp_path / "c.yaml")

    def test_json_with_tabs_and_exponents(self):
        text = '{\n\t"analysis_mode": "static",\n\t"analyzer_parameters": {"dt": 1e-6}\n}\n'
        assert parsed(text).root.analyzer_parameters.dt == 1e-6

    def test_json_with_a_key_twice(self):
        lines = problems('{"analysis_mode": "static", "analysis_mode": "laminar_flow"}')
        assert lines == ["c.yaml: not valid JSON: the key 'analysis_mode' is given twice"]
