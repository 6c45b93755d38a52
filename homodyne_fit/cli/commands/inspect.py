"""Show what a two-time file holds, and how good it is."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.atomic import replacing, require_writable
from homodyne_fit.cli.console import new_console, print_json, table
from homodyne_fit.data.formats import TwoTimeFile, open_two_time
from homodyne_fit.data.quality import MatrixQuality, assess, symmetric
from homodyne_fit.data.selection import about_file
from homodyne_fit.data.wave_vectors import SAME_Q, nearest_q, q_groups
from homodyne_fit.errors import InputError, counted, rename_places
from homodyne_fit.progress import Progress, Step, not_told
from homodyne_fit.report.numbers import format_estimate
from homodyne_fit.report.quality import STORED, remarks

# Columns of the table.
HEADER = ("q (Å⁻¹)", "φ (°)", "stored", "finite", "contrast", "offset", "noise", "drift")
# Numbers of a matrix in JSON.
NUMBERS = ("contrast", "offset", "drift", "drift_error")

# Lists of frames of a matrix in JSON, counted from 1.
FRAMES = ("dead", "odd", "repeated")

# Number of entries from which on the assessment says that it takes time: some ten seconds.
MANY_NUMBERS = 2e8

# Number of matrices in a figure, and of their pixels along one side, at most.
MOST_IMAGES = 6
IMAGE_PIXELS = 200

# Formats of figures, by the ending of the file name.
FIGURES = {"": "png", ".png": "png", ".pdf": "pdf", ".svg": "svg"}


def run(args: argparse.Namespace) -> int:
    """Print format, frames, time, the angles at each q, and the quality of each matrix."""
    if args.plot is not None and args.plot.suffix.lower() not in FIGURES:
        raise InputError(f"{args.plot}: the name of a figure ends with .png, .pdf or .svg")
    if args.headers_only and (args.plot is not None or args.html is not None):
        option = "--html" if args.plot is None else "--plot"
        raise InputError(f"--headers-only reads no matrix, so {option} has nothing to draw")
    if args.html is not None:
        require_writable(args.html)
    file = open_two_time(args.data)
    positions = _positions(file, args.q)
    matrices = None if args.headers_only else _assessed(file, positions)
    if args.plot is not None and matrices is not None:
        _draw(args.plot, file, positions, matrices)
    if args.html is not None and matrices is not None:
        _write_page(args.html, file, positions, matrices)
    if args.json:
        print_json(_to_json(file, positions, matrices))
        return 0
    _print_contents(args.data, file)
    for text in about_file(file, None, None, None).values():
        print(f"question: {text}")
    if matrices is not None:
        _print_quality(file, positions, matrices)
    for text in file.notes:
        print(f"note: {text}")
    if args.q is not None and file.q is not None:
        _say_which_q(args.q, float(file.q[positions].mean()))
    if args.plot is not None:
        print(f"wrote {args.plot}")
    if args.html is not None:
        print(f"wrote {args.html}")
    if matrices is None or any(matrix.stored for matrix in matrices):
        print(f"next: homodyne_fit init {shlex.quote(str(args.data))}{_options(file, args.q)}")
    return 0


def _say_which_q(wanted: float, taken: float) -> None:
    """Say that another wave vector, Å⁻¹, was taken than the wanted one."""
    if not math.isclose(wanted, taken, rel_tol=SAME_Q):
        print(f"--q {wanted:.6g} is not in the file; the nearest is shown, q = {taken:.6g} Å⁻¹")


def _options(file: TwoTimeFile, q: float | None) -> str:
    """Options of ``init`` for values that the file lacks, with their units as a comment."""
    groups = [range(file.n_matrices)] if file.q is None else q_groups(file.q)
    several = max(map(len, groups), default=0) > 1
    options = {
        "--q Q" if q is None else f"--q {q:g}": ("Å⁻¹", file.q is None or q is not None),
        "--dt DT": ("s", file.dt is None),
        "--phi LIST": ("degrees", file.phi is None and several),
        "--gap GAP": ("Å, or --static", several),
    }
    needed = {option: unit for option, (unit, is_needed) in options.items() if is_needed}
    return f" {' '.join(needed)}  # {', '.join(needed.values())}" if needed else ""


def _positions(file: TwoTimeFile, q: float | None) -> list[int]:
    """Positions of the matrices to assess."""
    if q is None:
        return list(range(file.n_matrices))
    if file.q is None:
        raise InputError(f"{file.path}: the file does not give q; leave --q out")
    with rename_places({"q": "--q"}):
        return nearest_q(file.q, q, str(file.path)).tolist()


def _print_contents(path: Path, file: TwoTimeFile) -> None:
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


def _assessed(file: TwoTimeFile, positions: Sequence[int]) -> list[MatrixQuality]:
    """Read the matrices and assess the quality of each; the progress is on standard error."""
    numbers = len(positions) * file.n_frames**2
    try:
        with _progress(file, positions, numbers) as show:
            matrices = []
            for k in positions:
                show(Step("assessing", "matrix", len(matrices), len(positions)))
                matrices.append(assess(file.read_stored(k), file.populated, file.shift))
            return matrices
    except MemoryError as error:
        raise InputError(
            f"{file.path}: there is not enough memory to assess a matrix of {file.n_frames} × "
            f"{file.n_frames} numbers; --headers-only shows the rest"
        ) from error


@contextmanager
def _progress(file: TwoTimeFile, positions: Sequence[int], numbers: int) -> Iterator[Progress]:
    """Say what takes long, and how to look at less; then count the matrices."""
    if numbers < MANY_NUMBERS:
        yield not_told
        return
    # Imported late: most files are assessed in a moment.
    from homodyne_fit.cli.progress import Clock, shown_on

    console = new_console(quiet=False, stderr=True)
    n, size = counted(len(positions), "matrix"), f"{file.n_frames} × {file.n_frames}"
    several = file.q is not None and len({float(file.q[k]) for k in positions}) > 1
    hints = (["--q Q assesses one wave vector"] if several else []) + ["--headers-only none"]
    console.print(f"assessing {n} of {size} frames; {', '.join(hints)}", markup=False)
    with shown_on(console, Clock()) as show:
        yield show


def _print_quality(
    file: TwoTimeFile, positions: Sequence[int], matrices: Sequence[MatrixQuality]
) -> None:
    """Print a table with a row for each matrix, and notes on problems."""
    print(table(_table(file, positions, matrices)))
    print("noise at the shortest and longest lag; drift of the baseline ± standard error")
    for text in remarks(file, positions, matrices):
        print(f"note: {text}")


def _table(
    file: TwoTimeFile, positions: Sequence[int], matrices: Sequence[MatrixQuality]
) -> list[tuple[str, ...]]:
    """Headings, and a row for each matrix."""
    return [HEADER, *(_row(file, k, one) for k, one in zip(positions, matrices, strict=True))]


def _row(file: TwoTimeFile, position: int, matrix: MatrixQuality) -> tuple[str, ...]:
    ends = matrix.noise[[0, -1]] if len(matrix.noise) else ()
    return (
        "?" if file.q is None else f"{file.q[position]:.4g}",
        "?" if file.phi is None else f"{file.phi[position]:g}",
        STORED[matrix.stored],
        f"{100 * matrix.finite:.4g} %",
        f"{matrix.contrast:.3g}",
        f"{matrix.offset:.4g}",
        " to ".join(f"{value:.2g}" for value in ends) or "?",
        format_estimate(matrix.drift, matrix.drift_error),
    )


def _to_json(
    file: TwoTimeFile, positions: Sequence[int], matrices: Sequence[MatrixQuality] | None
) -> dict[str, Any]:
    """The same contents for programs; null for missing values."""
    rows: list[dict[str, Any]] = [
        {
            "name": file.names[k],
            "q": None if file.q is None else _finite(file.q[k]),
            "phi": None if file.phi is None else _finite(file.phi[k]),
        }
        for k in positions
    ]
    for row, matrix in zip(rows, matrices or (), strict=False):
        row |= {name: getattr(matrix, name) for name in ("stored", "asymmetric", "finite")}
        row |= {name: _finite(getattr(matrix, name)) for name in NUMBERS}
        row |= {name: getattr(matrix, name).tolist() for name in FRAMES}
        row["noise"] = dict(zip(matrix.lags.tolist(), map(_finite, matrix.noise), strict=True))
    return {
        "path": str(file.path),
        "format": file.format,
        "n_frames": file.n_frames,
        "dt": file.dt,
        "dt_note": file.dt_note,
        "matrices": rows,
        "notes": [] if matrices is None else list(remarks(file, positions, matrices)),
    }


def _finite(value: float) -> float | None:
    """The value, or None for NaN and infinity, which JSON does not have."""
    return float(value) if math.isfinite(value) else None


def _write_page(
    path: Path, file: TwoTimeFile, positions: Sequence[int], matrices: Sequence[MatrixQuality]
) -> None:
    """Write the page about all matrices."""
    # Imported late: JAX, which the report needs, takes long to load.
    from homodyne_fit.report.raw_page import write_raw_page

    write_raw_page(path, file, positions, matrices, _table(file, positions, matrices))


def _draw(
    path: Path, file: TwoTimeFile, positions: Sequence[int], matrices: Sequence[MatrixQuality]
) -> None:
    """Draw the matrices of the wave vector that was asked for, or else that has most of them."""
    # Imported late: matplotlib takes long to load.
    from homodyne_fit.report.quality_figure import quality_plot
    from homodyne_fit.report.style import plain_style
    from homodyne_fit.report.views import block_average

    shown: list[int] = list(range(len(positions)))
    title = file.path.name
    if file.q is not None:
        q = file.q[list(positions)]
        shown = max((group.tolist() for group in q_groups(q)), key=len, default=shown)
        title += f", q = {q[shown].mean():.4g} Å⁻¹"
    phi = [float(k if file.phi is None else file.phi[positions[k]]) for k in shown]
    images: dict[float, NDArray[np.floating]] = {}
    for k in np.unique(np.linspace(0, len(shown) - 1, MOST_IMAGES).astype(int)):
        c2 = symmetric(file.read_stored(positions[shown[k]])) + file.shift
        images[phi[k]] = block_average(c2, -(-file.n_frames // IMAGE_PIXELS))[0]
    with plain_style(), replacing(path) as temporary:
        figure = quality_plot([matrices[k] for k in shown], phi, file.dt, title, images)
        figure.savefig(temporary, format=FIGURES[path.suffix.lower()], dpi=120)
