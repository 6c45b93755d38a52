"""The memory that a fit may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = [
    "CHUNKS_SHARE",
    "MATRICES_SHARE",
    "allowed_memory",
    "available_memory",
    "size_in_words",
]

# Fraction of the available memory that may be used by default.
SHARE = 0.75

# Fraction of the allowed memory for whole matrices.
MATRICES_SHARE = 0.25

# Fraction of the allowed memory for chunks of matrices that stay on the disk.
CHUNKS_SHARE = 0.5

# Control groups of version 2 and 1: folder, file of the limit, file of the memory in use, and the
# entry of `memory.stat` for contents of files that can be dropped.
CGROUPS = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": (
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
}


def allowed_memory(memory: int | None) -> int:
    """Memory that may be used, bytes: `memory`, or by default three quarters of the available."""
    return int(SHARE * available_memory()) if memory is None else memory


def available_memory(root: str | os.PathLike[str] = "/") -> int:
    """Free memory of the machine or, if it is less, of a control group, bytes.

    `root` is the root of the file system with the information.
    """
    return max(0, min([psutil.virtual_memory().available, *_below_limits(Path(root))]))


def size_in_words(n_bytes: float) -> str:
    """Return a size in bytes as ``"3.3 GB"``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.3g} {unit}"
    return f"{n_bytes / 1e3:.3g} kB"


def _below_limits(root: Path) -> Iterator[int]:
    """Free memory, in bytes, of each control group of this process and of the groups above it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        for controller in controllers.split(","):
            if controller not in CGROUPS:
                continue
            folder, limit, used, droppable = CGROUPS[controller]
            top = root / "sys/fs/cgroup" / folder
            place = top / group.lstrip("/")
            for each in (place, *place.parents):
                numbers = [_text(each / name).strip() for name in (limit, used)]
                if all(number.isdigit() for number in numbers):
                    stat = dict(row.split() for row in _text(each / "memory.stat").splitlines())
                    yield int(numbers[0]) - int(numbers[1]) + int(stat.get(droppable, 0))
                if each == top:
                    break


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
