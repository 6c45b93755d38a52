"""How long `check` says that a fit will take, and how long it takes.

Simulated measurements of several sizes, static and with flow; the whole command in a process of its
own, first with nothing compiled, then again. The ratio is that of the actual time to the estimate
made just before.

    .venv/bin/python benchmarks/effort.py [--sizes 3:300 23:1001]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = ("3:300", "3:1001", "8:100", "8:300", "23:300", "8:1001", "23:1001")
GAP = "2e6"  # Å


def command(*arguments: str, cache: Path) -> str:
    """Run a command of homodyne_fit; return what it prints."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    call = [sys.executable, "-m", "homodyne_fit", *arguments]
    return subprocess.run(call, env=environment, check=True, stdout=subprocess.PIPE).stdout.decode()


def simulated(folder: Path, n_angles: int, n_frames: int, model: str) -> Path:
    """A measurement of this size, and its configuration."""
    data, config = folder / "data.h5", folder / "fit.yaml"
    phi = ",".join(f"{180 * k / n_angles:.6g}" for k in range(n_angles))
    flow = ("--static",) if model == "static" else ()
    measured = ("--phi", phi, "--frames", str(n_frames), "--dt", "0.1")
    command("simulate", "-o", str(data), *measured, *flow, cache=folder)
    command("init", str(data), "-o", str(config), *(flow or ("--gap", GAP)), cache=folder)
    return config


def row(n_angles: int, n_frames: int, model: str) -> list[str]:
    """Estimate and time, cold and again."""
    cells = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = simulated(folder, n_angles, n_frames, model)
        for compiled in (False, True):
            plan = json.loads(command("check", str(config), "--json", cache=folder))
            before, first = plan["estimate"]["seconds"]
            expected, began = before if compiled else first, time.perf_counter()
            out = ("--output-dir", str(folder / "results"), "--overwrite", "--quiet")
            command("--config", str(config), *out, cache=folder)
            seconds = time.perf_counter() - began
            cells += [f"{expected:.1f}", f"{seconds:.1f}", f"{seconds / expected:.2f}"]
    return [f"{n_angles} × {n_frames}", model, *cells]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=SIZES, help="angles:frames")
    sizes = [tuple(map(int, size.split(":"))) for size in parser.parse_args().sizes]
    head = ["angles × frames", "model", "cold: estimate, s", "took, s", "ratio"]
    head += ["again: estimate, s", "took, s", "ratio"]
    print("|", " | ".join(head), "|")
    print("|", " | ".join("---" for _ in head), "|")
    for (n_angles, n_frames), model in itertools.product(sizes, ("laminar_flow", "static")):
        print("|", " | ".join(row(n_angles, n_frames, model)), "|", flush=True)


if __name__ == "__main__":
    main()
