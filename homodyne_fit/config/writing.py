"""The settings of a fit as a configuration file has them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.units import NAMES
from homodyne_fit.fitting.settings import FitSettings

__all__ = ["settings_to_config"]

# Options that are written although they have their default.
ALWAYS_WRITTEN = {"tolerance", "max_nfev", "precision", "threads", "memory"}


def settings_to_config(
    settings: FitSettings, data: TwoTimeData, units_confirmed: Collection[str] = ()
) -> dict[str, Any]:
    """The settings as a configuration file has them: what `Config.settings` turns back."""
    bounds = [
        {"name": name, "min": lower, "max": upper}
        for name, (lower, upper) in settings.bounds.items()
    ]
    search = settings.search
    # Defaults are left out: some have no effect beside the other values, which would be reported.
    options = search.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    analyzer = {**data.recipe.get("analyzer_parameters", {})}
    confirmed = {*analyzer.get("units_confirmed", ()), *(NAMES[each] for each in units_confirmed)}
    analyzer |= {"dt": data.dt, "scattering": {"wavevector_q": data.mean_q}}
    selected = {
        **data.recipe,
        "analyzer_parameters": {
            **analyzer,
            "units_confirmed": sorted(confirmed),
            "geometry": {"stator_rotor_gap": settings.gap},
        },
    }
    return {
        "analysis_mode": settings.model.name,
        **selected,
        "initial_parameters": {
            "values": dict(settings.initial),
            "fixed_parameters": dict(settings.fixed),
        },
        "parameter_space": {"bounds": bounds},
        "model": {"shear": settings.shear},
        "optimization": {
            "nlsq": {
                **search.model_dump(by_alias=True, include=ALWAYS_WRITTEN),
                **options,
                "anti_degeneracy": {
                    "per_angle_mode": search.anti_degeneracy.per_angle_mode,
                    **options.get("anti_degeneracy", {}),
                },
            }
        },
    }
