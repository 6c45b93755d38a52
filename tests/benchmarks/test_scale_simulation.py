"""The simulated cluster in the cases that can be worked out by hand."""

import importlib
from pathlib import Path

import pytest

from nlsq_stratified.reduction import FAN_IN


@pytest.fixture(scope="module")
def simulation():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        yield importlib.import_module("scale_simulation")


def test_one_worker_does_everything_in_turn(simulation):
    """It waits for the scheduler before each group of two chunks; then the client adds."""
    costs = simulation.Costs(task=0.1, add=0.01, sums=0.0)
    tasks, seconds = simulation.simulated_pass(10, 2.0, 1, costs)
    assert (tasks, seconds) == (5, pytest.approx(5 * 4.1 + 10 * 0.01))


def test_threads_of_a_worker_share_a_group(simulation):
    costs = simulation.Costs(task=0.0, add=0.0, sums=0.0)
    # Groups of 8 and 4 chunks on 3 threads: 3 and 2 rounds.
    assert simulation.simulated_pass(36, 1.0, 1, costs, threads=3)[1] == pytest.approx(14.0)


def test_workers_without_end_wait_for_the_scheduler(simulation):
    costs = simulation.Costs(task=0.1, add=0.0, sums=0.0)
    assert simulation.simulated_pass(50, 2.0, 1000, costs)[1] == pytest.approx(50 * 0.1 + 2.0)


def test_a_free_scheduler_divides_the_work(simulation):
    costs = simulation.Costs(task=0.0, add=0.0, sums=0.0)
    assert simulation.simulated_pass(60, 2.0, 6, costs)[1] == pytest.approx(20.0)
    assert simulation.simulated_pass(61, 2.0, 6, costs)[1] == pytest.approx(22.0)


def test_sums_are_added_in_runs_and_travel(simulation):
    """Chunks of no work, one worker: two runs of 64 and one of 2, then three sums at the client."""
    costs = simulation.Costs(task=0.0, add=1.0, sums=2e9, bandwidth=1e9)
    n = 2 * FAN_IN + 2
    assert simulation.simulated_pass(n, 0.0, 1, costs)[1] == pytest.approx(3 * FAN_IN * 3 + 3 * 3)
    assert simulation.simulated_pass(n, 0.0, 9, costs)[1] == pytest.approx(FAN_IN * 3 + 3 * 3)
