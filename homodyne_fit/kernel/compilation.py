"""What makes a command quick to start: compiled kernels kept, imports done meanwhile."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["import_meanwhile", "keep_compiled", "meanwhile"]


def keep_compiled() -> None:
    """Let JAX keep what it compiles in the user's cache, and look there first.

    Compiling takes longer than most fits. The folder is that of ``JAX_COMPILATION_CACHE_DIR``, or
    ``homodyne_fit`` in the user's cache folder; an empty variable switches this off. Where that
    folder cannot be made, nothing is kept.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "homodyne_fit/jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def import_meanwhile(name: str) -> None:
    """Import a module that is needed later, as `meanwhile` does."""
    meanwhile(lambda: importlib.import_module(name))


def meanwhile(work: Callable[[], object]) -> None:
    """Do something that is needed later, in a thread of its own.

    The compiler, at work at the beginning of a fit, leaves Python free. An error shows where the
    same is done in earnest. The program does not end before this is done: Python must not go away
    under a compiler.
    """

    def attempt() -> None:
        with suppress(Exception):
            work()

    threading.Thread(target=attempt).start()
