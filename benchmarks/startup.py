"""Where the time of a small fit goes: import, read, compile, fit, write; cold and again.

One simulated file (3 angles × 1001 frames by default) is fitted by the path of the command line in
a process of its own: once with an empty cache of compiled code, and again.

    .venv/bin/python benchmarks/startup.py [--angles 3] [--frames 1001] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

CONFIG = {
    "analyzer_parameters": {"geometry": {"stator_rotor_gap": 2e6}},
    "experimental_data": {"file_path": "data.h5"},
}


def phases(folder: str) -> None:
    """Fit in this process; print seconds by phase."""
    began = time.perf_counter()
    seconds = {"compile": 0.0}

    def lap(name: str, since: float) -> float:
        now = time.perf_counter()
        seconds[name] = now - since
        return now

    from rich.console import Console

    from homodyne_fit.cli.commands import fit as command
    from homodyne_fit.config import load_config
    from homodyne_fit.kernel.compilation import keep_compiled

    config = load_config(Path(folder) / "c.yaml")
    now = lap("start, configuration", began)
    config.load_data()
    now = lap("read", now)
    import jax

    import homodyne_fit.fitting  # noqa: F401

    def compiled(event: str, duration: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seconds["compile"] += duration

    jax.monitoring.register_event_duration_secs_listener(compiled)
    keep_compiled()
    now = lap("import of JAX and the fit", now)
    analysis = command.fit_config(config, Path(folder) / "out", Console(quiet=True), overwrite=True)
    seconds["fit, compiling aside"] = analysis.info.seconds - seconds["compile"]
    seconds["report, files, second reading"] = time.perf_counter() - now - analysis.info.seconds
    seconds["passes"] = analysis.info.passes
    print(json.dumps(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--angles", type=int, default=3)
    parser.add_argument("--frames", type=int, default=1001)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--phases", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phases:
        return phases(options.phases)
    with tempfile.TemporaryDirectory() as folder:
        phi = ",".join(f"{180 * k / options.angles:g}" for k in range(options.angles))
        command = [sys.executable, "-m", "homodyne_fit", "simulate", "-o", f"{folder}/data.h5"]
        subprocess.run(
            [*command, "--phi", phi, "--frames", str(options.frames), "--noise", "0.02"], check=True
        )
        (Path(folder) / "c.yaml").write_text(yaml.safe_dump(CONFIG))
        best: dict[str, dict[str, float]] = {}
        for repeat in range(options.repeats):
            for kind in ("cold", "again"):
                cache = {"XDG_CACHE_HOME": f"{folder}/cache{repeat}"}
                began = time.perf_counter()
                found = subprocess.run(
                    [sys.executable, __file__, "--phases", folder],
                    env={**os.environ, **cache},
                    stdout=subprocess.PIPE,
                    check=True,
                )
                seconds = json.loads(found.stdout)
                seconds["whole process"] = time.perf_counter() - began
                if kind not in best or seconds["whole process"] < best[kind]["whole process"]:
                    best[kind] = seconds
    print(f"{options.angles} angles × {options.frames} frames; best of {options.repeats}\n")
    print("| s | cold | again |\n|---|---|---|")
    for name in best["cold"]:
        print(f"| {name} | {best['cold'][name]:.2f} | {best['again'][name]:.2f} |")
    return None


if __name__ == "__main__":
    main()
