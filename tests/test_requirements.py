"""`requirements.txt`: the dependencies of the package without NLSQ."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_requirements_are_the_dependencies_without_nlsq():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    nlsq = [name for name in project["dependencies"] if name.startswith("nlsq")]
    assert len(nlsq) == 1
    # NLSQ is installed without its dependencies, of which its fitter needs one.
    of_nlsq = [line for line in listed if line.startswith("optax")]
    assert len(of_nlsq) == 1
    needed = [name for name in project["dependencies"] if name not in nlsq]
    assert [line for line in listed if line not in of_nlsq] == needed
