"""The draws of a posterior as files: netCDF for ArviZ, and plain arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from homodyne_fit.atomic import replacing
from homodyne_fit.model.parameters import PARAMETERS
from homodyne_fit.posterior.draws import Posterior
from homodyne_fit.results.names import POSTERIOR_DRAWS
from homodyne_fit.results.record import FitRecord

__all__ = ["read_posterior", "write_draws", "write_inference_data"]

# Arrays of the file that are not draws of a quantity.
OTHERS = ("phi", "log_density", "diverging")

CONSENSUS = "consensus_"


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
    """Write ``posterior.npz``: an array (chains, draws) for each name, and ``phi``.

    `read_posterior` is the way back.
    """
    arrays: dict[str, Any] = {
        **posterior.values,
        "phi": posterior.phi,
        "log_density": posterior.log_density,
        "diverging": posterior.diverging,
    }
    arrays |= {f"{CONSENSUS}{name}": each for name, each in posterior.consensus.items()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_posterior(folder: Path, record: FitRecord) -> Posterior | None:
    """The draws beside a result; None where there are none."""
    path = folder / POSTERIOR_DRAWS
    if record.posterior is None or not path.exists():
        return None
    with np.load(path) as file:
        arrays = dict(file)
    none = np.zeros(arrays["log_density"].shape, dtype=bool)
    values = {
        name: array
        for name, array in arrays.items()
        if name not in OTHERS and not name.startswith(CONSENSUS)
    }
    units = {f"{rate.key}_mid": rate.unit for rate in record.rates}
    units |= {name: PARAMETERS[name].unit for name in values if name in PARAMETERS}
    return Posterior(
        summary=record.posterior,
        values=values,
        log_density=arrays["log_density"],
        # Files did not always have them.
        diverging=arrays.get("diverging", none),
        phi=arrays["phi"],
        units={name: units.get(name, "") for name in values},
        consensus={
            name.removeprefix(CONSENSUS): array
            for name, array in arrays.items()
            if name.startswith(CONSENSUS)
        },
    )
