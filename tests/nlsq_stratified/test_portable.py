"""Copies of an objective in another process."""

import functools
import pickle
import weakref

import jax.numpy as jnp
import numpy as np

from nlsq_stratified.objectives.correlated import CorrelatedObjective
from nlsq_stratified.objectives.curve import CurveObjective
from nlsq_stratified.objectives.portable import MOST_KEPT


def test_copies_of_an_objective_share_one_model():
    """Passed on from process to process, it stays the model that JAX has compiled."""
    first = CurveObjective(functools.partial(jnp.power), "huber", 2.0)
    sent = pickle.dumps(first)
    copies = [pickle.loads(sent), pickle.loads(sent), pickle.loads(pickle.dumps(first))]
    copies.append(pickle.loads(pickle.dumps(copies[0])))
    assert len({id(copy.f) for copy in copies}) == 1
    assert {(copy.loss, copy.f_scale) for copy in copies} == {("huber", 2.0)}
    other = pickle.loads(pickle.dumps(CurveObjective(functools.partial(jnp.power))))
    assert other.f is not copies[0].f


def test_models_from_other_processes_are_not_kept_for_ever():
    sent = pickle.dumps(CurveObjective(functools.partial(jnp.power)))
    model = weakref.ref(pickle.loads(sent).f)
    assert model() is not None
    for _ in range(MOST_KEPT):
        pickle.loads(pickle.dumps(CurveObjective(functools.partial(jnp.power))))
    assert model() is None


def test_the_model_that_is_in_use_is_kept():
    used = pickle.dumps(CurveObjective(functools.partial(jnp.power)))
    first = pickle.loads(used)
    for _ in range(2 * MOST_KEPT):
        pickle.loads(pickle.dumps(CurveObjective(functools.partial(jnp.power))))
        assert pickle.loads(used) is first


def test_a_covariance_does_not_travel():
    """Rows of a chunk need none."""
    objective = CorrelatedObjective(jnp.power, 2 * np.eye(1000), np.arange(1000))
    sent = pickle.dumps(objective)
    assert len(sent) < 1000
    x, y = np.linspace(1, 2, 5), np.linspace(0, 1, 5)
    here, there = (o.chunk_sums(np.ones(1), (x, y)) for o in (objective, pickle.loads(sent)))
    assert here.residual.tobytes() == there.residual.tobytes()
    assert here.jacobian.tobytes() == there.jacobian.tobytes()
