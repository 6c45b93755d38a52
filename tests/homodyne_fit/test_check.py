"""``check``: what a fit would do, and every mistake at once."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from homodyne_fit.cli import main
from homodyne_fit.config import load_config
from homodyne_fit.config.effects import WITHOUT_EFFECT
from homodyne_fit.data.formats.aps_u import write_aps_u
from homodyne_fit.data.formats.plain_array import write_array
from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC

N, DT, Q, PHI = 12, 0.1, (0.004, 0.0054), (0.0, 45.0, 90.0, 135.0)
GOOD = """\
experimental_data: {file_path: a.h5}
analyzer_parameters:
  dt: 0.1
  scattering: {wavevector_q: 0.0054}
  geometry: {stator_rotor_gap: 2e6}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    c2 = 1 + np.random.default_rng(0).random((len(Q) * len(PHI), N, N))
    write_aps_u(folder / "a.h5", c2, Q, PHI, np.arange(len(c2)), DT)
    write_array(folder / "bare.npy", c2[:2] + np.swapaxes(c2[:2], 1, 2))
    (folder / "frames.txt").write_text("3 four\n")
    return folder


@pytest.fixture
def checked(folder, capsys):
    def check(text, *options):
        path = folder / "c.yaml"
        path.write_text(text, encoding="utf-8")
        status = main(["check", str(path), *options])
        captured = capsys.readouterr()
        return status, captured.out, captured.err.replace(f"{folder}/", "")

    return check


def changed(old, new, more=""):
    assert old in GOOD
    return GOOD.replace(old, new) + more


def nlsq(text):
    return GOOD + f"optimization: {{nlsq: {{{text}}}}}\n"


GAP_KEY = "analyzer_parameters.geometry.stator_rotor_gap"
Q_KEY = "analyzer_parameters.scattering.wavevector_q"

# Broken configurations, each with the one line it leads to.
BROKEN = {
    "no YAML": (
        GOOD + "model: {",
        "c.yaml: not valid YAML: line 6, column 9: expected the node content, but found "
        "'<stream end>' (while parsing a flow node, line 6)",
    ),
    "a key twice": (
        GOOD + "model: {}\nmodel: {}\n",
        "c.yaml: not valid YAML: line 7, column 1: the key 'model' is given twice",
    ),
    "a misspelt section": (
        GOOD + "optimisation: {}\n",
        "c.yaml: optimisation: there is no such key (did you mean 'optimization'?)",
    ),
    "a misspelt key": (
        changed("wavevector_q", "wave_vector"),
        "c.yaml: analyzer_parameters.scattering.wave_vector: there is no such key (did you mean "
        "'wavevector_q'?)",
    ),
    "a key in the wrong section": (
        GOOD + "per_angle_mode: auto\n",
        "c.yaml: per_angle_mode: there is no such key (did you mean "
        "optimization.nlsq.anti_degeneracy.per_angle_mode?)",
    ),
    "a key of nowhere": (
        GOOD + "output: {xyz: 1}\n",
        "c.yaml: output.xyz: there is no such key; known here: directory",
    ),
    "a misspelt mode": (
        GOOD + "analysis_mode: laminarflow\n",
        "c.yaml: analysis_mode: must be 'laminar_flow', 'static', 'static_isotropic' or "
        "'static_anisotropic' (got 'laminarflow'; did you mean 'laminar_flow'?)",
    ),
    "a model of another program": (
        GOOD + "analysis_mode: two_component\ninitial_parameters: {parameter_names: [D0_ref]}\n",
        "c.yaml: analysis_mode: the model 'two_component' of xpcsjax is not available here; take "
        "'laminar_flow' or 'static'",
    ),
    "a misspelt parameter": (
        GOOD + "initial_parameters: {values: {gama_dot_t0: 1e-3}}\n",
        "c.yaml: initial_parameters.values.gama_dot_t0: there is no parameter 'gama_dot_t0' "
        "(did you mean 'gamma_dot_t0'?)",
    ),
    "a misspelt scaling mode": (
        nlsq("anti_degeneracy: {per_angle_mode: heirarchical}"),
        "c.yaml: optimization.nlsq.anti_degeneracy.per_angle_mode: must be 'auto', 'individual', "
        "'averaged', 'constant', 'fourier', 'hierarchical' or 'sequential' (got 'heirarchical'; "
        "did you mean 'hierarchical'?)",
    ),
    "a loss that nobody knows": (
        nlsq("loss: l3"),
        "c.yaml: optimization.nlsq.loss: must be 'linear', 'soft_l1', 'huber', 'cauchy' or "
        "'arctan' (got 'l3')",
    ),
    "a scale of a loss in units of c2": (
        nlsq("loss: huber, f_scale: 0.1"),
        "c.yaml: optimization.nlsq.f_scale: is in standard deviations of the noise, and below 0.5 "
        "hardly a point keeps its weight (got 0.1); 1.345 is usual for huber",
    ),
    "a word for a number": (
        changed("dt: 0.1", "dt: fast"),
        "c.yaml: analyzer_parameters.dt: a number is needed (got 'fast')",
    ),
    "no gap": (
        changed("stator_rotor_gap: 2e6", "") + "analysis_mode: laminar_flow\n",
        f"c.yaml: {GAP_KEY}: no value is given: laminar_flow needs the gap, in Å (1 mm = 1e7 Å)",
    ),
    "a gap in m": (
        changed("2e6", "1e-3"),
        f"c.yaml: {GAP_KEY}: a gap of 0.001 Å is not plausible; is it in another unit? 0.001 m "
        "is 1e+07 Å; if it is in Å, set analyzer_parameters.units_confirmed: [stator_rotor_gap]",
    ),
    "a gap in µm": (
        changed("2e6", "200"),
        f"c.yaml: {GAP_KEY}: a gap of 200 Å is not plausible; is it in another unit? 200 µm is "
        "2e+06 Å; if it is in Å, set analyzer_parameters.units_confirmed: [stator_rotor_gap]",
    ),
    "q in nm⁻¹": (
        changed("0.0054", "0.054"),
        f"c.yaml: {Q_KEY}: a.h5: no matrix is near q = 0.054 Å⁻¹, but the file has q = 0.004, "
        "0.0054 Å⁻¹; the nearest is 0.0486 Å⁻¹ away, and half a bin is 0.0007 Å⁻¹; choose one "
        "of them (is it in nm⁻¹? 0.054 nm⁻¹ is 0.0054 Å⁻¹)",
    ),
    "q not said": (
        changed("wavevector_q: 0.0054", ""),
        f"c.yaml: {Q_KEY}: a.h5: the file has q = 0.004, 0.0054 Å⁻¹; choose one of them",
    ),
    "phi0 in radians": (
        GOOD + "parameter_space: {bounds: [{name: phi0, min: -3.14159, max: 3.14159}]}\n",
        "c.yaml: parameter_space.bounds.0: the bounds of phi0: -3.14159, 3.14159 looks like "
        "radians, but degrees are needed: -180, 180; if it is in degrees, set "
        "analyzer_parameters.units_confirmed: [phi]",
    ),
    "dt in ms": (
        changed("dt: 0.1", "dt: 100"),
        "c.yaml: analyzer_parameters.dt: a.h5: 100 s is given, but the file says 0.1 s "
        "(frame_time 0.1 × stride_frame 1 × avg_frame 1); remove it, or set dt_override to true "
        "(is it in ms? 100 ms is 0.1 s)",
    ),
    "too many frames": (
        changed("dt: 0.1", "end_frame: 2000"),
        "c.yaml: analyzer_parameters.start_frame, end_frame: a.h5: the frames 1 to 2000 are "
        "wanted, but the file has the frames 1 to 12 (they count from 1; -1 is the last)",
    ),
    "a list of frames": (
        changed("a.h5}", "a.h5, mask_frames: frames.txt}"),
        "c.yaml: experimental_data.mask_frames: frames.txt: line 1: 'four' is not a frame number, "
        "counted from 1; frames themselves are a list, as [17, 18]",
    ),
    "no such file": (
        changed("a.h5", "b.h5"),
        "c.yaml: experimental_data.file_path: b.h5: there is no such file (did you mean 'a.h5'?)",
    ),
    "no file": (
        changed("experimental_data: {file_path: a.h5}", ""),
        "c.yaml: experimental_data.file_path is missing",
    ),
    "no angle there": (
        GOOD + "phi_filtering: {target_ranges: [{min_angle: 10, max_angle: 20}]}\n",
        "c.yaml: phi_filtering.target_ranges: a.h5: no angle is within 10 to "
        "20°; at this q the file has φ = 0, 45, 90, 135°",
    ),
    "angles chosen twice": (
        GOOD + "preprocessing: {phi_range: [0, 50]}\n"
        "phi_filtering: {target_ranges: [{min_angle: 0, max_angle: 20}]}\n",
        "c.yaml: preprocessing.phi_range: this key and phi_filtering.target_ranges both select "
        "angles; keep one",
    ),
    "a start outside its bounds": (
        GOOD + "initial_parameters: {values: {D0: 50}}\n"
        "parameter_space: {bounds: [{name: D0, min: 100, max: 1e5}]}\n",
        "c.yaml: initial_parameters.values.D0: the start of D0, 50, is outside its bounds, 100 to "
        "100000; change it, or widen the bounds",
    ),
    "a prefactor that starts at nothing": (
        GOOD + "initial_parameters: {values: {D0: 0}}\n",
        "c.yaml: initial_parameters.values.D0: the start of D0, 0, is not above 0; change it, or "
        "give bounds",
    ),
    "held at nothing": (
        GOOD + "initial_parameters: {active_parameters: [D0, alpha, gamma_dot_t0, phi0], "
        "values: {beta: 0}}\n",
        "c.yaml: initial_parameters.values: parameters that are not in active_parameters are held, "
        "and need a value: D_offset, gamma_dot_t_offset",
    ),
    "held and fitted": (
        GOOD + "initial_parameters: {active_parameters: [beta], fixed_parameters: {beta: 0}}\n",
        "c.yaml: initial_parameters: beta is in active_parameters and in fixed_parameters",
    ),
    "bounds the wrong way round": (
        GOOD + "parameter_space: {bounds: [{name: D0, min: 10, max: 1}]}\n",
        "c.yaml: parameter_space.bounds.D0: the lower bound, 10, is not below the upper, 1",
    ),
    "too few angles for the series": (
        nlsq("anti_degeneracy: {per_angle_mode: fourier}"),
        "c.yaml: optimization.nlsq.anti_degeneracy.fourier_order: a series of order 2 needs at "
        "least 5 angles, but 4 are used; lower it, or take another per_angle_mode",
    ),
    "contrasts of other angles": (
        nlsq("anti_degeneracy: {per_angle_mode: constant}")
        + "initial_parameters: {per_angle_scaling: {contrast: [0.3, 0.3]}}\n",
        "c.yaml: initial_parameters.per_angle_scaling.contrast: 2 values for 4 angles; give one "
        "value, or one for each angle",
    ),
    "an offset that cannot be": (
        nlsq("anti_degeneracy: {per_angle_mode: constant, constant: {offset: 3}}"),
        "c.yaml: optimization.nlsq.anti_degeneracy.constant.offset: [3.0] is not within the bounds "
        "of offset, 0.5 to 1.5",
    ),
    "offsets given twice": (
        nlsq("anti_degeneracy: {per_angle_mode: constant, constant: {offset: 1}}")
        + "initial_parameters: {per_angle_scaling: {offset: 1}}\n",
        "c.yaml: initial_parameters.per_angle_scaling.offset: "
        "optimization.nlsq.anti_degeneracy.constant.offset gives it, too; keep one",
    ),
}


class TestMistakes:
    @pytest.mark.parametrize(("text", "line"), BROKEN.values(), ids=BROKEN)
    def test_each_is_one_line(self, checked, text, line):
        status, out, err = checked(text)
        assert (status, out) == (1, "")
        assert err == f"homodyne_fit: error: {line}\n"

    @staticmethod
    def assert_all(checked, text, *keys):
        status, _, err = checked(text)
        assert status == 1
        lines = err.splitlines()
        assert len(lines) == len(keys)
        for key in keys:
            assert sum(bool(re.search(key, line)) for line in lines) == 1, key

    def test_all_of_the_text_are_said_at_once(self, checked):
        text = """\
experimental_data: {file_path: a.h5}
analyzer_parameters: {dt: 0.5, end_frame: 99, scattering: {wavevector_q: 0.02}}
initial_parameters: {values: {D0: 5, beta: high}, fixed_parameters: {D_ofset: 0}}
optimization: {nlsq: {max_iterations: 0}, nslq: {}}
output: {directory: a}
output: {directory: b}
"""
        self.assert_all(
            checked,
            text,
            "key 'output' is given twice",
            r"optimization\.nslq: there is no such key",
            r"initial_parameters\.values\.beta: a number",
            r"fixed_parameters\.D_ofset: there is no parameter",
            r"max_iterations: must be greater than 0",
        )

    def test_all_between_keys_and_about_the_data_are_said_at_once(self, checked):
        text = """\
experimental_data: {file_path: a.h5}
analyzer_parameters: {dt: 0.5, end_frame: 99, scattering: {wavevector_q: 0.02}}
initial_parameters: {values: {D0: 5}}
parameter_space: {bounds: [{name: phi0, min: -3.1416, max: 3.1416}, {name: D0, min: 9, max: 99}]}
"""
        self.assert_all(
            checked,
            text,
            r"bounds\.0: the bounds of phi0",
            r"values\.D0: the start of D0, 5, is outside",
            r"stator_rotor_gap: no value is given",
            r"dt: .*: 0\.5 s is given, but the file says 0\.1 s",
            r"the frames 1 to 99 are wanted",
            r"no matrix is near q = 0\.02",
        )

    def test_what_follows_from_a_mistake_is_not_said_as_well(self, checked):
        _, _, err = checked(changed("2e6", "two"))
        (line,) = err.splitlines()
        assert "stator_rotor_gap: a number is needed" in line
        _, _, err = checked(changed("wavevector_q", "wavevctor_q"))
        (line,) = err.splitlines()
        assert "wavevctor_q: there is no such key" in line

    def test_to_programs(self, checked):
        status, out, err = checked(changed("2e6", "200").replace("a.h5", "b.h5"), "--json")
        assert (status, err) == (1, "")
        found = json.loads(out)
        assert found["ok"] is False
        assert [("gap of 200" in e, "no such file" in e) for e in found["errors"]] == [
            (True, False),
            (False, True),
        ]

    def test_a_fit_names_them_all_at_once_too(self, folder, capsys):
        (folder / "c.yaml").write_text(changed("2e6", "200").replace("a.h5", "b.h5"))
        assert main(["--config", str(folder / "c.yaml")]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert [("gap of 200" in line, "no such file" in line) for line in lines] == [
            (True, False),
            (False, True),
        ]

    def test_no_configuration_is_named(self, capsys):
        assert main(["check"]) == 1
        assert "check needs a configuration: homodyne_fit check CONFIG" in capsys.readouterr().err


def described(checked, text, *options):
    status, out, err = checked(text, "--json", *options)
    assert (status, err) == (0, "")
    return json.loads(out)


class TestPlan:
    def test_is_what_the_fit_loads(self, checked, folder):
        text = changed(
            "dt: 0.1",
            "start_frame: 2\n  end_frame: 10",
            "preprocessing: {phi_range: [-10, 100]}\n",
        ).replace("a.h5}", "a.h5, mask_frames: [1, 3, 4]}")
        plan = described(checked, text)
        data = load_config(folder / "c.yaml").load_data()
        rows, columns = np.triu_indices(data.n_frames, 1)
        assert plan["data"]["n_points"] == np.isfinite(data.c2[:, rows, columns]).sum()
        assert plan["data"]["phi"] == data.phi.tolist() == [0, 45, 90]
        assert plan["data"]["q"] == data.q.tolist()
        assert plan["data"]["dt"] == data.dt
        assert plan["data"]["n_angles_at_q"] == 4
        assert (plan["data"]["first_frame"], plan["data"]["last_frame"]) == (2, 10)
        assert plan["data"]["n_frames_masked"] == 2
        assert plan["data"]["notes"] == list(data.notes)

    def test_parameters_are_those_of_the_settings(self, checked, folder):
        text = (
            GOOD + "initial_parameters: {values: {D0: 2000, beta: 0.5}, fixed_parameters: "
            "{D_offset: 3}}\nparameter_space: {bounds: [{name: beta, min: 0, max: 1}]}\n"
        )
        plan = described(checked, text)
        config = load_config(folder / "c.yaml")
        data, settings = config.load_data(), config.settings()
        bounds = settings.bounds_for(data.q, data.dt, data.n_frames)
        by_name = {each["name"]: each for each in plan["parameters"]}
        assert tuple(by_name)[:7] == LAMINAR_FLOW.parameters
        assert {n: p["start"] for n, p in by_name.items() if p["role"] == "held"} == settings.fixed
        for name, start in settings.initial.items():
            assert by_name[name]["start"] == start
        assert [by_name[name]["bounds_from"] for name in ("beta", "D_offset", "D0", "alpha")] == [
            "given",
            None,
            "measurement",
            "default",
        ]
        for name, each in by_name.items():
            if each["role"] != "held":
                assert (each["lower"], each["upper"]) == bounds[name]

    def test_static(self, checked):
        plan = described(checked, GOOD + "analysis_mode: static\n")
        assert plan["model"] == "static"
        assert [p["name"] for p in plan["parameters"]] == [*STATIC.parameters, "contrast", "offset"]
        assert plan["stator_rotor_gap"] is None
        assert [each["path"] for each in plan["without_effect"]] == [GAP_KEY]

    @pytest.mark.parametrize(
        ("settings", "layers"),
        [
            (
                "",
                [
                    "reparametrization",
                    "hierarchical",
                    "regularization",
                    "gradient_monitoring",
                    "shear_weighting",
                ],
            ),
            (
                "shear_weighting: {enable: false}",
                ["reparametrization", "hierarchical", "regularization", "gradient_monitoring"],
            ),
            (
                "per_angle_mode: averaged, hierarchical: {enable: false}",
                ["reparametrization", "gradient_monitoring"],
            ),
            ("enable: false", ["reparametrization"]),
            (
                "per_angle_mode: constant, shear_weighting: {enable: true}",
                ["reparametrization", "gradient_monitoring", "shear_weighting"],
            ),
            (
                "per_angle_mode: individual, regularization: {enable: true, mode: cv}, "
                "hierarchical: {enable: false}, gradient_monitoring: {enable: false}",
                ["reparametrization", "regularization"],
            ),
        ],
    )
    def test_layers_are_those_that_the_fit_builds(self, checked, folder, settings, layers):
        from homodyne_fit.fitting.layers.build import build_layers

        plan = described(checked, nlsq(f"anti_degeneracy: {{{settings}}}"))
        assert list(plan["layers"]) == layers
        config = load_config(folder / "c.yaml")
        built = build_layers(config.load_data(), config.settings(), np.zeros(7))
        assert [layer.name for layer in built.layers] == layers

    def test_estimates_say_what_they_rest_on(self, checked):
        estimate = described(checked, GOOD)["estimate"]
        compiled_before, compiled_first = estimate["seconds"]
        assert 0 < compiled_before < compiled_first
        assert estimate["memory"] > 4 * N * N * len(PHI)
        assert "as measured" in estimate["basis"]

    def test_a_fit_from_the_disk_takes_less_memory(self, checked):
        size = 4 * N * N
        less = described(checked, nlsq(f"memory: {3 * size}"))["estimate"]
        assert less["memory"] < described(checked, GOOD)["estimate"]["memory"]
        assert less["basis"].startswith("points that are kept in memory and")

    def test_where_results_would_go(self, checked, folder, tmp_path):
        assert described(checked, GOOD)["output"] == str(folder / "c_results")
        named = described(checked, GOOD + "output: {directory: there}\n")
        assert named["output"] == "there"
        option = described(checked, GOOD, "--output-dir", str(tmp_path))
        assert option["output"] == str(tmp_path)
        (tmp_path / "result.h5").touch()
        _, out, _ = checked(GOOD, "--output-dir", str(tmp_path))
        assert "holds results already, so that the fit needs --overwrite" in out

    def test_to_people(self, checked):
        status, out, err = checked(GOOD + "metadata: {a: 1}\nlogging: {}\nmodel: {shear: homodyne}")
        assert (status, err) == (0, "")
        for line in (
            r".*c\.yaml: no mistakes found \(no matrix was read; 'inspect' assesses them\)",
            r"model +laminar_flow: .*gap 2 × 10⁶ Å = 0\.2 mm, shear term of homodyne",
            r"data +.*a\.h5 \(APS-U\)",
            r"q +0\.0054 Å⁻¹",
            r"angles +4 of 4: 0, 45, 90, 135°",
            r"frames +1 to 12 of 12, 0\.1 s apart, 1\.1 s in all",
            r"points +264 with t1 < t2, .*",
            r"search +128 starts \(latin_hypercube, seed 0\), .*",
            r" +D0 +from the data +0\.001 +1 × 10⁹  Å²/s +measurement",
            r" +beta +0 unless needed +−2 +2 +default",
            r" +\(measurement: what q, dt, the duration and the gap allow to resolve, .*\)",
            r"2 keys without effect",
            r"  metadata \(a note for the reader\)",
            r"  logging \(options of the command line choose the output\)",
        ):
            assert re.search(f"^{line}$", out, re.MULTILINE), line


def with_all_foreign_keys():
    """A configuration with the keys of other programs, and those of ours they share."""
    root = yaml.safe_load(GOOD)
    root["parameter_space"] = {"bounds": [{"name": "D0", "min": 100, "max": 1e5}]}
    root["phi_filtering"] = {"target_ranges": [{"min_angle": 80, "max_angle": 100}]}
    for path in WITHOUT_EFFECT:
        *sections, key = path.split(".")
        part = root
        for section in sections:
            part = part.setdefault(section, {})
            part = part[0] if isinstance(part, list) else part
        part[key] = {"any": "thing"}
    return root


def test_a_configuration_of_another_program_is_read_and_every_idle_key_explained(checked):
    plan = described(checked, yaml.safe_dump(with_all_foreign_keys()))
    assert {each["path"]: each["reason"] for each in plan["without_effect"]} == WITHOUT_EFFECT
    assert plan["data"]["phi"] == [90]


def test_the_manual_lists_every_idle_key_with_the_reason():
    manual = Path(__file__).parents[2] / "docs" / "configuration.md"
    rows = [row.split("|") for row in manual.read_text(encoding="utf-8").splitlines()]
    listed = {
        path: row[2].strip() for row in rows if len(row) == 4 for path in row[1].split("`")[1::2]
    }
    for path, why in WITHOUT_EFFECT.items():
        assert listed.get(path) == why, path


def test_it_is_quick_to_start(folder):
    (folder / "quick.yaml").write_text(GOOD)
    code = (
        "import sys\n"
        "from homodyne_fit.cli import main\n"
        f"status = main(['check', {str(folder / 'quick.yaml')!r}])\n"
        "print('loaded:', *sorted(name for name in sys.modules if '.' not in name))\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("loaded:")[2].split())
    assert {"homodyne_fit", "h5py", "pydantic"} <= loaded
    assert not loaded & {"jax", "nlsq", "scipy", "matplotlib"}


def test_the_manual_lists_what_is_said_about_each_mistake():
    manual = Path(__file__).parents[2] / "docs" / "errors.md"
    section = manual.read_text(encoding="utf-8").split("## Configurations\n")[1]
    rows = dict(re.findall(r"^\| ([^|`]+) \| `(.+)` \|$", section, re.MULTILINE))
    assert rows == {kind: line for kind, (_, line) in BROKEN.items()}
