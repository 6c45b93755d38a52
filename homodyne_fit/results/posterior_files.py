"""The draws of a posterior as files: netCDF for ArviZ, and plain arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from homodyne_fit.atomic import replacing
from homodyne_fit.posterior.draws import Posterior

__all__ = ["write_draws", "write_inference_data"]


def write_inference_data(path: Path, posterior: Posterior) -> None:
    """Write ``posterior.nc`` with the groups posterior and sample_stats, as ArviZ reads it."""
    # Imported late: ArviZ takes seconds.
    from arviz_base import from_dict

    of_angles = {name: ["angle"] for name, array in posterior.values.items() if array.ndim == 3}
    tree = from_dict(
        {
            "posterior": posterior.values,
            "sample_stats": {"lp": posterior.log_density, "diverging": posterior.diverging},
        },
        coords={"angle": posterior.phi},
        dims=of_angles,
    )
    for name, unit in posterior.units.items():
        tree["posterior"][name].attrs["units"] = unit
    tree.attrs["sampler"] = posterior.summary.diagnostics.sampler
    with replacing(path) as temporary:
        tree.to_netcdf(temporary, engine="h5netcdf")


def write_draws(path: Path, posterior: Posterior) -> None:
    """Write ``posterior.npz``: an array (chains, draws) for each name, and ``phi``."""
    arrays: dict[str, Any] = {
        **posterior.values,
        "phi": posterior.phi,
        "log_density": posterior.log_density,
    }
    arrays |= {f"consensus_{name}": each for name, each in posterior.consensus.items()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
