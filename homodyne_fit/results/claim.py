"""A folder belongs to one fit at a time, from its start to its end."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from homodyne_fit.errors import InputError
from homodyne_fit.results.folder import make_folder
from homodyne_fit.results.names import CLAIM, PLOTS, UNFINISHED

__all__ = ["claimed"]


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and claim it for the block.

    What an earlier fit that was killed left unfinished is removed first. If the folder has no files
    after the block, it is removed, as are the folders that were made for it.

    Raises
    ------
    InputError
        If another fit has claimed it, or if it cannot be made or written.
    """
    made = _make(folder)
    try:
        claim = _claim(folder)
        try:
            for unfinished in folder.glob(f"{UNFINISHED}*"):
                shutil.rmtree(unfinished, ignore_errors=True)
            yield
        finally:
            claim.unlink(missing_ok=True)
    finally:
        _remove_empty(folder / PLOTS)
        for path in made:
            _remove_empty(path)


def _make(folder: Path) -> list[Path]:
    """Make a folder; return the folders that were made, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    return missing


def _claim(folder: Path) -> Path:
    path = folder / CLAIM
    content = json.dumps(_this_process()).encode()
    for _ in range(2):
        try:
            with open(path, "xb") as stream:
                stream.write(content)
            return path
        except FileExistsError:
            _require_ended(path)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    raise InputError(f"{folder}: another fit has just claimed this folder; give another one")


def _this_process() -> dict[str, Any]:
    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "process": process.pid,
        "started": process.create_time(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _require_ended(path: Path) -> None:
    """Raise an `InputError` unless the process of a claim was here and has ended."""
    claim: Any = None
    with suppress(OSError, ValueError):
        claim = json.loads(path.read_bytes())
    if not isinstance(claim, dict):
        # It is being written, or a full disk has cut it short.
        raise InputError(
            f"{path.parent}: another fit writes its results there; give another folder, or remove "
            f"{path} if that fit has ended"
        )
    if claim.get("host") == socket.gethostname() and not _is_running(claim):
        return
    who = f"process {claim.get('process')} on {claim.get('host')}, since {claim.get('since')}"
    raise InputError(
        f"{path.parent}: another fit writes its results there ({who}); give another folder, or "
        f"remove {path} if that fit has ended"
    )


def _is_running(claim: dict[str, Any]) -> bool:
    """Whether the process of a claim of this machine is running, and not another of its number."""
    try:
        started = psutil.Process(int(claim["process"])).create_time()
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return False
    except psutil.Error:
        return True
    return abs(started - claim.get("started", 0)) < 1


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        os.rmdir(folder)
