"""The storage of the fake API server: objects with uid, generation and resourceVersion, and their history.

Faithful where controllers depend on it: one revision for everything, optimistic concurrency, writes that
change nothing make no new version, finalizers, the status subresource, and a history that can be
compacted, after which older watches are refused; what a CRD does not have is pruned. Admission, defaults and owner
references are not here.
"""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]
NO_STATUS = frozenset({"configmaps", "secrets", "leases", "events", "endpointslices", "serviceaccounts"})


class Refused(Exception):
    """An answer with a Status."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details or {}


@dataclass(frozen=True)
class Place:
    """Where an object lives; `group` is "v1" or "apps/v1"."""

    group: str
    plural: str
    namespace: str = ""
    name: str = ""

    @property
    def collection(self) -> tuple[str, str]:
        return self.group, self.plural

    def details(self) -> Json:
        return {"name": self.name, "group": self.group.rpartition("/")[0], "kind": self.plural}


@dataclass(frozen=True)
class Change:
    revision: int
    place: Place
    old: Json | None
    new: Json | None
    last: Json = field(default_factory=dict)  # what a DELETED event carries


class Etcd:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.revision = 100
        self.compacted = 0
        self.objects: dict[Place, Json] = {}
        self.history: list[Change] = []
        self.unknown: dict[str, list[str]] = {}
        """By plural: fields of the status that its CRD does not have, as `rollout.canary`. They are pruned."""
        self._applied: dict[tuple[Place, str], Json] = {}

    def copy(self) -> Etcd:
        """With the same objects; what is written to it stays in it."""
        with self.changed:
            other = Etcd()
            other.revision, other.objects = self.revision, dict(self.objects)
            other._applied = dict(self._applied)
            return other

    def get(self, place: Place) -> Json:
        with self.changed:
            found = self.objects.get(place)
            if found is None:
                raise Refused(404, "NotFound", f'{place.plural} "{place.name}" not found', place.details())
            return found

    def create(self, place: Place, obj: Json) -> Json:
        with self.changed:
            if place in self.objects:
                message = f'{place.plural} "{place.name}" already exists'
                raise Refused(409, "AlreadyExists", message, place.details())
            obj = copy.deepcopy(obj)
            metadata = obj.setdefault("metadata", {})
            if metadata.get("resourceVersion"):
                message = "resourceVersion should not be set on objects to be created"
                raise Refused(400, "BadRequest", message, place.details())
            metadata |= {"name": place.name, "uid": str(uuid.uuid4()), "generation": 1}
            metadata["creationTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            if place.namespace:
                metadata["namespace"] = place.namespace
            return self._commit(place, None, obj)

    def update(self, place: Place, change: Callable[[Json], Json], subresource: str = "") -> Json:
        """`change` gets a copy of the stored object and returns the wanted one."""
        with self.changed:
            old = self.get(place)
            new = change(copy.deepcopy(old))
            self._check(place, old, new.get("metadata", {}))
            metadata = {**new.get("metadata", {})}
            for kept in ("uid", "creationTimestamp", "generation", "resourceVersion", "deletionTimestamp"):
                if kept in old["metadata"]:
                    metadata[kept] = old["metadata"][kept]
            new = self._split(place, old, {**new, "metadata": metadata}, subresource)
            if new == old:
                return old
            if new.get("spec") != old.get("spec"):
                new["metadata"]["generation"] = old["metadata"]["generation"] + 1
            if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
                return self._remove(place, new)
            return self._commit(place, old, new)

    def apply(self, place: Place, wanted: Json, manager: str, subresource: str = "") -> Json:
        """Server-side apply without conflicts: what this manager no longer names is removed."""
        with self.changed:
            before = self._applied.get((place, manager), {})
            self._applied[place, manager] = copy.deepcopy(wanted)
            if place not in self.objects:
                return self.create(place, wanted)
            return self.update(place, lambda old: merge(_without(old, before, wanted), wanted), subresource)

    def delete(self, place: Place, preconditions: Json | None = None) -> Json:
        with self.changed:
            old = self.get(place)
            self._check(place, old, preconditions or {})
            if old["metadata"].get("finalizers"):
                marked = copy.deepcopy(old)
                marked["metadata"].setdefault("deletionTimestamp", datetime.now(UTC).isoformat())
                return old if marked == old else self._commit(place, old, marked)
            return self._remove(place, old)

    def compact(self) -> None:
        """Forget the history, as etcd does every five minutes."""
        with self.changed:
            self.compacted = self.revision
            self.history.clear()
            self.changed.notify_all()

    def _split(self, place: Place, old: Json, new: Json, subresource: str) -> Json:
        """The main resource does not change the status, the status subresource nothing else."""
        if place.plural in NO_STATUS:
            return new
        if subresource == "status":
            status = new.get("status", {})
            for path in self.unknown.get(place.plural, ()):
                status = _pruned(status, path.split("."))
            return {**old, "status": status}
        kept = {**new}
        kept.pop("status", None)
        return {**kept, "status": old["status"]} if "status" in old else kept

    def _check(self, place: Place, old: Json, wanted: Json) -> None:
        for name in ("resourceVersion", "uid"):
            if wanted.get(name) and wanted[name] != old["metadata"][name]:
                message = (
                    f'Operation cannot be fulfilled on {place.plural} "{place.name}": the object has been '
                    "modified; please apply your changes to the latest version and try again"
                )
                raise Refused(409, "Conflict", message, place.details())

    def _commit(self, place: Place, old: Json | None, new: Json) -> Json:
        self.revision += 1
        new = copy.deepcopy(new)
        new["metadata"]["resourceVersion"] = str(self.revision)
        self.objects[place] = new
        self.history.append(Change(self.revision, place, old, new))
        self.changed.notify_all()
        return new

    def _remove(self, place: Place, old: Json) -> Json:
        self.revision += 1
        del self.objects[place]
        last = copy.deepcopy(old)
        last["metadata"]["resourceVersion"] = str(self.revision)
        self.history.append(Change(self.revision, place, old, None, last))
        self.changed.notify_all()
        return last


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def _without(obj: Json, before: Json, wanted: Json) -> Json:
    result = dict(obj)
    for name, value in before.items():
        if name not in wanted:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(result.get(name), dict) and isinstance(wanted[name], dict):
            result[name] = _without(result[name], value, wanted[name])
    return result


def _pruned(value: Any, path: list[str]) -> Any:
    """Without the field, in each item of a list."""
    if isinstance(value, list):
        return [_pruned(item, path) for item in value]
    if not isinstance(value, dict) or path[0] not in value:
        return value
    others = {name: inner for name, inner in value.items() if name != path[0]}
    return others if len(path) == 1 else others | {path[0]: _pruned(value[path[0]], path[1:])}
