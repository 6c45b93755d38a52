"""How much memory a fit may use."""

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

# Of what is available, where nothing else is said.
SHARE = 0.75

# Of what is allowed: most that whole matrices may take, and chunks of those on the disk.
MATRICES_SHARE, CHUNKS_SHARE = 0.25, 0.5

# Folder of a hierarchy, and its files of the limit and of what is used; in `memory.stat`, what of
# that is file contents that can be dropped.
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
    """Bytes that may be used: those given, or three quarters of what is available."""
    return int(SHARE * available_memory()) if memory is None else memory


def available_memory(root: str | os.PathLike[str] = "/") -> int:
    """Bytes that are free in the machine, or below the limit of a control group if that is less.

    Parameters
    ----------
    root : path
        Where the file system that says so begins.
    """
    return max(0, min([psutil.virtual_memory().available, *_below_limits(Path(root))]))


def size_in_words(n_bytes: float) -> str:
    """Return a size in bytes as ``"3.3 GB"``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.3g} {unit}"
    return f"{n_bytes / 1e3:.3g} kB"


def _below_limits(root: Path) -> Iterator[int]:
    """What is left to each control group of this process, version 1 or 2, and those above it."""
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
