"""Figures without a fit: measured matrices, and matrices simulated from parameters."""

from __future__ import annotations

import argparse
from pathlib import Path

from homodyne_fit.analysis import simulate
from homodyne_fit.cli.options import INITIAL, PLOTTED_CONTRAST, PLOTTED_OFFSET
from homodyne_fit.config import Config
from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.quality import assess
from homodyne_fit.errors import InputError
from homodyne_fit.model.parameters import PARAMETERS
from homodyne_fit.report.figures import plot_matrices
from homodyne_fit.report.quality_figure import quality_plot
from homodyne_fit.report.style import plain_style
from homodyne_fit.results.folder import save_figure
from homodyne_fit.simulation.measurement import Measurement

__all__ = ["draw_experimental_data", "draw_simulated_data", "simulated_data"]


def draw_experimental_data(data: TwoTimeData, folder: Path) -> list[Path]:
    """Draw all matrices, and their quality; return the files."""
    matrices = [assess(matrix) for matrix in data.c2]
    with plain_style():
        quality = quality_plot(matrices, data.phi.tolist(), data.dt, Path(data.source).name)
        return [
            save_figure(plot_matrices(data), folder / "experimental_data.png"),
            save_figure(quality, folder / "experimental_data_quality.png"),
        ]


def draw_simulated_data(data: TwoTimeData, folder: Path) -> list[Path]:
    """Draw the matrices; return the file."""
    with plain_style():
        return [save_figure(plot_matrices(data), folder / "simulated_data.png")]


def simulated_data(config: Config, args: argparse.Namespace) -> TwoTimeData:
    """The matrices at the start values of the configuration."""
    settings, analyzer = config.settings(), config.root.analyzer_parameters
    defaults = {name: PARAMETERS[name].start for name in settings.model.parameters}
    values = {name: start for name, start in defaults.items() if start is not None}
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
        contrast=PLOTTED_CONTRAST if args.contrast is None else args.contrast,
        offset=PLOTTED_OFFSET if args.offset is None else args.offset,
        noise=0.0,
    )


def _frames(first: int, last: int) -> int | None:
    """The number of frames, if the last one is known without the data."""
    return last - first + 1 if last > 0 else None
