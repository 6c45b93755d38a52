"""Everything that is wrong with a configuration and its data, in one go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from homodyne_fit.config.configuration import Config, text_of
from homodyne_fit.config.problems import unexplained
from homodyne_fit.config.reading import read
from homodyne_fit.errors import InputError, Mistakes
from homodyne_fit.loaders.selection import Selection
from homodyne_fit.overrides import Override

__all__ = ["examine"]

# Sections that say what is taken from the data file, and one among them that does not.
ABOUT_DATA = ("analyzer_parameters", "experimental_data", "phi_filtering", "preprocessing")
ABOUT_MODEL = "analyzer_parameters.geometry"


def examine(path: Path, overrides: Sequence[Override] = ()) -> tuple[Config, Selection]:
    """Read a configuration and what it selects; no matrix is read.

    Parameters
    ----------
    overrides : sequence of (str, value)
        As in `parse_config`.

    Raises
    ------
    InputError
        If there are mistakes, in the text, between its keys, or in view of the data file. The
        message has one line for each.
    """
    reading = read(text_of(path), overrides)
    found = [f"{path}: {problem}" for problem in reading.problems]
    if reading.root is None:
        raise InputError("\n".join(found))
    config = Config(path, reading.root, reading.foreign)
    missing = unexplained(config.problems(), reading.doubtful)
    mistakes = Mistakes(found + [f"{path}: {problem}" for problem in missing])
    selection = None
    doubtful = [key for key in reading.doubtful if not key.startswith(ABOUT_MODEL)]
    if not any(key.startswith(ABOUT_DATA) for key in doubtful):
        with mistakes.collected():
            selection = config.selection()
    mistakes.raise_any()
    assert selection is not None
    return config, selection
