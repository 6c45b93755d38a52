"""The progress of a fit over chunks, on a terminal."""

from __future__ import annotations

from typing import Any

import numpy as np
from tqdm import tqdm

from nlsq_stratified.normal_equations import Equations

__all__ = ["ProgressBar"]


class ProgressBar:
    """Counts the chunks of a pass, and shows cost and gradient of the last pass; or does nothing.

    Parameters
    ----------
    shown : bool
    """

    def __init__(self, shown: bool) -> None:
        self._bar: Any = tqdm(unit="chunk", desc="pass 0", disable=not shown)
        self._passes = 0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def start_pass(self, n_chunks: int) -> None:
        """Begin to count the chunks of the next pass."""
        self._passes += 1
        self._bar.reset(total=n_chunks)
        self._bar.set_description(f"pass {self._passes}")

    def chunks_done(self, count: int) -> None:
        """Count so many chunks."""
        self._bar.update(count)

    def pass_done(self, equations: Equations) -> None:
        """Show the cost and the largest component of the gradient."""
        if self._bar.disable:
            return
        gradient = float(np.max(np.abs(equations.gradient)))
        self._bar.set_postfix(cost=f"{equations.cost:.6g}", gradient=f"{gradient:.3g}")
