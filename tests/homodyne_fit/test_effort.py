"""What `check` says of the time of a fit: work, and the pace of the machine."""

import threading
import time

import pytest

from homodyne_fit.config import effort
from homodyne_fit.config.effort import Pace, measured_pace, seconds_of_fit


@pytest.mark.parametrize("n_threads", [1, 3])
def test_the_pace_is_what_the_processor_got_done(n_threads):
    pace = measured_pace(n_threads)
    assert 0 < pace.serial <= pace.shared <= n_threads * 1.1 * pace.serial


def test_work_that_takes_twice_as_long_is_half_the_pace(monkeypatch):
    """A thread that only waits for half of its time gets half as much done."""
    began = time.perf_counter()
    effort._do_probe(0)
    duration = time.perf_counter() - began

    def interrupted(_: int) -> None:
        time.sleep(4 * duration)

    monkeypatch.setattr(effort, "_do_probe", interrupted)
    measured_pace.cache_clear()
    pace = measured_pace(1)
    measured_pace.cache_clear()
    assert pace.shared <= effort.SECONDS_OF_PROBE / (4 * duration)
    assert pace.serial <= pace.shared


def test_a_slow_machine_takes_longer_by_as_much():
    size = {"n_angles": 8, "n_points": 10**7, "has_flow": True}
    fast, slow = (seconds_of_fit(**size, pace=Pace(p, 2 * p)) for p in (1.0, 0.25))
    assert slow == pytest.approx([4 * seconds for seconds in fast])


def test_threads_share_the_points_and_nothing_else():
    one, many = Pace(1.0, 1.0), Pace(1.0, 8.0)
    times = [
        [seconds_of_fit(3, n, pace, has_flow=False)[0] for n in (10**6, 10**8)]
        for pace in (one, many)
    ]
    assert times[0][1] - times[0][0] == pytest.approx(8 * (times[1][1] - times[1][0]))


def test_the_probe_leaves_python_to_other_threads():
    """It stands for threads that work at the same time, so it must not hold the interpreter."""
    going, turns = threading.Event(), 0

    def probe() -> None:
        for _ in range(5):
            effort._do_probe(0)
        going.set()

    thread = threading.Thread(target=probe)
    thread.start()
    while not going.wait(0):
        turns += 1
    thread.join()
    assert turns > 100
