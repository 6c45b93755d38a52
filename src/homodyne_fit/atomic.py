"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homodyne_fit.errors import InputError

__all__ = ["replacing", "require_writable"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` to write; it takes its place if nothing raises.

    Raises
    ------
    InputError
        If there can be no such file.
    """
    if path.is_dir():
        raise InputError(f"{path}: cannot be written, it is a folder")
    temporary = _temporary(path)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Raise an `InputError` now if `path` could not be written later."""
    if path.is_dir():
        raise InputError(f"{path}: cannot be written, it is a folder")
    _temporary(path).unlink()


def _temporary(path: Path) -> Path:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    os.close(handle)
    return Path(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
