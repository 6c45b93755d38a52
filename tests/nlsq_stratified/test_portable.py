"""Copies of an objective in another process."""

import functools
import pickle
import weakref

import jax.numpy as jnp

from nlsq_stratified.curve_objective import CurveObjective
from nlsq_stratified.portable import MOST_KEPT


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
