"""`make test-isa` runs on the instruction sets that it asks for."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg  # noqa: F401 it brings an OpenBLAS of its own
from threadpoolctl import threadpool_info

pytestmark = pytest.mark.numerics

WITHOUT_FMA = "--xla_cpu_max_isa=SSE4_2"


@pytest.mark.skipif("OPENBLAS_CORETYPE" not in os.environ, reason="no kernel is asked for")
def test_openblas_has_the_kernel_that_was_asked_for():
    found = [each for each in threadpool_info() if each["internal_api"] == "openblas"]
    assert {each["architecture"] for each in found} <= {os.environ["OPENBLAS_CORETYPE"]}


@pytest.mark.skipif(WITHOUT_FMA not in os.environ.get("XLA_FLAGS", ""), reason="not asked for")
def test_compiled_code_has_no_fused_multiply_add():
    """(1 + ε)² − (1 + 2 ε) is 0 where the product is rounded, ε² where it is not."""
    with jax.enable_x64(True):
        a = jnp.full(16, 1 + 2.0**-30)
        rest = jax.jit(lambda a, c: a * a - c)(a, jnp.full(16, 1 + 2.0**-29))
    np.testing.assert_array_equal(rest, 0.0)
