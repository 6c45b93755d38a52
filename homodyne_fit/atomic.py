"""Files that are replaced only when their new content is complete."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from homodyne_fit.errors import InputError, Problem

__all__ = ["replacing", "require_writable"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file to write beside `path`; it replaces `path` if the block succeeds.

    If the file cannot be written, raise an `InputError`.
    """
    if path.is_dir():
        raise _not_written(path, ", it is a folder")
    temporary = _temporary(path)
    try:
        yield temporary
        with suppress(OSError):  # some file systems have no modes
            temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        other_file = isinstance(error, OSError) and error.filename not in (None, str(temporary))
        if not other_file and (reason := _reason(error)):
            raise _not_written(path, f" ({reason})") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Raise an `InputError` now if `path` could not be written later."""
    if path.is_dir():
        raise _not_written(path, ", it is a folder")
    _temporary(path).unlink()


def _temporary(path: Path) -> Path:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _not_written(path, f" ({error.strerror or error})") from error
    os.close(handle)
    return Path(name)


def _not_written(path: Path, why: str) -> InputError:
    return InputError([Problem(str(path), f"cannot be written{why}")])


def _reason(error: OSError | RuntimeError) -> str:
    """The message of the system; HDF5 has it inside a longer text."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    stated = re.search(r"error message = '([^']*)'", str(error))
    return stated[1] if stated else ""


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
