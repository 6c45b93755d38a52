"""Exact large-data least squares for NLSQ, for any chunking of the data.

A fit needs only sums over the points. Each chunk returns its sums, and the optimiser gets their
total; so the answer is the least-squares answer of all data, for any chunks in any order, wherever
the sums are computed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlsq_stratified.chunks import ArrayChunks, ChunkReport, Chunks
    from nlsq_stratified.curve_fit import curve_fit_large
    from nlsq_stratified.executors.dask_cluster import DaskExecutor
    from nlsq_stratified.executors.devices import device_executor
    from nlsq_stratified.executors.processes import ResidentProcesses
    from nlsq_stratified.fitter import StratifiedLargeDatasetFitter, fit_large_dataset
    from nlsq_stratified.normal_equations import (
        Covariance,
        Equations,
        FactoredEquations,
        NormalEquations,
        covariance_of,
    )
    from nlsq_stratified.objectives.curve import CurveObjective
    from nlsq_stratified.objectives.local import LocalParameters
    from nlsq_stratified.reduction import ChunkSequence, Objective, evaluate, reduce
    from nlsq_stratified.solver.trust_region import TrustRegionResult, solve, solve_many

# Imported on first use: importing nlsq switches JAX to 64 bits for the whole process, and to count
# processors needs no SciPy.
LAZY = {
    "ArrayChunks": "chunks",
    "ChunkReport": "chunks",
    "Chunks": "chunks",
    "Covariance": "normal_equations",
    "Equations": "normal_equations",
    "FactoredEquations": "normal_equations",
    "NormalEquations": "normal_equations",
    "covariance_of": "normal_equations",
    "ChunkSequence": "reduction",
    "Objective": "reduction",
    "evaluate": "reduction",
    "reduce": "reduction",
    "TrustRegionResult": "solver.trust_region",
    "solve": "solver.trust_region",
    "solve_many": "solver.trust_region",
    "DaskExecutor": "executors.dask_cluster",
    "ResidentProcesses": "executors.processes",
    "device_executor": "executors.devices",
    "CurveObjective": "objectives.curve",
    "LocalParameters": "objectives.local",
    "StratifiedLargeDatasetFitter": "fitter",
    "curve_fit_large": "curve_fit",
    "fit_large_dataset": "fitter",
}

# What the names above need of NLSQ, as pip installs it. NLSQ asks for 200 packages more.
OF_NLSQ = {"nlsq": "--no-deps nlsq", "optax": "optax"}

__all__ = [
    "ArrayChunks",
    "ChunkReport",
    "ChunkSequence",
    "Chunks",
    "Covariance",
    "CurveObjective",
    "DaskExecutor",
    "Equations",
    "FactoredEquations",
    "LocalParameters",
    "NormalEquations",
    "Objective",
    "ResidentProcesses",
    "StratifiedLargeDatasetFitter",
    "TrustRegionResult",
    "covariance_of",
    "curve_fit_large",
    "device_executor",
    "evaluate",
    "fit_large_dataset",
    "reduce",
    "solve",
    "solve_many",
]


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{LAZY[name]}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in OF_NLSQ:
            raise
        raise ModuleNotFoundError(
            f"{name} extends NLSQ and needs {missing}, which is not installed: pip install "
            f"{OF_NLSQ[missing]}",
            name=missing,
        ) from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
