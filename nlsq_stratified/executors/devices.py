"""One thread for each device that JAX sees."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import jax

__all__ = ["device_executor"]


def device_executor() -> ThreadPoolExecutor:
    """An executor whose threads each compute on a device of their own.

    There is one thread for each local device: each GPU of this machine, or the CPU. In every pass a
    chunk is copied to the device of the thread that sums it.
    """
    devices = jax.local_devices()
    free: SimpleQueue[Any] = SimpleQueue()
    for device in devices:
        free.put(device)

    def take_one() -> None:
        # JAX keeps this setting for each thread; it holds until the thread ends.
        jax.default_device(free.get()).__enter__()

    return ThreadPoolExecutor(len(devices), "device", initializer=take_one)
