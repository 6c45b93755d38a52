"""Functions compiled for as long as they are needed, and code that is known again.

``jax.jit`` remembers by the function what it has compiled: a function that reads an attribute or a
global would be answered from before it changed. Here a function has an owner who traces it, once
for each shape of its arguments, and with whom the trace goes. Tracing is a small part of the time
that compiling takes; the code itself is kept under the text of the program that was traced, which
those who trace the same share.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np

__all__ = ["MOST_SHARED", "Traced"]

# Programs that are kept for others, the last that were asked for; the bytes of their constants,
# and the length of their texts, which may have more. Larger arrays go with the model they are of.
MOST_SHARED, MOST_CONSTANTS, LONGEST_TEXT = 256, 1 << 14, 1 << 18

# In a text: calls, which may be to functions of this process, and constants that it leaves out.
LEFT_OUT = "custom_call", "jax.const", "dense_resource"

type Program = Callable[..., Any]

_shared: OrderedDict[Hashable, Program] = OrderedDict()
_lock = threading.Lock()


class Traced:
    """A function of arrays, or of trees of them, traced once for each of their shapes.

    Parameters
    ----------
    function : callable
        Called in nothing but tracing.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._jitted = jax.jit(function)
        self._lock = threading.Lock()
        self._programs: defaultdict[Hashable, _Once] = defaultdict(_Once)

    def __call__(self, *arguments: Any) -> Any:
        """The function's result, of code compiled for arguments of such shapes."""
        leaves, tree = jax.tree.flatten(arguments)
        device = jax.config.jax_default_device  # type: ignore[attr-defined]
        shapes = device, tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        with self._lock:
            program = self._programs[shapes]
        return program.of(self._jitted, arguments, shapes)(*arguments)


class _Once:
    """A program that the first of several threads compiles while the others wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._program: Program | None = None

    def of(self, jitted: Any, arguments: tuple[Any, ...], shapes: Hashable) -> Program:
        with self._lock:
            if self._program is None:
                self._program = _compiled(jitted, arguments, shapes)
            return self._program


def _compiled(jitted: Any, arguments: tuple[Any, ...], shapes: Hashable) -> Program:
    """The code of a function for such arguments, that of another owner if it is the same."""
    traced = jitted.trace(*arguments)
    lowered = traced.lower()
    if (text := _text_of_all(traced, lowered)) is None:
        return lowered.compile()
    key = shapes, hashlib.sha256(text.encode()).digest()
    with _lock:
        known = _shared.get(key)
    if known is None:
        known = lowered.compile()
    with _lock:
        _shared[key] = known
        _shared.move_to_end(key)
        while len(_shared) > MOST_SHARED:
            _shared.popitem(last=False)
    return known


def _text_of_all(traced: Any, lowered: Any) -> str | None:
    """The text of a program, if there is nothing more to it and it is small."""
    if sum(getattr(array, "nbytes", np.inf) for array in traced.jaxpr.consts) > MOST_CONSTANTS:
        return None
    text = lowered.as_text()
    return None if len(text) > LONGEST_TEXT or any(word in text for word in LEFT_OUT) else text
