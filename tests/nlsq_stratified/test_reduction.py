"""Sums over chunks: all of them, once each, in their order, wherever they are made."""

import functools
import math
import multiprocessing
import time
import weakref
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlsq_stratified import ArrayChunks, Chunks, NormalEquations, evaluate, reduce
from nlsq_stratified.objectives.curve import CurveObjective
from nlsq_stratified.reduction import FAN_IN, LEAST_WINDOW, add_up, distribute, forks, partial_sums


class LastFirst(Executor):
    """Runs the tasks of a map in reverse order."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future

    def map(self, fn, *iterables, **kwargs):
        tasks = list(zip(*iterables, strict=True))
        return reversed([fn(*task) for task in reversed(tasks)])


class Concatenation:
    """Chunks of text; the sum shows the order of the additions."""

    def chunk_sums(self, params, chunk):
        return f"{chunk}{params[0]:.0f} "

    def normal_equations(self, params, sums):
        raise NotImplementedError


class Line:
    """Least squares of a + b x, in NumPy."""

    def chunk_sums(self, params, chunk):
        x, y = chunk
        jacobian = np.stack([np.ones_like(x), x], axis=1)
        residual = jacobian @ params - y
        return NormalEquations(
            0.5 * float(residual @ residual),
            jacobian.T @ residual,
            jacobian.T @ jacobian,
            len(y),
        )

    def normal_equations(self, params, sums):
        return sums


def bits(state):
    return (state.cost, state.gradient.tobytes(), state.hessian.tobytes(), state.n_points)


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(3) as executor:
        yield executor


@pytest.fixture(params=["none", "threads", "last first"])
def executor(request, threads):
    return {"none": None, "threads": threads, "last first": LastFirst()}[request.param]


def test_chunks_are_added_in_their_order(executor):
    assert reduce(Concatenation(), np.array([7.0]), "abcd", executor) == "a7 b7 c7 d7 "


def test_a_single_chunk_is_its_own_sum(executor):
    assert reduce(Concatenation(), np.array([7.0]), "a", executor) == "a7 "


@pytest.mark.parametrize("n_chunks", [1, 2, 20])
def test_without_an_executor_at_most_two_chunks_are_in_memory(n_chunks):
    """The one that is summed, and the one that is read meanwhile."""

    class Loaded:
        def __init__(self, index):
            self.index = index

    class OnDisk:
        def __init__(self):
            self.alive = weakref.WeakSet()
            self.order, self.most = [], 0

        def __len__(self):
            return n_chunks

        def __getitem__(self, index):
            chunk = Loaded(index)
            self.alive.add(chunk)
            self.order.append(index)
            return chunk

    class Slow:
        def chunk_sums(self, params, chunk):
            time.sleep(0.005)
            data.most = max(data.most, len(data.alive))
            return chunk.index

        def normal_equations(self, params, sums):
            raise NotImplementedError

    data = OnDisk()
    assert reduce(Slow(), np.zeros(1), data) == sum(range(n_chunks))
    assert data.order == list(range(n_chunks))
    assert data.most <= 2
    assert len(data.alive) == 0


@pytest.mark.parametrize("n_chunks", [1, 5, 100])
def test_with_an_executor_only_a_window_of_chunks_waits(n_chunks, threads):
    read, done, ahead = [], [], []

    class Reading:
        def __len__(self):
            return n_chunks

        def __getitem__(self, index):
            read.append(index)
            ahead.append(len(read) - len(done))
            return index

    class Taking:
        def chunk_sums(self, params, chunk):
            return chunk

        def normal_equations(self, params, sums):
            raise NotImplementedError

    for part in partial_sums(Taking(), np.zeros(1), Reading(), threads):
        done.append(part.sums)
    assert done == read == list(range(n_chunks))
    assert max(ahead) <= LEAST_WINDOW


def test_an_error_in_a_chunk_is_raised(executor):
    class Failing(Concatenation):
        def chunk_sums(self, params, chunk):
            if chunk == "c":
                raise RuntimeError("chunk c is unreadable")
            return chunk

    with pytest.raises(RuntimeError, match="^chunk c is unreadable$"):
        reduce(Failing(), np.array([0.0]), "abcd", executor)


def test_evaluate_hands_the_total_to_the_objective(executor):
    class Squares:
        """normal_equations is called once, with the sum of all chunks."""

        def chunk_sums(self, params, chunk):
            return chunk

        def normal_equations(self, params, sums):
            return NormalEquations(float(sums), params, np.eye(len(params)), 3)

    state = evaluate(Squares(), np.array([1.0, 2.0]), [10, 20, 30], executor)
    assert state.cost == 60
    assert state.gradient.tolist() == [1, 2]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(0, 99), st.data())
def test_any_chunking_in_any_order_gives_the_same_sums(sizes, seed, data):
    n = sum(sizes)
    rng = np.random.default_rng(seed)
    x, y, params = rng.normal(size=n), rng.normal(size=n), rng.normal(size=2)
    order = data.draw(st.none() | st.permutations(range(n)))
    state = evaluate(Line(), params, ArrayChunks(Chunks(sizes, order), (x, y)))
    residual = params[0] + params[1] * x - y
    assert state.n_points == n
    assert state.cost == pytest.approx(0.5 * math.fsum(residual**2), rel=1e-12)
    gradient = [math.fsum(residual), math.fsum(residual * x)]
    np.testing.assert_allclose(state.gradient, gradient, rtol=0, atol=1e-12 * n)
    hessian = [[n, math.fsum(x)], [math.fsum(x), math.fsum(x**2)]]
    np.testing.assert_allclose(state.hessian, hessian, rtol=0, atol=1e-12 * n)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(0, 99))
def test_equal_chunkings_give_the_same_bits_on_any_executor(threads, sizes, seed):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    chunks = Chunks(sizes, rng.permutation(n))
    data = ArrayChunks(chunks, (rng.normal(size=n), rng.normal(size=n)))
    params = rng.normal(size=2)
    first = bits(evaluate(Line(), params, data))
    assert bits(evaluate(Line(), params, data)) == first
    assert bits(evaluate(Line(), params, data, threads)) == first
    assert bits(evaluate(Line(), params, data, LastFirst())) == first


def test_processes_give_the_same_bits():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(1, 2, 300), rng.uniform(1, 2, 300)
    data = ArrayChunks(Chunks([100, 100, 100], rng.permutation(300)), (x, y))
    objective, params = CurveObjective(jnp.power), np.array([1.5])
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as processes:
        elsewhere = evaluate(objective, params, data, processes)
    assert bits(elsewhere) == bits(evaluate(objective, params, data))
    assert elsewhere.cost == pytest.approx(0.5 * np.sum((x**1.5 - y) ** 2), rel=1e-13)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no forks")
def test_processes_that_fork_are_refused():
    chunks = ArrayChunks(Chunks([2], np.arange(2)), (np.ones(2), np.ones(2)))
    for method in ("fork", "spawn"):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as processes:
            assert forks(processes) is (method == "fork")
            if method == "fork":
                with pytest.raises(ValueError, match="hangs with JAX; give it mp_context="):
                    distribute(chunks, processes)
            else:
                assert distribute(chunks, processes) is chunks
    with ThreadPoolExecutor(1) as threads:
        assert not forks(threads)


@given(st.integers(1, 40), st.integers(0, 99))
def test_runs_that_are_added_elsewhere_give_the_same_bits(n_runs, rest):
    """Order and brackets are those of the definition, and adding up runs first changes nothing."""
    rng = np.random.default_rng(n_runs)
    parts = list(rng.normal(size=FAN_IN * (n_runs - 1) + 1 + rest % FAN_IN))
    runs = [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]
    by_hand = [functools.reduce(lambda a, b: a + b, run) for run in runs]
    total = functools.reduce(lambda a, b: a + b, by_hand)
    assert add_up(iter(parts)) == add_up(by_hand) == total


def test_many_chunks_are_added_in_their_order(executor):
    chunks = [f"{i} " for i in range(FAN_IN**2 + 3)]

    class Text:
        def chunk_sums(self, params, chunk):
            return chunk

        def normal_equations(self, params, sums):
            raise NotImplementedError

    assert reduce(Text(), np.zeros(1), chunks, executor) == "".join(chunks)
