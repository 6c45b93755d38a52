"""Oracles that share no code with the package: the formulas of the model in plain NumPy."""

from __future__ import annotations

import contextlib
import io
from types import SimpleNamespace

import numpy as np
import pytest

import homodyne_fit as hf
from homodyne_fit.cli import main
from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.model.rates import LAMINAR_FLOW

LAMINAR = (1200.0, -0.4, 150.0, 4e-4, 0.25, 5e-5, 3.0)


def _power_law(t, dt, p):
    return np.maximum(p[0] * np.maximum(t, dt / 2) ** p[1] + p[2], 1e-10)


def _integral(rate, dt):
    return np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2) * dt])


def _c2(params, contrast, offset, *, q, phi, gap, dt, n):
    """c2 (K, n, n) by PHYSICS: trapezoid integrals, exp, and sin(x)/x squared."""
    t = np.arange(n) * dt
    s = _integral(_power_law(t, dt, params[:3]), dt)
    ds = np.abs(s[None, :] - s[:, None])
    result = np.empty((len(phi), n, n))
    for k in range(len(phi)):
        f = np.exp(-(q[k] ** 2) * ds)
        if len(params) == 7:
            g = _integral(_power_law(t, dt, params[3:6]), dt)
            x = (
                0.5
                * q[k]
                * gap
                * np.cos(np.deg2rad(params[6] - phi[k]))
                * (g[None, :] - g[:, None])
            )
            safe = np.where(x == 0, 1.0, x)
            f *= np.where(x == 0, 1.0, np.sin(safe) / safe) ** 2
        result[k] = offset[k] + contrast[k] * f
    return result


@pytest.fixture(scope="session")
def numpy_c2():
    """The model in NumPy: ``numpy_c2(params, contrast, offset, q=, phi=, gap=, dt=, n=)``."""
    return _c2


def _measure(params=LAMINAR, *, n=101, phi=(0.0, 45.0, 90.0), noise=0.02, seed=0, dt=0.1, **given):
    k = len(phi)
    rng = np.random.default_rng(seed)
    m = SimpleNamespace(
        params=np.array(params),
        phi=np.array(phi),
        q=np.full(k, 0.0054),
        gap=2e6,
        dt=dt,
        n=n,
        contrast=np.linspace(0.25, 0.35, k),
        offset=np.linspace(0.99, 1.01, k),
        **given,
    )
    clean = _c2(m.params, m.contrast, m.offset, q=m.q, phi=m.phi, gap=m.gap, dt=dt, n=n)
    white = np.triu(rng.normal(0.0, noise, clean.shape), 1)
    m.data = TwoTimeData(
        clean + white + np.swapaxes(white, 1, 2), m.phi, m.q, dt, "a simulated measurement"
    )
    return m


@pytest.fixture(scope="session")
def measure():
    """Simulated data and the truth behind it: ``measure(params, n=, phi=, noise=, seed=)``."""
    return _measure


@pytest.fixture(scope="session", autouse=True)
def _no_lines_of_progress():
    """Lines that a slow machine would print between those that a test looks at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("homodyne_fit.cli.progress.LEAST_PAUSE", np.inf)
        yield


def _called(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="session")
def called():
    """Run the command line: ``called("inspect", path)`` has status, out and err."""
    return _called


@pytest.fixture
def without_pictures(monkeypatch):
    """Reports and figures are empty files: drawing takes longer than a fit."""

    def empty(_, path, *__):
        path.write_text("")
        return path

    monkeypatch.setattr(
        "homodyne_fit.report.html.write_report", lambda path, *_: path.write_text("")
    )
    monkeypatch.setattr("homodyne_fit.results.folder.save_figure", empty)


@pytest.fixture(scope="session")
def sheared(measure):
    """An analysis of simulated flow: D_offset held, beta at its bound, some points missing."""
    m = measure(n=41, noise=0.01)
    m.data.c2[0, 3:7, 20:30] = np.nan
    return hf.fit(
        m.data,
        gap=m.gap,
        initial=dict(zip(LAMINAR_FLOW.parameters[:2], LAMINAR[:2], strict=True)),
        fixed={"D_offset": 150.0, "gamma_dot_t_offset": 5e-5},
        bounds={"beta": (-1.0, 0.2)},
        per_angle_mode="individual",
        multi_start=False,
    )


def _complaint(function, *args, **kwargs):
    with pytest.raises(hf.InputError) as caught:
        function(*args, **kwargs)
    return str(caught.value).splitlines()


@pytest.fixture(scope="session")
def complaint():
    """The lines of the error that a call raises: ``complaint(hf.load, path, q=0)``."""
    return _complaint


@pytest.fixture(scope="session")
def small():
    """Three angles of a sheared sample, 24 frames."""
    names = dict(zip(LAMINAR_FLOW.parameters, (2e4, -0.2, 0.0, 3e-4, 0.2, 0.0, 3.0), strict=True))
    return hf.simulate(names, phi=(0, 45, 90), n_frames=24, noise=0.02)


@pytest.fixture(scope="session")
def small_array(small, tmp_path_factory):
    """The same as a plain array in a file."""
    path = tmp_path_factory.mktemp("small") / "array.npy"
    np.save(path, small.c2)
    return path
