"""What the sections of a configuration are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["Number", "Positive", "Section", "Whole"]


def _no_bool(value: Any) -> Any:
    # True is the number 1 to Python, and a mistake in a configuration.
    if isinstance(value, bool):
        raise ValueError(f"a number is needed (got {value})")
    return value


Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
Whole = Annotated[int, BeforeValidator(_no_bool)]


class Section(BaseModel):
    """A mapping of the file; unknown keys are sorted out before validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
