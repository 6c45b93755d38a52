"""Terminals, users, devices and settings of other machines than the one this was written on."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import matplotlib as mpl
import pytest

from homodyne_fit.cli.commands.batch import _matching
from homodyne_fit.errors import InputError
from homodyne_fit.kernel.compilation import keep_compiled, require_device
from homodyne_fit.report.style import plain_style


def run(*arguments, options=(), **environment):
    return subprocess.run(
        [sys.executable, *options, "-m", "homodyne_fit", *arguments],
        capture_output=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp932", "gbk"])
def test_help_on_a_terminal_of_another_encoding(encoding):
    done = run("fit", "--help", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "--config" in done.stdout.decode(encoding)


def test_a_mistake_on_a_terminal_of_another_encoding(tmp_path):
    done = run("inspect", str(tmp_path / "größe.h5"), PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert b"there is no such file" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("check", "--schema")])
def test_python_without_docstrings_and_assertions(arguments):
    done = run(*arguments, options=["-OO"])
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


def test_no_home(monkeypatch, called):
    def nowhere(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setattr(Path, "expanduser", nowhere)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    before = jax.config.jax_compilation_cache_dir
    keep_compiled()
    assert jax.config.jax_compilation_cache_dir == before
    done = called("inspect", "~/a.h5")
    assert done.err == (
        "homodyne_fit: error: ~ stands for the home directory, and there is none: write the whole "
        "path\n"
    )


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize backend")])
def test_a_device_that_is_not_there(monkeypatch, error):
    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(InputError, match="cannot use the device of JAX_PLATFORMS=cuda; unset this"):
        require_device()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks of POSIX")
def test_a_fork_after_a_fit_is_refused():
    code = (
        "import os\n"
        "from homodyne_fit.kernel.compilation import require_unforked\n"
        "if os.fork() == 0:\n"
        "    require_unforked()\n"
        "    os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)\n"
        "require_unforked()\n"
        "require_unforked()\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        "        require_unforked()\n"
        "    except ValueError as error:\n"
        "        os._exit(8 if 'spawn' in str(error) else 9)\n"
        "    os._exit(0)\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7", "8"]


def test_settings_of_the_user_do_not_reach_the_files(monkeypatch):
    with mpl.rc_context({"text.usetex": True, "font.size": 30.0}):
        backend = mpl.rcParams["backend"]
        with plain_style():
            assert not mpl.rcParams["text.usetex"]
            assert mpl.rcParams["font.size"] == mpl.rcParamsDefault["font.size"]
            assert mpl.rcParams["backend"] == backend
        assert mpl.rcParams["text.usetex"]
        assert mpl.rcParams["font.size"] == 30.0


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("run[1]/*.yaml", ["run[1]/a.yaml"]),
        ("run[1]/a.yaml", ["run[1]/a.yaml"]),
        ("run[12]/*.yaml", ["run1/b.yaml"]),
        ("run*/?.yaml", ["run1/b.yaml", "run[1]/a.yaml"]),
        ("**/*.yaml", ["run1/b.yaml", "run[1]/a.yaml"]),
    ],
)
@pytest.mark.parametrize("absolute", [True, False])
def test_a_folder_with_brackets_in_its_name(tmp_path, monkeypatch, pattern, found, absolute):
    for name in ("run[1]/a.yaml", "run1/b.yaml"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    start = f"{tmp_path}/" if absolute else ""
    matches = [str(Path(match).resolve()) for match in _matching([start + pattern])]
    assert matches == [str((tmp_path / name).resolve()) for name in found]


def test_files_of_a_result_are_drawn_without_latex(sheared, tmp_path):
    with mpl.rc_context({"text.usetex": True}):
        sheared.save(tmp_path)
    assert (tmp_path / "report.html").stat().st_size > 1000
