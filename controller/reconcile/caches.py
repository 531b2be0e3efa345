"""What the informers hold, and which releases an object concerns. Handlers only put keys into the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from controller.api.v1alpha1 import GROUP, KIND, PLURAL, RELEASE_LABEL, VERSION
from controller.runtime.resources import Key, Object, Resource

RELEASES = Resource(GROUP, VERSION, PLURAL, KIND)
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
_SERVICE_SUFFIXES = ("", "-adapter", "-preview")


class Lister(Protocol):
    """The read side of an informer's indexer."""

    def get(self, namespace: str, name: str) -> Object | None: ...

    def list(self, namespace: str | None = None, selector: Mapping[str, str] | None = None) -> list[Object]: ...


@dataclass(frozen=True)
class Caches:
    """Objects are shared: read them, never change them."""

    releases: Lister
    deployments: Lister
    pods: Lister
    services: Lister
    jobs: Lister
    endpoint_slices: Lister


class Namespaces:
    """Several listers, one for each namespace, as one."""

    def __init__(self, listers: Mapping[str, Lister]) -> None:
        self._listers = listers

    def get(self, namespace: str, name: str) -> Object | None:
        lister = self._listers.get(namespace)
        return lister.get(namespace, name) if lister else None

    def list(self, namespace: str | None = None, selector: Mapping[str, str] | None = None) -> list[Object]:
        wanted = self._listers.values() if namespace is None else [self._listers[namespace]]
        return [obj for lister in wanted for obj in lister.list(namespace, selector)]


def without_spec(pod: dict[str, Any]) -> Object:
    """A pod as far as it is read here; its spec is most of its size."""
    meta = {k: v for k, v in pod["metadata"].items() if k != "managedFields"}
    return {"metadata": meta, "status": pod.get("status") or {}}


class Concerned:
    """Which releases must look again when an object changes."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches

    def by_release(self, obj: Object) -> Iterable[Key]:
        yield _key(obj)

    def by_deleted_release(self, obj: Object) -> Iterable[Key]:
        """Those on the same base: one of them may have waited for its model name or its slots."""
        yield from self._on_base(_key(obj).namespace, obj["spec"]["baseRef"]["name"])

    def by_label(self, obj: Object) -> Iterable[Key]:
        """Jobs: the release that they were made for."""
        if name := _labels(obj).get(RELEASE_LABEL):
            yield Key(_key(obj).namespace, name)

    def by_deployment(self, obj: Object) -> Iterable[Key]:
        """The release that it was made for, and those whose base it is."""
        yield from self.by_label(obj)
        key = _key(obj)
        yield from self._on_base(key.namespace, key.name)

    def by_pod(self, obj: Object) -> Iterable[Key]:
        """The release that it was made for, and those whose base it belongs to."""
        yield from self.by_label(obj)
        namespace, labels = _key(obj).namespace, _labels(obj)
        for release in self._caches.releases.list(namespace):
            base = self._caches.deployments.get(namespace, release["spec"]["baseRef"]["name"])
            selector = base["spec"]["selector"].get("matchLabels") if base else None
            if selector and selector.items() <= labels.items():
                yield _key(release)

    def by_service(self, obj: Object) -> Iterable[Key]:
        """The release that uses the name, also when somebody else has taken it."""
        yield from self._named(_key(obj))

    def by_endpoint_slice(self, obj: Object) -> Iterable[Key]:
        if service := _labels(obj).get(SERVICE_NAME_LABEL):
            yield from self._named(Key(_key(obj).namespace, service))

    def _on_base(self, namespace: str, base: str) -> Iterable[Key]:
        for release in self._caches.releases.list(namespace):
            if release["spec"]["baseRef"]["name"] == base:
                yield _key(release)

    def _named(self, service: Key) -> Iterable[Key]:
        for suffix in _SERVICE_SUFFIXES:
            if service.name.endswith(suffix):
                name = service.name[: len(service.name) - len(suffix)]
                if self._caches.releases.get(service.namespace, name) is not None:
                    yield Key(service.namespace, name)


def enqueueing(
    concerned: Callable[[Object], Iterable[Key]], add: Callable[[Key], None]
) -> Callable[[Object | None, Object | None], None]:
    """A handler that adds the keys of the object as it was and as it is: a label that is gone concerned somebody."""

    def handle(old: Object | None, new: Object | None) -> None:
        keys = {key for obj in (old, new) if obj is not None for key in concerned(obj)}
        for key in keys:
            add(key)

    return handle


def enqueueing_deleted(
    concerned: Callable[[Object], Iterable[Key]], add: Callable[[Key], None]
) -> Callable[[Object | None, Object | None], None]:
    """A handler that adds the keys that a deleted object concerned."""

    def handle(old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            for key in concerned(old):
                add(key)

    return handle


def _key(obj: Object) -> Key:
    return Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def _labels(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}
