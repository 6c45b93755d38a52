"""Fits on a Dask cluster: the bits of a fit in this process, and clear errors without one."""

import gc
import json
import sys

import pytest

from homodyne_fit.cli import cluster as executors
from homodyne_fit.cli import main
from homodyne_fit.cli.cluster import connect
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.fit import FitSettings, fit
from homodyne_fit.fitting.options import MultiStart, SearchOptions
from homodyne_fit.kernel.tiles import tile_chunks

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0
    ) as local:
        yield local


def test_a_fit_has_the_bits_of_one_in_this_process(cluster, measure):
    m = measure(n=130, phi=tuple(range(0, 180, 15)))
    settings = FitSettings(
        gap=m.gap, search=SearchOptions(constant_parts="free", multi_start=MultiStart(enable=False))
    )
    assert len(tile_chunks(m.data)) > 1
    alone = fit(m.data, settings)
    with connect(cluster.scheduler_address) as executor:
        there = fit(m.data, settings, executor=executor)
    assert there.success
    assert there.parameters == alone.parameters
    assert there.info.cost_initial == alone.info.cost_initial


def test_the_command_line_takes_a_scheduler(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "homodyne_fit.report.html.write_report", lambda path, *_: path.write_text("")
    )
    data, config = tmp_path / "s.h5", tmp_path / "s.yaml"
    assert main(["simulate", "-o", str(data), "--frames", "64", "--phi", "0,45,90"]) == 0
    assert main(["init", str(data), "-o", str(config)]) == 0
    text = config.read_text().replace("_gap: null", "_gap: 2e6")
    config.write_text(f"{text.rstrip()}\n    multi_start: {{enable: false}}\n")
    called = ["--config", str(config), "--quiet", "--output-dir"]
    there, here = tmp_path / "there", tmp_path / "here"
    assert main([*called, str(there), "--scheduler", cluster.scheduler_address]) == 0
    assert main([*called, str(here)]) == 0
    parameters = [
        json.loads((folder / "parameters.json").read_text())["parameters"]
        for folder in (there, here)
    ]
    assert parameters[0] == parameters[1]


def test_the_command_line_says_that_nothing_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(executors, "PATIENCE", 0.5)
    config = tmp_path / "c.yaml"
    config.write_text("analysis_mode: static\nexperimental_data: {file_path: x.h5}\n")
    data = str(tmp_path / "x.h5")
    assert main(["simulate", "-o", data, "--static", "--frames", "8", "--phi", "0"]) == 0
    capsys.readouterr()
    assert main(["--config", str(config), "--scheduler", "tcp://127.0.0.1:9"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("homodyne_fit: error: --scheduler tcp://127.0.0.1:9: no Dask sched")
    assert error.count("\n") == 1


def test_nothing_answers(monkeypatch):
    monkeypatch.setattr(executors, "PATIENCE", 0.5)
    with (
        pytest.raises(InputError, match="^--scheduler tcp://127.0.0.1:9: no Dask scheduler ans"),
        connect("tcp://127.0.0.1:9"),
    ):
        pass


def test_no_client_is_left_to_close_itself_later(monkeypatch):
    monkeypatch.setattr(executors, "PATIENCE", 0.5)
    gc.collect()
    before = len(clients())
    with pytest.raises(InputError), connect("tcp://127.0.0.1:9"):
        pass
    assert len(clients()) == before


def clients():
    return [each for each in gc.get_objects() if type(each) is distributed.Client]


@pytest.mark.parametrize("address", ["nonsense://here", "", "here:where"])
def test_not_an_address(address, monkeypatch):
    monkeypatch.setattr(executors, "PATIENCE", 0.5)
    with pytest.raises(InputError, match="no Dask scheduler answers"), connect(address):
        pass


def test_a_scheduler_without_workers(monkeypatch):
    # A scheduler on a busy machine takes its time to answer; workers will never come.
    wait = distributed.Client.wait_for_workers
    monkeypatch.setattr(executors, "PATIENCE", 600)
    monkeypatch.setattr(
        distributed.Client, "wait_for_workers", lambda self, n, timeout: wait(self, n, timeout=0.5)
    )
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as empty,
        pytest.raises(InputError, match="has no workers; start some with `dask worker tcp://"),
        connect(empty.scheduler_address),
    ):
        pass


def test_a_worker_with_other_versions(cluster, monkeypatch):
    here = {"homodyne_fit": "9.9", "jax": "0", "numpy": "0"}
    monkeypatch.setattr(executors, "_versions", lambda: here)
    other = lambda: here | {"jax": "1"}  # noqa: E731
    monkeypatch.setattr(distributed.Client, "run", lambda *_, **__: {"tcp://there": other()})
    with (
        pytest.raises(InputError, match="the worker at tcp://there has .*'jax': '1'"),
        connect(cluster.scheduler_address),
    ):
        pass


def test_dask_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match="pip install dask distributed"), connect("tcp://x"):
        pass
