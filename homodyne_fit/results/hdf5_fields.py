"""Dataclasses of numbers and arrays as HDF5 groups, and back, exactly.

What the fields are decides how they are stored: a number or a text as an attribute, a sequence or
an array as a dataset, a mapping of numbers as two, another dataclass as a group; None is left
out. Reading goes by the annotations of the class.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from types import NoneType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from homodyne_fit.errors import InputError
from homodyne_fit.model.rates import MODELS, OWN_LAWS, Model

__all__ = ["read_fields", "write_fields"]

# The functions that a model can be made of.
RATES = {law.__name__: law for law in OWN_LAWS}


def write_fields(group: h5py.Group, value: Any) -> None:
    """Write the fields of a dataclass into an empty group.

    Raises
    ------
    TypeError
        If a field is none of what can be stored.
    """
    if isinstance(value, Model):
        group.attrs["name"] = value.name
        for name in ("transport", "shear_rate"):
            if (rate := getattr(value, name)) is not None:
                group.attrs[name] = rate.__name__
        return
    for field in fields(value):
        _write(group, field.name, getattr(value, field.name))


def _write(group: h5py.Group, name: str, value: Any) -> None:
    if value is None:
        return
    if is_dataclass(value):
        write_fields(group.create_group(name), value)
    elif isinstance(value, bool | int | float | str | np.generic):
        group.attrs[name] = value
    elif isinstance(value, np.ndarray):
        group[name] = value
    elif isinstance(value, Mapping):
        inner = group.create_group(name)
        inner["keys"] = np.array(list(value), dtype=np.int64)
        inner["values"] = np.array(list(value.values()), dtype=np.float64)
    elif isinstance(value, tuple | frozenset):
        group[name] = np.array(list(value), dtype=np.int64)
    else:
        raise TypeError(f"{group.name}/{name}: a {type(value).__name__} cannot be stored")


def read_fields(group: Any, kind: type) -> Any:
    """Read a dataclass that `write_fields` wrote."""
    if kind is Model:
        name, rates = group.attrs["name"], {k: v for k, v in group.attrs.items() if k != "name"}
        if name not in MODELS or not set(rates.values()) <= set(RATES):
            raise InputError(
                f"{group.file.filename}: fitted with the model '{name}' of "
                f"{', '.join(rates.values())}, which is defined elsewhere; parameters.json has its "
                "numbers"
            )
        return replace(MODELS[name], **{key: RATES[rate] for key, rate in rates.items()})
    hints = typing.get_type_hints(kind)
    # A field that came later has its default in earlier files.
    names = [
        field.name
        for field in fields(kind)
        if field.default is MISSING or field.name in group or field.name in group.attrs
    ]
    return kind(**{name: _read(group, name, hints[name]) for name in names})


def _read(group: Any, name: str, hint: Any) -> Any:
    options = [option for option in typing.get_args(hint) if option is not NoneType]
    if NoneType in typing.get_args(hint):
        if name not in group and name not in group.attrs:
            return None
        hint = options[0]
    kind = typing.get_origin(hint) or hint
    if kind is typing.Literal:
        return str(group.attrs[name])
    if is_dataclass(kind):
        return read_fields(group[name], typing.cast(type, kind))
    if kind in (np.ndarray, NDArray):
        return group[name][()]
    if kind is Mapping:
        keys, values = group[name]["keys"][()], group[name]["values"][()]
        return dict(zip(keys.tolist(), values.tolist(), strict=True))
    if kind in (tuple, frozenset):
        return kind(group[name][()].tolist())
    return kind(group.attrs[name])
