"""The number of processors that this process may use."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

__all__ = ["available_processors"]

# Limits of a container, of the two generations of control groups.
CGROUP_2 = Path("/sys/fs/cgroup/cpu.max")
CGROUP_1 = (
    Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
    Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)

# Variables in which batch systems give the processors of a task.
BATCH = ("SLURM_CPUS_PER_TASK", "PBS_NUM_PPN", "NSLOTS", "LSB_DJOB_NUMPROC")


def available_processors() -> int:
    """Processors of this process: those of the machine, within all limits that are known.

    They are the affinity of the process, the quota of its container, and the processors that a
    batch system gives to its task; `os.cpu_count` counts those of the machine.
    """
    limits = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    limits += [math.ceil(quota) for quota in (_quota(),) if quota is not None]
    for name in BATCH:
        with suppress(KeyError, ValueError):
            limits.append(int(os.environ[name]))
    return max(1, min(limits))


def _quota() -> float | None:
    """Processors by the quota of the container; None without a quota."""
    with suppress(OSError, ValueError):
        quota, period = CGROUP_2.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = (int(path.read_text()) for path in CGROUP_1)
        return quota / period if quota > 0 and period > 0 else None
    return None
