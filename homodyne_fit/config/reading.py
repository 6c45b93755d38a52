"""From the text of a configuration to typed objects, and every mistake on the way.

What is wrong is left out and the rest read on, so that a second mistake shows along with the
first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from homodyne_fit.config.consistency import contradictions, questions
from homodyne_fit.config.effects import Ignored, reason
from homodyne_fit.config.keys import Root
from homodyne_fit.config.overrides import Override, overridden
from homodyne_fit.errors import Problem, did_you_mean, suggestion, unexplained
from homodyne_fit.validation import dotted_path, what_is_wrong

__all__ = ["KNOWN_PATHS", "Reading", "read", "section_of"]

# Modes of other programs with parameters of their own, and what there is instead.
OTHER_MODELS = ("two_component",)
MODELS = "'laminar_flow' or 'static'"


@dataclass(frozen=True)
class Reading:
    """What a text says.

    Attributes
    ----------
    root : Root or None
        Its contents, without what is wrong; None if it is no configuration at all.
    foreign : tuple of Ignored
        Keys that have a meaning in other programs only.
    problems : tuple of Problem
        What is wrong.
    doubtful : frozenset of str
        Dotted paths of keys of which `root` does not hold what was meant.
    """

    root: Root | None
    foreign: tuple[Ignored, ...]
    problems: tuple[Problem, ...]
    doubtful: frozenset[str]


def read(text: str, overrides: Sequence[Override] = ()) -> Reading:
    """Read the text of a configuration as far as it can be understood.

    Parameters
    ----------
    overrides : sequence of (str, value)
        Dotted paths of keys, and the values that they get in place of those of the text.
    """
    loader = None
    try:
        loader = _Loader(text)
        raw = loader.get_single_data()
    except (yaml.YAMLError, ValueError, AttributeError) as error:
        # PyYAML raises the last two on scalars that are not of the type they are tagged with.
        twice = loader.twice if loader else []
        return _nothing(*twice, Problem("", f"not valid YAML: {_yaml_problem(error)}"))
    if raw is None:
        return _nothing(
            Problem(
                "", "the configuration is empty; 'homodyne_fit init' writes one from a data file"
            )
        )
    if not isinstance(raw, dict):
        kind = "a list" if isinstance(raw, list) else "a single value"
        return _nothing(Problem("", f"a configuration is a mapping, 'key: value', not {kind}"))
    raw = overridden(raw, overrides)
    if raw.get("analysis_mode") in OTHER_MODELS:
        # All that belongs to it would be a mistake, too.
        named = f"the model {raw['analysis_mode']!r} of xpcsjax is not available here"
        return _nothing(*loader.twice, Problem("analysis_mode", f"{named}; take {MODELS}"))
    sorter = _KeySorter()
    root, mistaken = _validated(sorter.sort(raw, Root, ""))
    problems = [*loader.twice, *sorter.unknown, *mistaken]
    doubtful = frozenset([problem.where for problem in problems if problem.where] + sorter.meant)
    if root is not None:
        problems += unexplained([*questions(root), *contradictions(root)], doubtful)
    return Reading(root, tuple(sorter.foreign), tuple(problems), doubtful)


def _nothing(*problems: Problem) -> Reading:
    return Reading(None, (), problems, frozenset())


def _validated(cleaned: dict[str, Any]) -> tuple[Root | None, list[Problem]]:
    """Validate; what is wrong is reported, left out, and the rest validated again.

    A rule that holds for a whole section is looked at only when its keys are in order, so that
    leaving out takes several rounds.
    """
    problems: list[Problem] = []
    while True:
        try:
            return Root.model_validate(cleaned), problems
        except ValidationError as error:
            details = error.errors()
        problems += [
            Problem(dotted_path(detail["loc"]), what_is_wrong(detail)) for detail in details
        ]
        before = cleaned
        for detail in details:
            cleaned = _without(cleaned, detail["loc"])
        if cleaned == before or not isinstance(cleaned, dict):
            return None, problems


def _without(value: Any, where: tuple[int | str, ...]) -> Any:
    """A copy without what is at a place, or without the innermost mapping's key around it."""
    key, *rest = where
    if isinstance(value, Mapping) and key in value:
        if rest and isinstance(value[key], Mapping) and rest[0] in value[key]:
            return {**value, key: _without(value[key], tuple(rest))}
        return {name: item for name, item in value.items() if name != key}
    return value


class _Loader(yaml.SafeLoader):
    """Notes the keys that are given twice, against a rule of YAML which PyYAML does not keep."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: list[Problem] = []

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Compose a mapping and compare its keys."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                twice = yaml.MarkedYAMLError(
                    problem=f"the key '{key.value}' is given twice", problem_mark=key.start_mark
                )
                self.twice.append(Problem("", f"not valid YAML: {_yaml_problem(twice)}"))
            seen.add(key.value)
        return node


def _yaml_problem(error: Exception) -> str:
    """Line, column and problem in one line."""
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return " ".join(str(error).split())
    began = error.context_mark
    context = f" ({error.context}, line {began.line + 1})" if error.context and began else ""
    advice = "; indent with spaces" if r"'\t'" in str(error.problem) else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{context}{advice}"


@dataclass
class _KeySorter:
    """Separates the keys that are used from those that are foreign or misspelt."""

    foreign: list[Ignored] = field(default_factory=list)
    unknown: list[Problem] = field(default_factory=list)
    meant: list[str] = field(default_factory=list)  # paths that misspelt keys seem to stand for

    def sort(self, value: Any, model: type[BaseModel], section: str) -> Any:
        """Return `value` with the keys that `model` has, and empty sections as defaults."""
        if not isinstance(value, dict):
            return value
        kept, fields = (
            {},
            {field.alias or name: field for name, field in model.model_fields.items()},
        )
        for key, item in value.items():
            path = f"{section}.{key}" if section else str(key)
            why = reason(section, str(key))
            if key in fields:
                inner, is_list = section_of(fields[key].annotation)
                if inner is None:
                    kept[key] = item
                elif is_list and isinstance(item, list):
                    kept[key] = [self.sort(entry, inner, path) for entry in item]
                elif item is not None:
                    kept[key] = item if is_list else self.sort(item, inner, path)
            elif why is None:
                self._add_unknown(path, str(key), [*map(str, fields)], section)
            elif Ignored(path, why) not in self.foreign:
                self.foreign.append(Ignored(path, why))
        return kept

    def _add_unknown(self, path: str, key: str, fields: list[str], section: str) -> None:
        near = suggestion(key, fields)
        elsewhere = [known for known in KNOWN_PATHS if known.rpartition(".")[2] == key]
        if near:
            hint = did_you_mean(near)
            self.meant.append(f"{section}.{near}" if section else near)
        elif elsewhere:
            hint = f" (did you mean {' or '.join(elsewhere)}?)"
            self.meant += elsewhere
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
