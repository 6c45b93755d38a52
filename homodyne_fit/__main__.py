"""``python -m homodyne_fit`` is the command ``homodyne_fit``."""

from __future__ import annotations

import sys

from homodyne_fit.cli import program

if __name__ == "__main__":
    sys.exit(program())
