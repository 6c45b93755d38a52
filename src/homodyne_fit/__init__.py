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
    from homodyne_fit.analysis import Analysis
    from homodyne_fit.api import fit, simulate
    from homodyne_fit.dataset import TwoTimeData
    from homodyne_fit.errors import InputError
    from homodyne_fit.layers.settings import AntiDegeneracy
    from homodyne_fit.loading import inspect, load
    from homodyne_fit.result_file import load_result
    from homodyne_fit.results import Estimate, FitResult
    from homodyne_fit.settings import FitSettings

__all__ = [
    "load",
    "inspect",
    "simulate",
    "fit",
    "load_result",
    "Analysis",
    "AntiDegeneracy",
    "Estimate",
    "FitResult",
    "FitSettings",
    "InputError",
    "TwoTimeData",
]

# Where each public name is defined.
_MODULES = {
    "load": "loading",
    "inspect": "loading",
    "simulate": "api",
    "fit": "api",
    "load_result": "result_file",
    "Analysis": "analysis",
    "AntiDegeneracy": "layers.settings",
    "Estimate": "results",
    "FitResult": "results",
    "FitSettings": "settings",
    "InputError": "errors",
    "TwoTimeData": "dataset",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version(__name__)
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
