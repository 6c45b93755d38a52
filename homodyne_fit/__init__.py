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
    from homodyne_fit.analysis import (
        Analysis,
        compare,
        fit,
        load_result,
        sample_posterior,
        simulate,
    )
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
    from homodyne_fit.report.comparison import Comparison
    from homodyne_fit.report.figure_files import FigureFiles
    from homodyne_fit.report.figures import plot_profile
    from homodyne_fit.report.posterior_figures import plot_pairs, plot_trace
    from homodyne_fit.report.style import figure_style

__all__ = [
    "load",
    "inspect",
    "simulate",
    "fit",
    "load_result",
    "compare",
    "profile",
    "plot_pairs",
    "plot_profile",
    "plot_trace",
    "figure_style",
    "sample_posterior",
    "Analysis",
    "Comparison",
    "AntiDegeneracy",
    "Estimate",
    "FigureFiles",
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
    "compare": "analysis",
    "profile": "fitting.profile",
    "plot_pairs": "report.posterior_figures",
    "plot_profile": "report.figures",
    "plot_trace": "report.posterior_figures",
    "figure_style": "report.style",
    "sample_posterior": "analysis",
    "Analysis": "analysis",
    "Comparison": "report.comparison",
    "AntiDegeneracy": "fitting.options",
    "Estimate": "fitting.result",
    "FigureFiles": "report.figure_files",
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
