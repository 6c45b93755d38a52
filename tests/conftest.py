"""What all tests share: one thread of linear algebra each, and a folder of compiled programs.

Tests run side by side, one for each processor, and their matrices are small: threads of the linear
algebra would wait for each other at full load. Programs are compiled once for all processes of a
run; nothing is kept from one run to the next, nor taken from the user's caches.
"""

import os
import tempfile

from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

# A machine may be slow, or busy with other work.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_configure(config):
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # A plugin may have loaded NumPy already.
    threadpool_limits(1, user_api="blas")
    if not hasattr(config, "workerinput"):  # workers have the environment of the first process
        folder = tempfile.TemporaryDirectory(prefix="compiled-", ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
        # JAX and NLSQ would leave out what is compiled within a second.
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["NLSQ_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
