"""A fit of very many points on very many workers: measured costs, and what follows from them.

Measured here: the time of a point in both kernels, on one processor; what adding two sums costs;
what a chunk costs the client and the scheduler of a Dask cluster, from passes whose chunks take no
time; and, to test the simulation, passes of chunks that sleep, on real workers.

The simulation has W workers and one scheduler that handles one task after the other, each for so
long. Workers take groups of chunks in turn and are idle while none is on its way; adding 64
successive sums is a task again, which is ready when all of them are there. Sums that are left
travel to the client.

    .venv/bin/python benchmarks/scale_simulation.py [--points 1e12] [--processors 1 100 1000]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import heapq
import itertools
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import kernel
import numpy as np
from threadpoolctl import threadpool_limits

from homodyne_fit.kernel.tiles import tile_chunks
from nlsq_stratified import FactoredEquations, NormalEquations, reduce
from nlsq_stratified.executors.dask_cluster import additions, group_size
from nlsq_stratified.reduction import FAN_IN, distribute

# Points of a chunk.
PER_CHUNK = 1e7


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


def simulated_pass(
    n_chunks: int, chunk: float, workers: int, costs: Costs, threads: int = 1
) -> tuple[int, float]:
    """Tasks and seconds of one pass over n chunks.

    Each takes a processor `chunk` seconds; each worker has so many, which share a task.
    """
    size = group_size(n_chunks, workers)
    fans, left = additions(n_chunks, size)
    # Tasks of each level, and how many of those below each one still waits for.
    sizes, missing = [-(-n_chunks // size)], []
    for fan in fans:
        missing.append([len(run) for run in itertools.batched(range(sizes[-1]), fan)])
        sizes.append(len(missing[-1]))
    ready = deque((0, i) for i in range(sizes[0]))
    idle, running, scheduler, end = workers, [], 0.0, 0.0
    adding = FAN_IN * (costs.add + costs.sums / costs.bandwidth)
    rounds = [-(-size // threads)] * (sizes[0] - 1)
    rounds.append(-(-(n_chunks - size * len(rounds)) // threads))
    while ready or running:
        while ready and idle:
            # Sums first: a run that is complete is not kept waiting for later chunks.
            level, index = ready.popleft()
            scheduler += costs.task
            idle -= 1
            seconds = adding if level else rounds[index] * chunk
            heapq.heappush(running, (scheduler + seconds, level, index))
        now, level, index = heapq.heappop(running)
        scheduler, end, idle = max(scheduler, now), max(end, now), idle + 1
        if level < len(missing):
            missing[level][index // fans[level]] -= 1
            if missing[level][index // fans[level]] == 0:
                ready.appendleft((level + 1, index // fans[level]))
    return sum(sizes), end + left * (costs.add + costs.sums / costs.bandwidth)


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
    """Seconds a point of a pass of the two-time kernel on one thread."""
    data = kernel.measurement(23, 1001)
    objective, chunks = kernel.objective_of(data), tile_chunks(data)
    points = 23 * 1001 * 1000 // 2
    return best(lambda: reduce(objective, kernel.TRUTH, chunks)) / points


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

    from nlsq_stratified.executors.dask_cluster import DaskExecutor

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
            placed = distribute([chunk] * n_chunks, executor)
            found.append(best(functools.partial(reduce, objective, params, placed, executor)))
    return found


@contextlib.contextmanager
def workers_as_threads(count: int) -> Iterator[Any]:
    """The client of a Dask cluster whose workers are threads of this process."""
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=False,
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def dask_passes(cases: list[tuple[int, float]], workers: int) -> list[float]:
    """Seconds of passes of (n chunks, seconds each) on that many real workers, as threads."""
    from nlsq_stratified.executors.dask_cluster import DaskExecutor

    sums = NormalEquations(1.0, np.ones(13), np.ones((13, 13)), 1)
    found = []
    with workers_as_threads(workers) as client:
        executor = DaskExecutor(client)
        for n, seconds in cases:
            placed = distribute([seconds] * n, executor)
            objective = Sleeping(sums)
            one_pass = functools.partial(reduce, objective, np.zeros(13), placed, executor)
            found.append(best(one_pass, 2))
    return found


def task_cost() -> float:
    """Seconds that a task takes the client, the scheduler and one of four workers."""
    with workers_as_threads(4) as client:

        def run(n: int) -> float:
            return best(lambda: client.gather(client.map(int, range(n), pure=False)))

        few, many = 500, 2000
        return (run(many) - run(few)) / (many - few)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=float, default=1e12)
    parser.add_argument("--processors", type=int, nargs="+", default=[1, 100, 1000, 3200, 32000])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 32], help="of a worker")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "Sending large graph")

    print(f"measured, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    with threadpool_limits(1):
        kernels = {"two-time, 23 angles": two_time_cost(), "generic, p = 13": curve_cost()}
        additions = addition_costs()
    for name, seconds in kernels.items():
        print(f"  {name:22} {1e9 * seconds:8.1f} ns a point")
    for name, (seconds, size) in additions.items():
        print(f"  {name:22} {1e6 * seconds:8.1f} µs to add sums of {size:,.0f} bytes")

    task = task_cost()
    print(f"  a task of no work: {1e3 * task:.2f} ms of client, scheduler and worker together")

    alone, both = real_passes([1, 2])
    print(f"  8e6 points on one and two Dask workers: {alone:.2f} s, {both:.2f} s")

    print("passes of chunks that sleep: measured on Dask, and simulated")
    print(f"{'workers':>9}{'chunks':>8}{'s each':>8}{'measured':>10}{'simulated':>11}")
    cases = [(64, 0.1), (256, 0.05), (256, 0.01), (4096, 0.003)]
    own = Costs(task, 1e-6, 1e3)
    for workers in (4, 16, 64):
        for (n, each), seconds in zip(cases, dask_passes(cases, workers), strict=True):
            _, expected = simulated_pass(n, each, workers, own)
            print(f"{workers:>9}{n:>8}{each:>8.3f}{seconds:>10.2f}{expected:>11.2f}")

    print(f"simulated: one pass over {arguments.points:.0e} points in chunks of 10⁷")
    print(
        f"{'kernel':22}{'processors':>11}{'a worker':>9}{'tasks':>9}{'pass [s]':>11}{'busy':>7}"
        f"{'GB of sums':>12}"
    )
    n = int(-(-arguments.points // PER_CHUNK))
    for name, point in kernels.items():
        add, size = additions[name]
        costs, chunk = Costs(task, add, size), PER_CHUNK * point
        for processors, threads in itertools.product(arguments.processors, arguments.threads):
            workers = processors // threads
            if workers:
                tasks, seconds = simulated_pass(n, chunk, workers, costs, threads)
                busy = n * chunk / (workers * threads) / seconds
                print(
                    f"{name:22}{workers * threads:>11,}{threads:>9}{tasks:>9,}{seconds:>11,.1f}"
                    f"{busy:>7.0%}{n * size / 1e9:>12.2f}"
                )


if __name__ == "__main__":
    main()
