"""How a fit over chunks searches."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from nlsq_stratified.arguments import check_executor, not_negative, positive, whole_number

__all__ = ["FitOptions"]


@dataclass(frozen=True)
class FitOptions:
    """How to search. The names are those of `nlsq_stratified.curve_fit_large`."""

    executor: Executor | None = None
    progressive: bool = False
    tolerance: float | None = None
    ftol: float | None = None
    xtol: float | None = None
    gtol: float | None = None
    max_nfev: int | None = None
    x_scale: ArrayLike | None = None
    callback: Callable[..., Any] | None = None
    show_progress: bool = False
    n_starts: int = 0
    sampler: str = "lhs"
    center_on_p0: bool = True
    scale_factor: float = 1.0

    def __post_init__(self) -> None:
        check_executor(self.executor)
        for name in ("tolerance", "ftol", "xtol", "gtol"):
            if getattr(self, name) is not None:
                not_negative(name, getattr(self, name))
        if self.max_nfev is not None:
            object.__setattr__(self, "max_nfev", whole_number("max_nfev", self.max_nfev, 1))
        object.__setattr__(self, "n_starts", whole_number("n_starts", self.n_starts, 0))
        positive("scale_factor", self.scale_factor)

    def tolerances(self) -> dict[str, Any]:
        """The tolerances that the caller chose; with any of them, standard errors stop no fit."""
        tolerances = {"ftol": self.ftol, "xtol": self.xtol, "gtol": self.gtol}
        chosen = {name: value for name, value in tolerances.items() if value is not None}
        if self.tolerance is not None:
            chosen["tolerance"] = self.tolerance
        return {"tolerance": 0.0, **chosen} if chosen else {}
