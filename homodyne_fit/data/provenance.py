"""Where a result came from: programs, time, and a fingerprint of the data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from homodyne_fit.data.dataset import TwoTimeData

__all__ = ["Provenance", "fingerprint"]

PACKAGES = ("homodyne_fit", "nlsq", "jax", "numpy", "scipy")


@dataclass(frozen=True)
class Provenance:
    """Where a result came from.

    Attributes
    ----------
    created : str
        When, ISO 8601 with the offset from UTC.
    versions : dict of str to str
        Of the packages that made it.
    source : str
        What the data were read from.
    notes : tuple of str
        How they were selected.
    size : int or None
        Of that file, bytes; None where there is no file.
    modified : str or None
        When it was last changed, likewise.
    sha256 : str
        Of the points that were fitted; see `fingerprint`.
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
        """What is known now of a fit to `data`."""
        file = Path(data.source)
        status = file.stat() if file.is_file() else None
        return cls(
            created=_iso(datetime.now()),
            versions={name: version(name) for name in PACKAGES},
            source=data.source,
            notes=data.notes,
            size=status.st_size if status else None,
            modified=_iso(datetime.fromtimestamp(status.st_mtime)) if status else None,
            sha256=fingerprint(data),
        )


def fingerprint(data: TwoTimeData) -> str:
    """SHA-256 of φ, q, dt and every matrix at t1 < t2, in this order and in the types they have.

    The rest of each matrix is no data, and counts as zeros.
    """
    digest = hashlib.sha256()
    for array in (data.phi, data.q, np.float64(data.dt)):
        digest.update(array.tobytes())
    for matrix in data.c2:
        digest.update(np.triu(matrix, 1).tobytes())
    return digest.hexdigest()


def _iso(when: datetime) -> str:
    return when.astimezone().isoformat(timespec="seconds")
