"""values.schema.json: types are written by hand; descriptions come from values.yaml, settings from the program.

Knows the controller's settings and the form of a JSON schema, and nothing of templates.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from charts.values import Value
from controller.settings import Settings

Schema = dict[str, Any]

# Settings that have a value of their own in the chart.
ELSEWHERE = {
    "namespaces": "watchNamespaces",
    "job_image": "jobs.image",
    "job_service_account": "jobs.serviceAccountName",
    "job_pod_template": "jobs.podTemplate",
}
_KEPT = ("type", "anyOf", "enum", "pattern", "minLength", "minimum", "maximum", "exclusiveMinimum", "description")


def completed(schema: Schema, values: list[Value]) -> str:
    """The schema as it should be in the file."""
    made = copy.deepcopy(schema)
    made["properties"]["settings"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": settings_properties(),
    }
    for value in values:
        node = node_of(made, value)
        node["description"] = value.description
    return json.dumps(made, indent=2) + "\n"


def node_of(schema: Schema, value: Value) -> Schema:
    for key in value.path:
        try:
            schema = schema["properties"][key]
        except KeyError:
            raise SystemExit(f"values.schema.json has no {value.name}, which values.yaml has: add its type") from None
    return schema


def settings_properties() -> Schema:
    """Each setting by the name that values.yaml gives it, as the program checks it."""
    found = Settings.model_json_schema()["properties"]
    properties = {camel(name): _kept(field) for name, field in found.items() if name not in ELSEWHERE}
    properties["metricsPort"]["minimum"] = 1  # 0 is any free port, and nobody would know which
    return properties


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _kept(field: Schema) -> Schema:
    return {key: field[key] for key in _KEPT if key in field}
