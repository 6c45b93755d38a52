"""Formats of two-time files."""

from __future__ import annotations

from homodyne_fit.data.formats.recognition import open_two_time
from homodyne_fit.data.formats.two_time_file import TwoTimeFile

__all__ = ["TwoTimeFile", "open_two_time"]
