"""What this server was told: which names it serves, by which engine model, and what is running for each.

One event loop, so no locks; a change is one assignment of a new dictionary. Must not know: HTTP, metrics' library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


class InvalidError(ValueError):
    """A declaration that is none; the message says why."""


@dataclass(frozen=True)
class Declaration:
    """What clients call `name` is the engine's model `target`; no target: the engine knows it by that name."""

    name: str
    target: str | None
    path: str | None
    release: str
    version: str
    backend: str

    @property
    def labels(self) -> tuple[str, str, str]:
        return self.release, self.version, self.backend

    @property
    def engine_name(self) -> str:
        return self.target or self.name


@dataclass(frozen=True)
class Model:
    declared: Declaration
    departed_at: float | None = None  # since when it is no longer routed here

    @property
    def routed(self) -> bool:
        return self.departed_at is None


@dataclass(frozen=True)
class Missing:
    """A declaration of the pod's annotations that could not be carried out yet."""

    declared: Declaration
    why: str


@dataclass
class State:
    clock: Callable[[], float]
    models: Mapping[str, Model] = field(default_factory=dict)
    missing: Mapping[str, Missing] = field(default_factory=dict)
    by_engine: dict[str, set[object]] = field(default_factory=dict)  # what runs, by the engine's name
    by_client: dict[str, set[object]] = field(default_factory=dict)  # and by the client's, declared ones

    def declare(self, declared: Declaration) -> Model:
        """From the next request on. What is running stays with what it began with; `routed` stays as it was."""
        before = self.models.get(declared.name)
        model = Model(declared, before.departed_at if before else None)
        self.models = {**self.models, declared.name: model}
        self.missing = {name: it for name, it in self.missing.items() if name != declared.name}
        return model

    def forget(self, name: str) -> None:
        self.models = {known: it for known, it in self.models.items() if known != name}
        self.missing = {known: it for known, it in self.missing.items() if known != name}

    def miss(self, declared: Declaration, why: str) -> None:
        self.missing = {**self.missing, declared.name: Missing(declared, why)}

    def route(self, name: str, routed: bool) -> Model:
        """Raises KeyError for a name that is not declared."""
        model = self.models[name]
        if routed != model.routed:
            model = replace(model, departed_at=None if routed else self.clock())
            self.models = {**self.models, name: model}
        return model

    def began(self, request: object, engine_name: str, name: str | None) -> None:
        self.by_engine.setdefault(engine_name, set()).add(request)
        if name is not None:
            self.by_client.setdefault(name, set()).add(request)

    def ended(self, request: object, engine_name: str, name: str | None) -> None:
        """May be said twice."""
        _discard(self.by_engine, engine_name, request)
        if name is not None:
            _discard(self.by_client, name, request)

    @property
    def in_flight(self) -> dict[str, int]:
        return {name: len(requests) for name, requests in self.by_engine.items()}

    def describe(self, name: str) -> dict[str, Any]:
        model = self.models[name]
        declared, departed = model.declared, model.departed_at
        return {
            "target": declared.target,
            "path": declared.path,
            "release": declared.release,
            "version": declared.version,
            "backend": declared.backend,
            "routed": model.routed,
            "departedSeconds": None if departed is None else round(self.clock() - departed, 3),
            "inFlight": len(self.by_client.get(name, ())),
        }


def _discard(running: dict[str, set[object]], name: str, request: object) -> None:
    requests = running.get(name)
    if requests is not None:
        requests.discard(request)
        if not requests:
            del running[name]


def declaration(name: object, document: object) -> Declaration:
    """Of a JSON document, from the admin API or an annotation. Raises InvalidError."""
    if not isinstance(document, dict):
        raise InvalidError("the declaration is no JSON object")
    if not isinstance(name, str) or not name:
        raise InvalidError("the model has no name")
    texts = {key: document.get(key, "") for key in ("release", "version", "backend")}
    for key, value in texts.items():
        if not isinstance(value, str) or not _is_header(value):
            raise InvalidError(f"{key} must be a string of visible ASCII characters")
    target, path = document.get("target"), document.get("path")
    for key, value in (("target", target), ("path", path)):
        if value is not None and (not isinstance(value, str) or not value):
            raise InvalidError(f"{key} must be a string or null")
    if target is not None and path is None:
        raise InvalidError("path is missing: the directory that the target was loaded from")
    return Declaration(name, target, path, **texts)


def _is_header(text: str) -> bool:
    """They are sent in headers: a line break would end one."""
    return text.isascii() and text.isprintable()
