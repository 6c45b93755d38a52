"""Memory and time that a fit will need.

A fit has a serial part, which one thread does, and a part that all threads share, which grows with
the number of points. How fast they go depends on the machine and on what else runs there: a short
piece of work with a known duration, in as many threads, tells both.
"""

from __future__ import annotations

import functools
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from homodyne_fit.config.configuration import Config
from homodyne_fit.data.selection import Selection
from homodyne_fit.data.storage.memory import CHUNKS_SHARE, allowed_memory
from homodyne_fit.data.unpacking import COPIES
from homodyne_fit.errors import counted
from nlsq_stratified.processors import available_processors

__all__ = ["Effort", "Pace", "effort_of", "measured_pace", "seconds_of_fit"]

# Memory of the program itself, bytes.
PROGRAM_BYTES = 5e8

# The following times are those of a process on the machine on which this version was measured.

# Start of the program, search, and everything else that does not depend on the data, seconds.
SECONDS_OF_FIT = 2.4

# What each angle adds: normal equations, its place in the report, seconds.
SECONDS_PER_ANGLE = 0.05

# All passes over the points, the noise found in the residuals, reading, seconds of one thread.
SECONDS_PER_POINT = 3e-7

# Compilation of the model, with flow and without, which later fits find done, seconds.
SECONDS_TO_COMPILE = {True: 1.6, False: 1.1}

# Work that shows the pace of a machine: compressing these bytes so many times,
PROBE = np.random.default_rng(0).integers(64, size=1 << 17, dtype=np.uint8).tobytes()
PROBE_TIMES = 20
# in this time, seconds.
SECONDS_OF_PROBE = 0.053

# Threads of the probe at most.
MOST_THREADS = 16


@dataclass(frozen=True)
class Effort:
    """Memory and time that a fit will need.

    Attributes
    ----------
    memory : float
        Bytes.
    seconds : (float, float)
        Time if the model has been compiled by an earlier fit, and if not.
    basis : str
        How memory and time were estimated.
    """

    memory: float
    seconds: tuple[float, float]
    basis: str


@dataclass(frozen=True)
class Pace:
    """Work that gets done in a second, in seconds of the machine of the figures above.

    Attributes
    ----------
    serial : float
        By one thread.
    shared : float
        By all threads together.
    """

    serial: float
    shared: float


def effort_of(config: Config, selection: Selection) -> Effort:
    """Estimate memory and time of a fit; one row of a matrix is read."""
    search = config.root.optimization.nlsq
    memory, contents = _memory(selection, search.memory)
    n_threads = search.threads or available_processors()
    pace = measured_pace(n_threads)
    seconds = seconds_of_fit(
        len(selection.positions), selection.n_points, pace, has_flow=config.root.has_flow
    )
    of_fit = "; the posterior takes more" if config.root.optimization.samples else ""
    return Effort(
        memory=memory,
        seconds=seconds,
        basis=f"{contents} and {PROGRAM_BYTES / 1e9:g} GB for the program; the longer time if the "
        f"model has to be compiled first; with {counted(n_threads, 'thread')}, as measured now "
        f"beside what else runs on this machine{of_fit}",
    )


def seconds_of_fit(
    n_angles: int, n_points: int, pace: Pace, *, has_flow: bool
) -> tuple[float, float]:
    """Time if the model has been compiled by an earlier fit, and if not."""
    compiled = (SECONDS_OF_FIT + SECONDS_PER_ANGLE * n_angles) / pace.serial
    compiled += SECONDS_PER_POINT * n_points / pace.shared
    return compiled, compiled + SECONDS_TO_COMPILE[has_flow] / pace.serial


@functools.cache
def measured_pace(n_threads: int) -> Pace:
    """The pace of this machine with so many threads, beside what else runs on it."""
    n_threads = min(n_threads, MOST_THREADS)
    began, began_working = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(n_threads) as threads:
        for _ in threads.map(_do_probe, range(n_threads)):
            pass
    passed, worked = time.perf_counter() - began, time.process_time() - began_working
    done = n_threads * SECONDS_OF_PROBE
    return Pace(serial=min(done / worked, done / passed), shared=done / passed)


def _do_probe(_: int) -> None:
    for _ in range(PROBE_TIMES):
        zlib.compress(PROBE)


def _memory(selection: Selection, memory: int | None) -> tuple[float, str]:
    """Bytes that a fit needs, and in words for what."""
    n_angles, n_frames = len(selection.positions), selection.n_frames
    number = selection.file.read_stored(int(selection.positions[0]), slice(0, 1)).itemsize
    # The matrices, the sorted points, and copies of the matrix that is read.
    matrices = n_angles * n_frames**2 * number
    points = 1.2 * selection.n_points * number
    reading = COPIES * n_frames**2 * number
    if selection.stays_on_disk(memory):
        kept = min(points, CHUNKS_SHARE * allowed_memory(memory))
        return kept + reading + PROGRAM_BYTES, "points that are kept in memory"
    return matrices + points + reading + PROGRAM_BYTES, "matrices, points"
