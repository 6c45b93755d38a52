"""Laminar-flow fits to two-time correlation matrices of X-ray photon correlation spectroscopy.

    import homodyne_fit as hf

    data = hf.load("data.h5", q=0.0054)
    result = hf.fit(data, "laminar_flow", gap=2e6)
    result.save("fit_results")

A name is imported when it is first used, so that ``import homodyne_fit`` loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from homodyne_fit.analysis import Analysis, fit, load_result, sample_posterior, simulate
    from homodyne_fit.data.dataset import TwoTimeData
    from homodyne_fit.data.loading import inspect, load
    from homodyne_fit.errors import InputError
    from homodyne_fit.fitting.options import AntiDegeneracy, MultiStart, SearchOptions
    from homodyne_fit.fitting.profile import Profile, profile
    from homodyne_fit.fitting.result import Estimate, FitResult
    from homodyne_fit.fitting.settings import FitSettings
    from homodyne_fit.model.rates import Model
    from homodyne_fit.posterior.draws import Posterior
    from homodyne_fit.posterior.settings import Prior
    from homodyne_fit.progress import Step, StopFit

__all__ = [
    "load",
    "inspect",
    "simulate",
    "fit",
    "load_result",
    "profile",
    "sample_posterior",
    "Analysis",
    "AntiDegeneracy",
    "Estimate",
    "FitResult",
    "FitSettings",
    "InputError",
    "Model",
    "MultiStart",
    "Posterior",
    "Prior",
    "Profile",
    "SearchOptions",
    "Step",
    "StopFit",
    "TwoTimeData",
]

# Where each public name is defined.
_MODULES = {
    "load": "data.loading",
    "inspect": "data.loading",
    "simulate": "analysis",
    "fit": "analysis",
    "load_result": "analysis",
    "profile": "fitting.profile",
    "sample_posterior": "analysis",
    "Analysis": "analysis",
    "AntiDegeneracy": "fitting.options",
    "Estimate": "fitting.result",
    "FitResult": "fitting.result",
    "FitSettings": "fitting.settings",
    "InputError": "errors",
    "Model": "model.rates",
    "MultiStart": "fitting.options",
    "Posterior": "posterior.draws",
    "Prior": "posterior.settings",
    "Profile": "fitting.profile",
    "SearchOptions": "fitting.options",
    "Step": "progress",
    "StopFit": "progress",
    "TwoTimeData": "data.dataset",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version(__name__)
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
