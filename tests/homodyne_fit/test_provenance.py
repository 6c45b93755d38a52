import hashlib
import re
from dataclasses import replace
from datetime import datetime

import numpy as np

from homodyne_fit.data.provenance import Provenance, fingerprint


def test_a_file_is_told_by_size_and_time(measure, tmp_path):
    path = tmp_path / "data.npy"
    path.write_bytes(b"12345")
    told = Provenance.of(replace(measure(n=9).data, source=str(path), notes=("a",)))
    assert (told.source, told.size, told.notes) == (str(path), 5, ("a",))
    assert abs(datetime.fromisoformat(told.modified).timestamp() - path.stat().st_mtime) <= 1
    assert abs((datetime.now().astimezone() - datetime.fromisoformat(told.created)).seconds) < 60
    assert re.match(r"\d+\.", told.versions["jax"])


def test_data_without_a_file_have_neither(measure):
    told = Provenance.of(measure(n=9).data)
    assert (told.size, told.modified) == (None, None)


def test_the_fingerprint_is_that_of_the_points(measure):
    data = measure(n=9).data
    digest = hashlib.sha256()
    for part in (data.phi, data.q, np.array(data.dt)):
        digest.update(part.astype("<f8").tobytes())
    for matrix in data.c2:
        half = [[v if j > i else 0.0 for j, v in enumerate(r)] for i, r in enumerate(matrix)]
        digest.update(np.array(half, dtype="<f8").tobytes())
    assert fingerprint(data) == digest.hexdigest()


def test_what_is_no_data_does_not_count(measure):
    data = measure(n=9).data
    half = np.where(np.tri(9, dtype=bool), np.nan, data.c2)
    assert fingerprint(replace(data, c2=half)) == fingerprint(data)


def test_any_point_counts(measure):
    data = measure(n=9).data
    c2 = data.c2.copy()
    c2[2, 7, 8] = np.nextafter(c2[2, 7, 8], 2)
    assert fingerprint(replace(data, c2=c2)) != fingerprint(data)
    assert fingerprint(replace(data, dt=0.2)) != fingerprint(data)
