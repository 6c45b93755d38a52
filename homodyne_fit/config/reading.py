"""From the text of a configuration to typed objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from homodyne_fit.config.effects import Ignored, reason
from homodyne_fit.config.keys import Root
from homodyne_fit.config.overrides import Override, overridden
from homodyne_fit.config.translation import is_older_generation, translate, with_analysis_mode
from homodyne_fit.errors import InputError, Problem, did_you_mean, suggestion
from homodyne_fit.validation import dotted_path, what_is_wrong

__all__ = ["KNOWN_PATHS", "read", "section_of"]

# Models of other programs that are not available here.
OTHER_MODELS = ("two_component", "two-component", "heterodyne")

# Smallest similarity, from 0 to 1, of a key that is taken for a misspelt one in a configuration of
# an older generation.
SURELY_MEANT = 0.85

OLDER = "a key of an older generation of homodyne, which has no counterpart"

# The models that are available, for a message.
MODELS = "'laminar_flow' or 'static'"


def read(
    text: str, overrides: Sequence[Override] = (), notes: list[str] | None = None
) -> tuple[Root, tuple[Ignored, ...]]:
    """Read the text of a configuration.

    Parameters
    ----------
    overrides : sequence of (str, value)
        Dotted paths of keys, and the values that replace those of the text.
    notes : list of str, optional
        What was taken from keys of other programs is added, in sentences.

    Returns
    -------
    root : Root
    foreign : tuple of Ignored
        Keys that have a meaning only in other programs.

    Raises
    ------
    InputError
        With all mistakes in keys and values.
    """
    raw, repeated = _parsed(text)
    if raw is None:
        raise InputError(
            "the configuration is empty; 'homodyne_fit init' writes one from a data file"
        )
    if not isinstance(raw, dict):
        kind = "a list" if isinstance(raw, list) else "a single value"
        raise InputError(f"a configuration is a mapping, 'key: value', not {kind}")
    translation = translate(raw, [path for path, _ in overrides])
    contents = with_analysis_mode(overridden(translation.raw, overrides), translation.notes)
    if notes is not None:
        notes += translation.notes
    if (wrong := _other_model(contents)) is not None:
        # The keys of that model are not reported as further mistakes.
        raise InputError([*repeated, wrong])
    sorter = _KeySorter(is_older_generation(raw))
    known = sorter.sort(contents, Root, "")
    problems = [*repeated, *translation.problems, *sorter.unknown]
    try:
        root = Root.model_validate(known)
    except ValidationError as error:
        problems += [
            Problem(dotted_path(detail["loc"]), what_is_wrong(detail)) for detail in error.errors()
        ]
        raise InputError(problems) from error
    if problems:
        raise InputError(problems)
    return root, tuple(sorter.foreign)


def _other_model(contents: dict[str, Any]) -> Problem | None:
    """What is wrong with a configuration of a model that other programs have and this one lacks."""
    mode = contents.get("analysis_mode")
    if mode in OTHER_MODELS:
        model = f"the model {mode!r} of xpcsjax is not available here"
        return Problem("analysis_mode", f"{model}; take {MODELS}")
    if contents.get("parameters"):
        what = (
            "these are parameters of the two-component model, which is not available; those of the "
            "other models are initial_parameters and parameter_space"
        )
        return Problem("parameters", what)
    return None


def _parsed(text: str) -> tuple[Any, list[Problem]]:
    """The contents of a text in YAML or JSON, and a problem for each key that is given twice."""
    if text.lstrip().startswith("{"):
        # YAML does not allow the tabs of JSON, and reads 1e-6 as text.
        with suppress(ValueError):
            pairs: list[str] = []
            contents = json.loads(text, object_pairs_hook=partial(_mapping, pairs))
            twice = [
                Problem("", f"not valid JSON: the key '{key}' is given twice") for key in pairs
            ]
            return contents, twice
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data(), loader.repeated_keys
    except (yaml.YAMLError, ValueError, AttributeError) as error:
        # PyYAML raises the last two if a scalar does not have the type of its tag.
        repeated = loader.repeated_keys if loader else []
        wrong = Problem("", f"not valid YAML: {_yaml_problem(error)}")
        raise InputError([*repeated, wrong]) from error


def _mapping(repeated: list[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping of JSON; keys that are given twice are added to the list."""
    keys = [key for key, _ in pairs]
    repeated += sorted({key for key in keys if keys.count(key) > 1})
    return dict(pairs)


class _Loader(yaml.SafeLoader):
    """Finds keys that are given twice: YAML forbids them, but PyYAML accepts them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated_keys: list[Problem] = []

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Compose a mapping and compare its keys."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                error = yaml.MarkedYAMLError(
                    problem=f"the key '{key.value}' is given twice", problem_mark=key.start_mark
                )
                self.repeated_keys.append(Problem("", f"not valid YAML: {_yaml_problem(error)}"))
            seen.add(key.value)
        return node


def _yaml_problem(error: Exception) -> str:
    """The place and the problem, in one line."""
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return " ".join(str(error).split())
    start = error.context_mark
    context = f" ({error.context}, line {start.line + 1})" if error.context and start else ""
    advice = "; indent with spaces" if r"'\t'" in str(error.problem) else ""
    if "unknown escape character" in str(error.problem):
        advice = "; in double quotes \\ begins an escape: write a path of Windows in single quotes"
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{context}{advice}"


@dataclass
class _KeySorter:
    """Separates known keys from keys of other programs and from unknown keys.

    Attributes
    ----------
    older : bool
        Whether the configuration is of an older generation, whose many keys are not all listed.
    """

    older: bool = False
    foreign: list[Ignored] = field(default_factory=list)
    unknown: list[Problem] = field(default_factory=list)

    def sort(self, value: Any, model: type[BaseModel], section: str) -> Any:
        """Return `value` with only the keys of `model`, and without empty sections."""
        if not isinstance(value, dict):
            return value
        kept: dict[str, Any] = {}
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        for key, item in value.items():
            path = f"{section}.{key}" if section else str(key)
            why = reason(section, str(key))
            if why is None and self.older and not suggestion(str(key), fields, SURELY_MEANT):
                why = OLDER
            if key in fields:
                inner, is_list = section_of(fields[key].annotation)
                if inner is None:
                    kept[key] = item
                elif is_list and isinstance(item, list):
                    kept[key] = [self.sort(entry, inner, path) for entry in item]
                elif item is not None:
                    kept[key] = item if is_list else self.sort(item, inner, path)
            elif why is None:
                self._add_unknown(path, str(key), list(fields))
            elif Ignored(path, why) not in self.foreign:
                self.foreign.append(Ignored(path, why))
        return kept

    def _add_unknown(self, path: str, key: str, fields: list[str]) -> None:
        elsewhere = [known for known in KNOWN_PATHS if known.rpartition(".")[2] == key]
        if near := suggestion(key, fields):
            hint = did_you_mean(near)
        elif elsewhere:
            hint = f" (did you mean {' or '.join(elsewhere)}?)"
        else:
            hint = f"; known here: {', '.join(fields)}"
        self.unknown.append(Problem(path, f"there is no such key{hint}"))


def section_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The section that a field is, or is a list of; and whether it is a list."""
    inner = getattr(annotation, "__args__", (annotation,))[0]
    is_section = isinstance(inner, type) and issubclass(inner, BaseModel)
    return (inner, inner is not annotation) if is_section else (None, False)


def _paths(model: type[BaseModel], section: str) -> Iterator[str]:
    """Dotted paths of all keys, sections included, without indices of lists."""
    for name, each in model.model_fields.items():
        path = f"{section}.{each.alias or name}".removeprefix(".")
        yield path
        inner, _ = section_of(each.annotation)
        if inner is not None:
            yield from _paths(inner, path)


KNOWN_PATHS = tuple(_paths(Root, ""))
