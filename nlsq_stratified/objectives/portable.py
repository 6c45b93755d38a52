"""Objects that are unpickled only once in each process, however often they are sent."""

from __future__ import annotations

import dataclasses
import functools
import threading
import uuid
from collections import OrderedDict
from typing import Any

__all__ = ["Portable"]

# Largest number of objects from other processes that are kept. The one that was unused for the
# longest time is dropped; if it is sent again, it becomes a new object.
MOST_KEPT = 8

_kept: OrderedDict[str, Portable] = OrderedDict()
_lock = threading.Lock()


class Portable:
    """Base of frozen dataclasses that hold a model.

    To JAX each unpickled copy of a lambda or a partial is a new model, which it would compile
    again. Therefore unpickling returns the copy that arrived first.
    """

    @functools.cached_property
    def _token(self) -> str:
        return uuid.uuid4().hex

    def _sent(self) -> list[Any]:
        """The values of the fields that are sent to another process."""
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
