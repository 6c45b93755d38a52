"""Ctrl-C: a fit stops at its next chunk, what it has found is kept, the exit status is 130."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import homodyne_fit as hf
from homodyne_fit.cli.interrupt import STOPPING, Stoppable, stoppable
from homodyne_fit.progress import Step, StopFit
from homodyne_fit.results.names import OUTPUTS

CAN_STOP = Step("all points", can_stop=True)


@pytest.fixture(autouse=True)
def _interrupts():
    """As in a program that a user starts, though a shell may ignore the signal for the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def config(small_array, tmp_path):
    text = (
        f"experimental_data: {{file_path: {small_array}, phi_angles: [0, 45, 90]}}\n"
        "analyzer_parameters:\n"
        "  {dt: 0.1, scattering: {wavevector_q: 0.0054}, geometry: {stator_rotor_gap: 2e6}}\n"
    )
    (tmp_path / "c.yaml").write_text(text)
    return tmp_path / "c.yaml"


class TestStoppable:
    def test_where_there_is_nothing_to_keep_it_stops_at_once(self):
        with stoppable(lambda _: None) as progress:
            progress(Step("global search"))
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    def test_where_there_is_something_it_stops_at_the_next_step(self):
        told = []
        with stoppable(told.append) as progress:
            progress(CAN_STOP)
            signal.raise_signal(signal.SIGINT)
            assert progress.requested
            with pytest.raises(StopFit):
                progress(CAN_STOP)
            progress(Step("whether the model describes the data"))
        assert [step.stage for step in told] == [
            "all points",
            STOPPING,
            "whether the model describes the data",
        ]

    def test_the_second_time_it_stops_at_once(self):
        with stoppable(lambda _: None) as progress:
            progress(CAN_STOP)
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    def test_the_handler_from_before_comes_back(self):
        with stoppable(lambda _: None):
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_a_signal_that_is_ignored_stays_so(self):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with stoppable(lambda _: None) as progress:
            progress(CAN_STOP)
            signal.raise_signal(signal.SIGINT)
            assert not progress.requested


def interrupted_at(monkeypatch, stage, *, can_stop=False):
    """Interrupt fits of the command line at a step."""
    passed_on = Stoppable.__call__

    def call(progress, step):
        passed_on(progress, step)
        if step.stage == stage and step.can_stop == can_stop and not progress.requested:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Stoppable, "__call__", call)


class TestAFit:
    @pytest.mark.parametrize(
        "stage", ["reading", "starting JAX", "compiling the model", "global search"]
    )
    def test_before_all_points_leaves_nothing(self, called, config, monkeypatch, stage):
        interrupted_at(monkeypatch, stage)
        done = called("--config", config)
        said = f"homodyne_fit: error: interrupted: in the step '{stage}'; nothing is written\n"
        assert (done.status, done.err) == (130, said)
        assert not config.with_name("c_results").exists()

    @pytest.mark.usefixtures("without_pictures")
    def test_on_all_points_keeps_the_best_values(self, called, config, monkeypatch):
        interrupted_at(monkeypatch, "all points", can_stop=True)
        done = called("--config", config)
        results = config.with_name("c_results")
        assert done.status == 130
        said = f"interrupted: the fit as far as it came, not converged, is in {results}"
        assert done.err == f"homodyne_fit: error: {said}\n"
        assert "The fit did not converge. Do not use its numbers.\n" in done.out
        assert {path.name for path in results.iterdir()} == {*OUTPUTS}
        found = json.loads((results / "parameters.json").read_text("utf-8"))
        assert found["fit"]["success"] is False
        assert found["fit"]["message"].startswith("stopped in pass ")
        assert found["parameters"]["D0"]["stderr"] is None
        assert hf.load_result(results).parameters["D0"].value == found["parameters"]["D0"]["value"]

    @pytest.mark.usefixtures("without_pictures")
    def test_after_the_search_keeps_the_finished_fit(self, called, config, monkeypatch):
        interrupted_at(monkeypatch, "whether the model describes the data", can_stop=True)
        done = called("--config", config)
        results = config.with_name("c_results")
        said = f"homodyne_fit: error: interrupted: the finished fit is in {results}\n"
        assert (done.status, done.err) == (130, said)
        assert hf.load_result(results).success


@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_program(number):
    """A batch system ends a job by another signal than a user does."""
    code = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from homodyne_fit import cli
from homodyne_fit.cli.commands import inspect
def run(_):
    print("running", flush=True)
    time.sleep(3600)
inspect.run = run
sys.argv[1:] = ["inspect", "a.h5"]
sys.exit(cli.program())
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout.readline() == "running\n"
        time.sleep(0.1)
        process.send_signal(number)
        _, err = process.communicate()
    assert (process.returncode, err) == (130, "homodyne_fit: error: interrupted\n")
