"""A Dask cluster of processes: chunks stay with its workers, and the bits are those of one."""

import os

import jax.numpy as jnp
import numpy as np
import pytest

from nlsq_stratified import Chunks, curve_fit_large, evaluate
from nlsq_stratified.chunk_data import FirstChunks
from nlsq_stratified.objectives.curve import CurveObjective
from nlsq_stratified.reduction import FAN_IN, distribute

distributed = pytest.importorskip("distributed")

PARAMS = np.array([1.5, 0.5])


@pytest.fixture(scope="module")
def cluster(worker_side):
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.fixture
def dask(cluster):
    from nlsq_stratified.executors.dask_cluster import DaskExecutor

    cluster.wait_for_workers(2, timeout=600)
    return DaskExecutor(cluster)


def bits(state):
    return state.cost, state.triangle.tobytes(), state.majorant.tobytes(), state.n_points


@pytest.fixture(scope="module")
def model():
    """A closure, which is pickled by value."""
    return lambda x, a, b: a * jnp.exp(-b * x)


@pytest.fixture(scope="module")
def objective(model):
    return CurveObjective(model)


def test_each_chunk_is_read_once_by_a_worker(dask, worker_side, objective, tmp_path):
    files = worker_side.Files(tmp_path, 7)
    placed = distribute(files, dask)
    chunks = [worker_side.points(i) for i in range(7)]
    for p in (1.0, 0.9, 0.8):
        total = evaluate(objective, p * PARAMS, placed, dask)
        assert bits(total) == bits(evaluate(objective, p * PARAMS, chunks))
    assert [len(ids) for ids in files.readers()] == [1] * 7
    assert str(os.getpid()) not in {ids[0] for ids in files.readers()}


def test_sums_of_many_chunks_are_added_by_the_workers(dask, objective, monkeypatch):
    rng = np.random.default_rng(0)
    n = 2 * FAN_IN + 5
    x = rng.uniform(0, 3, 3 * n)
    chunks = [(part, np.cos(part)) for part in x.reshape(n, 3)]
    gathered = []
    gather = dask.client.gather

    def watch(futures):
        gathered.append(len(futures))
        return gather(futures)

    monkeypatch.setattr(dask.client, "gather", watch)
    total = evaluate(objective, PARAMS, distribute(chunks, dask), dask)
    assert bits(total) == bits(evaluate(objective, PARAMS, chunks))
    assert gathered == [3]


@pytest.mark.parametrize("groups_a_thread", [1, 4, 100])
@pytest.mark.parametrize("threads", [1, 3])
def test_groups_of_any_size_give_the_bits_of_one(
    dask, objective, monkeypatch, groups_a_thread, threads
):
    monkeypatch.setattr("nlsq_stratified.executors.dask_cluster.GROUPS_A_THREAD", groups_a_thread)
    dask.threads = threads
    rng = np.random.default_rng(2)
    n = 4 * FAN_IN + 10
    x = rng.uniform(0, 3, 2 * n)
    chunks = [(part, np.cos(part)) for part in x.reshape(n, 2)]
    placed = distribute(chunks, dask)
    sizes = {member.size for member in placed}
    assert sizes == {{1: 128, 4: 32, 100: 1}[groups_a_thread]}
    assert bits(evaluate(objective, PARAMS, placed, dask)) == bits(
        evaluate(objective, PARAMS, chunks)
    )
    few = FirstChunks(placed, FAN_IN + 3)
    assert bits(evaluate(objective, PARAMS, few, dask)) == bits(
        evaluate(objective, PARAMS, chunks[: FAN_IN + 3])
    )


@pytest.mark.parametrize("progressive", [False, True])
def test_a_fit_has_the_bits_of_a_serial_one(dask, model, worker_side, tmp_path, progressive):
    files = worker_side.Files(tmp_path, 9)
    fit = curve_fit_large(model, p0=PARAMS, chunks=files, executor=dask, progressive=progressive)
    assert [len(ids) for ids in files.readers()] == [1] * 9
    alone = curve_fit_large(model, p0=PARAMS, chunks=files, progressive=progressive)
    assert fit.success
    assert fit.popt.tobytes() == alone.popt.tobytes()
    assert fit.pcov.tobytes() == alone.pcov.tobytes()
    assert fit.chunk_costs == alone.chunk_costs
    assert fit.chunk_sizes == (50, 50, 50, 53, 50, 50, 50, 50, 50)


def test_arrays_are_cut_and_handed_out(dask, model):
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 3, 900)
    y = 2 * np.exp(-0.7 * x) + rng.normal(0, 0.05, len(x))
    y[17] = np.nan
    how = {"chunks": Chunks.from_labels(np.arange(900) % 4), "nan_policy": "omit"}
    fit = curve_fit_large(model, x, y, PARAMS, executor=dask, **how)
    alone = curve_fit_large(model, x, y, PARAMS, **how)
    assert fit.popt.tobytes() == alone.popt.tobytes()
    assert fit.n_points == 899


def test_a_worker_that_dies_is_made_up_for(dask, model, objective, worker_side, tmp_path):
    files = worker_side.Files(tmp_path, 8)
    placed = distribute(files, dask)
    first = evaluate(objective, PARAMS, placed, dask)
    deadly = worker_side.Deadly(model, tmp_path / "flag")
    total = evaluate(deadly, PARAMS, placed, dask)
    assert (tmp_path / "flag").read_text() == "xx"
    assert 1 in {len(ids) for ids in files.readers()}
    assert 2 in {len(ids) for ids in files.readers()}
    assert bits(total) == bits(first)


def test_chunks_from_memory_survive_a_worker(dask, model, objective, worker_side, tmp_path):
    chunks = [worker_side.points(i) for i in range(8)]
    placed = distribute(chunks, dask)
    deadly = worker_side.Deadly(model, tmp_path / "flag")
    total = evaluate(deadly, PARAMS, placed, dask)
    assert (tmp_path / "flag").read_text() == "xx"
    assert bits(total) == bits(evaluate(objective, PARAMS, chunks))


def test_a_model_is_traced_once_by_each_worker(dask, worker_side):
    """A lambda is another object each time it arrives."""
    decay = worker_side.decay
    objective = CurveObjective(lambda x, a, b: decay(1.7, x, a, b))
    placed = distribute([worker_side.points(0)] * 8, dask)
    evaluate(objective, PARAMS, placed, dask)
    before = dask.client.run(worker_side.trace_count)
    evaluate(objective, 0.9 * PARAMS, placed, dask)
    assert dask.client.run(worker_side.trace_count) == before
    assert sum(before.values()) > 0


def test_an_error_in_a_chunk_is_raised(dask, worker_side, tmp_path):
    files = worker_side.Files(tmp_path / "nowhere", 2)
    with pytest.raises(FileNotFoundError, match="reads-"):
        evaluate(CurveObjective(jnp.power), PARAMS[:1], distribute(files, dask), dask)


def test_a_chunk_without_values_is_named(dask, model, worker_side):
    chunks = [worker_side.points(i) for i in range(3)]
    chunks[1][1][0] = np.nan
    with pytest.raises(ValueError, match="^the model is not finite in chunk 1 at a = 1.5, b = 0"):
        curve_fit_large(model, p0=PARAMS, chunks=chunks, executor=dask, check_finite=False)
