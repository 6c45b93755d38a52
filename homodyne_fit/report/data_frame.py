"""Tables of pandas, which is not installed with the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from homodyne_fit.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["data_frame"]


def data_frame(rows: Sequence[Any], columns: Sequence[str] | None = None) -> DataFrame:
    """A table of rows, which are tuples with their columns, or mappings.

    Raises
    ------
    InputError
        If pandas is not installed.
    """
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise InputError("to_dataframe needs pandas: pip install pandas") from error
    return DataFrame(list(rows), columns=None if columns is None else list(columns))
