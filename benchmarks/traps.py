"""Two files that homodyne and xpcsjax misread, and what each program gets from them.

Angles: an APS-U file lists the matrices of the (q, φ) bins that have pixels, and says which bins
these are in `dynamic_index_mapping`. Here the bin at 60° of the second q is empty. In each matrix
the baseline is 1 + φ/1000, so that it tells its own angle whatever a reader says.

Cache: a reader that keeps a copy of the matrices must notice when the file changes. The data are
read, replaced by others, as after a corrected calibration, and read again with the same
configuration. The baseline tells which data they are: 1.1 first, 1.2 then. The new file has
another size once, and the same size once: compressed files are therefore padded with zeros, which
HDF5 ignores; uncompressed ones have the same size anyway.

Every program reads in a process of its own, with its documented call and the configuration that
its own tool writes (as in peers.py: filled in, angle filter off).

    .venv/bin/python benchmarks/traps.py [--peers .venv-peers/bin]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import peers
import yaml

Q, PHI, EMPTY = (0.004, 0.0054), tuple(range(0, 360, 30)), 60
N, DT, CORNER = 40, 0.1, 8
SIZE = 2**20  # bytes, more than the file has


def write(path: Path, baselines: np.ndarray, bins: Sequence[int]) -> None:
    """An APS-U file of decaying matrices with these baselines in these bins."""
    from homodyne_fit.data.formats.aps_u import write_aps_u

    lag = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
    c2 = baselines[:, None, None] + 0.3 * np.exp(-lag)
    write_aps_u(path, c2, Q, PHI, bins, DT)


def read(program: str, folder: Path) -> list[tuple[float, float]]:
    """Angle and baseline of each matrix that a program reads from folder/data.h5, at 0.0054 Å⁻¹."""
    config = folder / "config.yaml"
    if not config.exists():
        geometry = peers.Geometry(Q[1], peers.GAP, DT, N, PHI)
        settings = peers.configuration(
            program, "auto", folder, folder / "data.h5", geometry, peers.TRUTH, "documented"
        )
        config.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), "utf-8")
    python = sys.executable if program == "ours" else peers.PEERS / "python"
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    done = subprocess.run(
        [python, __file__, "--read", program, config, answer],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if not answer.exists():
        raise RuntimeError(f"{program} read nothing: {done.stderr.strip().splitlines()[-1:]}")
    return [tuple(pair) for pair in json.loads(answer.read_text("utf-8"))]


def read_here(program: str, config: str, answer: Path) -> None:
    """In the process of a program: read as its documents say."""
    if program == "ours":
        from homodyne_fit.config import load_config

        data = load_config(Path(config)).load_data()
        phi, matrices = data.phi, data.c2
    else:
        if program == "homodyne":
            from homodyne.data import load_xpcs_data
        else:
            from xpcsjax import load_xpcs_data
        found = load_xpcs_data(config)
        phi, matrices = found["phi_angles_list"], found["c2_exp"]
    baselines = [float(np.mean(matrix[:CORNER, -CORNER:])) for matrix in matrices]
    answer.write_text(json.dumps(list(zip(map(float, phi), baselines, strict=True))), "utf-8")


def angles(program: str, folder: Path) -> str:
    """The row of a program: the angles it states, in the order of the true ones."""
    bins = [k for k in range(2 * len(PHI)) if k != len(PHI) + PHI.index(EMPTY)]
    write(folder / "data.h5", np.array([1 + PHI[k % len(PHI)] / 1000 for k in bins]), bins)
    pairs = sorted((round(1000 * (level - 1)), stated) for stated, level in read(program, folder))
    stated = " ".join(f"{phi:4.0f}" for _, phi in pairs)
    wrong = sum(abs(phi - true) > 0.5 for true, phi in pairs)
    if [true for true, _ in pairs] != [phi for phi in PHI if phi != EMPTY]:
        return f"{program:9} {stated}   reads {len(pairs)} matrices, of which {wrong} wrong"
    return f"{program:9} {stated}   {wrong} of {len(pairs)} wrong"


def cache(program: str, folder: Path, sizes: tuple[int, int]) -> str:
    """The row of a program: the baseline it reads before and after the file is replaced."""
    seen, bins = [], range(2 * len(PHI))
    for baseline, size in zip((1.1, 1.2), sizes, strict=True):
        write(folder / "data.h5", np.full(len(bins), baseline), bins)
        os.truncate(folder / "data.h5", size)
        seen.append(np.mean([level for _, level in read(program, folder)]))
    files = sorted(path.name for path in folder.iterdir() if path.suffix == ".npz")
    stale = "stale" if abs(seen[1] - 1.2) > 0.01 else "right"
    size = "same" if sizes[0] == sizes[1] else "other"
    left = ", ".join(files) or "none"
    return f"{program:9} {size:5} {seen[0]:6.3f} {seen[1]:7.3f}   {stale}   {left}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, default=peers.PEERS, help="folder of their programs")
    parser.add_argument("--read", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        read_here(args.read[0], args.read[1], Path(args.read[2]))
        return
    peers.PEERS = args.peers.resolve()
    print("true φ    " + " ".join(f"{phi:4d}" for phi in PHI if phi != EMPTY))
    for program in peers.PROGRAMS:
        with tempfile.TemporaryDirectory() as folder:
            print(angles(program, Path(folder)), flush=True)
    print("\nbaseline  size   first  second           cache left beside the data")
    for sizes in ((SIZE, SIZE + 1000), (SIZE, SIZE)):
        for program in peers.PROGRAMS:
            with tempfile.TemporaryDirectory() as folder:
                print(cache(program, Path(folder), sizes), flush=True)


if __name__ == "__main__":
    main()
