"""A fit of matrices that stay on the disk: peak memory, and time per point and pass.

Writes a measurement by the formula, angle by angle, in the layout of the older APS files, fits it
with little memory, and then times passes over chunks that are in memory and over chunks that are
read, in turn, in the same process. The chunks that are read come from the disk's cache where that
has room for them. With --gzip the matrices are compressed, and the fit unpacks them into a scratch
file first. The fit runs in a process of its own, so that the peak is its own.

    .venv/bin/python benchmarks/out_of_core.py [--angles 23] [--frames 6000] [--memory 2GB] [--gzip]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
from pydantic import ByteSize, TypeAdapter

from homodyne_fit.data.loading import load
from homodyne_fit.fitting.fit import FitSettings, fit
from homodyne_fit.fitting.options import SearchOptions
from homodyne_fit.kernel.stored_chunks import Chunk, StoredChunk, chunks_of
from homodyne_fit.kernel.tiles import TILE, TileChunk
from homodyne_fit.model.rates import LAMINAR_FLOW, curves
from nlsq_stratified import reduce

TRUTH = (1200.0, -0.4, 150.0, 4e-4, 0.25, 5e-5, 3.0)
Q, GAP, DURATION, CONTRAST, NOISE = 0.0054, 2e6, 10.0, 0.3, 0.05
BAND, REPEATS, MOST_TIMED = 500, 3, 20


def write(path: Path, n_angles: int, n_frames: int, gzip: bool) -> None:
    """Write upper triangles, a band of rows at a time."""
    dt, phi = DURATION / n_frames, np.linspace(0, 180, n_angles, endpoint=False)
    integrals = curves(LAMINAR_FLOW, np.array(TRUTH), dt, n_frames)
    s, gamma = integrals.transport, integrals.shear
    packed = {"chunks": (256, 256), "compression": "gzip", "compression_opts": 1} if gzip else {}
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["xpcs/dqlist"] = np.full((1, n_angles), Q)
        file["xpcs/dphilist"] = phi[None]
        file["xpcs/qphi_bin_to_process"] = np.arange(1, n_angles + 1)
        file["measurement/instrument/detector/exposure_period"] = [[dt]]
        file["xpcs/stride_frames"] = file["xpcs/avg_frames"] = [[1]]
        for k, angle in enumerate(phi):
            shape = (n_frames, n_frames)
            c2 = file.create_dataset(f"exchange/C2T_all/g2_{k + 1:05d}", shape, "f4", **packed)
            phase = 0.5 * Q * GAP * np.cos(np.deg2rad(TRUTH[-1] - angle))
            for start in range(0, n_frames, BAND):
                rows = slice(start, start + BAND)
                f = np.exp(-(Q**2) * np.abs(s[None, start:] - s[rows, None]))
                f *= np.sinc(phase * (gamma[None, start:] - gamma[rows, None]) / np.pi) ** 2
                f = 1 + CONTRAST * f + NOISE * rng.standard_normal(f.shape, dtype=np.float32)
                c2[rows, start:] = np.triu(f)


def measure(path: Path, memory: int, scratch: Path) -> None:
    """Fit, and print what it took."""
    begin = time.perf_counter()
    data = load(path, memory=memory, scratch=scratch)
    loading = time.perf_counter() - begin
    for note in data.notes:
        print(f"  note: {note}")
    result = fit(data, FitSettings(gap=GAP, search=SearchOptions(memory=memory)))
    info, peak = result.info, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cost = 1e9 * info.seconds / (info.passes * result.n_points)
    print(f"  loading   {loading:.1f} s")
    print(
        f"  fit       {info.seconds:.1f} s, {info.passes:.2f} passes over {result.n_points:.3g} "
        f"points, {cost:.2f} ns a point and pass in all; {info.message}"
    )
    print(f"  peak      {1024 * peak / 1e9:.2f} GB resident of {memory / 1e9:.2f} GB allowed")
    pulls = [
        (estimate.value - truth) / estimate.stderr
        for estimate, truth in zip(result.parameters.values(), TRUTH, strict=True)
    ]
    print("  pulls     " + " ".join(f"{pull:.1f}" for pull in pulls))

    chunks = chunks_of(data, memory)
    read = [chunk for chunk in chunks if isinstance(chunk, StoredChunk)][:MOST_TIMED]
    resident = [chunk for chunk in chunks if isinstance(chunk, TileChunk)][:MOST_TIMED]
    if not (read and resident):
        print("  the chunks are all read, or all in memory: nothing to compare")
        return
    coordinates = result.coordinates
    objective = result.objective.in_coordinates(result.space)
    with ThreadPoolExecutor() as threads:

        def nanoseconds(chunks: Sequence[Chunk], executor: ThreadPoolExecutor | None) -> float:
            begin = time.perf_counter()
            reduce(objective, coordinates, chunks, executor)
            points = sum(chunk.n_tiles * chunk.n_angles for chunk in chunks) * TILE**2
            return 1e9 * (time.perf_counter() - begin) / points

        for name, executor in (("1 thread", None), (f"{os.cpu_count()} threads", threads)):
            times = np.array(
                [[nanoseconds(each, executor) for each in (resident, read)] for _ in range(REPEATS)]
            )
            fast, slow = times.min(axis=0)
            print(
                f"  {name:9} {fast:.2f} ns a point in memory, {slow:.2f} read: "
                f"{fast / slow:.0%} of the speed"
            )


def main() -> None:
    """Write a file, and measure in another process."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--angles", type=int, default=23)
    parser.add_argument("--frames", type=int, default=6000)
    parser.add_argument("--memory", default="2GB", help="as 2GB, 512MiB")
    parser.add_argument("--gzip", action="store_true", help="compress the matrices")
    parser.add_argument("--folder", type=Path, help="for the file; default: for temporary files")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure is not None:
        memory = TypeAdapter(ByteSize).validate_python(args.memory)
        measure(args.measure, memory, args.measure.parent)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "c2.h5"
        write(path, args.angles, args.frames, args.gzip)
        print(
            f"{args.angles} angles, {args.frames} frames, "
            f"{'gzip' if args.gzip else 'not compressed'}: {path.stat().st_size / 1e9:.2f} GB",
            flush=True,
        )
        command = [sys.executable, __file__, "--measure", str(path), "--memory", args.memory]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
