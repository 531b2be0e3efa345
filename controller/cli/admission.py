"""What the API server would say of a release, said without one: types, unknown fields, and the CRD's rules.

The rules are restated in Python, by the very text of the CEL rule that stands in the CRD; a test compares both, and
fails for a rule that is not here. What compares with an older object (immutable fields) needs the cluster.
Must not know: where the release comes from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from controller.api.crd import MAX_NAME_LENGTH, release_schema
from controller.api.schema import RULES
from controller.api.types import parse_duration
from controller.api.v1alpha1 import API_VERSION, KIND, AdapterRelease

Json = dict[str, Any]
_FOUR_BITS, _DATA_FREE = ("AWQ", "GPTQ"), ("FP8", "None")
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
_PVC = re.compile(r"pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+\Z")


@dataclass(frozen=True)
class Problem:
    field: str  # as in spec.build.deadline
    message: str


def problems_of(raw: Any) -> list[Problem]:
    """Everything that is wrong with the object; empty: an API server with this CRD would take it as new."""
    found = [*_of_the_envelope(raw)]
    if found:
        return found
    schema = release_schema()
    found += _unknown(schema["properties"]["spec"], raw["spec"], "spec")
    try:
        release = AdapterRelease.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        found += [Problem(_path(e["loc"]), e["msg"]) for e in error.errors()]
        return found
    wire = release.to_wire()
    wire["metadata"]["name"] = raw["metadata"]["name"]
    return [*found, *_against(schema, {"metadata": wire["metadata"], "spec": wire["spec"]}, "")]


def _of_the_envelope(raw: Any) -> Iterator[Problem]:
    if not isinstance(raw, dict):
        yield Problem("", "is no object")
        return
    for name, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if raw.get(name) != wanted:
            yield Problem(name, f"must be {wanted}, and is {raw.get(name)!r}")
    if not isinstance(raw.get("metadata"), dict) or not isinstance(raw["metadata"].get("name"), str):
        yield Problem("metadata.name", "is missing")
    if not isinstance(raw.get("spec"), dict):
        yield Problem("spec", "is missing")


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _unknown(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[Problem]:
    """kubectl refuses these, too; an API server that is not asked to would drop them without a word."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unknown(schema.get("items", {}), item, f"{path}[{number}]")
    elif isinstance(value, dict) and "properties" in schema:
        for name, inner in value.items():
            if name not in schema["properties"]:
                yield Problem(f"{path}.{name}", "is no field of the API")
            else:
                yield from _unknown(schema["properties"][name], inner, f"{path}.{name}")


def _against(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[Problem]:
    """Rules, enumerations and keys of lists, in the value and below; defaults are filled in."""
    if value is None:
        return
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(str(x) for x in schema["enum"])
        yield Problem(path, f"{value!r} is not supported; supported values: {supported}")
    for rule in schema.get(RULES, ()):
        holds = STATED.get(rule["rule"])
        if holds is not None and not holds(value):
            yield Problem(path, _with_value(rule, value))
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            yield from _against(inner, value.get(name), f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        yield from _twice(schema, value, path)
        for number, item in enumerate(value):
            yield from _against(schema.get("items", {}), item, f"{path}[{number}]")


def _twice(schema: Mapping[str, Any], items: list[Any], path: str) -> Iterator[Problem]:
    keys = schema.get("x-kubernetes-list-map-keys") if schema.get("x-kubernetes-list-type") == "map" else None
    seen = []
    for number, item in enumerate(items if keys else ()):
        key = {k: item.get(k) for k in keys or ()}
        if key in seen:
            yield Problem(f"{path}[{number}]", f"stands there twice: {key}")
        seen.append(key)


def _with_value(rule: Mapping[str, Any], value: Any) -> str:
    return f"{rule['message']}, and is {value}" if "messageExpression" in rule else str(rule["message"])


def _scheme_fits(quantization: Json) -> bool:
    scheme, method = quantization.get("scheme"), quantization["method"]
    if scheme is None:
        return True
    if method in _FOUR_BITS:
        return scheme in ("W4A16", "W4A16_ASYM")
    return (method, scheme) in (("FP8", "FP8_DYNAMIC"), ("INT8", "W8A8"))


def _no_traversal(uri: str) -> bool:
    return ".." not in uri.split("/") and "%2e" not in uri and "%2E" not in uri


# The CEL rule -> the same in Python. None: it compares with the object before.
STATED: Mapping[str, Callable[[Any], bool] | None] = {
    f"self.metadata.name.size() <= {MAX_NAME_LENGTH}": lambda o: len(o["metadata"]["name"]) <= MAX_NAME_LENGTH,
    "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')": lambda o: bool(_NAME.match(o["metadata"]["name"])),
    "self.stage != 'Stable' || (has(self.build) && has(self.validation))": lambda s: (
        s["stage"] != "Stable" or ("build" in s and "validation" in s)
    ),
    "has(self.modelName) == has(oldSelf.modelName) && "
    "(!has(self.modelName) || self.modelName == oldSelf.modelName)": None,
    "self.baseRef == oldSelf.baseRef": None,
    "self.adapters[0].name == oldSelf.adapters[0].name": None,
    "!has(self.secretRef) || self.uri.startsWith('https://')": lambda s: (
        "secretRef" not in s or s["uri"].startswith("https://")
    ),
    "!self.matches('(^|/)\\\\.\\\\.(/|$)') && !self.contains('%2e') && !self.contains('%2E')": _no_traversal,
    "!self.startsWith('https://') || !self.substring(8).split('/')[0].contains('@')": lambda uri: (
        not uri.startswith("https://") or "@" not in uri[8:].split("/")[0]
    ),
    "!self.startsWith('pvc://') || self.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+$')": lambda uri: (
        not uri.startswith("pvc://") or bool(_PVC.match(uri))
    ),
    "!has(self.scheme) || (self.method in ['AWQ', 'GPTQ'] ? self.scheme in ['W4A16', 'W4A16_ASYM'] : "
    "self.method == 'FP8' ? self.scheme == 'FP8_DYNAMIC' : "
    "self.method == 'INT8' && self.scheme == 'W8A8')": _scheme_fits,
    "!has(self.groupSize) || self.method in ['AWQ', 'GPTQ']": lambda q: (
        "groupSize" not in q or q["method"] in _FOUR_BITS
    ),
    "has(self.calibration) || self.method in ['FP8', 'None']": lambda q: (
        "calibration" in q or q["method"] in _DATA_FREE
    ),
    "!has(self.calibration) || !(self.method in ['FP8', 'None'])": lambda q: (
        "calibration" not in q or q["method"] not in _DATA_FREE
    ),
    "duration(self) >= duration('1s')": lambda text: parse_duration(text).total_seconds() >= 1,
    "double(self) <= 1.0": lambda text: float(text) <= 1.0,
    "has(self.canary) == (self.strategy == 'Canary')": lambda r: ("canary" in r) == (r["strategy"] == "Canary"),
    "self.steps.map(s, s.weight).isSorted()": lambda c: (
        [s["weight"] for s in c["steps"]] == sorted(s["weight"] for s in c["steps"])
    ),
    "duration(self.interval) <= duration(self.duration)": lambda o: (
        parse_duration(o["interval"]) <= parse_duration(o["duration"])
    ),
}
