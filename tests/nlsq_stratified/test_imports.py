"""Imports change nothing in the process that makes them."""

import os
import subprocess
import sys

import pytest

import homodyne_fit
import nlsq_stratified


def in_a_fresh_process(code):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_importing_the_fit_imports_nothing_that_it_needs_later_or_never():
    loaded = in_a_fresh_process(
        "import sys, homodyne_fit.analysis, homodyne_fit.report.summary; print(*sys.modules)"
    )
    assert "homodyne_fit.fitting.fit" in loaded
    assert "nlsq_stratified.solver.trust_region" in loaded
    packages = {name.split(".")[0] for name in loaded}
    assert not packages & {"nlsq", "matplotlib", "jinja2", "pandas", "tqdm"}
    assert not {"scipy.optimize", "scipy.stats", "scipy.integrate", "scipy.ndimage"} & {*loaded}


def test_help_and_version_need_no_numbers():
    loaded = in_a_fresh_process(
        "import sys, homodyne_fit.cli\n"
        "try: homodyne_fit.cli.main(['--version'])\n"
        "except SystemExit: print(*sys.modules)"
    )
    packages = {name.split(".")[0] for name in loaded}
    assert "homodyne_fit" in packages
    assert not packages & {"jax", "numpy", "scipy", "pydantic", "rich", "h5py"}


@pytest.mark.parametrize(
    "modules", ["nlsq_stratified", "nlsq_stratified, homodyne_fit.fitting.fit"]
)
def test_importing_leaves_the_precision_of_jax_alone(modules):
    code = f"import {modules}, jax; print(jax.config.jax_enable_x64)"
    assert in_a_fresh_process(code) == ["False"]


def test_every_public_name_can_be_had():
    for name in nlsq_stratified.__all__:
        assert getattr(nlsq_stratified, name).__name__ == name


@pytest.mark.parametrize("package", [nlsq_stratified, homodyne_fit])
def test_the_public_names_are_listed_and_no_others(package):
    assert set(dir(package)) - {"__version__"} == set(package.__all__)
    assert all(hasattr(package, name) for name in dir(package))


@pytest.mark.parametrize(
    ("name", "missing", "command"),
    [
        ("curve_fit_large", "nlsq", "pip install --no-deps nlsq"),
        ("StratifiedLargeDatasetFitter", "optax", "pip install optax"),
    ],
)
def test_without_nlsq_the_way_to_install_it_is_said(name, missing, command):
    said = in_a_fresh_process(
        f"import sys; sys.modules['{missing}'] = None\n"
        "import nlsq_stratified, homodyne_fit\n"
        "assert nlsq_stratified.Chunks.of_size(3, 2) and homodyne_fit.fit\n"
        f"try: nlsq_stratified.{name}\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    advice = f"extends NLSQ and needs {missing}, which is not installed: {command}"
    assert " ".join(said) == f"{name} {advice}"


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'curve_fit_huge'"):
        nlsq_stratified.curve_fit_huge  # noqa: B018
