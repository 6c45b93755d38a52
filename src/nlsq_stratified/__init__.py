"""Exact large-data least squares for NLSQ, for any chunking of the data.

A fit only ever needs sums over points. Each chunk returns its sums, the sums add, and the
optimiser sees the total; so the answer is the full-data least-squares answer whatever the chunks
are, in whatever order and wherever they are summed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlsq_stratified.chunks import ArrayChunks, ChunkReport, Chunks
from nlsq_stratified.normal_equations import (
    Equations,
    FactoredEquations,
    NormalEquations,
    Spread,
    spread,
)
from nlsq_stratified.reduction import ChunkSequence, Objective, evaluate, reduce
from nlsq_stratified.trust_region import TrustRegionResult, solve

if TYPE_CHECKING:
    from nlsq_stratified.curve_fit import curve_fit_large
    from nlsq_stratified.curve_objective import CurveObjective

__all__ = [
    "ArrayChunks",
    "ChunkReport",
    "ChunkSequence",
    "Chunks",
    "CurveObjective",
    "Equations",
    "FactoredEquations",
    "NormalEquations",
    "Objective",
    "Spread",
    "TrustRegionResult",
    "curve_fit_large",
    "evaluate",
    "reduce",
    "solve",
    "spread",
]


def __getattr__(name: str) -> Any:
    # Importing nlsq switches JAX to 64 bits for the whole process; only those who use the
    # names that need it ask for that.
    if name == "curve_fit_large":
        from nlsq_stratified.curve_fit import curve_fit_large

        return curve_fit_large
    if name == "CurveObjective":
        from nlsq_stratified.curve_objective import CurveObjective

        return CurveObjective
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
