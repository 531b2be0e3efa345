"""The client of the engine plugin's admin API (controller/engine/plugin, docs/engine-plugin.md).

Must not know: what a release is, which pod a server runs in, when an alias is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote

from controller.engine.errors import EngineRefused, EngineTroubled
from controller.engine.server import Server, json_of
from controller.engine.vllm import Timeouts

_API = "/adapterrelease/v1"


@dataclass(frozen=True)
class ModelState:
    """One model name that the plugin knows. `target`: the engine's name for it; None: its own."""

    target: str | None = None
    is_routed: bool = True
    departed_seconds: float = 0.0


@dataclass(frozen=True)
class PluginState:
    version: str
    models: Mapping[str, ModelState] = field(default_factory=dict)
    in_flight: Mapping[str, int] = field(default_factory=dict)  # by engine name
    restore: Mapping[str, str] = field(default_factory=dict)  # model name -> why it could not be loaded again


@dataclass(frozen=True)
class Alias:
    """What the plugin is told about a model name. No target: it is the server's own name. The last three are labels of
    metrics and headers of answers."""

    target: str | None
    path: str | None
    release: str
    version: str
    backend: str


class PluginClient:
    """The plugin in one server. Raises EngineUnreachable, EngineTroubled, EngineRefused."""

    def __init__(self, server: Server, timeouts: Timeouts | None = None) -> None:
        self._server = server
        self._timeouts = timeouts or Timeouts()

    def state(self) -> PluginState | None:
        """None: the server runs without the plugin."""
        response = self._server.send("GET", f"{_API}/state", self._timeouts.ask)
        if response.status_code == 404:
            return None
        return _parsed(json_of(_checked(response)))

    def set_alias(self, name: str, alias: Alias) -> None:
        """From the next request on. EngineRefused when the target is not loaded from that path."""
        self._server.ask("PUT", _of(name), self._timeouts.ask, asdict(alias))

    def clear_alias(self, name: str) -> None:
        """Also where there is none."""
        self._server.ask("DELETE", _of(name), self._timeouts.ask)

    def tell_routed(self, name: str, routed: bool) -> None:
        """Whether the route points at this server; where not, its answers end their connections."""
        self._server.ask("PUT", f"{_of(name)}/routed", self._timeouts.ask, {"routed": routed})


def _of(name: str) -> str:
    return f"{_API}/models/{quote(name, safe='')}"


def _checked(response: Any) -> Any:
    if response.status_code in (401, 403):
        raise EngineRefused(
            f"{response.request.url} answered {response.status_code}: the pod does not know the token in Secret "
            "adapterrelease-engine (a change takes up to a minute to reach it)",
            reason="PluginTokenRefused",
        )
    if response.status_code != 200:
        raise EngineTroubled(f"{response.request.url} answered {response.status_code}")
    return response


def _parsed(wire: Any) -> PluginState:
    try:
        return PluginState(
            version=str(wire["version"]),
            models={str(name): _model(state) for name, state in wire["models"].items()},
            in_flight={str(name): int(count) for name, count in wire["inFlight"].items() if count},
            restore={str(name): str(why)[:300] for name, why in wire["restore"].items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise EngineTroubled(f"the engine plugin's state is not what was expected: {error!r}") from error


def _model(wire: Any) -> ModelState:
    return ModelState(wire["target"], bool(wire["routed"]), float(wire.get("departedSeconds") or 0.0))
