"""pydantic models -> structural OpenAPI v3 schemas, as the API server wants them in a CRD.

Structural means: no $ref, no title, no anyOf, every type said, optional is absent and never null.
Must not know: which models there are, and what becomes of the schema.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]
RULES = "x-kubernetes-validations"
PRESERVE = "x-kubernetes-preserve-unknown-fields"


def structural_schema(model: type[BaseModel], *, defaults: bool = True) -> Schema:
    """The model's schema with camelCase names. Without `defaults` the API server fills in nothing.

    Raises TypeError, with the field's path, for what a structural schema cannot say.
    """
    schema = model.model_json_schema(by_alias=True)
    return _Converter(schema.pop("$defs", {}), defaults).convert(schema, model.__name__)


class _Converter:
    """Inlines definitions and drops what a structural schema may not have."""

    def __init__(self, definitions: dict[str, Schema], defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def convert(self, schema: Schema, path: str) -> Schema:
        flat, _ = self._flatten(schema, path)
        out: Schema = {k: v for k, v in flat.items() if k not in ("title", "properties", "items", "const")}
        if "const" in flat:
            out["enum"] = [flat["const"]]
        if not self._defaults:
            out.pop("default", None)
        if out.get(PRESERVE) or out.get("additionalProperties") is True:
            out.pop("additionalProperties", None)
            out[PRESERVE] = True
        if isinstance(values := out.get("additionalProperties"), dict):
            out["additionalProperties"] = self.convert(values, f"{path}.*")
        if "items" in flat:
            out["items"] = self.convert(flat["items"], f"{path}[]")
        if "properties" in flat:
            out["properties"] = self._properties(flat, path)
        if "type" not in out:
            raise TypeError(f"{path}: a structural schema needs a type")
        if out["type"] == "integer":
            out.setdefault("format", "int64")
        return out

    def _properties(self, schema: Schema, path: str) -> dict[str, Schema]:
        required = schema.get("required", [])
        out = {}
        for name, field in schema["properties"].items():
            flat, nullable = self._flatten(field, f"{path}.{name}")
            converted = self.convert(flat, f"{path}.{name}")
            if name not in required and not nullable and self._is_defaulted_object(converted):
                # Without it the API server would not fill in the defaults of the fields inside; and
                # they are spelled out, because it holds the rules against the default as it stands.
                inside = converted["properties"]
                converted["default"] = {k: v["default"] for k, v in inside.items() if "default" in v}
            out[name] = converted
        return out

    def _is_defaulted_object(self, schema: Schema) -> bool:
        return self._defaults and "properties" in schema and not schema.get("required")

    def _flatten(self, schema: Schema, path: str) -> tuple[Schema, bool]:
        """Follows $ref and `X or null`; what stands beside a $ref wins over what it names."""
        nullable = False
        while "$ref" in schema or "anyOf" in schema:
            beside = {k: v for k, v in schema.items() if k not in ("$ref", "anyOf")}
            if "$ref" in schema:
                inner = self._definitions[schema["$ref"].removeprefix("#/$defs/")]
            else:
                options = [o for o in schema["anyOf"] if o.get("type") != "null"]
                if len(options) != 1 or len(options) == len(schema["anyOf"]):
                    raise TypeError(f"{path}: a structural schema has no unions but with None")
                inner, nullable = options[0], True
                if beside.get("default", ...) is None:
                    del beside["default"]
            schema = _merged(inner, beside)
        return schema, nullable


def _merged(inner: Schema, beside: Schema) -> Schema:
    rules = [*inner.get(RULES, []), *beside.get(RULES, [])]
    return inner | beside | ({RULES: rules} if rules else {})
