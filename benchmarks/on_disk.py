"""Time per point and peak memory of fits whose data lie on disk, for growing N.

A sum of exponentials with 13 parameters; chunks of 250,000 points are read from one file of
float64 pairs. Each N runs in a process of its own, so that the peak is its own.

    .venv/bin/python benchmarks/on_disk.py [N ...]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CHUNK = 250_000
TRUTH = np.array([v for k in range(6) for v in (1.0 + 0.2 * k, 0.3 * 2.2**k)] + [0.5])


@dataclass(frozen=True)
class PairsOnDisk:
    """Chunks of a file that holds x and y of each point."""

    path: Path

    def __len__(self) -> int:
        return -(-self.path.stat().st_size // (16 * CHUNK))

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        pairs = np.fromfile(self.path, count=2 * CHUNK, offset=16 * CHUNK * index).reshape(-1, 2)
        return pairs[:, 0].copy(), pairs[:, 1].copy()


def model(x, *p):  # type: ignore[no-untyped-def]
    """Six decays and a baseline."""
    import jax.numpy as jnp

    return sum(p[i] * jnp.exp(-p[i + 1] * x) for i in range(0, 12, 2)) + p[12]


def write(path: Path, n_points: int) -> None:
    """Write n noisy points."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, n_points, CHUNK):
            x = rng.uniform(0, 20, min(CHUNK, n_points - start))
            y = sum(TRUTH[i] * np.exp(-TRUTH[i + 1] * x) for i in range(0, 12, 2)) + TRUTH[12]
            np.column_stack([x, y + rng.normal(0, 0.01, len(x))]).tofile(file)


def run(path: Path) -> None:
    """Fit one file and print its line of the table."""
    from nlsq_stratified import curve_fit_large

    def memory() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    data = PairsOnDisk(path)
    start = TRUTH * np.where(np.arange(13) % 2, 1.02, 0.98)
    curve_fit_large(model, chunks=[data[0]], p0=start, max_nfev=2)
    before = memory()
    began = time.perf_counter()
    fit = curve_fit_large(model, p0=start, chunks=data)
    seconds = time.perf_counter() - began
    n = path.stat().st_size // 16
    print(
        f"{n:>12,}{fit.nfev:>8}{seconds:>10.1f}{1e9 * seconds / n / fit.nfev:>16.1f}"
        f"{memory():>12.0f}{memory() - before:>14.0f}   {fit.success}",
        flush=True,
    )


def main() -> None:
    """Write, fit and remove a file for each N."""
    sizes = [int(float(text)) for text in sys.argv[1:]] or [10**6, 10**7, 10**8]
    print(f"chunks of {CHUNK:,} points, {16 * CHUNK / 2**20:.0f} MB each on disk")
    print(
        f"{'points':>12}{'passes':>8}{'seconds':>10}{'ns/point/pass':>16}{'peak MB':>12}"
        f"{'over 1 chunk':>14}   converged"
    )
    for n_points in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pairs.bin"
            write(path, n_points)
            subprocess.run([sys.executable, __file__, "--one", str(path)], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        run(Path(sys.argv[2]))
    else:
        main()
