import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure

from homodyne_fit.cli import main
from homodyne_fit.cli.commands import inspect
from homodyne_fit.cli.console import by_section, table
from homodyne_fit.cli.options import COMMANDS
from homodyne_fit.data.formats.aps_u import write_aps_u
from homodyne_fit.data.formats.plain_array import write_array
from homodyne_fit.errors import counted, ranges

DATA = Path(__file__).parents[3] / "shared" / "data"
OUTPUTS = {"parameters.json", "parameters.csv", "angles.csv", "result.h5", "report.html"}
PHYSICS = ("D0", "alpha", "D_offset", "gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0")
ESTIMATE = {"value", "stderr", "unit", "at_bound", "fixed"}
UNITS = ("Å²/s", "", "Å²/s", "1/s", "", "1/s", "°")
CONTRASTS, OFFSETS = (0.25, 0.3, 0.35, 0.28), (0.99, 1.0, 1.01, 1.02)


def called(*arguments):
    """Run the command line; exit status, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


def quoted(path):
    """A path as a shell takes it."""
    return shlex.quote(str(path))


def strict(text):
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def assert_one_line(err, message):
    assert re.fullmatch(f"homodyne_fit: error: {message}\n", err), err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("road")


@pytest.fixture(scope="module")
def road(folder):
    """From nothing to results, as the messages of the commands say."""
    data, config = folder / "s.h5", folder / "s.yaml"
    options = ("--phi", "0,45,90,135", "--frames", "80", "--noise", "0.02", "--seed", "11")
    contrast = ("--contrast", ",".join(map(str, CONTRASTS)))
    offset = ("--offset", ",".join(map(str, OFFSETS)))
    simulated = called("simulate", "-o", data, *options, *contrast, *offset)
    inspected = called("inspect", data)
    initialised = called("init", data, "-o", config)
    unfilled = called("--config", config)
    config.write_text(config.read_text().replace("_gap: null", "_gap: 2e6"))
    fitted = called("--config", config)
    return SimpleNamespace(**locals(), results=folder / "s_results")


@pytest.fixture
def without_plots(monkeypatch):
    """An empty report: plots take longer than the fit."""
    monkeypatch.setattr(
        "homodyne_fit.report.html.write_report", lambda path, *_: path.write_text("")
    )


@pytest.fixture
def configured(road, tmp_path, without_plots):
    """Run a quick fit of the road's data, its configuration changed and extended."""

    def run(change=None, extra="", *options):
        text = road.config.read_text()
        if change is not None:
            before, after = change
            assert before in text
            text = text.replace(before, after)
        text = text.replace("'s.h5'", f"'{road.data}'")
        config = tmp_path / "c.yaml"
        config.write_text(text + extra)
        quick = ("--set", "optimization.nlsq.multi_start.n_starts=16")
        return called("--config", config, *quick, *options)

    return run


def whole_summary(road):
    """Lines of all that is known of the fit."""
    done = called("report", road.results, "--output-dir", road.folder / "again", "--summary", "-v")
    assert done.status == 0
    return done.out.splitlines()


class TestRoad:
    def test_every_step_says_what_comes_next(self, road):
        assert road.simulated.status == 0
        assert f"next: homodyne_fit init {quoted(road.data)} --gap 2e+06\n" in road.simulated.out
        assert road.inspected.status == 0
        following = f"next: homodyne_fit init {quoted(road.data)} --gap GAP  # Å, or --static\n"
        assert road.inspected.out.endswith(following)
        assert road.initialised.status == 0
        assert (
            "not in the file: analyzer_parameters.geometry.stator_rotor_gap\n"
            f"fill them in in {road.config}, or run init again with --gap and --overwrite\n"
        ) in road.initialised.out
        assert f"then: homodyne_fit --config {quoted(road.config)}\n" in road.initialised.out

    def test_nothing_goes_to_standard_error(self, road):
        for step in (road.simulated, road.inspected, road.initialised, road.fitted):
            assert step.err == ""

    def test_what_is_missing_is_named(self, road):
        assert road.unfilled.status == 1
        assert_one_line(
            road.unfilled.err, ".*stator_rotor_gap: no value is given: laminar_flow needs .*"
        )

    def test_the_fit_converges_and_writes_all_outputs(self, road):
        assert road.fitted.status == 0
        assert {path.name for path in road.results.iterdir()} == OUTPUTS

    def test_the_summary_has_what_the_data_determine(self, road):
        lines = road.fitted.out.splitlines()
        assert lines[0] == f"{road.data}: 4 angles, 80 frames, q = 0.0054 Å⁻¹, dt = 0.1 s"
        assert lines[1] == "The fit converged."
        assert " over 12,640 points in " in lines[2]
        assert " ".join(lines[3].split()) == "Converged? yes"
        assert any(line.split() == ["at", "0.8", "s", "at", "4", "s", "at", "7.9", "s", "mean"]
                   for line in lines)  # fmt: skip
        for begin in (r"J \(Å²/s\)", r"γ̇ \(10⁻⁴ 1/s\)", "phi0"):
            assert any(re.match(rf"{begin} +[\d.]+ ± [\d.]+", line) for line in lines)
        names = "parameters.json, parameters.csv, angles.csv, result.h5, report.html"
        assert lines[-1] == f"results: {road.results}/ ({names})"

    def test_the_forms_of_the_rates_are_said(self, road):
        lines = whole_summary(road)
        assert any(line.endswith("the simplest that the data do not reject") for line in lines)
        assert any(
            "J(t) a power law with a constant part: not needed (D_offset = " in line
            for line in lines
        )

    @pytest.mark.usefixtures("without_plots")
    def test_what_is_hardly_determined_is_said(self, road, tmp_path):
        free = ("--set", "optimization.nlsq.constant_parts=free", "--output-dir", tmp_path / "o")
        fitted = called("--config", road.config, *free, "-v")
        words = " ".join(fitted.out.split())
        assert "warning: Hardly determined one by one: D0" in words
        said = "; rely on J and shear rate at mid-measurement, and on the curves in the report"
        assert said in words

    def test_how_parameters_move_together_is_said(self, road, parameters):
        words = " ".join(" ".join(whole_summary(road)).split())
        for weak in parameters["identifiability"]["weak_directions"]:
            assert f" {weak['text']}" in words
        for text in parameters["identifiability"]["warnings"]:
            assert f"warning: {text}" in words


@pytest.fixture(scope="module")
def parameters(road):
    return strict((road.results / "parameters.json").read_text(encoding="utf-8"))


class TestParametersJson:
    def test_has_exactly_the_documented_keys(self, parameters):
        assert set(parameters) == {
            *("model", "method", "parameters", "scaling", "fit", "identifiability"),
            *("versions", "provenance", "config"),
        }
        assert (parameters["model"], parameters["method"]) == ("laminar_flow", "nlsq")
        assert tuple(parameters["parameters"]) == PHYSICS
        for estimate in parameters["parameters"].values():
            assert set(estimate) == ESTIMATE | {"lower", "upper"}
        assert [e["unit"] for e in parameters["parameters"].values()] == list(UNITS)
        assert [angle["phi"] for angle in parameters["scaling"]] == [0, 45, 90, 135]
        for angle in parameters["scaling"]:
            assert set(angle) == {"phi", "q", "contrast", "offset"}
            assert angle["q"] == pytest.approx(0.0054)
            assert set(angle["contrast"]) == set(angle["offset"]) == ESTIMATE
        assert set(parameters["fit"]) == {
            *("success", "message", "cost_initial", "cost", "noise", "n_points", "n_angles"),
            *("passes", "seconds", "per_angle_mode", "layers", "alternatives", "uncertainty"),
            *("adequacy", "goodness", "rate_forms", "weighting"),
            *("beyond_bounds", "robust"),
        }
        told = parameters["identifiability"]
        assert set(told) == {
            *("condition_number", "weak_directions", "weakest", "rates", "warnings", "correlation"),
        }
        for direction in (*told["weak_directions"], told["weakest"]):
            assert set(direction) == {
                *("eigenvalue", "direction", "changes", "delta_chi2", "text"),
                *("contrast_changes", "offset_changes"),
            }
            assert len(direction["contrast_changes"]) == len(parameters["scaling"])
            assert set(direction["direction"]) <= set(PHYSICS)
            # A constant part that is not needed has no part in it.
            assert set(PHYSICS) - set(direction["changes"]) <= {"D_offset", "gamma_dot_t_offset"}
            assert {"contrast", "offset"} < set(direction["changes"])
        assert set(told["rates"]) == {"J", "gamma_dot"}
        for rate in told["rates"].values():
            assert set(rate) == {"time", "value", "stderr", "unit"}
        assert {"homodyne_fit", "nlsq", "jax", "numpy", "scipy"} <= set(parameters["versions"])

    def test_says_how_the_fit_went(self, parameters):
        fit = parameters["fit"]
        assert fit["success"] is True
        assert (fit["n_points"], fit["n_angles"]) == (4 * 80 * 79 // 2, 4)
        assert fit["per_angle_mode"] == "auto: hierarchical"
        assert fit["cost"] < fit["cost_initial"]
        assert fit["noise"] == pytest.approx(0.02, rel=4 / np.sqrt(2 * fit["n_points"]))
        assert fit["cost"] == pytest.approx(0.5 * fit["n_points"] * fit["noise"] ** 2, rel=2e-3)
        assert fit["passes"] > 0
        assert fit["seconds"] > 0
        assert fit["layers"]["multi_start"]["starts"] > 1
        for layer in ("multi_start", "reparametrization", "regularization", "gradient_monitoring"):
            assert fit["layers"][layer]["effect"]

    def test_repeats_the_configuration(self, parameters, road):
        config = parameters["config"]
        assert config["experimental_data"]["file_path"] == "s.h5"
        assert config["analyzer_parameters"]["geometry"]["stator_rotor_gap"] == 2e6
        assert config["optimization"]["nlsq"]["max_iterations"] == 2000

    def test_contrast_and_offset_are_the_truth(self, parameters):
        for angle, contrast, offset in zip(parameters["scaling"], CONTRASTS, OFFSETS, strict=True):
            for estimate, truth in ((angle["contrast"], contrast), (angle["offset"], offset)):
                assert abs(estimate["value"] - truth) < 4 * estimate["stderr"]

    def test_physics_is_the_truth(self, parameters, road):
        truth = json.loads((road.folder / "s.h5.truth.json").read_text())
        phi0 = parameters["parameters"]["phi0"]
        assert abs(phi0["value"] - truth["phi0"]) < 4 * phi0["stderr"]
        with h5py.File(road.results / "result.h5") as file:
            t = file["curves/t"][()][8:]
            for name, p in (("J", PHYSICS[:3]), ("gamma_dot", PHYSICS[3:6])):
                value, error = (file[f"curves/{name}{end}"][8:] for end in ("", "_stderr"))
                expected = truth[p[0]] * t ** truth[p[1]] + truth[p[2]]
                assert np.all(np.abs(value - expected) < 4 * error)


class TestResultHdf5:
    def test_agrees_with_the_json_and_has_units(self, road, parameters):
        with h5py.File(road.results / "result.h5") as file:
            assert strict(file["summary"].asstr()[()]) == parameters
            assert file.attrs["source"] == str(road.data)
            group = file["parameters"]
            estimates = parameters["parameters"]
            assert group["parameter"].asstr()[()].tolist() == list(estimates)
            assert group["unit"].asstr()[()].tolist() == list(UNITS)
            for key in ("value", "stderr"):
                expected = [estimates[name][key] for name in PHYSICS]
                np.testing.assert_array_equal(group[key][()], np.array(expected, dtype=float))
            names = group["quantity"].asstr()[()].tolist()
            assert names[:7] == list(PHYSICS)
            assert names[7:] == [f"{x}[{k}]" for x in ("contrast", "offset") for k in range(4)]
            diagonal = np.sqrt(np.diag(group["covariance"]))
            expected = np.nan_to_num(group["stderr"][()])  # not free
            np.testing.assert_allclose(diagonal[:7], expected, rtol=1e-9)
            for kind in ("contrast", "offset"):
                expected = [angle[kind]["value"] for angle in parameters["scaling"]]
                assert file[f"scaling/{kind}"][()].tolist() == expected
            units = {
                "scaling/phi": "degree",
                "scaling/q": "angstrom-1",
                "curves/t": "s",
                "curves/J": "angstrom2 s-1",
                "curves/J_stderr": "angstrom2 s-1",
                "curves/gamma_dot": "s-1",
                "curves/gamma_dot_stderr": "s-1",
            }
            for name, unit in units.items():
                assert file[name].attrs["units"] == unit
            assert file["c2/data"].shape == file["c2/fit"].shape == (4, 80, 80)


def test_the_report_is_one_page_of_its_own(road, parameters):
    text = (road.results / "report.html").read_text(encoding="utf-8")
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert "gamma_dot_t0" in text
    assert not re.search(r"(src|href)=[\"']?https?://", text)


class TestOutputs:
    def test_earlier_results_stay_unless_they_may_go(self, road):
        before = {path: path.stat().st_mtime_ns for path in road.results.iterdir()}
        again = called("--config", road.config)
        assert again.status == 1
        assert_one_line(again.err, ".*s_results: holds results already; give --overwrite .*")
        assert again.out == ""
        assert before == {path: path.stat().st_mtime_ns for path in road.results.iterdir()}

    @pytest.mark.parametrize("name", sorted(OUTPUTS))
    def test_one_of_them_is_enough(self, road, tmp_path, name):
        (tmp_path / name).write_text("mine")
        again = called("--config", road.config, "--output-dir", tmp_path)
        assert_one_line(again.err, ".*holds results already.*")
        assert (tmp_path / name).read_text() == "mine"

    def test_other_files_in_the_folder_stay(self, configured, tmp_path):
        (tmp_path / "out").mkdir()
        for name in ("parameters.json", "notes.txt"):
            (tmp_path / "out" / name).write_text("mine")
        done = configured(None, "", "--output-dir", tmp_path / "out", "--overwrite")
        assert done.status == 0
        assert {path.name for path in (tmp_path / "out").iterdir()} == OUTPUTS | {"notes.txt"}
        assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
        assert strict((tmp_path / "out" / "parameters.json").read_text())["fit"]["success"]

    def test_quiet_prints_nothing(self, configured, tmp_path):
        done = configured(None, "metadata: {a: 1}\n", "--quiet")
        assert (done.status, done.out, done.err) == (0, "", "")
        assert {path.name for path in (tmp_path / "c_results").iterdir()} == OUTPUTS

    def test_the_folder_may_be_named_in_the_file(self, configured, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        done = configured(None, "output: {directory: ~/here/and/there}\n")
        assert done.status == 0
        assert {path.name for path in (tmp_path / "here" / "and" / "there").iterdir()} == OUTPUTS

    @pytest.mark.usefixtures("without_plots")
    def test_an_odd_name_is_printed_as_it_is(self, road, tmp_path):
        data = tmp_path / "run [red] 1.h5"
        shutil.copy(road.data, data)
        config = tmp_path / "c [bold].yaml"
        assert called("init", data, "-o", config, "--gap", "2e6").status == 0
        done = called("--config", config)
        assert done.status == 0
        assert done.out.startswith(f"{data}: 4 angles")
        assert f"results: {tmp_path}/c [bold]_results/ (" in done.out


class TestNotConverged:
    @pytest.fixture(scope="class")
    @classmethod
    def broken_off(cls, road, tmp_path_factory):
        folder = tmp_path_factory.mktemp("broken_off")
        text = road.config.read_text().replace("'s.h5'", f"'{road.data}'")
        limit = "    max_iterations: 1\n    multi_start: {enable: false}\n"
        (folder / "c.yaml").write_text(text + limit)
        return folder, called("--config", folder / "c.yaml")

    def test_is_an_exit_status_of_its_own(self, broken_off):
        _, done = broken_off
        assert done.status == 2
        assert done.err == ""
        assert "The fit did not converge. Do not use its numbers.\n" in done.out
        words = " ".join(done.out.split())
        assert " of 1 passes over the points without converging. The values below" in words

    def test_outputs_are_written_and_say_so(self, broken_off):
        folder, _ = broken_off
        results = folder / "c_results"
        assert {path.name for path in results.iterdir()} == OUTPUTS
        fit = strict((results / "parameters.json").read_text(encoding="utf-8"))["fit"]
        assert fit["success"] is False
        assert fit["message"].endswith(" of 1 passes over the points without converging")


class TestKeysHaveEffect:
    """What a key of the file changes in parameters.json."""

    def result(self, configured, tmp_path, extra, change=None):
        done = configured(change, extra)
        assert done.status == 0, done.err
        return done, strict((tmp_path / "c_results" / "parameters.json").read_text())

    fixed = (
        "initial_parameters: {fixed_parameters: {beta: 0.2, gamma_dot_t_offset: 0, D_offset: 0}}\n"
    )

    def test_fixed_parameters_leave_the_others_well_determined(self, configured, tmp_path, road):
        _, found = self.result(configured, tmp_path, self.fixed)
        truth = json.loads((road.folder / "s.h5.truth.json").read_text())
        for name in ("D0", "alpha", "gamma_dot_t0", "phi0"):
            estimate = found["parameters"][name]
            assert abs(estimate["value"] - truth[name]) < 4 * estimate["stderr"]
            assert estimate["stderr"] < 0.2 * abs(truth[name])

    def test_homodyne_s_shear_rate_is_another(self, configured, tmp_path, road):
        extra = self.fixed + "model: {shear: homodyne}\n"
        _, found = self.result(configured, tmp_path, extra)
        truth = json.loads((road.folder / "s.h5.truth.json").read_text())
        # To leading order by π / √2.
        ratio = found["parameters"]["gamma_dot_t0"]["value"] / truth["gamma_dot_t0"]
        assert ratio == pytest.approx(np.pi / np.sqrt(2), rel=0.05)

    def test_angles_and_frames(self, configured, tmp_path):
        extra = "preprocessing: {phi_range: [-10, 100]}\n"
        change = ("end_frame: -1", "end_frame: 60")
        done, found = self.result(configured, tmp_path, extra, change)
        assert "3 angles, 60 frames" in done.out
        assert [angle["phi"] for angle in found["scaling"]] == [0, 45, 90]
        assert found["fit"]["n_points"] == 3 * 60 * 59 // 2

    def test_masked_frames_and_a_nearby_q_are_spoken_of(self, configured, tmp_path):
        change = ("experimental_data:", "experimental_data:\n  mask_frames: [7, 8]")
        done, found = self.result(configured, tmp_path, "", change)
        note = "2 of 80 frames masked, 157 points of each angle (7, 8)"
        assert f"note: {note}\n" in done.out
        assert found["fit"]["n_points"] == 4 * 78 * 77 // 2
        assert found["provenance"]["notes"] == [note]

    def test_fixed_active_and_bounded_parameters(self, configured, tmp_path):
        extra = (
            "initial_parameters:\n"
            "  parameter_names: [D0, gamma_dot_0, D_offset]\n"
            "  values: [5000, 1e-4, 0]\n"
            "  active_parameters: [D0, alpha, gamma_dot_0, gamma_dot_t_offset, phi0]\n"
            "  fixed_parameters: {beta: 0.2}\n"
            "parameter_space:\n"
            "  bounds:\n"
            "    - {name: gamma_dot_t_offset, min: 1e-4, max: 2e-4, type: TruncatedNormal}\n"
        )
        done, found = self.result(configured, tmp_path, extra)
        p = found["parameters"]
        assert [name for name in p if p[name]["fixed"]] == ["D_offset", "beta"]
        assert (p["D_offset"]["value"], p["beta"]["value"]) == (0, 0.2)
        assert p["gamma_dot_t_offset"]["at_bound"]
        assert p["gamma_dot_t_offset"]["value"] == 1e-4
        warnings = found["identifiability"]["warnings"]
        said = "gamma_dot_t_offset (lower, 0.0001 1/s) is at its bound"
        assert any(text.startswith(said) for text in warnings)
        assert done.err == (
            f"homodyne_fit: warning: {tmp_path}/c.yaml: 1 key without effect; -v, or "
            f"'homodyne_fit check {tmp_path}/c.yaml', lists them\n"
        )

    def test_one_scaling_for_all_angles(self, configured, tmp_path):
        change = (
            "      per_angle_mode: auto",
            "      fourier_order: 2\n    per_angle_scaling: false\n"
            "    multi_start: {enable: false}",
        )
        _, found = self.result(configured, tmp_path, "", change)
        assert found["fit"]["per_angle_mode"] == "averaged"
        assert len({angle["contrast"]["value"] for angle in found["scaling"]}) == 1
        assert "multi_start" not in found["fit"]["layers"]

    def test_static_has_three_parameters_and_one_angle_suffices(self, configured, tmp_path):
        change = ("analysis_mode: laminar_flow", "analysis_mode: static_isotropic")
        extra = "phi_filtering: {target_ranges: [{min_angle: 85, max_angle: 95}]}\n"
        done, found = self.result(configured, tmp_path, extra, change)
        assert found["model"] == "static"
        assert tuple(found["parameters"]) == PHYSICS[:3]
        assert ": 1 angle, 80 frames" in done.out
        assert not re.search("shear rate|over the angles", done.out)

    def test_contrast_is_kept_in_its_bounds(self, configured, tmp_path):
        extra = "parameter_space: {bounds: [{name: contrast, min: 0.26, max: 0.9}]}\n"
        done, found = self.result(configured, tmp_path, self.fixed + extra)
        held = [angle["contrast"]["at_bound"] for angle in found["scaling"]]
        assert held == [True, False, False, False]
        assert found["scaling"][0]["contrast"]["value"] == 0.26
        assert found["scaling"][0]["contrast"]["stderr"] is None
        words = " ".join(done.out.split())
        assert "warning: The contrast is at its bound at φ = 0° (0.26), and has no" in words

    def test_what_has_no_effect_is_named_with_the_reason(self, configured, tmp_path):
        extra = (
            "metadata: {version: 1}\nperformance: {}\noutput: {formats: [], create_subdirs: true}\n"
        )
        done, _ = self.result(configured, tmp_path, extra)
        said = f"homodyne_fit: warning: {tmp_path}/c.yaml: 4 keys without effect"
        assert done.err == (f"{said}; -v, or 'homodyne_fit check {tmp_path}/c.yaml', lists them\n")
        checked = called("check", tmp_path / "c.yaml").out
        assert "  metadata (a note for the reader)\n" in checked
        listed = called("--config", tmp_path / "c.yaml", "-v", "--overwrite", "--max-iterations", 1)
        assert listed.err == (
            f"{said}:\n"
            "  metadata (a note for the reader)\n"
            "  performance (there is one method, which always sums over all points, in chunks of "
            "all angles)\n"
            "  output: formats (the files and figures of a result are always the same)\n"
            "  output: create_subdirs (the folder is output.directory or --output-dir)\n"
        )


# Change of the configuration, and the line it leads to.
MISTAKES = {
    "no data": (("'s.h5'", "'r.h5'"), r".*r\.h5: there is no such file \(did you mean 's\.h5'\?\)"),
    "no two-time data": (
        ("'s.h5'", "'s.yaml'"),
        r".*s\.yaml: neither an HDF5 nor a NumPy file: .*expected one file of two-time .*",
    ),
    "a folder": (("'s.h5'", "'.'"), ".* is a folder; expected one file of two-time correlations.*"),
    "gap: a word": (
        ("gap: 2e6", "gap: two"),
        r".*c\.yaml: analyzer_parameters\.geometry\.stator_rotor_gap: a number is needed .*'two'.*",
    ),
    "gap: in mm": (("gap: 2e6", "gap: 0.2"), ".*a gap of 0.2 Å is not plausible; .*"),
    "gap: missing": (("stator_rotor_gap: 2e6", ""), ".*stator_rotor_gap: no value is given: .*"),
    "q: not in the file": (
        ("wavevector_q: 0.0054", "wavevector_q: 0.01"),
        r".*c\.yaml: analyzer_parameters\.scattering\.wavevector_q: "
        r".*no matrix is near q = 0.01 Å⁻¹, but .* "
        "q = 0.0054 Å⁻¹; .*; choose one of them.*",
    ),
    "dt: another": (
        ("dt: 0.1", "dt: 0.2"),
        r".*c\.yaml: analyzer_parameters\.dt: .*: 0.2 s is given, but the file says "
        "0.1 s .*; remove it, or set dt_override to true",
    ),
    "a misspelt key": (
        ("start_frame", "startframe"),
        r".*startframe: there is no such key \(did you mean 'start_frame'\?\)",
    ),
    "frames: out of range": (
        ("end_frame: -1", "end_frame: 81"),
        r".*the frames 1 to 81 are wanted, but the file has the frames 1 to 80 .*",
    ),
    "frames: from zero": (
        ("start_frame: 1", "start_frame: 0"),
        ".*the frames 0 to -1 are wanted, .*",
    ),
    "frames: too few": (("end_frame: -1", "end_frame: 2"), ".*are fewer than the 3 that are .*"),
    "angles: none": (
        ("optimization:", "preprocessing: {phi_range: [10, 20]}\noptimization:"),
        r".*preprocessing\.phi_range: .*: no angle is within 10 to 20°; at this q the file has φ = "
        "0, 45, 90, 135°",
    ),
    "a start out of bounds": (
        ("optimization:", "initial_parameters: {values: {phi0: 12}}\noptimization:"),
        ".*the start of phi0, 12, is outside its bounds, -10 to 10; change it, .*",
    ),
    "no YAML": (("analyzer_parameters:", "analyzer_parameters: ["), ".*not valid YAML: line .*"),
}


class TestMistakes:
    @pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
    def test_in_the_configuration(self, road, change, message, tmp_path):
        text = road.config.read_text()
        assert change[0] in text
        config = road.folder / "c.yaml"
        config.write_text(text.replace(*change))
        done = called("--config", config, "--output-dir", tmp_path / "out")
        assert (done.status, done.out) == (1, "")
        assert_one_line(done.err, message)
        assert not (tmp_path / "out").exists()

    def test_several_at_once_are_as_many_lines(self, configured):
        done = configured(("dt: 0.1", "dt: fast\n  end_frme: 3"), "outptu: {}\n")
        lines = done.err.splitlines()
        assert len(lines) == 3
        assert all(line.startswith("homodyne_fit: error: ") for line in lines)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, r".*c\.yaml: there is no such file"),
            ("", ".*the configuration is empty; 'homodyne_fit init' writes one from a data file"),
            ("- a", ".*a configuration is a mapping, 'key: value', not a list"),
            ("analysis_mode: static", r".*c\.yaml: experimental_data\.file_path is missing"),
        ],
    )
    def test_no_configuration(self, tmp_path, text, message):
        if text is not None:
            (tmp_path / "c.yaml").write_text(text)
        done = called("--config", tmp_path / "c.yaml")
        assert done.status == 1
        assert_one_line(done.err, message)

    def test_verbose_shows_where(self, tmp_path):
        quiet = called("--config", tmp_path / "c.yaml")
        assert "Traceback" not in quiet.err
        for arguments in (["-v", "--config"], ["--verbose", "--config"]):
            done = called(*arguments, tmp_path / "c.yaml")
            assert done.status == 1
            assert done.err.startswith(quiet.err)
            assert "Traceback (most recent call last)" in done.err
        for arguments in (["-v", "inspect", "no.h5"], ["inspect", "no.h5", "-v"]):
            assert "Traceback (most recent call last)" in called(*arguments).err


class TestWhereResultsGo:
    @pytest.mark.parametrize("name", ["file", "file/below"])
    def test_a_file_is_in_the_way(self, road, tmp_path, name):
        (tmp_path / "file").write_text("mine")
        done = called("--config", road.config, "--output-dir", tmp_path / name)
        assert (done.status, done.out) == (1, "")
        assert_one_line(done.err, ".*file.*: results need a folder, and this is a file")
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_protected_folder_is_noticed_before_the_fit(self, road, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(tempfile, "mkstemp", refuse)
        done = called("--config", road.config, "--output-dir", tmp_path)
        assert (done.status, done.out) == (1, "")
        assert_one_line(done.err, r".*parameters\.json: cannot be written \(Permission denied\)")

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may do anything")
    def test_a_folder_of_someone_else(self, road, tmp_path):
        (tmp_path / "theirs").mkdir(mode=0o500)
        done = called("--config", road.config, "--output-dir", tmp_path / "theirs")
        assert_one_line(done.err, ".*cannot be written .Permission denied.")
        done = called("--config", road.config, "--output-dir", tmp_path / "theirs" / "mine")
        assert_one_line(done.err, ".*cannot be made .Permission denied.")

    def test_a_folder_has_the_name_of_an_output(self, road, tmp_path):
        (tmp_path / "report.html").mkdir()
        done = called("--config", road.config, "--output-dir", tmp_path, "--overwrite")
        assert_one_line(done.err, r".*report\.html: cannot be written, it is a folder")


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("--config", "argument --config/-c: expected one argument"),
            ("--confg c.yaml", r"there is no option --confg \(did you mean '--config'\?\)"),
            ("--gap 2e6", r"there is no option --gap; it belongs to 'init', 'simulate'"),
            ("--conf c.yaml", r"there is no option --conf \(did you mean '--config'\?\)"),
            ("--config=c.yaml --overwite", r".*--overwite \(did you mean '--overwrite'\?\)"),
            ("--config c.yaml --method foo", "argument --method: invalid choice: 'foo'.*"),
            ("--config c.yaml more", "there is no command 'more'; a fit is --config FILE"),
            ("fit c.yaml", "'c.yaml' is no command; --config c.yaml fits it"),
            ("fit --overwrite", "a command or --config FILE is needed"),
            ("chek c.yaml", r"there is no command 'chek' \(did you mean 'check'\?\)"),
            ("c.yaml", "'c.yaml' is no command; --config c.yaml fits it"),
            ('"a\'s b.yaml"', "'a's b.yaml' is no command; --config a's b.yaml fits it"),
            (
                shlex.quote(__file__),
                "'.*' is no command; 'inspect .*' shows the contents of a file",
            ),
            ("--overwrite", "a command or --config FILE is needed"),
            ("--quiet inspect c.h5", "--quiet has no effect before the command 'inspect'"),
            ("--config c.yaml inspect c.h5", "--config has no effect before the command 'inspect'"),
            ("inspect", "the following arguments are required: DATA"),
            ("--config a --config b", "--config is given more than once; 'batch' fits several"),
            ("--config a --set b c", "--set b c: write it as KEY.PATH=VALUE"),
            ("check a --output-dir=", ".*--output-dir: a path is needed, and this is empty"),
            ("completion", r"the following arguments are required: \{bash,zsh,fish\}"),
            ("inspect a -k", "there is no option -k"),
            ("inspect a --version", "there is no option --version .*"),
            ("inspect a b", "'b' is one argument too many"),
            (
                "init a --gap wide",
                r".*--gap: a positive number is needed, in Å and without the unit \(got 'wide'\)",
            ),
            ("init a --gap 0.2mm", r".*without the unit \(got '0\.2mm'\)"),
            ("init a --q -1", r".*--q: a positive number is needed, in Å⁻¹ .*"),
            ("init a --phi 0;45", "argument --phi: '0;45' is not a list of numbers, as 0,45,90"),
            ("init a --quiet", r"there is no option --quiet; .* 'batch', a fit \(--config FILE\)"),
            ("check a --sat b=1", r"there is no option --sat \(did you mean '--set'\?\)"),
        ],
    )
    def test_wrong_usage_is_one_line_and_an_error(self, capsys, arguments, message):
        with pytest.raises(SystemExit) as end:
            main(shlex.split(arguments))
        assert end.value.code == 1
        output = capsys.readouterr()
        assert output.out == ""
        pattern = rf"homodyne_fit( \w+)?: error: {message}; see homodyne_fit( \w+)? --help\n"
        assert re.fullmatch(pattern, output.err), output.err

    def test_nothing_at_all_shows_the_help(self, capsys):
        assert main([]) == 1
        assert capsys.readouterr().out.startswith("usage: homodyne_fit --config FILE [options]\n")

    @pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
    def test_help(self, capsys, command):
        with pytest.raises(SystemExit) as end:
            main([*command, "--help"])
        assert end.value.code == 0
        output = capsys.readouterr().out
        assert output.startswith("usage: homodyne_fit")
        assert max(map(len, output.splitlines())) <= 100

    def test_version(self, capsys):
        with pytest.raises(SystemExit) as end:
            main(["--version"])
        assert end.value.code == 0
        assert re.fullmatch(r"homodyne_fit \d+\.\d+.*\n", capsys.readouterr().out)

    def test_interruption_is_one_line(self, tmp_path, monkeypatch):
        def interrupted(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(inspect, "run", interrupted)
        done = called("inspect", tmp_path)
        assert done.status == 130
        assert_one_line(done.err, "interrupted")

    def test_an_error_of_the_system_is_one_line(self, tmp_path, monkeypatch):
        def full(_):
            raise OSError(28, "No space left on device", "/data/x.h5")

        monkeypatch.setattr(inspect, "run", full)
        done = called("inspect", tmp_path)
        assert done.status == 1
        assert_one_line(done.err, "/data/x.h5: No space left on device")


@pytest.mark.skipif(os.name != "posix", reason="pipes of Unix")
class TestAReaderThatGoes:
    def run(self, *arguments):
        """Run with a standard output that nobody reads."""
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-m", "homodyne_fit", *arguments],
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=6000,
            check=False,
        )
        os.close(write)
        return done

    @pytest.mark.parametrize("options", [("--config",), ("--config", "--json"), ("check",)])
    def test_loses_nothing(self, road, tmp_path, options):
        first, *more = options
        # Of one angle, from one start: a quick fit, and few figures.
        (tmp_path / "c.yaml").write_text(
            f"analysis_mode: static\nexperimental_data: {{file_path: '{road.data}'}}\n"
            "preprocessing: {phi_range: [-1, 1]}\n"
            "optimization: {nlsq: {multi_start: {enable: false}}}\n"
        )
        done = self.run(first, tmp_path / "c.yaml", *more, "--output-dir", tmp_path / "out")
        assert (done.returncode, done.stderr) == (0, b"")
        assert (tmp_path / "out" / "report.html").exists() == (first == "--config")

    def test_does_not_hide_mistakes(self, tmp_path):
        (tmp_path / "c.yaml").write_text("analysis_mode: fluid\n")
        done = self.run("check", tmp_path / "c.yaml", "--json")
        assert (done.returncode, done.stderr) == (1, b"")
        assert self.run("batch", tmp_path / "c.yaml", "--dry-run").returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
@pytest.mark.parametrize("wait", ["time.sleep(3600)", "threading.Event().wait()"])
def test_an_interrupt_is_not_lost_where_python_ignores_it(wait):
    """It ends what the program waits for next."""
    code = f"""
import signal, sys, threading, time, weakref
# A shell makes its background jobs, and so this test's process there, ignore the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
from homodyne_fit import cli
from homodyne_fit.cli.commands import inspect
def run(_):
    thing = type("Thing", (), {{}})()
    watcher = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    {wait}
    return 0
inspect.run = run
sys.argv[1:] = ["inspect", "a.h5"]
sys.exit(cli.program())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stderr) == (130, "homodyne_fit: error: interrupted\n")


def test_a_pipe_that_breaks_elsewhere_is_an_error(monkeypatch, capsys):
    def broken(_):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(inspect, "run", broken)
    assert main(["inspect", "a.h5"]) == 1
    assert capsys.readouterr().err == "homodyne_fit: error: Broken pipe\n"


class TestInspect:
    def test_lists_what_is_in_the_file(self, tmp_path):
        rng = np.random.default_rng(0)
        c2 = 1 + rng.random((4, 6, 6))
        path = tmp_path / "my data.h5"
        write_aps_u(path, c2, [0.004, 0.0054], [0, 45, 90], [0, 1, 2, 4], 0.5, stride=2, avg=5)
        done = called("inspect", path, "--headers-only")
        assert done.status == 0
        assert done.out.splitlines() == [
            f"{path}: APS-U",
            "4 matrices of 6 × 6 frames",
            "time between frames: 0.5 s (frame_time 0.05 × stride_frame 2 × avg_frame 5)",
            "q = 0.004 Å⁻¹: 3 matrices, φ = 0, 45, 90°",
            "q = 0.0054 Å⁻¹: 1 matrix, φ = 45°",
            f"next: homodyne_fit init {quoted(path)} --gap GAP  # Å, or --static",
        ]

    def test_says_what_is_not_in_the_file(self, tmp_path):
        np.save(tmp_path / "c2.npy", 1 + np.ones((5, 5)))
        lines = called("inspect", tmp_path / "c2.npy").out.splitlines()
        assert lines[1:5] == [
            "1 matrix of 5 × 5 frames",
            "time between frames: not in the file (a plain array carries none)",
            "q: not in the file",
            "φ: not in the file",
        ]
        assert lines[6].split()[:3] == ["?", "?", "full"]
        path = quoted(tmp_path / "c2.npy")
        assert lines[-1] == f"next: homodyne_fit init {path} --q Q --dt DT  # Å⁻¹, s"
        np.save(tmp_path / "c2.npy", 1 + np.ones((2, 5, 5)))
        lines = called("inspect", tmp_path / "c2.npy").out.splitlines()
        options = "--q Q --dt DT --phi LIST --gap GAP  # Å⁻¹, s, degrees, Å, or --static"
        assert lines[-1] == f"next: homodyne_fit init {path} {options}"

    @pytest.fixture
    def measured(self, tmp_path):
        """Two angles at each of two q: a symmetric decay with little noise."""
        rng = np.random.default_rng(1)
        lag = np.abs(np.subtract.outer(np.arange(40), np.arange(40)))
        half = np.triu(rng.normal(0, 0.02, (4, 40, 40)), 1)
        c2 = 1 + 0.3 * (lag < 8) + half + half.swapaxes(1, 2)
        write_aps_u(tmp_path / "m.h5", c2, [0.004, 0.006], [0, 90], range(4), 0.5)
        return tmp_path / "m.h5", c2

    def test_a_table_of_the_quality(self, measured):
        path, c2 = measured
        lines = called("inspect", path).out.splitlines()
        header, *rows, legend, following = lines[5:]
        assert header.split("  ")[0] == "q (Å⁻¹)"
        assert [row.split()[:6] for row in rows] == [
            [q, phi, "upper", "half", "100", "%"] for q in ("0.004", "0.006") for phi in ("0", "90")
        ]
        for row, matrix in zip(rows, c2, strict=True):
            contrast, offset = map(float, row.split()[6:8])
            assert offset == pytest.approx(np.mean(matrix[np.triu_indices(40, 33)]), rel=1e-3)
            assert contrast == pytest.approx(0.3, abs=0.02)
        assert legend.startswith("noise at the shortest")
        assert following == f"next: homodyne_fit init {quoted(path)} --gap GAP  # Å, or --static"

    def test_to_programs(self, measured):
        path, c2 = measured
        with h5py.File(path, "r+") as file:
            file["/xpcs/twotime/correlation_map/c2_00002"][4] = np.nan
            file["/xpcs/twotime/correlation_map/c2_00002"][:, 4] = np.nan
        done = called("inspect", path, "--json")
        found = json.loads(done.out)
        assert (found["format"], found["n_frames"], found["dt"]) == ("APS-U", 40, 0.5)
        assert [row["q"] for row in found["matrices"]] == [0.004, 0.004, 0.006, 0.006]
        assert [row["phi"] for row in found["matrices"]] == [0, 90, 0, 90]
        assert [row["dead"] for row in found["matrices"]] == [[], [5], [], []]
        for row, line in zip(
            found["matrices"], called("inspect", path).out.splitlines()[6:], strict=False
        ):
            assert f"{row['contrast']:.3g}" == line.split()[6]
            assert float(line.split()[4]) == pytest.approx(100 * row["finite"], rel=1e-3)
            assert f"{row['noise']['1']:.2g}" == line.split()[8]
        assert any("frames without a signal: 5" in note for note in found["notes"])
        (first, *_) = json.loads(called("inspect", path, "--json", "--headers-only").out)[
            "matrices"
        ]
        assert set(first) == {"name", "q", "phi"}
        np.save(path.with_name("bare.npy"), c2[0])
        bare = json.loads(called("inspect", path.with_name("bare.npy"), "--json").out)
        assert (bare["dt"], bare["matrices"][0]["q"]) == (None, None)

    def test_what_is_wrong_is_said_in_words(self, measured):
        path, c2 = measured
        dead = c2[1].copy()
        dead[4:7, :] = dead[:, 4:7] = np.nan
        asymmetric = c2[3] + 0.1 * np.tri(40, k=-1)
        with h5py.File(path, "r+") as file:
            for number, matrix in ((2, np.triu(dead)), (3, c2[0]), (4, asymmetric)):
                file[f"/xpcs/twotime/correlation_map/c2_{number:05d}"][...] = matrix
        notes = [line for line in called("inspect", path).out.splitlines() if "note: " in line]
        name = "/xpcs/twotime/correlation_map/c2_0000"
        assert notes == [
            f"note: q = 0.004 Å⁻¹, φ = 90°, {name}2: frames without a signal: 5–7",
            f"note: q = 0.006 Å⁻¹, φ = 0°, {name}3: both halves are stored, where the upper half "
            "was expected",
            f"note: q = 0.006 Å⁻¹, φ = 90°, {name}4: both halves are stored, where the upper half "
            "was expected",
            f"note: q = 0.006 Å⁻¹, φ = 90°, {name}4: not symmetric: 100 % of the entries differ; "
            "it cannot be fitted",
            f"note: q = 0.006 Å⁻¹, φ = 0°, {name}3: the same data as q = 0.004 Å⁻¹, φ = 0°, "
            f"{name}1",
            "note: frames are left out with experimental_data: {mask_frames: [5, 6, 7]}",
        ]

    def test_what_is_wrong_with_many_is_said_once(self, tmp_path):
        path, phi = tmp_path / "a.npz", [0, 20, 40, 60, 80]
        lag = np.abs(np.subtract.outer(np.arange(30), np.arange(30)))
        c2 = np.stack([np.exp(-lag / (4 + 0.1 * k)) for k in range(5)])
        c2[1, 5] = c2[1, :, 5] = np.nan
        write_array(path, c2, q=0.004, phi=phi)
        found = json.loads(called("inspect", path, "--json").out)
        first, second, *_ = found["notes"]
        assert re.fullmatch(
            r"5 of 5 matrices \(c2\[0\], …, c2\[4\]\): the values at long lags are near 0, not "
            r"near 1, .*c2 − 1.*: add 1 \(in the first \(the offset is 0\.\d+\)\)",
            first,
        )
        assert second == "q = 0.004 Å⁻¹, φ = 20°, c2[1]: frames without a signal: 6"
        assert f"note: {first}\n" in called("inspect", path).out
        write_array(path, c2[1:] + 1, q=0.004, phi=phi[1:])
        assert "c2 − 1" not in called("inspect", path).out
        c2[2:, 9] = c2[2:, :, 9] = np.nan
        write_array(path, c2 + 1, q=0.004, phi=phi)
        notes = json.loads(called("inspect", path, "--json").out)["notes"]
        assert notes[0].startswith("4 of 5 matrices (q = 0.004 Å⁻¹, φ = 20, 40, 60, 80°): frames ")
        assert notes[0].endswith(": frames without a signal (in the first: 6)")

    def test_what_takes_long_is_announced(self, measured, monkeypatch):
        path, _ = measured
        quick = called("inspect", path)
        assert quick.err == ""
        monkeypatch.setattr("homodyne_fit.cli.commands.inspect.MANY_NUMBERS", 4 * 40**2)
        slow = called("inspect", path)
        assert slow.out == quick.out
        assert "assessing 4 matrices of 40 × 40 frames; --q Q assesses one wave vector" in slow.err
        assert called("inspect", path, "--q", 0.004).err == ""

    def test_the_figure_is_of_the_wave_vector_that_was_asked_for(self, measured, monkeypatch):
        path, c2 = measured
        drawn = []

        def draw(*arguments):
            drawn.append(arguments)
            return Figure()

        monkeypatch.setattr("homodyne_fit.report.quality_figure.quality_plot", draw)
        called("inspect", path, "--q", 0.006, "--plot", path.with_name("a.png"))
        ((assessed, phi, _, title, images),) = drawn
        assert (len(assessed), phi, list(images)) == (2, [0.0, 90.0], [0.0, 90.0])
        assert title.endswith("q = 0.006 Å⁻¹")
        np.testing.assert_allclose(images[90.0], c2[3], rtol=1e-6)

    def test_a_half_where_the_other_was_expected(self, measured):
        path, c2 = measured
        with h5py.File(path, "r+") as file:
            file["/xpcs/twotime/correlation_map/c2_00002"][...] = np.tril(c2[1])
        out = called("inspect", path).out
        assert "c2_00002: the lower half is stored, where the upper half was expected\n" in out

    def test_empty_matrices_and_equal_angles(self, tmp_path):
        path = tmp_path / "s.npz"
        c2 = np.stack([np.zeros((6, 6)), 1 + np.eye(6), 1.5 + np.eye(6)])
        write_array(path, c2, q=0.004, phi=[0, 10, 370], dt=1)
        out = called("inspect", path).out
        assert "note: q = 0.004 Å⁻¹, φ = 0°, c2[0]: nothing is stored" in out
        assert "c2[2]: q and φ are those of q = 0.004 Å⁻¹, φ = 10°, c2[1]" in out
        assert "the same data" not in out

    def test_one_wave_vector_can_be_chosen(self, measured):
        path, _ = measured
        lines = called("inspect", path, "--q", "0.0059").out.splitlines()
        assert [line.split()[0] for line in lines[6:8]] == ["0.006", "0.006"]
        assert lines[8].startswith("noise at")
        assert "no matrix is near q = 1 Å⁻¹" in called("inspect", path, "--q", "1").err

    @pytest.mark.parametrize(
        ("name", "start"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a", b"\x89PNG")]
    )
    def test_the_figure(self, measured, tmp_path, name, start):
        path, _ = measured
        done = called("inspect", path, "--plot", tmp_path / name)
        assert f"wrote {tmp_path / name}\n" in done.out
        assert (tmp_path / name).read_bytes().startswith(start)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--plot", "none/a.png"], r"none/a\.png: cannot be written \(No such file.*"),
            (["--plot", "a.xyz"], r"a\.xyz: the name of a figure ends with \.png, .*"),
            (["--plot", "a.png", "--headers-only"], r"--headers-only reads no matrix.*"),
        ],
    )
    def test_figures_that_cannot_be_drawn(self, measured, monkeypatch, options, message):
        path, _ = measured
        monkeypatch.chdir(path.parent)
        done = called("inspect", path, *options)
        assert done.status == 1
        assert_one_line(done.err, message)

    def test_a_file_without_q_has_none_to_choose(self, tmp_path):
        np.save(tmp_path / "c2.npy", 1 + np.ones((5, 5)))
        done = called("inspect", tmp_path / "c2.npy", "--q", "0.004")
        assert_one_line(done.err, r".*c2\.npy: the file does not give q; leave --q out")


@pytest.mark.usefixtures("without_plots")
class TestDemo:
    def test_recovers_the_truth(self, tmp_path):
        demo = ("demo", "--frames", "60", "--pixels", "2000", "--output-dir", tmp_path / "d")
        done = called(*demo)
        assert done.status == 0
        assert {path.name for path in (tmp_path / "d").iterdir()} == OUTPUTS | {
            *("demo.h5", "demo.h5.truth.json", "demo.yaml")
        }
        pulls = [
            float(line.split()[-1])
            for line in done.out.split("truth against fit")[1].splitlines()
            if line.startswith(("J(", "γ̇(", "phi0"))
        ]
        assert len(pulls) == 21
        assert max(map(abs, pulls)) < 5
        again = called(*demo)
        assert again.status == 1
        assert_one_line(again.err, ".*holds results already; give --overwrite to replace them")

    @pytest.mark.parametrize("options", [["--frames", "1"], ["--pixels", "0"], ["--seed", "-1"]])
    def test_a_bad_value_is_one_line(self, tmp_path, options):
        done = called("demo", "--output-dir", tmp_path / "d", *options)
        assert done.status == 1
        assert_one_line(done.err, ".*at least .*")


@pytest.mark.skipif(not DATA.is_dir(), reason="the sample data are not here")
@pytest.mark.usefixtures("without_plots")
class TestSampleData:
    @pytest.mark.parametrize("q", ["0.0054", "0.0040"])
    def test_simulated_couette_flow(self, tmp_path, q):
        data, config = DATA / "couette_speckle.h5", tmp_path / "c.yaml"
        assert called("init", data, "-o", config, "--q", q).status == 0
        config.write_text(config.read_text().replace("_gap: null", "_gap: 2000000"))
        assert called("--config", config).status == 0
        truth = json.loads((DATA / "couette_speckle.h5.truth.json").read_text())
        found = strict((tmp_path / "c_results" / "parameters.json").read_text())
        with h5py.File(tmp_path / "c_results" / "result.h5") as file:
            t = file["curves/t"][()]
            middle = len(t) // 2
            for name, p, tolerance in (("J", PHYSICS[:3], 0.25), ("gamma_dot", PHYSICS[3:6], 0.05)):
                expected = truth[p[0]] * t[middle] ** truth[p[1]] + truth[p[2]]
                assert file[f"curves/{name}"][middle] == pytest.approx(expected, rel=tolerance)
        phi0 = found["parameters"]["phi0"]
        assert abs(phi0["value"] - truth["phi0"]) < 4 * phi0["stderr"] < 5
        for angle in found["scaling"]:
            assert angle["contrast"]["value"] == pytest.approx(0.33, abs=0.05)

    def test_a_real_matrix(self, tmp_path):
        config = tmp_path / "c.yaml"
        known = ("--q", "0.0054", "--dt", "1")
        started = called("init", DATA / "bnl_c2_350.npy", "-o", config, *known)
        assert "fill in" not in started.out
        done = called("--config", config)
        assert done.status == 0
        assert ": 1 angle, 350 frames, q = 0.0054 Å⁻¹, dt = 1 s\n" in done.out
        found = strict((tmp_path / "c_results" / "parameters.json").read_text())
        assert found["model"] == "static"
        assert found["fit"]["n_points"] == 350 * 349 // 2


def in_a_process(*command, **options):
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        check=False,
        **options,
    )


class TestProcess:
    def test_help_loads_nothing_heavy(self):
        code = (
            "import sys\n"
            "from homodyne_fit.cli import main\n"
            "try:\n"
            "    main(['--help'])\n"
            "except SystemExit:\n"
            "    pass\n"
            "print('loaded:', *sorted(name for name in sys.modules if '.' not in name))\n"
        )
        done = in_a_process(sys.executable, "-c", code)
        loaded = set(done.stdout.rpartition("loaded:")[2].split())
        assert "homodyne_fit" in loaded
        heavy = {"jax", "numpy", "scipy", "h5py", "pydantic", "yaml", "rich", "matplotlib", "nlsq"}
        assert not loaded & heavy

    @pytest.mark.parametrize("name", ["homodyne_fit", "homodyne-fit"])
    def test_the_installed_command(self, name, tmp_path):
        script = shutil.which(name, path=str(Path(sys.executable).parent))
        if script is None:
            pytest.skip("the package is not installed")
        done = in_a_process(script, "inspect", tmp_path / "no.h5")
        assert done.returncode == 1
        assert_one_line(done.stderr, r".*no\.h5: there is no such file")

    def test_the_module_is_the_command(self, tmp_path):
        done = in_a_process(sys.executable, "-m", "homodyne_fit", "inspect", tmp_path / "no.h5")
        assert done.returncode == 1
        assert_one_line(done.stderr, r".*no\.h5: there is no such file")

    def test_a_terminal_without_greek_gets_escapes(self, road):
        code = "import sys; from homodyne_fit.cli import main; sys.exit(main(sys.argv[1:]))"
        plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = in_a_process(sys.executable, "-c", code, "inspect", road.data, env=plain)
        assert done.returncode == 0
        assert r"q = 0.0054 \xc5\u207b\xb9: 4 matrices" in done.stdout


def test_wording():
    assert [counted(n, "angle") for n in (0, 1, 2)] == ["0 angles", "1 angle", "2 angles"]
    assert [counted(n, "matrix") for n in (1, 3)] == ["1 matrix", "3 matrices"]
    assert by_section([]) == ""
    assert by_section(["a", "b.c", "b.d.e", "f", "b.g"]) == "a, f; b: c, g; b.d: e"
    assert ranges([]) == ""
    assert ranges([1, 4, 5, 6, 9, 10]) == "1, 4–6, 9–10"
    assert table([["a", "bcd"], ["ef", "g"]]) == " a  bcd\nef    g"
