"""The progress bar on standard error."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import nlsq_stratified
from nlsq_stratified import FactoredEquations
from nlsq_stratified.progress_bar import ProgressBar

curve_fit_large: Any = nlsq_stratified.curve_fit_large

X = np.linspace(0, 3, 40)
Y = 2 * np.exp(-X) + 0.05 * np.sin(20 * X)


def decay(x, a, b):
    return a * jnp.exp(-b * x)


def test_pass_chunk_cost_and_gradient_are_shown(capsys):
    fit = curve_fit_large(decay, X, Y, chunks=10, show_progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "0/4" in err
    assert "4/4" in err
    assert err.endswith("\n")
    passes = {int(number) for number in re.findall(r"pass (\d+)", err)}
    assert max(passes) == fit.nfev
    last = re.split(r"[\r\n]+", err.strip())[-1]
    assert last.startswith(f"pass {fit.nfev}: 100%")
    assert f"cost={fit.cost:.6g}" in last
    assert f"gradient={fit.optimality:.3g}" in last


def test_silent_by_default(capsys):
    curve_fit_large(decay, X, Y, chunks=10)
    assert capsys.readouterr() == ("", "")


def test_the_bar_does_not_change_the_answer(capsys):
    options: dict[str, Any] = dict(chunks=5, progressive=True, multistart=True, n_starts=4)
    shown = curve_fit_large(decay, X, Y, show_progress=True, **options)
    silent = curve_fit_large(decay, X, Y, **options)
    assert shown.x.tobytes() == silent.x.tobytes()
    assert "pass" in capsys.readouterr().err


def test_the_bar_is_closed_after_an_error(capsys):
    with pytest.raises(ValueError, match="^the model is not finite"):
        curve_fit_large(lambda x, a: a / x, X, Y, chunks=10, show_progress=True)
    assert capsys.readouterr().err.endswith("\n")


def test_an_invisible_bar_does_nothing(capsys):
    state = FactoredEquations(1.0, np.eye(2), 3, np.ones(2))
    with ProgressBar(False) as bar:
        bar.start_pass(2)
        bar.chunks_done(1)
        bar.pass_done(state)
    assert capsys.readouterr() == ("", "")


def test_passes_may_have_different_numbers_of_chunks(capsys):
    state = FactoredEquations(1.5, np.array([[2.0, 3.0], [0.0, 1.0]]), 3, np.array([4.0]))
    with ProgressBar(True) as bar:
        for n_chunks in (1, 4):
            bar.start_pass(n_chunks)
            for _ in range(n_chunks):
                bar.chunks_done(1)
            bar.pass_done(state)
    err = capsys.readouterr().err
    assert "1/1" in err
    assert "4/4" in err
    assert "cost=1.5, gradient=6" in err
