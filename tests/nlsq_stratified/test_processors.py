import os

import pytest

from nlsq_stratified import processors
from nlsq_stratified.processors import BATCH, available_processors


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 128 processors without limits."""
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(128)), raising=False)
    monkeypatch.setattr(processors, "CGROUP_2", tmp_path / "cpu.max")
    paths = (tmp_path / "quota", tmp_path / "period")
    monkeypatch.setattr(processors, "CGROUP_1", paths)
    for name in BATCH:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_all_of_a_machine_without_limits(machine):
    assert available_processors() == 128


def test_affinity(machine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7}, raising=False)
    assert available_processors() == 1


@pytest.mark.parametrize(
    ("text", "number"), [("200000 100000", 2), ("150000 100000", 2), ("max 100000", 128)]
)
def test_quota_of_a_container(machine, text, number):
    (machine / "cpu.max").write_text(f"{text}\n")
    assert available_processors() == number


@pytest.mark.parametrize(("quota", "number"), [(400000, 4), (10000, 1), (-1, 128)])
def test_quota_of_the_first_generation(machine, quota, number):
    (machine / "quota").write_text(f"{quota}\n")
    (machine / "period").write_text("100000\n")
    assert available_processors() == number


@pytest.mark.parametrize(("text", "number"), [("4", 4), ("500", 128), ("0", 1), ("many", 128)])
@pytest.mark.parametrize("name", BATCH)
def test_batch_systems(machine, monkeypatch, name, text, number):
    monkeypatch.setenv(name, text)
    assert available_processors() == number
