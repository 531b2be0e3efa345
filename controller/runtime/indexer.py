"""The informer's copy of the cluster: objects by namespace and name.

Objects are handed out as they are, without a copy, and shared by everybody: **never change one**; build
a new dict for a write. Knows nothing of where the objects come from.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from controller.runtime.resources import Key, Object, key_of

Change = tuple[Object | None, Object | None]
"""(old, new): (None, obj) was added, (obj, None) was deleted, (obj, obj) was modified."""


class Indexer:
    """Safe to read from many threads while one, the reflector's, writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._namespaces: dict[str, dict[str, Object]] = {}

    def get(self, namespace: str, name: str) -> Object | None:
        with self._lock:
            return self._namespaces.get(namespace, {}).get(name)

    def list(self, namespace: str | None = None, selector: Mapping[str, str] | None = None) -> _Objects:
        """The objects of one namespace or of all, that have every label of `selector`; in no order."""
        with self._lock:
            spaces = self._namespaces.values() if namespace is None else [self._namespaces.get(namespace, {})]
            objects = [obj for space in spaces for obj in space.values()]
        wanted = (selector or {}).items()
        return [obj for obj in objects if wanted <= _labels(obj).items()] if wanted else objects

    def put(self, obj: Object) -> Change | None:
        """Store the object; None when this very version is there already."""
        key = key_of(obj)
        with self._lock:
            space = self._namespaces.setdefault(key.namespace, {})
            old = space.get(key.name)
            space[key.name] = obj
        return None if old is not None and _identity(old) == _identity(obj) else (old, obj)

    def remove(self, key: Key) -> Change | None:
        """Forget the object; None when it was not there."""
        with self._lock:
            space = self._namespaces.get(key.namespace, {})
            old = space.pop(key.name, None)
            if not space:
                self._namespaces.pop(key.namespace, None)
        return None if old is None else (old, None)

    def replace(self, objects: Iterable[Object]) -> _Changes:
        """Make the content equal to a new list; what has changed in between, deletions first."""
        fresh = {key_of(obj): obj for obj in objects}
        gone = [key for key in map(key_of, self.list()) if key not in fresh]
        changes = [self.remove(key) for key in gone] + [self.put(obj) for obj in fresh.values()]
        return [change for change in changes if change is not None]


_Objects = list[Object]
_Changes = list[Change]


def _labels(obj: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] = obj["metadata"].get("labels") or {}
    return labels


def _identity(obj: Object) -> tuple[Any, Any]:
    """An object deleted and made again under its name is another one, whatever its resourceVersion."""
    return obj["metadata"].get("uid"), obj["metadata"].get("resourceVersion")
