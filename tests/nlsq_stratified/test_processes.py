"""Processes that keep chunks: read once, the bits of a serial sum, and lives after a death."""

import functools
import gc
import os
from concurrent.futures.process import BrokenProcessPool

import jax.numpy as jnp
import numpy as np
import pytest

from nlsq_stratified import curve_fit_large, evaluate
from nlsq_stratified.executors.processes import ResidentProcesses
from nlsq_stratified.objectives.curve import CurveObjective
from nlsq_stratified.reduction import distribute

PARAMS = np.array([1.5, 0.5])


@pytest.fixture(scope="module")
def processes(worker_side):
    with ResidentProcesses(2) as executor:
        yield executor


def bits(state):
    return state.cost, state.triangle.tobytes(), state.majorant.tobytes(), state.n_points


def test_each_chunk_is_read_once_and_by_its_owner(processes, worker_side, tmp_path):
    objective = CurveObjective(functools.partial(worker_side.decay, 1.0))
    files = worker_side.Files(tmp_path, 7)
    placed = distribute(files, processes)
    totals = [evaluate(objective, p * PARAMS, placed, processes) for p in (1.0, 0.9, 0.8)]
    readers = files.readers()
    assert all(len(ids) == 1 for ids in readers)
    assert {ids[0] for ids in readers[::2]}.isdisjoint(ids[0] for ids in readers[1::2])
    assert str(os.getpid()) not in {ids[0] for ids in readers}
    chunks = [worker_side.points(i) for i in range(7)]
    for p, total in zip((1.0, 0.9, 0.8), totals, strict=True):
        assert bits(total) == bits(evaluate(objective, p * PARAMS, chunks))


def test_chunks_that_are_not_placed_are_summed_too(processes, worker_side, tmp_path):
    objective = CurveObjective(functools.partial(worker_side.decay, 1.0))
    chunks = [worker_side.points(i) for i in range(3)]
    total = evaluate(objective, PARAMS, chunks, processes)
    assert bits(total) == bits(evaluate(objective, PARAMS, chunks))


def test_chunks_are_let_go_with_the_last_reference(processes, worker_side, tmp_path):
    objective = CurveObjective(functools.partial(worker_side.decay, 1.0))
    placed = distribute(worker_side.Files(tmp_path, 4), processes)
    evaluate(objective, PARAMS, placed, processes)
    held = [len(worker.holds) for worker in processes._workers]
    del placed
    gc.collect()
    others = distribute(worker_side.Files(tmp_path, 2), processes)
    evaluate(objective, PARAMS, others, processes)
    assert [len(worker.holds) for worker in processes._workers] == [n - 2 + 1 for n in held]


def test_a_model_is_traced_once_in_each_process(processes, worker_side):
    """A partial is another object each time it arrives."""
    objective = CurveObjective(functools.partial(worker_side.decay, 2.5))
    placed = distribute([worker_side.points(0)] * 8, processes)
    evaluate(objective, PARAMS, placed, processes)
    before = [worker.pool.submit(worker_side.trace_count).result() for worker in processes._workers]
    evaluate(objective, 0.9 * PARAMS, placed, processes)
    after = [worker.pool.submit(worker_side.trace_count).result() for worker in processes._workers]
    assert min(before) > 0
    assert after == before


def test_a_process_that_dies_is_replaced(processes, worker_side, tmp_path):
    model = functools.partial(worker_side.decay, 1.0)
    files = worker_side.Files(tmp_path, 6)
    placed = distribute(files, processes)
    evaluate(CurveObjective(model), PARAMS, placed, processes)
    deadly = worker_side.Deadly(model, tmp_path / "flag")
    total = evaluate(deadly, PARAMS, placed, processes)
    assert (tmp_path / "flag").read_text() == "xx"
    assert [len(ids) for ids in files.readers()] == [1, 1, 1, 2, 1, 2]
    chunks = [worker_side.points(i) for i in range(6)]
    assert bits(total) == bits(evaluate(CurveObjective(model), PARAMS, chunks))


def test_a_chunk_that_kills_every_process_is_named(processes, worker_side, tmp_path):
    deadly = worker_side.Deadly(jnp.power, tmp_path / "flag", times=99)
    chunks = [worker_side.points(i) for i in range(4)]
    with pytest.raises(BrokenProcessPool, match="^chunk 3 was not summed: its process died 3 t"):
        evaluate(deadly, PARAMS[:1], distribute(chunks, processes), processes)
    total = evaluate(
        CurveObjective(jnp.power), PARAMS[:1], distribute(chunks, processes), processes
    )
    assert total.n_points == 203


def test_an_unreadable_chunk_is_an_error(processes, worker_side, tmp_path):
    files = worker_side.Files(tmp_path / "nowhere", 2)
    with pytest.raises(FileNotFoundError, match="reads-0"):
        evaluate(CurveObjective(jnp.power), PARAMS[:1], distribute(files, processes), processes)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_fit_has_the_bits_of_a_serial_one(processes, worker_side, tmp_path, progressive):
    model = functools.partial(worker_side.decay, 1.0)
    files = worker_side.Files(tmp_path, 9)
    fit = curve_fit_large(
        model, p0=PARAMS, chunks=files, executor=processes, progressive=progressive
    )
    assert all(len(ids) == 1 for ids in files.readers())
    alone = curve_fit_large(model, p0=PARAMS, chunks=files, progressive=progressive)
    assert fit.success
    assert fit.popt.tobytes() == alone.popt.tobytes()
    assert fit.pcov.tobytes() == alone.pcov.tobytes()
    assert fit.chunk_costs == alone.chunk_costs
    assert fit.chunk_sizes == (50, 50, 50, 53, 50, 50, 50, 50, 50)
