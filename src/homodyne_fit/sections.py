"""What the sections of a configuration, and the arguments of functions, are made of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
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
    "FilePath",
    "Fraction",
    "Listed",
    "NotNegative",
    "Number",
    "NumberOrList",
    "Positive",
    "Section",
    "Size",
    "Values",
    "Whole",
]


def _no_bool(value: Any) -> Any:
    # True is the number 1 to Python, and a mistake in a configuration.
    if isinstance(value, bool):
        raise ValueError(f"a number is needed (got {value})")
    return value


def _size(value: Any, parse: ValidatorFunctionWrapHandler) -> ByteSize:
    try:
        size = ByteSize(0) if isinstance(value, bool) else parse(value)
    except ValidationError:
        size = ByteSize(0)
    if size <= 0:
        raise ValueError(f"a size is needed, as 2GB, 512MiB or a number of bytes (got {value!r})")
    return size


def _path(value: Any) -> Any:
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"the path of a file is needed (got {value!r})")
    return value


def _listed(value: Any) -> Any:
    # NumPy arrays are no sequences to Python; a text is one, of letters.
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"a list is needed (got {value!r})")
    return list(value)


_NO_BOOL = BeforeValidator(_no_bool)

Number = Annotated[float, Field(allow_inf_nan=False), _NO_BOOL]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), _NO_BOOL]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), _NO_BOOL]
Whole = Annotated[int, _NO_BOOL]
Count = Annotated[int, Field(gt=0), _NO_BOOL]
Size = Annotated[ByteSize, WrapValidator(_size)]
NotNegative = Annotated[int, Field(ge=0), _NO_BOOL]

FilePath = Annotated[str | os.PathLike[str], PlainValidator(_path)]
type Listed[T] = Annotated[Sequence[T], BeforeValidator(_listed)]
Values = Annotated[
    list[Number],
    BeforeValidator(lambda given: list(given) if np.ndim(given) else [given]),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}}]}),
]
# As an argument a number is what `Values` makes a list of.
NumberOrList = Annotated[
    float | Sequence[float], GetPydanticSchema(lambda _, handler: handler(Values))
]


class Section(BaseModel):
    """A mapping of the file; unknown keys are sorted out before validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
