"""Files of two-time correlations: what one holds, and the data of one wave vector from it."""

from __future__ import annotations

from homodyne_fit.loaders.recognition import open_two_time
from homodyne_fit.loaders.selection import load
from homodyne_fit.loaders.two_time_file import TwoTimeFile

__all__ = ["TwoTimeFile", "load", "open_two_time"]
