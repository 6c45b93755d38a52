"""NIST's reference problems for nonlinear regression, from start 2, in small random chunks.

https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml
"""

import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import nlsq_stratified
from nlsq_stratified import Chunks

# Without chunks the result may be a plain tuple, so its type is a union; here it never is.
curve_fit_large: Any = nlsq_stratified.curve_fit_large

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "nist"

pytestmark = [
    pytest.mark.numerics,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent"),
]


def gauss(x, b1, b2, b3, b4, b5, b6, b7, b8):
    return (
        b1 * jnp.exp(-b2 * x)
        + b3 * jnp.exp(-((x - b4) ** 2) / b5**2)
        + b6 * jnp.exp(-((x - b7) ** 2) / b8**2)
    )


def cubic_over_cubic(x, b1, b2, b3, b4, b5, b6, b7):
    return (b1 + b2 * x + b3 * x**2 + b4 * x**3) / (1 + b5 * x + b6 * x**2 + b7 * x**3)


def saturation(x, b1, b2):
    return b1 * (1 - jnp.exp(-b2 * x))


def enso(x, b1, b2, b3, b4, b5, b6, b7, b8, b9):
    turn = 2 * jnp.pi * x
    return (
        b1
        + b2 * jnp.cos(turn / 12)
        + b3 * jnp.sin(turn / 12)
        + b5 * jnp.cos(turn / b4)
        + b6 * jnp.sin(turn / b4)
        + b8 * jnp.cos(turn / b7)
        + b9 * jnp.sin(turn / b7)
    )


def lanczos(x, b1, b2, b3, b4, b5, b6):
    return b1 * jnp.exp(-b2 * x) + b3 * jnp.exp(-b4 * x) + b5 * jnp.exp(-b6 * x)


MODELS = {
    "BoxBOD": saturation,
    "Chwirut2": lambda x, b1, b2, b3: jnp.exp(-b1 * x) / (b2 + b3 * x),
    "DanWood": lambda x, b1, b2: b1 * x**b2,
    "ENSO": enso,
    "Gauss1": gauss,
    "Gauss3": gauss,
    "Hahn1": cubic_over_cubic,
    "Kirby2": lambda x, b1, b2, b3, b4, b5: (b1 + b2 * x + b3 * x**2) / (1 + b4 * x + b5 * x**2),
    "Lanczos3": lanczos,
    "MGH09": lambda x, b1, b2, b3, b4: b1 * (x**2 + x * b2) / (x**2 + x * b3 + b4),
    "MGH17": lambda x, b1, b2, b3, b4, b5: b1 + b2 * jnp.exp(-x * b4) + b3 * jnp.exp(-x * b5),
    "Misra1a": saturation,
    "Misra1b": lambda x, b1, b2: b1 * (1 - (1 + b2 * x / 2) ** (-2)),
    "Rat43": lambda x, b1, b2, b3, b4: b1 / ((1 + jnp.exp(b2 - b3 * x)) ** (1 / b4)),
    "Thurber": cubic_over_cubic,
}

# curve_fit_large stops within 1e-4 standard errors of the minimum. Where a standard error is a
# hundredth of the value or more, that can be fewer than six digits, as it is here.
FEWER_THAN_SIX_DIGITS_AT_DEFAULT_TOLERANCE = (
    "BoxBOD",
    "Chwirut2",
    "ENSO",
    "Hahn1",
    "Lanczos3",
    "MGH09",
    "MGH17",
    "Rat43",
    "Thurber",
)


class Problem:
    """One of NIST's files: data, start 2, and the certified answer."""

    def __init__(self, name):
        text = (DATA / f"{name}.dat").read_text()
        rows = re.findall(r"^ *b\d+ = +(\S+) +(\S+) +(\S+) +(\S+) *$", text, re.MULTILINE)
        _, self.start, self.certified, self.deviation = np.array(rows, float).T
        self.squares = float(re.findall(r"Residual Sum of Squares: +(\S+)", text)[0])
        observations = int(re.findall(r"Number of Observations: +(\d+)", text)[0])
        data = text[text.rindex("Data:") :].splitlines()[1:]
        self.y, self.x = np.array([line.split() for line in data if line.strip()], float).T
        assert len(self.y) == observations
        self.chunks = random_chunks(observations, observations)
        self.name, self.model = name, MODELS[name]


def random_chunks(n, seed):
    """Chunks of 3 or 25 points in random order, the last with one or two that are left."""
    rng = np.random.default_rng(seed)
    sizes = []
    while (left := n - sum(sizes)) > 0:
        size = int(rng.choice([3, 25]))
        sizes.append(size if size <= left else min(left, 3))
    return Chunks(sizes, rng.permutation(n))


@pytest.fixture(scope="module", params=sorted(MODELS))
def problem(request):
    return Problem(request.param)


@pytest.fixture(scope="module")
def fit(problem):
    return curve_fit_large(
        problem.model, problem.x, problem.y, problem.start, chunks=problem.chunks
    )


def test_the_fit_is_within_its_tolerance_of_the_certified_values(problem, fit):
    assert fit.success
    assert np.max(np.abs(fit.x - problem.certified) / problem.deviation) < 1e-4
    assert 2 * fit.cost == pytest.approx(problem.squares, rel=1e-8)


def test_standard_deviations_have_four_digits(problem, fit):
    np.testing.assert_allclose(np.sqrt(np.diag(fit.pcov)), problem.deviation, rtol=1e-4)


def test_digits_at_the_default_tolerance(problem, fit):
    digits = 4 if problem.name in FEWER_THAN_SIX_DIGITS_AT_DEFAULT_TOLERANCE else 6
    np.testing.assert_allclose(fit.x, problem.certified, rtol=10.0**-digits)


@pytest.mark.parametrize("seed", range(5))
def test_six_digits_with_tight_tolerances(problem, seed):
    fit = curve_fit_large(
        problem.model,
        problem.x,
        problem.y,
        problem.start,
        chunks=random_chunks(len(problem.y), seed),
        tolerance=1e-7,
    )
    assert fit.success
    np.testing.assert_allclose(fit.x, problem.certified, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.pcov)), problem.deviation, rtol=1e-4)
