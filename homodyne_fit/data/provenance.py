"""The origin of a result: programs, time, and a fingerprint of the data."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from homodyne_fit.data.dataset import TwoTimeData

__all__ = ["Provenance", "fingerprint"]

# Packages whose versions are recorded.
PACKAGES = ("homodyne_fit", "nlsq", "jax", "numpy", "scipy")


@dataclass(frozen=True)
class Provenance:
    """The origin of a result.

    Attributes
    ----------
    created : str
        Time of the result, ISO 8601 with the offset from UTC.
    versions : dict of str to str
        Versions of packages.
    source, notes : str, tuple of str
        As in `TwoTimeData`.
    size : int or None
        Size of the data file, bytes; None without a file.
    modified : str or None
        Time of the last change of the file; None without a file.
    sha256 : str
        Fingerprint of the fitted points; see `fingerprint`.
    """

    created: str
    versions: dict[str, str]
    source: str
    notes: tuple[str, ...]
    size: int | None
    modified: str | None
    sha256: str

    @classmethod
    def of(cls, data: TwoTimeData) -> Provenance:
        """The origin of a result from these data, made now."""
        file = Path(data.source)
        status = file.stat() if file.is_file() else None
        return cls(
            created=_iso(datetime.now()),
            versions=dict(_versions()),
            source=data.source,
            notes=data.notes,
            size=status.st_size if status else None,
            modified=_iso(datetime.fromtimestamp(status.st_mtime)) if status else None,
            sha256=fingerprint(data),
        )


def fingerprint(data: TwoTimeData) -> str:
    """SHA-256 of φ, q, dt and all matrices, in this order and in their types.

    Entries of a matrix at t1 ≥ t2 are no data, and are replaced by zeros.
    """
    digest = hashlib.sha256()
    for array in (data.phi, data.q, np.float64(data.dt)):
        digest.update(array.tobytes())
    for matrix in data.c2:
        digest.update(np.triu(matrix, 1).tobytes())
    return digest.hexdigest()


@functools.cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def _iso(when: datetime) -> str:
    return when.astimezone().isoformat(timespec="seconds")
