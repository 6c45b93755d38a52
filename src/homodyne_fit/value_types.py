"""Types of single values: in sections of a configuration, and of arguments of functions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    GetPydanticSchema,
    PlainValidator,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

__all__ = [
    "Count",
    "LONGEST",
    "Fraction",
    "Listed",
    "NotNegative",
    "Number",
    "NumberOrList",
    "PathLike",
    "Positive",
    "Size",
    "Values",
    "Whole",
    "shown",
]

# Characters of a value that are shown.
LONGEST = 80

# Sizes as text.
EXPONENTIAL = re.compile(r"\s*[\d.]+e\+?\d+\s*", re.IGNORECASE)
WITH_UNIT = re.compile(r"\s*[\d.]+\s*[kmgtp]?i?b?\s*", re.IGNORECASE)


def _real(value: Any) -> Any:
    # What Python and NumPy would make a number of in silence: what is behind a mask, True, and the
    # real part of a complex number.
    if np.ma.is_masked(value):
        raise ValueError("a number is needed (got a masked one)")
    if isinstance(value, bool) or (_is_scalar(value) and value.dtype.kind in "bc"):
        raise ValueError(f"a number is needed (got {value})")
    return value


def _size(value: Any, parse: ValidatorFunctionWrapHandler) -> int:
    try:
        _real(value)
        # pydantic knows no exponents, and ignores what follows the unit.
        if isinstance(value, str) and EXPONENTIAL.fullmatch(value):
            size = int(float(value))
        elif isinstance(value, str) and not WITH_UNIT.fullmatch(value):
            size = 0
        else:
            size = int(parse(value))
    except (ValidationError, OverflowError, ValueError):
        size = 0
    if size <= 0:
        raise ValueError(
            f"a size is needed, as 2GB, 512MiB or a number of bytes (got {shown(value)})"
        )
    return size


def shown(value: Any) -> str:
    """The value in a line, or its type where that would be long."""
    text = repr(value)
    return text if len(text) <= LONGEST and "\n" not in text else f"a {type(value).__name__}"


def _path(value: Any) -> Any:
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"a path is needed (got {shown(value)})")
    return Path(text).expanduser()


def _listed(value: Any) -> Any:
    # NumPy arrays are no sequences to Python; a text is one, of letters. A set has no order.
    unordered = isinstance(value, str | bytes | Set | Mapping)
    if unordered or not isinstance(value, Iterable) or _is_scalar(value):
        raise ValueError(f"a list is needed (got {shown(value)})")
    return list(value)


def _one_or_more(value: Any) -> Any:
    is_list = isinstance(value, list | tuple | np.ndarray) and not _is_scalar(value)
    return list(value) if is_list else [value]


def _is_scalar(value: Any) -> bool:
    """Whether this is a single number, or the like, of NumPy."""
    return isinstance(value, np.ndarray | np.generic) and value.ndim == 0


_REAL = BeforeValidator(_real)

Number = Annotated[float, Field(allow_inf_nan=False), _REAL]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), _REAL]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), _REAL]
Whole = Annotated[int, _REAL]
Count = Annotated[int, Field(gt=0), _REAL]
NotNegative = Annotated[int, Field(ge=0), _REAL]
# Bytes, as a number or as text with a unit.
Size = Annotated[int, GetPydanticSchema(lambda _, h: h(Annotated[ByteSize, WrapValidator(_size)]))]

PathLike = Annotated[str | os.PathLike[str], PlainValidator(_path)]
T = TypeVar("T")
Listed = Annotated[Sequence[T], BeforeValidator(_listed)]
Values = Annotated[
    list[Number],
    BeforeValidator(_one_or_more),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}}]}),
]
# As an argument a number is what `Values` makes a list of.
NumberOrList = Annotated[
    float | Sequence[float], GetPydanticSchema(lambda _, handler: handler(Values))
]
