"""What the sections of a configuration are."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """A mapping of the file; unknown keys are sorted out before validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
