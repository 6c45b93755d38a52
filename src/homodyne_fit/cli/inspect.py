"""Show what a two-time file holds."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from homodyne_fit.cli.wording import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("data", type=Path, metavar="DATA", help="two-time file")


def run(args: argparse.Namespace) -> int:
    """Print format, frames, time, and the angles at each q."""
    from homodyne_fit.loaders import open_two_time
    from homodyne_fit.loaders.selection import q_groups

    file = open_two_time(args.data)
    print(f"{args.data}: {file.format}")
    print(f"{counted(file.n_matrices, 'matrix')} of {file.n_frames} × {file.n_frames} frames")
    dt = "not in the file" if file.dt is None else f"{file.dt:g} s"
    note = f" ({file.dt_note})" if file.dt_note else ""
    print(f"time between frames: {dt}{note}")
    if file.q is None:
        print("q: not in the file")
    if file.phi is None:
        print("φ: not in the file")
    elif file.q is None:
        print(f"φ = {', '.join(f'{phi:g}' for phi in file.phi)}°")
    if file.q is not None:
        for group in q_groups(file.q):
            angles = "" if file.phi is None else ", ".join(f"{file.phi[i]:g}" for i in group)
            print(
                f"q = {file.q[group].mean():.4g} Å⁻¹: {counted(len(group), 'matrix')}"
                + (f", φ = {angles}°" if angles else "")
            )
    print(f"next: homodyne_fit init {shlex.quote(str(args.data))}")
    return 0
