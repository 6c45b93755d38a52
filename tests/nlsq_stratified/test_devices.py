"""A thread for each device, in a process that has four."""

import os
import subprocess
import sys

SCRIPT = """
import threading
import jax, jax.numpy as jnp, numpy as np
from nlsq_stratified import curve_fit_large
from nlsq_stratified.executors.devices import device_executor

assert len(jax.local_devices()) == 4
together = threading.Barrier(4)

def device_of_a_sum(_):
    together.wait()
    return jnp.arange(3.0).sum().devices().pop().id

with device_executor() as executor:
    for _ in range(2):
        print(sorted(executor.map(device_of_a_sum, range(4))))
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 3, 4000)
    y = 2 * np.exp(-0.7 * x) + rng.normal(0, 0.05, len(x))

    def model(x, a, b):
        return a * jnp.exp(-b * x)

    there = curve_fit_large(model, x, y, [1.0, 1.0], chunks=500, executor=executor)
here = curve_fit_large(model, x, y, [1.0, 1.0], chunks=500)
print(there.success, there.popt.tobytes() == here.popt.tobytes())
"""


def test_each_thread_has_a_device_of_its_own():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | flags,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[0, 1, 2, 3]", "[0, 1, 2, 3]", "True True"]
