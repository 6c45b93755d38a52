"""The simulated cluster in the cases that can be worked out by hand."""

import importlib.util
import sys
from pathlib import Path

import pytest

from nlsq_stratified.reduction import FAN_IN


@pytest.fixture(scope="module")
def simulation():
    path = Path(__file__).parents[2] / "benchmarks" / "scale_simulation.py"
    spec = importlib.util.spec_from_file_location("scale_simulation", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_one_worker_does_everything_in_turn(simulation):
    """It waits for the scheduler before each chunk; then the client adds."""
    costs = simulation.Costs(task=0.1, add=0.01, sums=0.0)
    assert simulation.simulated_pass(10, 2.0, 1, costs) == pytest.approx(10 * 2.1 + 10 * 0.01)


def test_workers_without_end_wait_for_the_scheduler(simulation):
    costs = simulation.Costs(task=0.1, add=0.0, sums=0.0)
    assert simulation.simulated_pass(50, 2.0, 1000, costs) == pytest.approx(50 * 0.1 + 2.0)


def test_a_free_scheduler_divides_the_work(simulation):
    costs = simulation.Costs(task=0.0, add=0.0, sums=0.0)
    assert simulation.simulated_pass(60, 2.0, 6, costs) == pytest.approx(20.0)
    assert simulation.simulated_pass(61, 2.0, 6, costs) == pytest.approx(22.0)


def test_sums_are_added_in_runs_and_travel(simulation):
    """Chunks of no work, one worker: two runs of 64 and one of 2, then three sums at the client."""
    costs = simulation.Costs(task=0.0, add=1.0, sums=2e9, bandwidth=1e9)
    n = 2 * FAN_IN + 2
    assert simulation.simulated_pass(n, 0.0, 1, costs) == pytest.approx(3 * FAN_IN * 3 + 3 * 3)
    assert simulation.simulated_pass(n, 0.0, 9, costs) == pytest.approx(FAN_IN * 3 + 3 * 3)
