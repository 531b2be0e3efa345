"""GET /v1/models as clients know it: by their names, not the engine's.

Pure: takes vLLM's answer, gives one back; the same bytes, if nothing in it is an alias.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from .state import Model


def listed(body: bytes, models: Mapping[str, Model], every: bool) -> bytes:
    """The entry of NAME's target is shown as NAME, in place of one that the engine itself calls NAME. Other versions
    of NAME (`NAME@...`) are shown if `every`. Raises what json does for a body that is no list of models."""
    aliased = {name: model.declared.target for name, model in models.items() if model.declared.target is not None}
    if not aliased:
        return body
    document = json.loads(body)
    data = [said for entry in document["data"] for said in _shown(entry, aliased, models, every)]
    if data == document["data"]:
        return body
    said = {**document, "data": data}
    return json.dumps(said, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _shown(
    entry: dict[str, Any], aliased: Mapping[str, str], models: Mapping[str, Model], every: bool
) -> Iterable[dict[str, Any]]:
    engine_name: str = entry["id"]
    names = [name for name, target in aliased.items() if target == engine_name]
    if names:
        return [{**entry, "id": name} for name in names]
    if engine_name in aliased:
        return []
    if not every and engine_name.rpartition("@")[0] in models:
        return []
    return [entry]
