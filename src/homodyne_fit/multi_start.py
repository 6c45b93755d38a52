"""Settings of the global search."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from homodyne_fit.sections import Section
from homodyne_fit.value_types import Count, NotNegative

__all__ = ["MultiStart"]


class MultiStart(Section):
    """How the best basin is searched for.

    Attributes
    ----------
    enable : bool
        If False, the fit starts from the initial values alone.
    n_starts : int
        Starts that are screened.
    sampling_strategy : str
        How they are spread.
    seed : int
    """

    enable: bool = Field(
        default=True, description="false: the fit starts from the initial values alone."
    )
    n_starts: Count = Field(default=128, description="Starts that are screened.")
    sampling_strategy: Literal["latin_hypercube", "sobol"] = Field(
        default="latin_hypercube", description="How they are spread."
    )
    seed: NotNegative = Field(default=0, description="Seed of the starts.")
