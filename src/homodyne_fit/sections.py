"""What the sections of a configuration are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

__all__ = ["Count", "Fraction", "NotNegative", "Number", "Positive", "Section", "Size", "Whole"]


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


_NO_BOOL = BeforeValidator(_no_bool)

Number = Annotated[float, Field(allow_inf_nan=False), _NO_BOOL]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), _NO_BOOL]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), _NO_BOOL]
Whole = Annotated[int, _NO_BOOL]
Count = Annotated[int, Field(gt=0), _NO_BOOL]
Size = Annotated[ByteSize, WrapValidator(_size)]
NotNegative = Annotated[int, Field(ge=0), _NO_BOOL]


class Section(BaseModel):
    """A mapping of the file; unknown keys are sorted out before validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
