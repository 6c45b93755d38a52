"""A fit of very many points on very many workers: measured costs, and what follows from them.

Measured here: the time of a point in both kernels, on one processor; what adding two sums costs;
what a chunk costs the client and the scheduler of a Dask cluster, from passes whose chunks take no
time; and, to test the simulation, passes of chunks that sleep, on real workers.

The simulation has W workers and one scheduler that handles one task after the other, each for so
long. Workers take chunks in turn and are idle while none is on its way; 64 successive sums are a
task again, which is ready when all of them are there. Sums that are left travel to the client.

    .venv/bin/python benchmarks/scale_simulation.py [--points 1e12] [--workers 1 10 100 1000]
"""

from __future__ import annotations

import argparse
import functools
import heapq
import itertools
import os
import time
import warnings
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from nlsq_stratified import FactoredEquations, NormalEquations, reduce
from nlsq_stratified.reduction import FAN_IN, place


@dataclass(frozen=True)
class Costs:
    """What a cluster charges.

    Attributes
    ----------
    task : float
        Seconds of the scheduler and the client for a task.
    add : float
        Seconds to add two sums.
    sums : float
        Bytes of the sums of a chunk.
    bandwidth : float
        Bytes a second between two machines.
    """

    task: float
    add: float
    sums: float
    bandwidth: float = 1e9


def simulated_pass(n_chunks: int, chunk: float, workers: int, costs: Costs) -> float:
    """Seconds of one pass over n chunks, each of which takes a worker `chunk` seconds."""
    # Tasks that can be handed out: (level, index). Sums of level l wait until FAN_IN are there.
    sizes = [n_chunks]
    while sizes[-1] > FAN_IN:
        sizes.append(-(-sizes[-1] // FAN_IN))
    missing = [
        [min(FAN_IN, below - FAN_IN * i) for i in range(size)]
        for below, size in itertools.pairwise(sizes)
    ]
    ready = deque((0, i) for i in range(n_chunks))
    idle, running, scheduler, end = workers, [], 0.0, 0.0
    adding = FAN_IN * (costs.add + costs.sums / costs.bandwidth)
    while ready or running:
        while ready and idle:
            # Sums first: a run that is complete is not kept waiting for later chunks.
            level, index = ready.popleft()
            scheduler += costs.task
            idle -= 1
            heapq.heappush(running, (scheduler + (adding if level else chunk), level, index))
        now, level, index = heapq.heappop(running)
        scheduler, end, idle = max(scheduler, now), max(end, now), idle + 1
        if level < len(missing):
            missing[level][index // FAN_IN] -= 1
            if missing[level][index // FAN_IN] == 0:
                ready.appendleft((level + 1, index // FAN_IN))
    return end + sizes[-1] * (costs.add + costs.sums / costs.bandwidth)


class Sleeping:
    """An objective whose chunks are the seconds that they take."""

    def __init__(self, sums: Any) -> None:
        self.sums = sums

    def chunk_sums(self, params: Any, chunk: float) -> Any:
        time.sleep(chunk)
        return self.sums

    def normal_equations(self, params: Any, sums: Any) -> Any:
        return sums


def best(function: Callable[[], Any], times: int = 3) -> float:
    """Shortest time of a few, in seconds, after one that is not timed."""
    function()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        found.append(time.perf_counter() - began)
    return min(found)


def curve_problem(n: int) -> tuple[Any, Any, tuple[Any, Any]]:
    """Objective of four peaks and a baseline, its 13 parameters, and a chunk."""
    import jax.numpy as jnp

    from nlsq_stratified import CurveObjective

    def peaks(x: Any, *p: Any) -> Any:
        return sum(p[i] * jnp.exp(-(((x - p[i + 1]) / p[i + 2]) ** 2)) for i in range(0, 12, 3))

    x = np.random.default_rng(0).uniform(0, 5, n)
    objective = CurveObjective(lambda x, *p: peaks(x, *p) + p[12])
    return objective, np.linspace(0.5, 1.5, 13), (x, x)


def curve_cost(n: int = 100_000) -> float:
    """Seconds a point of `CurveObjective` with 13 parameters."""
    objective, params, chunk = curve_problem(n)
    return best(lambda: objective.chunk_sums(params, chunk)) / n


def two_time_cost() -> float:
    """Seconds a point of the two-time kernel: a fit on one thread over its passes."""
    from homodyne_fit.dataset import TwoTimeData
    from homodyne_fit.fit import FitSettings, fit
    from homodyne_fit.multi_start import MultiStart
    from homodyne_fit.simulate.measurement import Measurement, from_formula

    physics = dict(
        D0=1200.0,
        alpha=-0.4,
        D_offset=150.0,
        gamma_dot_t0=4e-4,
        beta=0.25,
        gamma_dot_t_offset=5e-5,
        phi0=3.0,
    )
    m = Measurement(physics, n_frames=1000, phi=(0.0, 45.0, 90.0))
    q = np.full(len(m.phi), m.q)
    data = TwoTimeData(from_formula(m), np.array(m.phi), q, m.dt, "a simulated measurement")
    settings = FitSettings(gap=2e6, multi_start=MultiStart(enable=False), threads=1)
    fit(data, settings)
    result = fit(data, settings)
    points = m.n_frames * (m.n_frames - 1) / 2 * len(m.phi)
    return result.info.seconds / (result.info.passes * points)


def addition_costs() -> dict[str, tuple[float, float]]:
    """Seconds to add two sums, and their bytes."""
    rng = np.random.default_rng(0)
    found = {}
    for p in (4, 13, 53):
        one = FactoredEquations(1.0, rng.normal(size=(p + 1, p + 1)), 1, np.ones(p))
        seconds = best(lambda one=one: [one + one for _ in range(100)]) / 100
        found[f"generic, p = {p}"] = seconds, 8.0 * (p + 1) ** 2
    moments = np.ones((23, 10, 10))
    seconds = best(lambda: [moments + moments for _ in range(1000)]) / 1000
    found["two-time, 23 angles"] = seconds, float(moments.nbytes)
    return found


def real_passes(workers: list[int], n_chunks: int = 16, n: int = 500_000) -> list[float]:
    """Seconds of a pass of the generic kernel on worker processes of one thread each."""
    import distributed

    from nlsq_stratified.dask import DaskExecutor

    objective, params, chunk = curve_problem(n)
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    found = []
    for count in workers:
        with (
            distributed.LocalCluster(
                n_workers=count, threads_per_worker=1, dashboard_address="127.0.0.1:0"
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            executor = DaskExecutor(client)
            placed = place([chunk] * n_chunks, executor)
            distributed.wait(placed)
            found.append(best(functools.partial(reduce, objective, params, placed, executor)))
    return found


def dask_passes(cases: list[tuple[int, float]], workers: int) -> list[float]:
    """Seconds of passes of (n chunks, seconds each) on that many real workers, as threads."""
    import distributed

    from nlsq_stratified.dask import DaskExecutor

    sums = NormalEquations(1.0, np.ones(13), np.ones((13, 13)), 1)
    found = []
    with (
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=False,
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        executor = DaskExecutor(client)
        for n, seconds in cases:
            placed = place([seconds] * n, executor)
            distributed.wait(placed)
            objective = Sleeping(sums)
            one_pass = functools.partial(reduce, objective, np.zeros(13), placed, executor)
            found.append(best(one_pass, 2))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=float, default=1e12)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--chunks", type=float, nargs="+", default=[1e6, 1e7, 1e8])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "Sending large graph")

    print(f"measured, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    with threadpool_limits(1), ThreadPoolExecutor(1):
        kernels = {"two-time, 23 angles": two_time_cost(), "generic, p = 13": curve_cost()}
        additions = addition_costs()
    for name, seconds in kernels.items():
        print(f"  {name:22} {1e9 * seconds:8.1f} ns a point")
    for name, (seconds, size) in additions.items():
        print(f"  {name:22} {1e6 * seconds:8.1f} µs to add sums of {size:,.0f} bytes")

    tasks = [500, 2000]
    times = dask_passes([(n, 0.0) for n in tasks], 4)
    task = (times[1] - times[0]) / (tasks[1] - tasks[0])
    print(f"  a chunk of no work: {1e3 * task:.2f} ms of client, scheduler and worker together")

    alone, both = real_passes([1, 2])
    print(f"  8e6 points on one and two Dask workers: {alone:.2f} s, {both:.2f} s")

    print("passes of chunks that sleep: measured on Dask, and simulated")
    print(f"{'workers':>9}{'chunks':>8}{'s each':>8}{'measured':>10}{'simulated':>11}")
    cases = [(64, 0.1), (256, 0.05), (256, 0.01)]
    own = Costs(task, 1e-6, 1e3)
    for workers in (4, 16, 64):
        for (n, each), seconds in zip(cases, dask_passes(cases, workers), strict=True):
            expected = simulated_pass(n, each, workers, own)
            print(f"{workers:>9}{n:>8}{each:>8.2f}{seconds:>10.2f}{expected:>11.2f}")

    print(f"simulated: one pass over {arguments.points:.0e} points")
    print(
        f"{'kernel':22}{'points/chunk':>14}{'chunks':>11}{'workers':>9}{'pass [s]':>11}"
        f"{'busy':>7}{'GB of sums':>12}"
    )
    for name, point in kernels.items():
        add, size = additions[name]
        for per_chunk in arguments.chunks:
            n = int(-(-arguments.points // per_chunk))
            if n > 200_000:
                print(
                    f"{name:22}{per_chunk:>14.0e}{n:>11,}  the scheduler alone: {n * task:,.0f} s"
                )
                continue
            for workers in arguments.workers:
                seconds = simulated_pass(n, per_chunk * point, workers, Costs(task, add, size))
                busy = arguments.points * point / workers / seconds
                print(
                    f"{name:22}{per_chunk:>14.0e}{n:>11,}{workers:>9,}{seconds:>11,.0f}"
                    f"{busy:>7.0%}{n * size / 1e9:>12.2f}"
                )


if __name__ == "__main__":
    main()
