"""What makes a command quick to start: compiled kernels kept, imports done meanwhile."""

from __future__ import annotations

import functools
import importlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from homodyne_fit.errors import InputError

__all__ = [
    "import_meanwhile",
    "keep_compiled",
    "meanwhile",
    "require_device",
    "require_unforked",
]


def keep_compiled() -> None:
    """Let JAX keep what it compiles in the user's cache, and look there first.

    Compiling takes longer than most fits. The folder is that of ``JAX_COMPILATION_CACHE_DIR``, or
    ``homodyne_fit`` in the user's cache folder; an empty variable switches this off. Where that
    folder cannot be made, nothing is kept.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = caches / "homodyne_fit/jax"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # the second one if there is no home directory
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def require_device() -> None:
    """Raise an `InputError` if JAX cannot use the device that ``JAX_PLATFORMS`` asks for."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the second one without a message
        why = " ".join(str(error).split())
        raise InputError(
            f"JAX cannot use the device of JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}; "
            f"unset this variable, or set JAX_PLATFORMS=cpu{f' ({why})' if why else ''}"
        ) from error


def require_unforked() -> None:
    """Raise an `InputError` in a process that was forked after its parent had called this.

    The threads of JAX do not survive a fork, and a fit would wait for them forever.
    """
    if _forked.is_set():
        raise InputError(
            "this process was forked from one that has run a fit, and JAX does not survive this; "
            "use multiprocessing.get_context('spawn') or 'forkserver'"
        )
    _watch_forks()


_forked = threading.Event()


@functools.cache
def _watch_forks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forked.set)


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
