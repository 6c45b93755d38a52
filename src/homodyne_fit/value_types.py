"""Types of single values: in sections of a configuration, and of arguments of functions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

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
]


def _no_bool(value: Any) -> Any:
    # True is the number 1 to Python, and a mistake in a configuration.
    if isinstance(value, bool | np.bool_):
        raise ValueError(f"a number is needed (got {value})")
    return value


def _size(value: Any, parse: ValidatorFunctionWrapHandler) -> int:
    try:
        size = 0 if isinstance(value, bool) else int(parse(value))
    except ValidationError:
        size = 0
    if size <= 0:
        raise ValueError(f"a size is needed, as 2GB, 512MiB or a number of bytes (got {value!r})")
    return size


def _path(value: Any) -> Any:
    if not (isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str)):
        raise ValueError(f"a path is needed (got {value!r})")
    return value


def _listed(value: Any) -> Any:
    # NumPy arrays are no sequences to Python; a text is one, of letters.
    if isinstance(value, str | bytes) or not isinstance(value, Iterable) or _is_scalar(value):
        raise ValueError(f"a list is needed (got {value!r})")
    return list(value)


def _one_or_more(value: Any) -> Any:
    is_list = isinstance(value, list | tuple | np.ndarray) and not _is_scalar(value)
    return list(value) if is_list else [value]


def _is_scalar(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 0


_NO_BOOL = BeforeValidator(_no_bool)

Number = Annotated[float, Field(allow_inf_nan=False), _NO_BOOL]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), _NO_BOOL]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), _NO_BOOL]
Whole = Annotated[int, _NO_BOOL]
Count = Annotated[int, Field(gt=0), _NO_BOOL]
NotNegative = Annotated[int, Field(ge=0), _NO_BOOL]
# Bytes, as a number or as text with a unit.
Size = Annotated[int, GetPydanticSchema(lambda _, h: h(Annotated[ByteSize, WrapValidator(_size)]))]

PathLike = Annotated[str | os.PathLike[str], PlainValidator(_path)]
type Listed[T] = Annotated[Sequence[T], BeforeValidator(_listed)]
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
