"""The engine plugin's admin API, doors and alias (docs/engine-plugin.md) in front of a fake vLLM.

What it imitates: 401 without the token and 403 for a wrong one; 409 for an alias whose target vLLM does not list from
that path; the target of an alias listed under the client's name; what is not declared, to those with the token only;
after a restart only what the pod's annotations say. `running` are requests by engine name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from controller.engine.server import TOKEN_HEADER

_API = "/adapterrelease/v1"
_CLOSED = (_API, "/v1/load_lora_adapter", "/v1/unload_lora_adapter")
_PREFIX = "engine.adapterrelease.dev/"


class FakePlugin:
    def __init__(self, tokens: tuple[str, ...] = ("t0ken",), version: str = "") -> None:
        self.tokens = tokens
        self.version = version
        self.models: dict[str, dict[str, Any]] = {}
        self.running: dict[str, int] = {}
        self.restore: dict[str, str] = {}
        self.departed_seconds = 0.0  # of every model that was told so
        self.clock = 0.0

    def refusal(self, path: str, headers: Mapping[str, str]) -> tuple[int, Any] | None:
        """What the doors say; None: come in."""
        shows_another = path == "/v1/models" and headers.get(TOKEN_HEADER) is not None
        if self.knows(headers) or not (path.startswith(_CLOSED) or shows_another):
            return None
        code = 403 if headers.get(TOKEN_HEADER) else 401
        return code, {"error": {"message": f"{path} needs the controller's token in {TOKEN_HEADER}"}}

    def knows(self, headers: Mapping[str, str]) -> bool:
        return headers.get(TOKEN_HEADER) in self.tokens

    def answer(self, method: str, path: str, body: Any, listed: Mapping[str, str]) -> tuple[int, Any] | None:
        """Of the admin API; None: it is for vLLM."""
        if not path.startswith(_API):
            return None
        if (method, path) == ("GET", f"{_API}/state"):
            models = {name: self._described(name) for name in self.models}
            in_flight = dict(self.running)
            return 200, {"version": self.version, "models": models, "inFlight": in_flight, "restore": self.restore}
        name, _, about = path.removeprefix(f"{_API}/models/").partition("/")
        name = unquote(name)
        if method == "DELETE":
            self.models.pop(name, None)
            return 200, {}
        return self._put_routed(name, body) if about == "routed" else self._put(name, body, listed)

    def _put(self, name: str, body: Any, listed: Mapping[str, str]) -> tuple[int, Any]:
        target = body["target"]
        if target is not None and listed.get(target) != body["path"]:
            return 409, {
                "error": {"message": f"{target} was loaded from {listed.get(target)}, not from {body['path']}"}
            }
        before = self.models.get(name, {"routed": True})
        self.models[name] = {**body, "routed": before["routed"]}
        return 200, self._described(name)

    def _put_routed(self, name: str, body: Any) -> tuple[int, Any]:
        if name not in self.models:
            return 404, {"error": {"message": f"{name} is not declared here"}}
        self.models[name]["routed"] = body["routed"]
        return 200, self._described(name)

    def _described(self, name: str) -> dict[str, Any]:
        model = self.models[name]
        running = self.running.get(model["target"] or name, 0)
        return {**model, "departedSeconds": None if model["routed"] else self.departed_seconds, "inFlight": running}

    def engine_name(self, name: str) -> str:
        """What the engine is asked for when a client says `name`."""
        target: str | None = self.models.get(name, {}).get("target")
        return target or name

    def shown(self, listed: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, str]:
        names = {m["target"]: name for name, m in self.models.items() if m["target"]}
        hidden = tuple(f"{name}@" for name in self.models)
        return {
            names.get(engine, engine): path
            for engine, path in listed.items()
            if engine in names or self.knows(headers) or not engine.startswith(hidden)
        }

    def restored(self, annotations: Mapping[str, str]) -> dict[str, str]:
        """The container died: what is loaded before the server is ready."""
        says = [json.loads(text) for key, text in annotations.items() if key.startswith(_PREFIX)]
        self.models = {s.pop("name"): {**s, "routed": True} for s in says}
        self.running = {}
        return {m["target"]: m["path"] for m in self.models.values() if m["target"]}
