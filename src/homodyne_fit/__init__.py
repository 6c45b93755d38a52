"""Laminar-flow fits to two-time correlation matrices of X-ray photon correlation spectroscopy.

    import homodyne_fit as hf

    data = hf.load("data.h5", q=0.0054)
    result = hf.fit(data, "laminar_flow", gap=2e6)
    result.save("fit_results")

A name is imported when it is first used, so that ``import homodyne_fit`` loads nothing heavy.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from homodyne_fit.analysis import Analysis
    from homodyne_fit.api import fit, inspect, simulate
    from homodyne_fit.dataset import TwoTimeData
    from homodyne_fit.errors import InputError
    from homodyne_fit.layers.settings import AntiDegeneracy
    from homodyne_fit.loaders import load
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
    "load": "loaders",
    "inspect": "api",
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


class _Package(ModuleType):
    """A package whose public names are resolved on use.

    They are properties because some modules bear the names of public functions: importing
    ``homodyne_fit.fit`` would put the module in the place of the function.
    """

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


def _public(name: str) -> property:
    def resolve(package: ModuleType) -> object:
        return getattr(import_module(f"{package.__name__}.{_MODULES[name]}"), name)

    def leave(package: ModuleType, module: object) -> None:
        """A module of this name was imported: it is in `sys.modules`, which is enough."""

    return property(resolve, leave)


for _name in __all__:
    setattr(_Package, _name, _public(_name))
sys.modules[__name__].__class__ = _Package
