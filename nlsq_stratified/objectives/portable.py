"""Objects of which another process has one copy, however often they arrive there."""

from __future__ import annotations

import dataclasses
import functools
import threading
import uuid
from collections import OrderedDict
from typing import Any

__all__ = ["Portable"]

# Objects that came from other processes, the last that were asked for. Older ones, and what they
# hold, are let go; they would come back as new ones.
MOST_KEPT = 8
_kept: OrderedDict[str, Portable] = OrderedDict()
_lock = threading.Lock()


class Portable:
    """Base of frozen dataclasses that hold a model.

    Each unpickled copy of a lambda or a partial is another model to JAX, which would compile it
    again; so all copies of an object are the one that arrived first.
    """

    @functools.cached_property
    def _token(self) -> str:
        return uuid.uuid4().hex

    def _sent(self) -> list[Any]:
        """The fields as another process needs them."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return [getattr(self, field.name) for field in fields if field.init]

    def __reduce__(self) -> Any:
        return _received, (self._token, type(self), self._sent())


def _received(token: str, kind: type[Portable], fields: list[Any]) -> Portable:
    with _lock:
        if token not in _kept:
            arrived = kind(*fields)
            arrived.__dict__["_token"] = token
            _kept[token] = arrived
        _kept.move_to_end(token)
        while len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)
        return _kept[token]
