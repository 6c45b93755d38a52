import os

import pytest


@pytest.fixture(scope="module")
def worker_side():
    """The module beside this one, importable by workers: they take over sys.path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(os.path.dirname(__file__))
        import worker_side

        yield worker_side
