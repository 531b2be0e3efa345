"""A structural schema -> docs/api.md, the reference of every field.

Must not know: the models; what is not in the schema is not in the cluster either.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_INTRO = """<!-- Generated from controller/api by `make generate`; edit the models there, not this file. -->
# API reference: {api_version} AdapterRelease

{description}

The same text is in the cluster: `kubectl explain adapterrelease.spec.build`.
A field in **bold** is required. Durations are written as in `1h30m`, fractions as strings as in `"0.01"`.
"""


def api_reference(schema: Schema, api_version: str) -> str:
    """Markdown: one table for each object, in the order of the fields, and the rules that are checked."""
    lines = [_INTRO.format(api_version=api_version, description=schema["description"])]
    lines += _rules(schema, "The object")
    for part in ("spec", "status"):
        for path, section in _objects(schema["properties"][part], part):
            lines += _section(path, section)
    return "\n".join(lines).rstrip() + "\n"


def _objects(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    if "properties" not in schema:
        return
    yield path, schema
    for name, field in schema["properties"].items():
        if "items" in field:
            yield from _objects(field["items"], f"{path}.{name}[]")
        else:
            yield from _objects(field, f"{path}.{name}")


def _section(path: str, schema: Schema) -> list[str]:
    lines = [f"## {path}", "", _text(schema.get("description", "")), ""]
    lines += ["| field | type | default | description |", "|---|---|---|---|"]
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        shown = f"**`{name}`**" if name in required else f"`{name}`"
        text = _text(field.get("description", ""))
        lines.append(f"| {shown} | {_type(field)} | {_default(field)} | {text} |")
    return [*lines, "", *_rules(schema, f"`{path}`"), *_field_rules(schema)]


def _rules(schema: Schema, what: str) -> list[str]:
    rules = schema.get("x-kubernetes-validations", [])
    if not rules:
        return []
    return [f"{what} is refused unless these hold:", "", *(f"- {r['message']}" for r in rules), ""]


def _field_rules(schema: Schema) -> list[str]:
    lines: list[str] = []
    for name, field in schema["properties"].items():
        if "properties" not in field:
            lines += _rules(field, f"`{name}`")
    return lines


def _type(field: Schema) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    kind = str(field["type"])
    if kind == "array":
        return f"list of {_type(field['items'])}" + _bounds(field, "minItems", "maxItems", "")
    if kind == "string":
        return ("time" if field.get("format") == "date-time" else kind) + _bounds(
            field, "minLength", "maxLength", " characters"
        )
    if kind == "object" and "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}"
    return kind + _bounds(field, "minimum", "maximum", "")


def _bounds(field: Schema, least: str, most: str, unit: str) -> str:
    low, high = field.get(least), field.get(most)
    if high is None:
        return f", at least {low}{unit}" if low is not None else ""
    if low == high:
        return f", exactly {high}{unit}"
    return f", {low}-{high}{unit}" if low is not None else f", at most {high}{unit}"


def _default(field: Schema) -> str:
    if "default" not in field or "properties" in field:
        return ""
    return f"`{json.dumps(field['default'])}`"


def _text(description: str) -> str:
    return " ".join(description.split()).replace("|", "\\|")
