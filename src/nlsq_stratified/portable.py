"""Objects of which another process has one copy, however often they arrive there."""

from __future__ import annotations

import dataclasses
import functools
import uuid
from typing import Any

__all__ = ["Portable"]

# The last objects that came from other processes. Older ones would come back as new ones.
MOST_KEPT = 32
_kept: dict[str, Portable] = {}


class Portable:
    """Base of frozen dataclasses that hold a model.

    Each unpickled copy of a lambda or a partial is another model to JAX, which would compile it
    again; so all copies of an object are the one that arrived first.
    """

    @functools.cached_property
    def _token(self) -> str:
        return uuid.uuid4().hex

    def __reduce__(self) -> Any:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return _received, (self._token, type(self), [getattr(self, f.name) for f in fields])


def _received(token: str, kind: type[Portable], fields: list[Any]) -> Portable:
    if token not in _kept:
        arrived = kind(*fields)
        arrived.__dict__["_token"] = token
        _kept.setdefault(token, arrived)
    first = _kept[token]
    for old in list(_kept)[:-MOST_KEPT]:
        _kept.pop(old, None)
    return first
