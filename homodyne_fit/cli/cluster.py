"""The connection to a Dask cluster that sums the chunks of a fit."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import cast

from homodyne_fit.errors import InputError

__all__ = ["connect"]

# Packages that must have the same version on all workers, so that sums have the same bits.
PACKAGES = ("homodyne_fit", "jax", "numpy")

# Time to wait for the scheduler, and for the first worker, seconds.
PATIENCE = 10.0


@contextmanager
def connect(address: str, threads: int = 1) -> Iterator[Executor]:
    """The Dask cluster whose scheduler is at `address`, as an executor of a fit.

    Parameters
    ----------
    address : str
        Such as ``tcp://node17:8786``.
    threads : int
        Number of threads that share a task, for workers that have a whole machine.
    """
    try:
        import distributed

        from nlsq_stratified.executors.dask_cluster import DaskExecutor
    except ModuleNotFoundError as error:
        raise InputError(
            f"--scheduler {address}: Dask is not installed; pip install dask distributed"
        ) from error
    client = None
    with suppress(OSError, ValueError):
        client = distributed.Client(address, timeout=PATIENCE)
    if client is None:
        # The client without a scheduler closes itself when it is collected. If this happened while
        # another client starts, both would wait for the same lock forever.
        gc.collect()
        raise InputError(
            f"--scheduler {address}: no Dask scheduler answers there; the log of the "
            "scheduler has its address, such as tcp://node17:8786"
        )
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise InputError(
                f"--scheduler {address}: the scheduler has no workers; start some with "
                f"`dask worker {address}`"
            ) from error
        versions = cast("dict[str, object]", client.run(_versions, on_error="return"))
        _require_same_versions(address, versions)
        yield DaskExecutor(client, threads)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def _require_same_versions(address: str, versions: dict[str, object]) -> None:
    here = _versions()
    for worker, there in versions.items():
        if there != here:
            raise InputError(
                f"--scheduler {address}: the worker at {worker} has {there}, and this "
                f"program has {here}; give it the same environment"
            )
