"""Files of two-time correlations: their formats, and what is selected from one."""

from __future__ import annotations

from homodyne_fit.loaders.recognition import open_two_time
from homodyne_fit.loaders.two_time_file import TwoTimeFile

__all__ = ["TwoTimeFile", "open_two_time"]
