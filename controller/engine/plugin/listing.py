"""GET /v1/models as clients know it: by their names, not the engine's.

The same bytes, if nothing in the answer is an alias. An error lets the answer through as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from .asgi import Message, Scope, Send, media_type, with_length
from .doors import is_controller
from .plugin import Plugin
from .state import Model


class Listing:
    """The answer to GET /v1/models: held until it is whole, and said in clients' names."""

    def __init__(self, plugin: Plugin, scope: Scope, send: Send) -> None:
        self._plugin, self._scope, self._send = plugin, scope, send
        self._held: list[Message] = []

    async def send(self, message: Message) -> None:
        self._held.append(message)
        try:
            out = self._named(self._held) if _is_last(message) else []
        except Exception as failure:
            self._plugin.failures.report("models", failure)
            out = self._held
        if out:
            self._held = []
        for each in out:
            await self._send(each)

    def _named(self, held: list[Message]) -> list[Message]:
        start, *parts = held
        headers = start.get("headers", ())
        if start["type"] != "http.response.start" or start["status"] != 200:
            return held
        if media_type(headers) != b"application/json" or not self._plugin.state.models:
            return held
        body = b"".join(part.get("body", b"") for part in parts)
        every = is_controller(self._scope, self._plugin.directory)
        said = listed(body, self._plugin.state.models, every)
        if said == body:
            return held
        return [
            {**start, "headers": with_length(headers, len(said))},
            {"type": "http.response.body", "body": said, "more_body": False},
        ]


def _is_last(message: Message) -> bool:
    return message["type"] != "http.response.start" and not message.get("more_body", False)


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
