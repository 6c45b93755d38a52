"""The progress bar of a fit: pass, chunk, cost, gradient."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from nlsq_stratified.normal_equations import Equations

__all__ = ["ProgressBar"]


class ProgressBar:
    """Counts chunks within a pass, and shows cost and gradient of the last one.

    Parameters
    ----------
    shown : bool
        If False every method does nothing.
    """

    def __init__(self, shown: bool) -> None:
        self._bar: Any = tqdm(unit="chunk", desc="pass 0") if shown else None
        self._passes = 0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def start_pass(self, n_chunks: int) -> None:
        """Begin to count the chunks of one more pass."""
        if self._bar is not None:
            self._passes += 1
            self._bar.reset(total=n_chunks)
            self._bar.set_description(f"pass {self._passes}")

    def chunks_done(self, count: int) -> None:
        """Count so many chunks."""
        if self._bar is not None:
            self._bar.update(count)

    def pass_done(self, state: Equations) -> None:
        """Show where the pass has led."""
        if self._bar is not None:
            gradient = float(np.max(np.abs(state.gradient)))
            self._bar.set_postfix(cost=f"{state.cost:.6g}", gradient=f"{gradient:.3g}")
