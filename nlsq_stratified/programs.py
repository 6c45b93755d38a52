"""Compiled functions that live as long as their owner, and share compiled code.

``jax.jit`` keeps compiled code for each function. If the function reads an attribute or a global
variable that has changed, the old code still answers. Here a function has an owner: it is traced
once for each shape of its arguments, and the trace is dropped with the owner. Tracing takes little
time; compiling takes long. The compiled code is therefore kept by the text of the traced program,
and equal programs share it.
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

# Largest number of programs that are kept to be shared; the oldest are dropped.
MOST_SHARED = 256

# Largest size of the constants of a shared program, bytes.
MOST_CONSTANTS = 1 << 14

# Longest text of a shared program, characters.
LONGEST_TEXT = 1 << 18

# Words in a text that does not describe its whole program: calls, which may be to functions of
# this process, and constants that the text leaves out.
LEFT_OUT = "custom_call", "jax.const", "dense_resource"

type Program = Callable[..., Any]

_shared: OrderedDict[Hashable, Program] = OrderedDict()
_lock = threading.Lock()


class Traced:
    """A function of arrays, or of trees of arrays, traced once for each set of their shapes.

    Parameters
    ----------
    function : callable
        It is called only to be traced.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._jitted = jax.jit(function)
        self._lock = threading.Lock()
        self._programs: defaultdict[Hashable, _Once] = defaultdict(_Once)

    def __call__(self, *arguments: Any) -> Any:
        """The result of the function."""
        leaves, tree = jax.tree.flatten(arguments)
        device = jax.config.jax_default_device  # type: ignore[attr-defined]
        shapes = device, tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        with self._lock:
            program = self._programs[shapes]
        return program.of(self._jitted, arguments, shapes)(*arguments)


class _Once:
    """A program that one thread compiles while other threads wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._program: Program | None = None

    def of(self, jitted: Any, arguments: tuple[Any, ...], shapes: Hashable) -> Program:
        with self._lock:
            if self._program is None:
                self._program = _compiled(jitted, arguments, shapes)
            return self._program


def _compiled(jitted: Any, arguments: tuple[Any, ...], shapes: Hashable) -> Program:
    """The code of a function for such arguments; equal code of another owner if there is some."""
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
    """The text of a program; None if it is long, or does not describe the whole program."""
    if sum(getattr(array, "nbytes", np.inf) for array in traced.jaxpr.consts) > MOST_CONSTANTS:
        return None
    text = lowered.as_text()
    return None if len(text) > LONGEST_TEXT or any(word in text for word in LEFT_OUT) else text
