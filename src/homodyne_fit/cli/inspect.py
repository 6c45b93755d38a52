"""Show what a two-time file holds, and how good it is."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from homodyne_fit.cli.wording import counted, ranges, table
from homodyne_fit.errors import InputError

if TYPE_CHECKING:
    from homodyne_fit.loaders import TwoTimeFile
    from homodyne_fit.quality import MatrixQuality

HEADER = ("q (Å⁻¹)", "φ (°)", "stored", "finite", "contrast", "offset", "noise", "drift")
STORED = {"upper": "upper half", "lower": "lower half", "all": "full", "": "nothing"}
# A drift is spoken of from so many standard errors and such a part of the contrast on.
DRIFT_ERRORS, DRIFT_CONTRAST = 5.0, 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("data", type=Path, metavar="DATA", help="two-time file")
    parser.add_argument("--q", type=float, help="wave vector to look at, Å⁻¹; default: all")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the quality too")
    parser.add_argument(
        "--headers-only", action="store_true", help="read no matrix: leave the quality out"
    )


def run(args: argparse.Namespace) -> int:
    """Print format, frames, time, the angles at each q, and the quality of each matrix."""
    from homodyne_fit.loaders import open_two_time

    if args.headers_only and args.plot is not None:
        raise InputError("--headers-only reads no matrix, so that there is nothing to --plot")
    file = open_two_time(args.data)
    positions = _positions(file, args.q)
    _print_contents(args.data, file)
    if not args.headers_only:
        from homodyne_fit.quality import assess

        matrices = [
            assess(file.read_stored(index), file.populated, file.shift) for index in positions
        ]
        print(
            table([HEADER, *(_row(file, k, m) for k, m in zip(positions, matrices, strict=True))])
        )
        print("noise at the shortest and longest lag; drift of the baseline ± standard error")
        for text in _remarks(file, positions, matrices):
            print(f"note: {text}")
        if args.plot is not None:
            _draw(args.plot, file, positions, matrices)
            print(f"wrote {args.plot}")
    print(f"next: homodyne_fit init {shlex.quote(str(args.data))}")
    return 0


def _positions(file: TwoTimeFile, q: float | None) -> list[int]:
    """Positions of the matrices to look at."""
    from homodyne_fit.loaders.selection import nearest_q

    if q is None:
        return list(range(file.n_matrices))
    if file.q is None:
        raise InputError(f"{file.path}: the file does not give q; leave --q out")
    return nearest_q(file.q, q, str(file.path)).tolist()


def _print_contents(path: Path, file: TwoTimeFile) -> None:
    from homodyne_fit.loaders.selection import q_groups

    print(f"{path}: {file.format}")
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


def _row(file: TwoTimeFile, position: int, matrix: MatrixQuality) -> tuple[str, ...]:
    noise = (
        "–".join(f"{value:.2g}" for value in matrix.noise[[0, -1]]) if len(matrix.noise) else "?"
    )
    return (
        "?" if file.q is None else f"{file.q[position]:.4g}",
        "?" if file.phi is None else f"{file.phi[position]:g}",
        STORED[matrix.stored],
        f"{100 * matrix.finite:.4g} %",
        f"{matrix.contrast:.3g}",
        f"{matrix.offset:.4g}",
        noise,
        f"{matrix.drift:.2g} ± {matrix.drift_error:.1g}",
    )


def _remarks(
    file: TwoTimeFile, positions: Sequence[int], matrices: Sequence[MatrixQuality]
) -> Iterator[str]:
    """What is wrong with each matrix, and between them, in words."""
    from homodyne_fit.quality import duplicates

    for position, matrix in zip(positions, matrices, strict=True):
        for text in _remarks_about(matrix):
            yield f"{_called(file, position)}: {text}"
    for first, later in duplicates(matrices):
        yield (
            f"{_called(file, positions[later])}: the same data as {_called(file, positions[first])}"
        )
    seen: dict[tuple[float, float], int] = {}
    for position in positions if file.q is not None and file.phi is not None else ():
        place = (float(file.q[position]), float(file.phi[position] % 360))
        first = seen.setdefault(place, position)
        if first != position:
            yield f"{_called(file, position)}: q and φ are those of {_called(file, first)}"


def _remarks_about(matrix: MatrixQuality) -> Iterator[str]:
    if not matrix.stored:
        yield "nothing is stored: every value is zero or missing"
        return
    if matrix.unexpectedly_full:
        yield f"both halves are stored, where the {STORED[matrix.expected]} was expected"
    elif matrix.stored != "all" and matrix.expected not in ("", matrix.stored):
        yield f"the {STORED[matrix.stored]} is stored, where {STORED[matrix.expected]} was expected"
    if matrix.asymmetric:
        share = f"{100 * matrix.asymmetric:.3g} %"
        yield f"not symmetric: {share} of the entries differ; it cannot be fitted"
    for frames, what in (
        (matrix.dead, "without a signal"),
        (matrix.odd, "unlike those around them"),
        (matrix.repeated, "that repeat the one before"),
    ):
        if len(frames):
            yield f"frames {what}: {ranges(frames.tolist())}"
    if abs(matrix.drift) > max(
        DRIFT_ERRORS * matrix.drift_error, DRIFT_CONTRAST * abs(matrix.contrast)
    ):
        yield f"the baseline drifts by {matrix.drift:.2g}, for a contrast of {matrix.contrast:.2g}"


def _called(file: TwoTimeFile, position: int) -> str:
    """What the user knows a matrix by, and the file."""
    known = [] if file.q is None else [f"q = {file.q[position]:.4g} Å⁻¹"]
    known += [] if file.phi is None else [f"φ = {file.phi[position]:g}°"]
    return ", ".join([*known, file.names[position]])


def _draw(
    path: Path, file: TwoTimeFile, positions: Sequence[int], matrices: Sequence[MatrixQuality]
) -> None:
    """Draw the wave vector with most matrices."""
    import numpy as np

    from homodyne_fit.atomic import replacing
    from homodyne_fit.loaders.selection import q_groups
    from homodyne_fit.quality_plot import quality_plot

    shown = np.arange(len(positions))
    title = file.path.name
    if file.q is not None:
        q = file.q[list(positions)]
        shown = max(q_groups(q), key=len)
        title += f", q = {q[shown].mean():.4g} Å⁻¹"
    phi = [float(k if file.phi is None else file.phi[positions[k]]) for k in shown]
    figure = quality_plot([matrices[k] for k in shown], phi, file.dt, title)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png", dpi=120)
