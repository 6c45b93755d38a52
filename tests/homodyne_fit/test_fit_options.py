"""The options of a fit on the command line, and what each of them does."""

import json
import re
from types import SimpleNamespace

import h5py
import pytest

import homodyne_fit as hf
from homodyne_fit.cli import drawings
from homodyne_fit.cli.options import FOREIGN
from homodyne_fit.fitting import fit as fit_module
from homodyne_fit.results.names import OUTPUTS

QUICK = "optimization: {nlsq: {multi_start: {enable: false}}}\n"


@pytest.fixture(scope="module")
def road(called, tmp_path_factory):
    """A measurement, and a configuration of it that fits quickly."""
    folder = tmp_path_factory.mktemp("road")
    data, config = folder / "s.h5", folder / "s.yaml"
    done = called(
        *("simulate", "-o", data, "--phi", "0,60", "--frames", "40", "--noise", "0.02"),
        *("--parameter", "D0=20000", "--parameter", "gamma_dot_t0=3e-4"),
    )
    assert done.status == 0
    config.write_text(
        "analysis_mode: laminar_flow\n"
        "analyzer_parameters: {geometry: {stator_rotor_gap: 2e6}}\n"
        "experimental_data: {file_path: s.h5}\n"
        "initial_parameters:\n"
        "  parameter_names: [D0, gamma_dot_0]\n"
        "  values: [15000, 2e-4]\n"
        "  fixed_parameters: {alpha: -0.2, D_offset: 0, beta: 0.2, gamma_dot_t_offset: 0}\n" + QUICK
    )
    return SimpleNamespace(folder=folder, data=data, config=config)


@pytest.fixture
def without_report(monkeypatch):
    """An empty report: its figures take longer than the fit."""
    monkeypatch.setattr(
        "homodyne_fit.report.html.write_report", lambda path, *_: path.write_text("")
    )


@pytest.fixture
def fitted(called, road, tmp_path, without_report):
    """Fit with further options; what was printed, and parameters.json."""

    def run(*options):
        done = called("--config", road.config, "--output-dir", tmp_path / "out", *options)
        path = tmp_path / "out" / "parameters.json"
        found = json.loads(path.read_text("utf-8")) if path.exists() else None
        return SimpleNamespace(**vars(done), found=found)

    return run


class TestKeys:
    def test_any_key_can_be_set(self, fitted):
        done = fitted(
            *("--set", "analyzer_parameters.end_frame=30"),
            *("--set", "initial_parameters.fixed_parameters.beta=0.1"),
        )
        assert (done.status, done.err) == (0, "")
        assert done.found["fit"]["n_points"] == 2 * 30 * 29 // 2
        assert done.found["parameters"]["beta"]["value"] == 0.1
        assert done.found["config"]["analyzer_parameters"]["end_frame"] == 30

    def test_a_mistake_is_reported_at_the_key(self, fitted, road):
        done = fitted("--set", "analyzer_parameters.end_frame=last")
        assert done.status == 1
        assert done.err == (
            f"homodyne_fit: error: {road.config}: analyzer_parameters.end_frame: a whole number is "
            "needed (got 'last')\n"
        )
        assert fitted("--set", "analyzer_parameters", "-q").err == (
            "homodyne_fit: error: --set analyzer_parameters: write it as KEY.PATH=VALUE\n"
        )

    def test_start_values(self, fitted):
        done = fitted("--initial-d0", "2e4", "--initial-gamma-dot-t0", "1e-4", "--initial-phi0=-2")
        assert done.status == 0
        start = done.found["config"]["initial_parameters"]["values"]
        assert start == {"D0": 2e4, "gamma_dot_t0": 1e-4, "phi0": -2.0}

    def test_they_come_before_set(self, fitted):
        done = fitted("--threads", "1", "--set", "optimization.nlsq.threads=2")
        assert done.found["config"]["optimization"]["nlsq"]["threads"] == 2

    def test_matrices_stay_on_the_disk_if_memory_is_short(self, fitted, tmp_path):
        kept = fitted("--memory", "52kB")
        assert "exceed" not in kept.out
        done = fitted("--memory", "20kB", "--scratch", tmp_path, "--overwrite")
        assert done.status == 0
        assert (
            "note: the matrices (12.8 kB) exceed a quarter of the allowed memory (20 kB): they are "
            f"unpacked into a scratch file in {tmp_path}, and are read in parts when they are "
            "used\n"
        ) in done.out
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        for name, estimate in kept.found["parameters"].items():
            assert done.found["parameters"][name]["value"] == pytest.approx(
                estimate["value"], abs=0.02 * (estimate["stderr"] or 0)
            )
        hashes = [found["provenance"]["sha256"] for found in (kept.found, done.found)]
        assert hashes[0] == hashes[1]

    @pytest.mark.parametrize("size", ["much", "0", "true", "2GBx", "-1"])
    def test_what_is_no_size(self, fitted, size):
        done = fitted(f"--memory={size}")
        assert done.status == 1
        assert "optimization.nlsq.memory: a size is needed, as 2GB, 512MiB or a num" in done.err

    def test_a_matrix_that_does_not_fit(self, fitted):
        done = fitted("--memory", "19kB")
        assert done.status == 1
        assert "19.2 kB are needed to read a matrix of 40 frames, but 19 kB" in done.err

    def test_homodyne_writes_all_matrices_at_once(self, fitted, tmp_path):
        done = fitted("--memory", "20kB", "--scratch", tmp_path, "--export", "homodyne")
        assert done.status == 1
        assert "the export for homodyne holds all matrices several times" in done.err
        assert done.found is None

    def test_the_mode(self, fitted):
        done = fitted("--static-mode", "--initial-gamma-dot-t0", "1e-4", "-v")
        assert done.found["model"] == "static"
        assert "without effect" in done.err
        assert "initial_parameters.values: gamma_dot_t0" in done.err

    def test_one_mode_at_a_time(self, called, road, capsys):
        with pytest.raises(SystemExit) as end:
            called("--config", road.config, "--static-mode", "--laminar-flow")
        assert end.value.code == 1

    def test_stopping_early_is_status_2(self, fitted):
        done = fitted("--max-iterations", "1")
        assert done.status == 2
        assert "The fit did not converge. Do not use its numbers.\n" in done.out
        assert done.found["fit"]["success"] is False

    def test_another_data_file(self, fitted, road, tmp_path, monkeypatch):
        other = tmp_path / "other.h5"
        other.write_bytes(road.data.read_bytes())
        monkeypatch.chdir(tmp_path)
        done = fitted("--data-file", "other.h5")
        assert done.found["provenance"]["source"] == str(other)
        assert fitted("--data-file", "othr.h5").err == (
            "homodyne_fit: error: othr.h5: there is no such file (did you mean 'other.h5'?)\n"
        )


class TestOptionsOfXpcsjax:
    """Each is a key of the configuration, or another name of an option; nothing is fitted here."""

    @pytest.fixture
    def planned(self, called, road):
        def plan(*options):
            done = called("-c", road.config, "--dry-run", "--json", *options)
            assert done.err == "", done.err
            return json.loads(done.out)

        return plan

    @staticmethod
    def starts(plan):
        return {each["name"]: each["start"] for each in plan["parameters"]}

    def test_short_names(self, planned, tmp_path):
        for option in ("-o", "--output", "--output-dir"):
            assert planned(option, tmp_path / "there")["output"] == str(tmp_path / "there")

    def test_the_mode(self, planned, called, road):
        assert planned("--mode", "static_isotropic")["model"] == "static"
        wrong = called("-c", road.config, "--mode", "fluid", "--dry-run")
        assert "analysis_mode: must be 'laminar_flow'" in wrong.err

    @pytest.mark.parametrize("angles", [["60"], ["60.3"], ["0,60"], ["0", "60"], ["360"]])
    def test_angles(self, planned, angles):
        found = planned("--phi", *angles)["data"]["phi"]
        wanted = [float(x) for x in ",".join(angles).split(",")]
        assert found == [phi for phi in (0, 60) if any(abs((x - phi) % 360) < 1 for x in wanted)]

    def test_the_number_of_starts(self, planned, called, road):
        assert planned("--no-multistart")["search"] == "from the start values alone"
        assert planned("--multistart", "7")["search"].startswith("7 starts")
        assert "starts (" in planned("--multistart")["search"]
        wrong = called("-c", road.config, "--multistart", "many", "--dry-run")
        assert "multi_start.n_starts: a whole number is needed (got 'many')" in wrong.err

    def test_start_values(self, planned):
        plan = planned("--initial-D0", "2e4", "--set", "initial_parameters.fixed_parameters=null")
        assert self.starts(plan)["D0"] == 2e4
        options = ("--initial-gamma-dot-t-offset", "1e-5")
        plan = planned(*options, "--set", "initial_parameters.fixed_parameters=null")
        assert self.starts(plan)["gamma_dot_t_offset"] == 1e-5

    def test_held_values(self, planned, called, road):
        plan = planned("--fixed", "phi0=3", "--fixed", "D0=1.5e4")
        held = {
            each["name"]: each["start"] for each in plan["parameters"] if each["role"] == "held"
        }
        assert (held["phi0"], held["D0"]) == (3, 1.5e4)
        for text, said in (
            ("phi0", "--fixed phi0: write it as NAME=VALUE"),
            ("phi=3", "there is no parameter 'phi'"),
            ("phi0=left", "fixed_parameters.phi0: a number is needed (got 'left')"),
        ):
            done = called("-c", road.config, "--dry-run", "--fixed", text)
            assert done.status == 1
            assert said in done.err

    def test_figures(self, called, road):
        done = called("-c", road.config, "--dry-run", "--no-plot", "--plot")
        assert done.status == 0
        assert done.err.startswith("homodyne_fit: warning: --no-plot has no effect: report.html")
        assert (
            "only with --plot-simulated-data"
            in called("-c", road.config, "--offset-sim", "1.1").err
        )


class TestOptionsOfHomodyneWithoutMeaning:
    def test_each_says_why_and_the_fit_runs(self, fitted):
        options = [x for name, (value, _) in FOREIGN.items() for x in [name, *["auto"] * value]]
        done = fitted(*options)
        assert done.status == 0
        lines = done.err.splitlines()
        assert len(lines) == len(FOREIGN)
        for line, name in zip(lines, FOREIGN, strict=True):
            assert re.fullmatch(f"homodyne_fit: warning: {name} has no effect: .+", line)

    @pytest.mark.parametrize("option", ["--phi-angles=0,45", "--contrast=0.2", "--offset=1.1"])
    def test_those_of_the_simulation_need_one(self, fitted, option):
        done = fitted(option)
        name = option.partition("=")[0]
        assert done.err == (
            f"homodyne_fit: error: {name} has an effect only with --plot-simulated-data\n"
        )


class TestWhatIsWritten:
    def test_json_and_nothing_else(self, fitted):
        done = fitted("--json")
        assert json.loads(done.out) == done.found
        assert done.out.isascii()
        assert done.err == ""

    def test_json_of_an_error_is_nothing(self, fitted):
        done = fitted("--json", "--set", "analysis_mode=fluid")
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith("homodyne_fit: error: ")

    def test_exports_and_plots(self, fitted, tmp_path):
        done = fitted("--export", "homodyne", "--save-plots")
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert names == {*OUTPUTS, "fitted_data.npz", "plots"}
        assert len(list((tmp_path / "out" / "plots").iterdir())) == 4 + 3 * 2
        assert done.out.rstrip().endswith("fitted_data.npz, plots/)")
        assert hf.load_result(tmp_path / "out").to_json() == done.found

    def test_earlier_results_stay(self, fitted):
        assert fitted("--quiet").status == 0
        again = fitted()
        assert again.status == 1
        assert "holds results already; give --overwrite" in again.err
        assert fitted("--overwrite").status == 0


class TestDryRun:
    def test_says_what_would_be_done_and_does_nothing(self, fitted, road, tmp_path):
        done = fitted("--dry-run")
        assert (done.status, done.err) == (0, "")
        assert done.out.startswith(f"{road.config}: no mistakes found (")
        assert "1,560 with t1 < t2" in done.out
        assert not (tmp_path / "out").exists()

    def test_is_check_with_the_options_applied(self, fitted, called, road, tmp_path):
        folder = ("--output-dir", tmp_path / "out")
        assert fitted("--dry-run").out == called("check", road.config, *folder).out
        options = ("--json", "--set", "analyzer_parameters.end_frame=30")
        done = fitted("--dry-run", *options)
        assert json.loads(done.out)["data"]["n_points"] == 2 * 30 * 29 // 2
        assert done.out == called("check", road.config, *folder, *options).out

    def test_is_silent_if_asked_to_be(self, fitted):
        done = fitted("--dry-run", "-q")
        assert (done.status, done.out, done.err) == (0, "", "")

    def test_finds_earlier_results_as_the_fit_does(self, fitted, called, road, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "result.h5").touch()
        done = fitted("--dry-run")
        assert (done.status, done.err) == (1, fitted().err)
        assert "holds results already; give --overwrite" in done.err
        assert fitted("--dry-run", "--overwrite").status == 0
        # What may be done with a configuration is not wrong with it.
        done = called("check", road.config, "--output-dir", tmp_path / "out")
        assert (done.status, done.err) == (0, "")
        assert "holds results already" in done.out

    def test_finds_a_file_in_the_place_of_the_folder(self, fitted, tmp_path):
        (tmp_path / "out").touch()
        done = fitted("--dry-run")
        assert (done.status, done.err) == (1, fitted().err)
        assert "results need a folder, and this is a file" in done.err

    def test_finds_that_the_memory_is_too_small(self, fitted, called, road):
        done = fitted("--dry-run", "--memory", "10kB")
        assert (done.status, done.err) == (1, fitted("--memory", "10kB").err)
        assert "are needed to read a matrix of 40 frames" in done.err
        assert called("check", road.config, "--memory", "10kB").err == done.err

    def test_finds_mistakes(self, fitted):
        done = fitted("--dry-run", "--set", "analyzer_parameters.end_frame=99")
        assert done.status == 1
        assert "the frames 1 to 99 are wanted" in done.err


class TestFigures:
    def test_of_the_data_without_a_fit(self, fitted, tmp_path):
        done = fitted("--plot-experimental-data")
        assert done.status == 0
        plots = tmp_path / "out" / "plots"
        names = ["experimental_data.png", "experimental_data_quality.png"]
        assert sorted(path.name for path in plots.iterdir()) == names
        assert done.out == "".join(f"wrote {plots / name}\n" for name in names)
        assert done.found is None

    def test_of_a_simulation_without_data(self, fitted, tmp_path, monkeypatch):
        drawn = []
        monkeypatch.setattr(drawings, "plot_matrices", drawn.append)
        monkeypatch.setattr(drawings, "save_figure", lambda _, path: path)
        done = fitted(
            *("--plot-simulated-data", "--phi-angles", "0,45,90", "--contrast", "0.2"),
            *("--set", "experimental_data.file_path=no.h5", "--initial-phi0", "3"),
            *("--set", "analyzer_parameters.dt=0.5", "--set", "analyzer_parameters.end_frame=20"),
            *("--set", "analyzer_parameters.scattering.wavevector_q=0.004"),
        )
        assert (done.status, done.err) == (0, "")
        (data,) = drawn
        expected = hf.simulate(
            {
                "D0": 15000,
                "alpha": -0.2,
                "D_offset": 0,
                "gamma_dot_t0": 2e-4,
                "beta": 0.2,
                "gamma_dot_t_offset": 0,
                "phi0": 3,
            },
            phi=(0, 45, 90),
            q=0.004,
            gap=2e6,
            dt=0.5,
            n_frames=20,
            contrast=0.2,
            noise=0,
        )
        assert (data.c2 == expected.c2).all()

    def test_a_simulation_needs_all_values(self, fitted, road):
        done = fitted("--plot-simulated-data")
        assert done.err == (
            f"homodyne_fit: error: {road.config}: --plot-simulated-data needs "
            "analyzer_parameters.dt, analyzer_parameters.scattering.wavevector_q\n"
        )

    def test_along_with_a_fit(self, fitted, tmp_path):
        done = fitted("--plot-experimental-data", "--save-plots")
        assert done.found["fit"]["success"]
        names = {path.name for path in (tmp_path / "out" / "plots").iterdir()}
        assert {"experimental_data.png", "rates.png"} <= names


def test_a_fault_of_the_program_is_one_line(fitted, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("nobody\nforesaw this")

    monkeypatch.setattr(fit_module, "fit", fail)
    done = fitted()
    assert done.status == 1
    assert done.err == (
        "homodyne_fit: error: ZeroDivisionError: nobody foresaw this (a fault of homodyne_fit; "
        "-v shows where)\n"
    )
    assert "Traceback" in fitted("-v").err


def test_the_file_has_what_was_printed(fitted, tmp_path):
    done = fitted("--json", "--set", "output.directory=elsewhere")
    with h5py.File(tmp_path / "out" / "result.h5") as file:
        assert json.loads(file["summary"].asstr()[()]) == json.loads(done.out)
