"""Checks of types and sizes by pydantic, and their results in words.

For values of a configuration, and for arguments of functions that Python users call.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    GetPydanticSchema,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    validate_call,
)

from homodyne_fit.errors import InputError, Problem, did_you_mean, suggestion

__all__ = [
    "checked_arguments",
    "checked_fields",
    "dotted_path",
    "what_is_wrong",
    "Section",
    "Count",
    "LONGEST",
    "Fraction",
    "Listed",
    "NotNegative",
    "Number",
    "NumberOrList",
    "PathLike",
    "Positive",
    "Size",
    "Values",
    "Whole",
    "shown",
]


# What is needed, for each type of error in pydantic.
NEEDED = {
    "missing": "this key is missing",
    "extra_forbidden": "there is no such key",
    "model_type": "a mapping of keys is needed",
    "model_attributes_type": "a mapping of keys is needed",
    "dict_type": "a mapping, 'name: value', is needed",
    "list_type": "a list is needed",
    "tuple_type": "a pair, (from, to), is needed",
    "too_long": "a pair, (from, to), is needed",
    "float_type": "a number is needed",
    "float_parsing": "a number is needed",
    "finite_number": "a finite number is needed",
    "int_type": "a whole number is needed",
    "int_parsing": "a whole number is needed",
    "int_from_float": "a whole number is needed",
    "bool_type": "true or false is needed",
    "bool_parsing": "true or false is needed",
    "string_type": "text is needed",
    "callable_type": "a function is needed",
    "is_instance_of": "a value of type {class} is needed",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "at least one value is needed",
    "literal_error": "must be {expected}",
}

# Largest number of problems that are reported for one call.
MOST_PROBLEMS = 8

# Largest number of characters that are shown of a value.
LONGEST = 80

# A size in bytes such as 2e9.
EXPONENTIAL = re.compile(r"\s*[\d.]+e\+?\d+\s*", re.IGNORECASE)

# A size with a unit such as 2GB.
WITH_UNIT = re.compile(r"\s*[\d.]+\s*[kmgtp]?i?b?\s*", re.IGNORECASE)


def _real(value: Any) -> Any:
    # Python and NumPy silently convert masked values, True and complex numbers to real numbers.
    if np.ma.is_masked(value):
        raise ValueError("a number is needed (got a masked one)")
    if isinstance(value, bool) or (_is_scalar(value) and value.dtype.kind in "bc"):
        raise ValueError(f"a number is needed (got {value})")
    return value


_REAL = BeforeValidator(_real)

Number = Annotated[float, Field(allow_inf_nan=False), _REAL]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), _REAL]

Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), _REAL]

Whole = Annotated[int, _REAL]

Count = Annotated[int, Field(gt=0), _REAL]

NotNegative = Annotated[int, Field(ge=0), _REAL]

# Bytes, as a number or as text with a unit.
Size = Annotated[int, GetPydanticSchema(lambda _, h: h(Annotated[ByteSize, WrapValidator(_size)]))]

T = TypeVar("T")

# A number or a list of numbers, of which `Values` makes a list.
NumberOrList = Annotated[
    float | Sequence[float], GetPydanticSchema(lambda _, handler: handler(Values))
]


def dotted_path(location: Iterable[str | int]) -> str:
    """Dotted path of a value, from its location in pydantic."""
    return ".".join(str(part) for part in location if part != "[key]")


def what_is_wrong(detail: Mapping[str, Any]) -> str:
    """An item of `pydantic.ValidationError.errors` in words, with the wrong value."""
    known, value, context = NEEDED.get(detail["type"]), detail["input"], detail.get("ctx", {})
    if known is None:  # a validator has raised it, with the value in its message
        return detail["msg"].removeprefix("Value error, ")
    near = ""
    if detail["type"] == "float_parsing" and isinstance(value, str):
        near = _plain_number(value)
    elif isinstance(value, str):
        near = suggestion(value, re.findall("'([^']*)'", context.get("expected", "")))
        near = f"did you mean '{near}'?" if near else ""
    text = "nothing" if value is None else " ".join(repr(value).splitlines())
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    shown = (
        "" if isinstance(value, dict | list) else f" (got {'; '.join(filter(None, [text, near]))})"
    )
    limits = {name: f"{each:g}" for name, each in context.items() if isinstance(each, int | float)}
    return f"{known.format(**context | limits)}{shown}"


def _plain_number(text: str) -> str:
    """Advice for a number with separators or a unit, or an empty string."""
    if re.fullmatch(r"-?\d{1,3}([,_ ']\d{3})+(\.\d*)?", text):
        return f"write {re.sub("[,_ ']", '', text)}"
    if re.fullmatch(r"-?[\d.]+(e[-+]?\d+)? ?[^\W\d_]+([-⁻]?[1¹])?", text.strip()):
        return "write it without the unit"
    return ""


def checked_arguments[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that its arguments are checked and converted by its annotations.

    NumPy numbers and arrays, for example, become numbers and lists. The decorated function raises
    an `InputError` with one line for each wrong argument.
    """
    # Deferred: few of the functions that are defined are called.
    config = ConfigDict(arbitrary_types_allowed=True, defer_build=True)
    checking = validate_call(config=config)(function)
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return checking(*args, **kwargs)
        except ValidationError as error:
            if error.title.rpartition(".")[2] != function.__name__:
                raise
            problems = [_wrong_argument(detail, names) for detail in error.errors()]
        if len(problems) > MOST_PROBLEMS:
            more = Problem("", f"and {len(problems) - MOST_PROBLEMS} more")
            problems = [*problems[:MOST_PROBLEMS], more]
        raise InputError(problem.inside(function.__name__) for problem in problems)

    # The help of the function shows plain types: float, not Positive.
    plain, signature = typing.get_type_hints(function), inspect.signature(function)
    parameters = [
        each.replace(annotation=plain.get(name, each.annotation))
        for name, each in signature.parameters.items()
    ]
    checked.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return checked


def checked_fields(instance: Any) -> None:
    """Check and convert the fields of a new dataclass by their annotations."""
    problems: list[Problem] = []
    for name, adapter in _adapters(type(instance)).items():
        try:
            value = adapter.validate_python(getattr(instance, name))
        except ValidationError as error:
            problems += [
                Problem(dotted_path((name, *detail["loc"])), what_is_wrong(detail))
                for detail in error.errors()
            ]
        else:
            object.__setattr__(instance, name, value)
    if problems:
        raise InputError(problems)


@functools.cache
def _adapters(kind: type) -> dict[str, TypeAdapter[Any]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: TypeAdapter(hints[field.name]) for field in dataclasses.fields(kind)}


def _wrong_argument(detail: Mapping[str, Any], names: list[str]) -> Problem:
    first, *rest = detail["loc"]
    name = names[first] if isinstance(first, int) and first < len(names) else first
    match detail["type"]:
        case "unexpected_keyword_argument":
            known = [each for each in names if each != "self"]
            near = did_you_mean(suggestion(str(name), known))
            near = near or f"; there are {', '.join(known)}"
            return Problem("", f"there is no argument '{name}'{near}")
        case "unexpected_positional_argument":
            return Problem("", "too many arguments without a name; write name=value")
        case "missing_argument":
            return Problem(str(name), "no value is given")
        case "missing" if rest and isinstance(rest[-1], int):
            return Problem(dotted_path((name, *rest[:-1])), NEEDED["tuple_type"])
    return Problem(dotted_path((name, *rest)), what_is_wrong(detail))


class Section(BaseModel):
    """A section of a configuration; unknown keys are removed before the validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _size(value: Any, parse: ValidatorFunctionWrapHandler) -> int:
    try:
        _real(value)
        # pydantic does not accept exponents, and ignores text after the unit.
        if isinstance(value, str) and EXPONENTIAL.fullmatch(value):
            size = int(float(value))
        elif isinstance(value, str) and not WITH_UNIT.fullmatch(value):
            size = 0
        else:
            size = int(parse(value))
    except (ValidationError, OverflowError, ValueError):
        size = 0
    if size <= 0:
        raise ValueError(
            f"a size is needed, as 2GB, 512MiB or a number of bytes (got {shown(value)})"
        )
    return size


def shown(value: Any) -> str:
    """The value in one line, or its type if the line would be long."""
    text = repr(value)
    return text if len(text) <= LONGEST and "\n" not in text else f"a {type(value).__name__}"


def _path(value: Any) -> Any:
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"a path is needed (got {shown(value)})")
    return Path(text).expanduser()


def _listed(value: Any) -> Any:
    # To Python a NumPy array is no sequence, but a text is one. A set has no order.
    unordered = isinstance(value, str | bytes | Set | Mapping)
    if unordered or not isinstance(value, Iterable) or _is_scalar(value):
        raise ValueError(f"a list is needed (got {shown(value)})")
    return list(value)


def _one_or_more(value: Any) -> Any:
    is_list = isinstance(value, list | tuple | np.ndarray) and not _is_scalar(value)
    return list(value) if is_list else [value]


def _is_scalar(value: Any) -> bool:
    """Whether this is a single value of NumPy."""
    return isinstance(value, np.ndarray | np.generic) and value.ndim == 0


PathLike = Annotated[str | os.PathLike[str], PlainValidator(_path)]

Listed = Annotated[Sequence[T], BeforeValidator(_listed)]

Values = Annotated[
    list[Number],
    BeforeValidator(_one_or_more),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}}]}),
]
