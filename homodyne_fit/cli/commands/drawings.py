"""Figures without a fit: the measured matrices, and those of given parameters."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from homodyne_fit.cli.options import INITIAL, numbers
from homodyne_fit.errors import InputError

if TYPE_CHECKING:
    from homodyne_fit.config import Config
    from homodyne_fit.data.dataset import TwoTimeData

__all__ = ["add_arguments", "draw_experimental_data", "draw_simulated_data", "simulated_data"]

# Of simulated matrices, where the configuration does not say.
CONTRAST, OFFSET = 0.3, 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that ask for figures."""
    parser.add_argument(
        "--plot-experimental-data",
        action="store_true",
        help="draw the data and their quality; no fit, unless --save-plots asks for one",
    )
    parser.add_argument(
        "--plot-simulated-data",
        action="store_true",
        help="draw the matrices of the start values; needs no data; no fit, unless --save-plots "
        "asks for one",
    )
    simulated = parser.add_argument_group("with --plot-simulated-data")
    simulated.add_argument(
        "--phi-angles", type=numbers, metavar="LIST", help="degrees, as 0,45,90,135"
    )
    simulated.add_argument("--contrast", type=float, help=f"default: {CONTRAST:g}")
    simulated.add_argument("--offset", type=float, help=f"default: {OFFSET:g}")


def draw_experimental_data(data: TwoTimeData, folder: Path) -> list[Path]:
    """Draw all matrices, and their quality; return the files."""
    from homodyne_fit.data.quality import assess
    from homodyne_fit.report.figures import plot_matrices
    from homodyne_fit.report.quality import quality_plot
    from homodyne_fit.results.folder import save_figure

    quality = quality_plot(
        [assess(matrix) for matrix in data.c2], data.phi.tolist(), data.dt, Path(data.source).name
    )
    return [
        save_figure(plot_matrices(data), folder / "experimental_data.png"),
        save_figure(quality, folder / "experimental_data_quality.png"),
    ]


def draw_simulated_data(data: TwoTimeData, folder: Path) -> list[Path]:
    """Draw the matrices; return the file."""
    from homodyne_fit.report.figures import plot_matrices
    from homodyne_fit.results.folder import save_figure

    return [save_figure(plot_matrices(data), folder / "simulated_data.png")]


def simulated_data(config: Config, args: argparse.Namespace) -> TwoTimeData:
    """The matrices at the start values of the configuration.

    Raises
    ------
    InputError
        If the configuration does not give what a simulation needs.
    """
    from homodyne_fit.analysis import simulate
    from homodyne_fit.model.parameters import PARAMETERS
    from homodyne_fit.simulation.measurement import Measurement

    settings, analyzer = config.settings(), config.root.analyzer_parameters
    usual = {name: PARAMETERS[name].start for name in settings.model.parameters}
    values = {name: start for name, start in usual.items() if start is not None}
    values |= {**settings.initial, **settings.fixed}
    missing = [
        f"initial_parameters.values.{name} (or --initial-{spelling})"
        for spelling, (name, _) in INITIAL.items()
        if name in settings.model.parameters and name not in values
    ]
    for key, value in (
        ("analyzer_parameters.dt", analyzer.dt),
        ("analyzer_parameters.scattering.wavevector_q", analyzer.scattering.wavevector_q),
    ):
        missing += [key] if value is None else []
    if missing:
        raise InputError(f"{config.path}: --plot-simulated-data needs {', '.join(missing)}")
    return simulate(
        values,
        phi=args.phi_angles or config.root.experimental_data.phi_angles or Measurement.phi,
        q=analyzer.scattering.wavevector_q or 0.0,
        gap=settings.gap or Measurement.gap,
        dt=analyzer.dt or 0.0,
        n_frames=_frames(analyzer.start_frame, analyzer.end_frame) or Measurement.n_frames,
        contrast=CONTRAST if args.contrast is None else args.contrast,
        offset=OFFSET if args.offset is None else args.offset,
        noise=0.0,
    )


def _frames(first: int, last: int) -> int | None:
    """The number of frames, where both ends are known without the data."""
    return last - first + 1 if last > 0 else None
