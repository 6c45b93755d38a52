import os
import subprocess
import sys

import pytest

COMPILE = """
from homodyne_fit.kernel.compilation import keep_compiled
keep_compiled()
import jax, jax.numpy as jnp
jax.jit(lambda x: jnp.sin(x) + 1)(jnp.ones(3)).block_until_ready()
print(jax.config.jax_compilation_cache_dir)
"""


def compiled(environment):
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMPILE],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip()


@pytest.fixture
def environment():
    """Without the folder that the tests share, and what they say of it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}


def test_what_is_compiled_is_kept_in_the_users_cache(environment, tmp_path):
    folder = tmp_path / "homodyne_fit" / "jax"
    assert compiled({**environment, "XDG_CACHE_HOME": str(tmp_path)}) == str(folder)
    assert any(folder.iterdir())


def test_a_folder_of_jax_itself_goes_first(environment, tmp_path):
    own = tmp_path / "own"
    found = compiled({**environment, "JAX_COMPILATION_CACHE_DIR": str(own)})
    assert found == str(own)


def test_where_nothing_can_be_written_nothing_is_kept(environment, tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert compiled({**environment, "XDG_CACHE_HOME": str(file)}) == "None"
