"""JSON Schema of the configuration, for completion and checks in editors."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from homodyne_fit.config.effects import WITHOUT_EFFECT
from homodyne_fit.config.keys import Root
from homodyne_fit.config.reading import section_of

__all__ = ["json_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Make the schema from the classes of the keys.

    A section may be null, which means its defaults. Keys of other programs that have no effect are
    marked as deprecated, with the reason.
    """
    schema = Root.model_json_schema(by_alias=True, schema_generator=_WithoutTitles)
    definitions = schema["$defs"]
    for model in definitions.values():
        # Python -OO leaves the descriptions of the sections out.
        meaning = model.get("description", "")
        model["description"] = meaning.partition("\n")[0].replace("``", "`")
    for path, why in WITHOUT_EFFECT.items():
        section, _, key = path.rpartition(".")
        _at(schema, section)["properties"][key] = {
            "description": f"Without effect: {why}.",
            "deprecated": True,
        }
    for model in (schema, *definitions.values()):
        for key, described in model.get("properties", {}).items():
            model["properties"][key] = _nullable_section(described, definitions)
    title = {"$schema": DIALECT, "title": "Configuration of homodyne_fit"}
    return {**title, **{key: schema[key] for key in schema if key not in title}}


class _WithoutTitles(GenerateJsonSchema):
    """Makes no titles, since they would repeat the names of the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


def _at(schema: dict[str, Any], section: str) -> dict[str, Any]:
    """The part of the schema that describes a section, by its dotted path."""
    model, part = Root, schema
    for key in section.split(".") if section else ():
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        inner, _ = section_of(fields[key].annotation)
        assert inner is not None, section
        model, part = inner, schema["$defs"][inner.__name__]
    return part


def _nullable_section(described: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Allow null instead of a section or a list of sections."""
    reference = described.get("$ref") or described.get("items", {}).get("$ref")
    if reference is None:
        return described
    meaning = definitions[reference.rpartition("/")[2]]["description"]
    bare = {key: described[key] for key in ("$ref", "type", "items") if key in described}
    return {
        "description": described.get("description", meaning),
        "anyOf": [bare, {"type": "null"}],
    }
