"""A compilation belongs to one fit: what it may know from others, and that it is let go."""

import functools
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nlsq_stratified
from nlsq_stratified import LocalParameters, programs
from nlsq_stratified.objectives.curve import CurveObjective
from nlsq_stratified.programs import Traced

curve_fit_large: Any = nlsq_stratified.curve_fit_large

RNG = np.random.default_rng(0)
X = RNG.uniform(0, 4, 60)
Y = 2 * np.exp(-0.7 * X) + 0.05 * RNG.normal(size=60)
GROUPED = np.column_stack([X, np.arange(60) % 2])

CONSTANTS = [jnp.arange(60.0) + i for i in range(2)]
LARGE = [jnp.arange(100_000.0) + i for i in range(2)]

# An option of some versions of JAX.
HOISTING = "jax_use_simplified_jaxpr_constants"

scale = 1.0


@pytest.fixture
def compilations(monkeypatch):
    """Programs that have been compiled to be kept for others."""
    count: list[Any] = []
    compile_one = jax.stages.Lowered.compile

    def counted(lowered, *args, **kwargs):
        count.append(lowered)
        return compile_one(lowered, *args, **kwargs)

    monkeypatch.setattr(jax.stages.Lowered, "compile", counted)
    return count


# What changes between two fits


class Instrument:
    """A model with a state, which cannot be hashed."""

    __hash__: Any = None

    def __init__(self):
        self.gain = 1.0

    def __eq__(self, other):
        return True

    def __call__(self, x, a, b):
        return self.gain * a * jnp.exp(-b * x)

    def model(self, x, a, b):
        return self(x, a, b)


def reads_a_global(x, a, b):
    return scale * a * jnp.exp(-b * x)


def plain(f):
    return curve_fit_large(f, X, Y, [1.0, 1.0], chunks=25)


def correlated(f):
    return curve_fit_large(f, X, Y, [1.0, 1.0], sigma=np.eye(60), chunks=25)


def of_groups(f):
    """Each group has its own b."""

    def model(x, a, b):
        return f(x[:, 0], a, b)

    local = LocalParameters(("b",), group=lambda x: x[:, 1], n_groups=2)
    return curve_fit_large(model, GROUPED, Y, [1.0, 1.0, 1.0], chunks=25, local=local)


@pytest.mark.parametrize("fit", [plain, correlated, of_groups])
@pytest.mark.parametrize("take", [lambda i: i.model, lambda i: i, lambda i: functools.partial(i)])
def test_a_model_whose_object_has_changed_is_another_model(fit, take):
    instrument = Instrument()
    before = fit(take(instrument))
    instrument.gain = 2.0
    after = fit(take(instrument))
    assert before.success
    assert after.success
    np.testing.assert_allclose(after.x[0], before.x[0] / 2, rtol=1e-6)
    np.testing.assert_allclose(after.cost, before.cost, rtol=1e-9)


@pytest.mark.parametrize("fit", [plain, correlated, of_groups])
def test_a_model_of_which_a_global_has_changed_is_another_model(fit, monkeypatch):
    before = fit(reads_a_global)
    monkeypatch.setitem(globals(), "scale", 4.0)
    after = fit(reads_a_global)
    np.testing.assert_allclose(after.x[0], before.x[0] / 4, rtol=1e-6)


# What a fit leaves behind


def array_of_numpy():
    return np.ones(2_000_000)


def array_of_jax():
    return jnp.ones(2_000_000)


def model_of(array):
    def model(x, a, b):
        return a * jnp.exp(-b * x) + jnp.sum(jnp.asarray(array[:7])) - 7

    return model


@pytest.mark.parametrize("fit", [plain, correlated, of_groups])
@pytest.mark.parametrize("make", [array_of_numpy, array_of_jax])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, functools.partial])
def test_what_a_model_closes_over_is_let_go_after_the_fit(fit, make, wrap):
    array = make()
    model = model_of(array)
    watched = weakref.ref(array), weakref.ref(model)
    assert fit(wrap(model)).success
    del array, model
    gc.collect()
    assert [reference() for reference in watched] == [None, None]


def test_programs_are_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr(programs, "MOST_SHARED", 3)
    monkeypatch.setattr(programs, "_shared", type(programs._shared)())
    for n in range(1, 8):
        Traced(lambda x: x + 1)(jnp.ones(n))
        assert len(programs._shared) == min(n, 3)


# How often is compiled


def traces(f):
    """The model, and a list that grows each time that it is traced."""
    seen: list[tuple[int, ...]] = []

    def model(x, a, b):
        seen.append(x.shape)
        return f(x, a, b)

    return model, seen


def decay(x, a, b):
    return a * jnp.exp(-b * x)


@pytest.mark.parametrize("workers", [0, 4])
@pytest.mark.parametrize("shared", [True, False])
def test_a_fit_compiles_each_function_once_for_each_length_of_chunk(compilations, workers, shared):
    """Residual and Jacobian; all workers ask for them at the same time."""
    table = jnp.ones(9 if shared else 9_000)

    def unlike_any_other(x, a, b):
        return decay(x, a, b) + (0.123456 + workers) * a * table[3]

    model, seen = traces(unlike_any_other)
    options: dict[str, Any] = dict(p0=[1.0, 1.0], chunks=20, progressive=True)
    if workers:
        with ThreadPoolExecutor(workers) as executor:
            fit = curve_fit_large(model, X, Y, executor=executor, **options)
    else:
        fit = curve_fit_large(model, X, Y, **options)
    assert fit.nfev > 2
    assert seen == [(20,)] * 2
    assert len(compilations) == 2


def test_two_chunk_lengths_are_two_compilations(compilations):
    model, seen = traces(lambda x, a, b: decay(x, a, b) + 0.654321 * b)
    curve_fit_large(model, X, Y, [1.0, 1.0], chunks=25)
    assert sorted(seen) == [(10,)] * 2 + [(25,)] * 2
    assert len(compilations) == 4


def test_the_same_model_is_not_compiled_again(compilations):
    """Nor is another function that computes the same."""
    plain(decay)
    plain(model_of(np.ones(9)))
    del compilations[:]
    first = plain(decay)
    second = plain(lambda x, height, rate: height * jnp.exp(-rate * x))
    plain(model_of(np.ones(10)))
    assert compilations == []
    assert first.x.tobytes() == second.x.tobytes()


@pytest.mark.parametrize(
    "models",
    [
        (lambda x: 0.1 * x, lambda x: 0.1000001 * x),
        (lambda x: 0.0 * x, lambda x: -0.0 * x),
        (lambda x: x + jnp.arange(60.0), lambda x: x + np.arange(60.0) ** 2),
        (lambda x: x + np.arange(60.0), lambda x: x + np.arange(1.0, 61.0)),
        (lambda x: x + jnp.asarray(X), lambda x: x + jnp.asarray(Y)),
        (lambda x: x + jnp.asarray(X), lambda x: x + jnp.asarray(np.nextafter(X, 9))),
        (lambda x: x + CONSTANTS[0], lambda x: x + CONSTANTS[1]),
        (lambda x: jax.jit(lambda x: x + X)(x), lambda x: jax.jit(lambda x: x + Y)(x)),
        (lambda x: x + LARGE[0][:60], lambda x: x + LARGE[1][:60]),
        (lambda x: jnp.sort(x), lambda x: -jnp.sort(-x)),
        (lambda x: x.astype(jnp.float32), lambda x: x),
        (
            lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x),
            lambda x: jax.pure_callback(np.cos, jax.ShapeDtypeStruct(x.shape, x.dtype), x),
        ),
    ],
)
@pytest.mark.parametrize("hoisted", [False, True] if hasattr(jax.config, HOISTING) else [False])
def test_programs_that_differ_a_little_are_told_apart(models, hoisted):
    """Also where JAX takes the constants out of a program, as it may come to do."""
    before = getattr(jax.config, HOISTING, hoisted)
    if before == hoisted:
        compare(models)
        return
    jax.config.update(HOISTING, hoisted)
    try:
        compare(models)
    finally:
        jax.config.update(HOISTING, before)


def compare(models):
    with jax.enable_x64(True):
        x = jnp.asarray(X)
        for model in (*models, *models):
            np.testing.assert_array_equal(Traced(model)(x), jax.jit(model)(x))
            np.testing.assert_array_equal(np.signbit(Traced(model)(x)), np.signbit(model(x)))


def test_the_value_of_a_parameter_and_its_kind_may_change():
    """A call with other values is answered for those; one with another kind is traced anew."""
    traced = Traced(lambda tree: tree["a"] + tree["b"])
    assert traced({"a": jnp.ones(2), "b": jnp.ones(2)}).tolist() == [2.0, 2.0]
    assert traced({"a": jnp.ones(2), "b": jnp.zeros(2)}).tolist() == [1.0, 1.0]
    assert traced({"a": jnp.ones(2, int), "b": jnp.ones(2, int)}).dtype == jnp.ones(2, int).dtype


def test_an_objective_with_a_model_that_cannot_be_hashed_can_be_used_as_any_other():
    objective = CurveObjective(Instrument())
    assert {objective: 1}[objective] == 1
