"""Overrides: values from the command line for single keys, set before the validation.

An override is a dotted path and a value, such as ``analyzer_parameters.dt`` and 0.1. In a list of
mappings with a `name`, such as ``parameter_space.bounds``, the name is the key.
``initial_parameters.values`` may be a list that belongs to `parameter_names`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from homodyne_fit.errors import InputError
from homodyne_fit.model.parameters import ALIASES, PARAMETERS

__all__ = ["Override", "overridden", "parse_override"]

Override = tuple[str, Any]


def parse_override(text: str) -> Override:
    """Turn ``key.path=value`` into an override; the value is YAML."""
    path, equals, value = text.partition("=")
    if not (equals and all(path.split("."))):
        raise InputError(f"--set {text}: write it as KEY.PATH=VALUE")
    try:
        return path.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {text}: the value is not valid YAML") from error


def overridden(raw: Mapping[str, Any], overrides: Sequence[Override]) -> dict[str, Any]:
    """A copy of the contents of a configuration with some values replaced or added."""
    result: Any = dict(raw)
    for path, value in overrides:
        result = _replaced(result, path.split("."), value, path)
    return result


def _replaced(node: Any, keys: Sequence[str], value: Any, path: str) -> Any:
    if not keys:
        return value
    key, *rest = keys
    if node is None:
        node = {}
    if isinstance(node, list) and all(isinstance(item, dict) and "name" in item for item in node):
        return _replaced_by_name(node, key, rest, value, path)
    if not isinstance(node, dict):
        above = ".".join(path.split(".")[: -len(keys)])
        raise InputError(f"{path} cannot be set: {above} has no keys in this configuration")
    key = _as_spelt(node, key)
    return {**node, key: _replaced(_by_name(node, key), rest, value, path)}


def _replaced_by_name(
    items: list[dict[str, Any]], name: str, rest: Sequence[str], value: Any, path: str
) -> list[Any]:
    spelt = _as_spelt([str(item["name"]) for item in items], name)
    if not any(item["name"] == spelt for item in items):
        items = [*items, _default_bounds(name)]
    return [_replaced(item, rest, value, path) if item["name"] == spelt else item for item in items]


def _default_bounds(name: str) -> dict[str, Any]:
    """The default bounds of a parameter, of which the override replaces one.

    None where they come from the measurement: then an override of each is needed.
    """
    known = PARAMETERS.get(ALIASES.get(name, name))
    if known is None or known.bounds is None:
        return {"name": name}
    return {"name": name, "min": known.bounds[0], "max": known.bounds[1]}


def _as_spelt(known: Mapping[str, Any] | Sequence[str], key: str) -> str:
    """The key, or another name of the same parameter if that is in the configuration."""
    same = (k for k in known if ALIASES.get(k, k) == ALIASES.get(key, key))
    return next(same, key)


def _by_name(section: Mapping[str, Any], key: str) -> Any:
    """One value of a section; a list with `parameter_names` is turned into a mapping."""
    value, names = section.get(key), section.get("parameter_names")
    if key == "bounds" and value is None:
        return []
    if not (key == "values" and isinstance(value, list) and isinstance(names, list)):
        return value
    paired = len(value) == len(names)
    return dict(zip(map(str, names), value, strict=True)) if paired else value
