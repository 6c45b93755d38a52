"""The settings of a fit as a configuration."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.units import NAMES
from homodyne_fit.fitting.options import SearchOptions
from homodyne_fit.fitting.settings import FitSettings

__all__ = ["settings_to_config"]

# Options that are written even if they have their default values.
ALWAYS_WRITTEN = {"tolerance", "max_nfev", "precision", "threads", "memory"}


def settings_to_config(
    settings: FitSettings, data: TwoTimeData, units_confirmed: Collection[str] = ()
) -> dict[str, Any]:
    """The settings as the contents of a configuration; `Config.settings` is the inverse."""
    bounds = [
        {"name": name, "min": lower, "max": upper}
        for name, (lower, upper) in settings.bounds.items()
    ]
    return {
        "analysis_mode": settings.model.name,
        **_selection(settings, data, units_confirmed),
        "initial_parameters": {
            "values": dict(settings.initial),
            "fixed_parameters": dict(settings.fixed),
        },
        "parameter_space": {"bounds": bounds},
        "model": {"shear": settings.shear},
        "optimization": {"nlsq": _search(settings.search)},
    }


def _selection(
    settings: FitSettings, data: TwoTimeData, units_confirmed: Collection[str]
) -> dict[str, Any]:
    """The sections that select from a data file, with what the data remember of it."""
    analyzer: dict[str, Any] = {
        "dt": data.dt,
        "scattering": {"wavevector_q": data.mean_q},
        "geometry": {"stator_rotor_gap": settings.gap},
    }
    origin = data.origin
    confirmed = {*units_confirmed, *(origin.units_confirmed if origin else ())}
    analyzer["units_confirmed"] = sorted(NAMES[quantity] for quantity in confirmed)
    if origin is None:
        return {"analyzer_parameters": analyzer}
    first, last = origin.frames
    ranges = [{"min_angle": low, "max_angle": high} for low, high in origin.phi_ranges]
    return {
        "analyzer_parameters": {
            "start_frame": first,
            "end_frame": last,
            "dt_override": origin.dt_override,
            **analyzer,
        },
        "experimental_data": {
            "file_path": str(origin.path),
            "phi_angles": None if origin.phi is None else list(origin.phi),
            "mask_frames": list(origin.mask_frames) or None,
        },
        "phi_filtering": {"target_ranges": ranges},
    }


def _search(options: SearchOptions) -> dict[str, Any]:
    # Defaults are left out: some would be reported as keys without effect.
    content = options.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {
        **options.model_dump(by_alias=True, include=ALWAYS_WRITTEN),
        **content,
        "anti_degeneracy": {
            "per_angle_mode": options.anti_degeneracy.per_angle_mode,
            **content.get("anti_degeneracy", {}),
        },
    }
