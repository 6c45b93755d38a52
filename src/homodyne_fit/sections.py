"""What the sections of a configuration are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["Count", "Fraction", "NotNegative", "Number", "Positive", "Section", "Whole"]


def _no_bool(value: Any) -> Any:
    # True is the number 1 to Python, and a mistake in a configuration.
    if isinstance(value, bool):
        raise ValueError(f"a number is needed (got {value})")
    return value


_NO_BOOL = BeforeValidator(_no_bool)

Number = Annotated[float, Field(allow_inf_nan=False), _NO_BOOL]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), _NO_BOOL]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), _NO_BOOL]
Whole = Annotated[int, _NO_BOOL]
Count = Annotated[int, Field(gt=0), _NO_BOOL]
NotNegative = Annotated[int, Field(ge=0), _NO_BOOL]


class Section(BaseModel):
    """A mapping of the file; unknown keys are sorted out before validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
