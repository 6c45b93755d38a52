"""Names of parameters as values of keys."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from homodyne_fit.errors import suggestion
from homodyne_fit.parameters import ALIASES, PARAMETERS

__all__ = ["Name", "Names", "each_once", "values_schema"]


def _parameter_name(name: Any) -> Any:
    known = ALIASES.get(str(name), str(name))
    if known not in PARAMETERS:
        near = suggestion(known, [*PARAMETERS, *ALIASES]) or f"; there are {', '.join(PARAMETERS)}"
        raise ValueError(f"there is no parameter '{name}'{near}")
    return known


def each_once(names: Any) -> Any:
    """Pass on a list or mapping of names, unless a parameter is in it twice.

    Raises
    ------
    ValueError
        If one is, be it under two names.
    """
    if isinstance(names, list | dict):
        known = [ALIASES.get(str(name), str(name)) for name in names]
        for name in known:
            if known.count(name) > 1:
                raise ValueError(f"{name} is given twice")
    return names


Name = Annotated[
    str,
    BeforeValidator(_parameter_name),
    WithJsonSchema({"type": "string", "enum": [*PARAMETERS, *ALIASES]}),
]
Names = Annotated[list[Name], BeforeValidator(each_once)]


def values_schema(*types: str, listed: bool = False) -> dict[str, Any]:
    """JSON Schema of ``name: value``, with meaning and unit of each parameter.

    Parameters
    ----------
    types : str
        JSON types of a value.
    listed : bool
        Whether a list of values will do as well.
    """
    value = {"type": list(types)}
    described = {
        name: {**value, "description": f"{each.meaning}, {each.unit}".removesuffix(", ")}
        for name, each in PARAMETERS.items()
    }
    described |= {alias: described[name] for alias, name in ALIASES.items()}
    forms: list[dict[str, Any]] = [
        {"type": "object", "properties": described, "additionalProperties": False}
    ]
    if listed:
        forms.append({"type": "array", "items": value})
    return {"anyOf": [*forms, {"type": "null"}]}
