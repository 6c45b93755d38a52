"""A fit in a notebook: its summary, and its matrices to be pointed at."""

from __future__ import annotations

from uuid import uuid4

import numpy as np

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.fitting.result import FitResult
from homodyne_fit.report.numbers import format_number
from homodyne_fit.report.page_data import Arrays, as_script
from homodyne_fit.report.page_files import render_page
from homodyne_fit.report.views import angle_views

__all__ = ["matrices_html"]

# Pixels of all matrices together, and a side of each, at most: a notebook keeps every output.
ALL_PIXELS = 60_000
MOST_PIXELS = 120

# Steps of a residual, standard deviations.
RESIDUAL_STEP = 0.05


def matrices_html(data: TwoTimeData, result: FitResult) -> str:
    """A fragment of HTML with data, fit and residual of an angle that is chosen in it."""
    arrays = Arrays()
    pixels = min(MOST_PIXELS, round(np.sqrt(ALL_PIXELS / data.n_angles)))
    angles = []
    for view in angle_views(data, result, pixels):
        upper = np.triu_indices(len(view.data))
        scale = -RESIDUAL_STEP * 127, RESIDUAL_STEP
        angles.append(
            {
                "side": len(view.data),
                "block": view.block,
                "data": arrays.integers(view.data[upper], 16),
                "fit": arrays.integers(view.fit[upper], 16),
                "residual": arrays.integers(view.residual[upper], 8, scale),
            }
        )
    numbers = {
        "frames": data.n_frames,
        "dt": data.dt,
        "angles": angles,
        "arrays": arrays.stored,
    }
    return render_page(
        "notebook.html",
        "arrays.js",
        "matrices.js",
        "notebook.js",
        style="notebook.css",
        # Outputs of a notebook share one document.
        name=f"two-time-fit-{uuid4().hex[:12]}",
        angles=[format_number(phi) for phi in data.phi],
        numbers=as_script(numbers),
    )
