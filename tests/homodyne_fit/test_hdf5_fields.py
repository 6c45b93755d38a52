from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC, Model, value_and_slope
from homodyne_fit.results.hdf5_fields import read_fields, write_fields


@dataclass(frozen=True)
class Inner:
    label: str
    held: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outer:
    number: float
    count: int
    flag: bool
    maybe: float | None
    chosen: frozenset[int]
    ordered: tuple[int, ...]
    array: NDArray[np.float64]
    model: Model
    inner: Inner


numbers = st.floats(allow_nan=False)
outers = st.builds(
    Outer,
    number=numbers,
    count=st.integers(-(2**31), 2**31),
    flag=st.booleans(),
    maybe=st.none() | numbers,
    chosen=st.frozensets(st.integers(0, 9)),
    ordered=st.lists(st.integers(0, 9)).map(tuple),
    array=st.lists(st.floats(), max_size=4).map(lambda x: np.array(x, dtype=np.float64)),
    model=st.sampled_from(
        [
            STATIC,
            LAMINAR_FLOW,
            replace(LAMINAR_FLOW, shear_rate=value_and_slope),
            replace(STATIC, transport=value_and_slope),
        ]
    ),
    inner=st.builds(
        Inner,
        label=st.text(st.characters(exclude_categories=["Cs", "Cc"])),
        held=st.dictionaries(st.integers(0, 9), numbers),
    ),
)


def through_a_file(value):
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        write_fields(file.create_group("value"), value)
        return read_fields(file["value"], type(value))


@given(outers)
def test_what_is_read_is_what_was_written(value):
    back = through_a_file(value)
    for each in fields(value):
        before, after = getattr(value, each.name), getattr(back, each.name)
        assert type(before) is type(after)
        if each.name == "array":
            np.testing.assert_array_equal(before, after)
        else:
            assert before == after


def test_what_cannot_be_stored_is_named():
    with pytest.raises(TypeError, match="/value/label: a list cannot be stored"):
        through_a_file(Inner(label=["not", "a", "text"]))  # type: ignore[arg-type]
