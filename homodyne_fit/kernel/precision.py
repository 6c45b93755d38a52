"""The precision of what is computed for every point. Nothing here imports jax."""

from __future__ import annotations

from typing import Literal

__all__ = ["Precision"]

# See `homodyne_fit.kernel.moments.chunk_moments`.
Precision = Literal["double", "single"]
