import csv
import json
import shutil

import numpy as np
import pytest

import homodyne_fit as hf
from homodyne_fit.cli.commands import batch
from homodyne_fit.errors import InputError
from homodyne_fit.fitting import fit as fit_module
from homodyne_fit.report.numbers import format_estimate

STATIC = (
    "analysis_mode: static\n"
    "initial_parameters: {fixed_parameters: {D_offset: 0}}\n"
    "optimization: {nlsq: {multi_start: {enable: false}}}\n"
    "experimental_data: {file_path: %s}\n"
)


@pytest.fixture(autouse=True)
def _without_report(monkeypatch):
    monkeypatch.setattr(
        "homodyne_fit.report.html.write_report", lambda path, *_: path.write_text("")
    )


@pytest.fixture(scope="module")
def measured(called, tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    for seed in (1, 2):
        options = ("--static", "--phi", "0,90", "--frames", "40", "--noise", "0.02")
        named = ("--parameter", "D0=30000", "--seed", seed)
        assert called("simulate", "-o", folder / f"run{seed}.h5", *options, *named).status == 0
    return folder


@pytest.fixture
def runs(measured, tmp_path):
    """Two configurations, each with its data."""
    for seed in (1, 2):
        shutil.copy(measured / f"run{seed}.h5", tmp_path)
        (tmp_path / f"fit{seed}.yaml").write_text(STATIC % f"run{seed}.h5")
    return tmp_path


def test_all_that_match_are_fitted_and_put_in_a_table(called, runs):
    done = called("batch", runs / "fit*.yaml")
    assert (done.status, done.err) == (0, "")
    header, *rows, last = done.out[done.out.index("verdict") :].splitlines()
    assert header.split("  ")[-1] == "fit"
    for row, seed in zip(rows, (1, 2), strict=True):
        result = hf.load_result(runs / f"fit{seed}_results")
        (value,), (error,) = result.J(result.space.tau)
        assert result.success
        name = f"  {runs / f'fit{seed}.yaml'}"
        assert row.endswith(name)
        assert row.removesuffix(name).split() == [
            *("converged", *format_estimate(value, error).split(), "–", "–"),
            f"{result.noise:.3g}",
            str(len(result.warnings) or "–"),
        ]
    assert last == "2 fits: 2 converged, 0 did not, 0 errors"


def test_a_dry_run_shows_every_plan_and_every_mistake(called, runs, monkeypatch):
    def unreadable(config, selection, folder):
        raise InputError(f"{selection.file.path.name}: broken")

    (runs / "fit0.yaml").write_text("analysis_mode: fluid\n")
    done = called("batch", runs / "fit*.yaml", "--dry-run")
    assert done.status == 1
    assert "fit0.yaml: analysis_mode: must be" in done.err
    assert all("fit0" in line for line in done.err.splitlines())
    for number, seed in ((2, 1), (3, 2)):
        assert f"[{number}/3] {runs / f'fit{seed}.yaml'}\n" in done.out
        plan = called("check", runs / f"fit{seed}.yaml").out
        assert all(line in done.out for line in plan.splitlines() if not line.startswith("time"))
    assert not list(runs.glob("*_results"))
    with monkeypatch.context() as patch:
        patch.setattr(batch, "plan_of", unreadable)
        done = called("batch", runs / "fit[12].yaml", "--dry-run", "--json")
    assert done.status == 1
    assert [row["error"] for row in json.loads(done.out)] == ["run1.h5: broken", "run2.h5: broken"]
    found = json.loads(called("batch", runs / "fit*.yaml", "--dry-run", "--json").out)
    assert ["error" in row for row in found] == [True, False, False]
    assert found[1]["data"]["n_points"] == 2 * 40 * 39 / 2


def test_a_dry_run_finds_earlier_results(called, runs):
    (runs / "fit1_results").mkdir()
    (runs / "fit1_results" / "result.h5").touch()
    done = called("batch", runs / "fit*.yaml", "--dry-run", "-q")
    assert (done.status, done.out) == (1, "")
    assert done.err.endswith(
        "fit1_results: holds results already; give --overwrite to replace them\n"
    )
    assert called("batch", runs / "fit*.yaml", "--dry-run", "--overwrite").status == 0


def test_an_interrupt_leaves_the_table(called, runs, monkeypatch):
    fit = fit_module.fit

    def interrupted(data, *args, **kwargs):
        if "run2" in data.source:
            raise KeyboardInterrupt
        return fit(data, *args, **kwargs)

    monkeypatch.setattr(fit_module, "fit", interrupted)
    (runs / "fit3.yaml").write_text(STATIC % "run1.h5")
    done = called("batch", runs / "fit*.yaml", "--json")
    found = json.loads(done.out)
    assert done.status == 130
    assert found[0]["fit"]["success"]
    assert [row["error"] for row in found[1:]] == [
        "interrupted: in the step 'starting JAX'; nothing is written",
        "the batch was interrupted",
    ]
    done = called("batch", runs / "fit[23].yaml")
    assert [row.split()[0] for row in done.out.splitlines()[-3:-1]] == ["interrupted", "not"]
    assert done.out.endswith("2 fits: 0 converged, 0 did not, 0 errors, 2 not finished\n")


def test_data_in_the_place_of_a_configuration(called, runs):
    done = called("batch", runs / "fit1.yaml", runs / "run2.h5")
    assert done.err.endswith("run2.h5: is a data file; write --data before data files\n")


def test_results_are_no_data(called, runs):
    assert called("batch", runs / "fit1.yaml").status == 0
    done = called("batch", runs / "fit1.yaml", "--data", runs / "**/*.h5", "--dry-run", "--json")
    assert [row["data"]["path"] for row in json.loads(done.out)] == [
        str(runs / f"run{seed}.h5") for seed in (1, 2)
    ]
    done = called("inspect", runs / "fit1_results" / "result.h5")
    assert "is a result of homodyne_fit, not data" in done.err


def test_data_files_that_a_shell_found(called, runs):
    data = [runs / f"run{seed}.h5" for seed in (1, 2)]
    quoted = called("batch", runs / "fit1.yaml", "--data", runs / "run*.h5", "--dry-run", "--json")
    done = called("batch", runs / "fit1.yaml", "--data", *data, "--dry-run", "--json")
    assert json.loads(done.out) == json.loads(quoted.out)
    done = called("batch", "--data", *data, runs / "fit1.yaml")
    assert done.status == 1
    assert f"CONFIG; write {runs / 'fit1.yaml'} before --data" in done.err


def test_what_a_file_leaves_to_the_configuration_is_said(called, runs):
    np.save(runs / "bare.npy", hf.load(runs / "run1.h5").c2)
    settings = "{dt: 0.25, scattering: {wavevector_q: 0.0054}}"
    data = "bare.npy, phi_angles: [0, 90]"
    (runs / "bare.yaml").write_text(STATIC % data + f"analyzer_parameters: {settings}\n")
    taken = "q = 0.0054 Å⁻¹, dt = 0.25 s, φ = 0, 90°"
    note = f"note: from the configuration, not the file: {taken}\n"
    for options in (("--dry-run",), ()):
        done = called("batch", runs / "bare.yaml", "--data", runs / "bare.npy", *options)
        assert done.status == 0
        assert done.out.count(note) == 1
    done = called("batch", runs / "bare.yaml", "--data", runs / "bare.npy", "--dry-run", "--json")
    assert json.loads(done.out)[0]["note"] in note


def test_it_goes_on_past_failures(called, runs):
    (runs / "fit0.yaml").write_text("analysis_mode: fluid\n")
    (runs / "fit3.yaml").write_text(STATIC % "no.h5")
    done = called("batch", runs / "fit*.yaml", "--json")
    assert done.status == 1
    found = json.loads(done.out)
    assert [row["name"] for row in found] == [str(runs / f"fit{k}.yaml") for k in range(4)]
    assert ["error" in row for row in found] == [True, False, False, True]
    assert "analysis_mode: must be" in found[0]["error"]
    assert "no.h5: there is no such file" in found[3]["error"]
    lines = done.err.splitlines()
    assert all(line.startswith("homodyne_fit: error: ") for line in lines)
    # Of the first, all that it lacks besides.
    assert all("fit0" in line for line in lines[:-1])
    assert "no.h5" in lines[-1]
    assert found[1]["parameters"]["D_offset"]["fixed"]


def test_a_fault_of_the_program_does_not_stop_it(called, runs, monkeypatch):
    fit = fit_module.fit

    def fail_once(data, *arguments, **options):
        if data.source.endswith("run1.h5"):
            raise ZeroDivisionError("nobody foresaw this")
        return fit(data, *arguments, **options)

    monkeypatch.setattr(fit_module, "fit", fail_once)
    done = called("batch", runs / "fit1.yaml", runs / "fit2.yaml")
    assert done.status == 1
    assert "ZeroDivisionError" in done.err
    assert done.out.endswith("2 fits: 1 converged, 0 did not, 1 error\n")


def test_not_converged_is_status_2(called, runs):
    done = called("batch", runs / "fit1.yaml", runs / "fit2.yaml", "--max-iterations", "1")
    assert done.status == 2
    assert "NOT CONVERGED" in done.out
    assert done.out.endswith("2 fits: 0 converged, 2 did not, 0 errors\n")


def test_one_configuration_for_many_files(called, runs):
    options = ("--data", runs / "run?.h5", "--output-dir", runs / "all", "--quiet")
    done = called("batch", runs / "fit1.yaml", *options)
    assert (done.status, done.out) == (0, "")
    for seed in (1, 2):
        result = hf.load_result(runs / "all" / f"fit1_results_run{seed}")
        assert result.provenance.source == str(runs / f"run{seed}.h5")
    # The folders have the same names beside the configuration.
    plans = called("batch", runs / "fit1.yaml", "--data", runs / "run?.h5", "--dry-run", "--json")
    assert [plan["output"] for plan in json.loads(plans.out)] == [
        str(runs / f"fit1_results_run{seed}") for seed in (1, 2)
    ]


def test_the_table_is_a_file_too(called, runs):
    (runs / "fit2.yaml").write_text("analysis_mode: fluid\n")
    options = ("--set", "parameter_space.bounds.D0={name: D0, min: 1, max: 100}")
    done = called("batch", runs / "fit1.yaml", runs / "fit2.yaml", "--output-dir", runs, *options)
    assert f"table: {runs / 'batch.csv'}\n" in done.out
    with (runs / "batch.csv").open(encoding="utf-8", newline="") as stream:
        fitted, broken = csv.DictReader(stream)
    result = hf.load_result(runs / "fit1_results")
    assert result.warnings
    assert fitted["cautions"] == " ".join(result.warnings)
    assert fitted["results"] == str(runs / "fit1_results")
    assert float(fitted["D0"]) == result.parameters["D0"].value
    for name, estimate in result.parameters.items():
        stderr = estimate.stderr if np.isfinite(estimate.stderr) else ""
        assert fitted[f"{name}_stderr"] == str(stderr)
    assert (broken["verdict"], broken["results"], broken["D0"]) == ("error", "", "")
    assert "analysis_mode: must be" in broken["error"]
    rows = done.out[done.out.index("verdict") :].splitlines()
    assert rows[1].split()[-2] == str(len(result.warnings))


def test_without_a_fit_there_is_no_table_in_a_file(called, runs):
    called("batch", runs / "fit1.yaml", "--set", "analysis_mode=fluid")
    assert not (runs / "batch.csv").exists()


def test_earlier_results_stay_unless_they_may_go(called, runs):
    assert called("batch", runs / "fit1.yaml", "--quiet").status == 0
    again = called("batch", runs / "fit1.yaml")
    assert again.status == 1
    assert "holds results already" in again.err
    assert called("batch", runs / "fit1.yaml", "--overwrite", "--quiet").status == 0


def test_two_fits_may_not_share_a_folder(called, runs):
    for seed in (1, 2):
        with (runs / f"fit{seed}.yaml").open("a") as file:
            file.write(f"output: {{directory: '{runs}/same'}}\n")
    done = called("batch", runs / "fit1.yaml", runs / "fit2.yaml")
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "would both write their results there" in done.err
    assert not (runs / "same").exists()


def test_a_pattern_that_matches_nothing(called, runs):
    done = called("batch", runs / "x*.yaml")
    assert done.err == f"homodyne_fit: error: {runs / 'x*.yaml'}: no file matches\n"
