"""A small API server on loopback: real HTTP, real Status bodies, lists in pages, watches with bookmarks.

Serves any resource by its path. `inject` makes it misbehave (see `faults`), `kill` and `revive` take the
whole server away and back, `requests` is what it was asked. `etcd` is its storage, for tests that play
the part of another client.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from tests.fakes import faults
from tests.fakes.connection import Request, Server, status_body
from tests.fakes.etcd import Change, Etcd, Json, Place, Refused, merge
from tests.fakes.selectors import selects

_PATH = re.compile(
    r"^/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/[^/]+))(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<subresource>[^/]+))?)?$"
)
KINDS = {
    "pods": "Pod",
    "services": "Service",
    "configmaps": "ConfigMap",
    "deployments": "Deployment",
    "jobs": "Job",
    "endpointslices": "EndpointSlice",
    "leases": "Lease",
    "events": "Event",
    "adapterreleases": "AdapterRelease",
}


class ApiServer:
    """Use it as a context manager; `url` is where it listens."""

    def __init__(self, bookmark_interval: float = 0.05) -> None:
        self.etcd = Etcd()
        self.bookmark_interval = bookmark_interval
        self.requests: list[Request] = []
        self.released = threading.Event()
        self.frozen = False
        self._asked = threading.Condition()
        self._rules: list[faults.Rule] = []
        self._pages: dict[str, tuple[int, list[Json]]] = {}
        self._server = Server(("127.0.0.1", 0), self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ApiServer:
        self._server.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Refuse new connections and reset the open ones."""
        self.released.set()
        with self.etcd.changed:
            self.etcd.changed.notify_all()
        self._server.end()

    def revive(self) -> None:
        """Listen again at the same address, with the same objects."""
        self.released.clear()
        self._server = Server(self._server.server_address[:2], self)
        self._server.begin()

    def inject(
        self,
        fault: faults.Fault,
        method: str | None = None,
        path: str = "",
        watch: bool | None = None,
        body: str = "",
        times: int | None = None,
        skip: int = 0,
    ) -> None:
        self._rules.append(faults.Rule(fault, method, re.compile(path), body, watch, times, skip))

    def heal(self) -> None:
        """No faults from now on; hanging requests are dropped."""
        self._rules.clear()
        self.frozen = False
        self.released.set()

    def hang(self) -> None:
        """Accept everything and answer nothing, open watches included."""
        self.released.clear()
        self.frozen = True
        self.inject(faults.hang)

    def count(self, method: str | None = None, watch: bool | None = None, path: str = "") -> int:
        return sum(request.matches(method, watch, path) for request in list(self.requests))

    def wait_for_requests(
        self, number: int, method: str | None = None, watch: bool | None = None, path: str = ""
    ) -> None:
        """Until at least this many have come in; fails after 20 s."""
        with self._asked:
            arrived = self._asked.wait_for(lambda: self.count(method, watch, path) >= number, 20)
        assert arrived, f"only {self.count(method, watch, path)} of {number} requests came"

    def take(self, request: Request) -> faults.Fault | None:
        with self._asked:
            self.requests.append(request)
            self._asked.notify_all()
            return next((rule.fault for rule in self._rules if rule.hits(request)), None)

    # What other clients of the cluster do, for tests.

    def create(self, path: str, obj: Json) -> Json:
        place, _ = parse(path)
        return self.etcd.create(Place(*place.collection, place.namespace, obj["metadata"]["name"]), obj)

    def update(self, path: str, change: Callable[[Json], Json]) -> Json:
        place, subresource = parse(path)
        return self.etcd.update(place, change, subresource)

    def patch(self, path: str, patch: Json) -> Json:
        return self.update(path, lambda old: merge(old, patch))

    def delete(self, path: str) -> Json:
        return self.etcd.delete(parse(path)[0])

    def get(self, path: str) -> Json:
        return self.etcd.get(parse(path)[0])

    # The answers.

    def answer(self, request: Request) -> tuple[int, Json]:
        if request.method != "GET":
            return self._write(request)
        place, _ = parse(request.path)
        return 200, self.etcd.get(place) if place.name else self._list(request)

    def _write(self, request: Request) -> tuple[int, Json]:
        if request.query.get("dryRun") == "All":  # on a copy, and nobody hears of it
            etcd, self.etcd = self.etcd, self.etcd.copy()
            try:
                return self._write_truly(request)
            finally:
                self.etcd = etcd
        return self._write_truly(request)

    def _write_truly(self, request: Request) -> tuple[int, Json]:
        place, subresource = parse(request.path)
        body = request.body or {}
        if request.method == "POST":
            metadata = body["metadata"]
            name = metadata.get("name") or metadata["generateName"] + uuid.uuid4().hex[:5]
            return 201, self.etcd.create(Place(*place.collection, place.namespace, name), body)
        if request.method == "PUT":
            return 200, self.etcd.update(place, lambda _: body, subresource)
        if request.method == "DELETE":
            return 200, self.etcd.delete(place, body.get("preconditions"))
        if request.content_type == "application/apply-patch+yaml":
            if "fieldManager" not in request.query:
                raise Refused(422, "Invalid", "fieldManager is required for apply patch")
            return 200, self.etcd.apply(place, body, request.query["fieldManager"], subresource)
        if request.content_type == "application/merge-patch+json":
            return 200, self.etcd.update(place, lambda old: merge(old, body), subresource)
        raise Refused(415, "UnsupportedMediaType", f"cannot patch with {request.content_type}")

    def _list(self, request: Request) -> Json:
        place, _ = parse(request.path)
        token = request.query.get("continue")
        if token:
            revision, items = self._next_page(token)
        else:
            revision, items = self._as_they_are(place, request.query)
        limit = int(request.query.get("limit", 0)) or len(items)
        metadata: Json = {"resourceVersion": str(revision)}
        if len(items) > limit:
            metadata["continue"] = uuid.uuid4().hex
            metadata["remainingItemCount"] = len(items) - limit
            self._pages[metadata["continue"]] = (revision, items[limit:])
        return {
            "apiVersion": place.group,
            "kind": KINDS.get(place.plural, "Unknown") + "List",
            "metadata": metadata,
            "items": [_as_listed(place, obj) for obj in items[:limit]],
        }

    def _as_they_are(self, place: Place, query: dict[str, str]) -> tuple[int, list[Json]]:
        with self.etcd.changed:
            found = sorted(self.etcd.objects, key=lambda at: (at.namespace, at.name))
            items = [self.etcd.objects[at] for at in found if _inside(at, place)]
            return self.etcd.revision, [obj for obj in items if selects(query, obj)]

    def watch(self, request: Request) -> Iterator[Json | None]:
        """Events; None where there is nothing to send. Without a version it begins with what is there."""
        place, _ = parse(request.path)
        seen, there = self._as_they_are(place, request.query)
        if asked := request.query.get("resourceVersion"):
            seen, there = int(asked), []
        yield from ({"type": "ADDED", "object": obj} for obj in there)
        deadline = time.monotonic() + float(request.query.get("timeoutSeconds", 60))
        server, etcd = self._server, self.etcd  # a revived server is another one
        while server.listening and (self.frozen or time.monotonic() < deadline):
            with etcd.changed:
                if seen == etcd.revision or self.frozen:
                    etcd.changed.wait(self.bookmark_interval)
                expired = seen < etcd.compacted
                changes = [change for change in etcd.history if change.revision > seen]
                now = etcd.revision
            if self.frozen:
                continue
            if expired:
                yield {"type": "ERROR", "object": status_body(410, "Expired", "too old resource version")}
                return
            seen = now
            for change in changes:
                yield _event(change, request.query) if _inside(change.place, place) else None
            if not changes:
                yield self._bookmark(request, place, seen)

    def _bookmark(self, request: Request, place: Place, revision: int) -> Json | None:
        if request.query.get("allowWatchBookmarks") != "true":
            return None
        metadata = {"resourceVersion": str(revision)}
        obj = {"apiVersion": place.group, "kind": KINDS.get(place.plural, "Unknown"), "metadata": metadata}
        return {"type": "BOOKMARK", "object": obj}

    def _next_page(self, token: str) -> tuple[int, list[Json]]:
        revision, items = self._pages.pop(token, (-1, []))
        if revision < self.etcd.compacted:
            raise Refused(410, "Expired", "The provided continue parameter is too old to display a consistent list")
        return revision, items


def parse(path: str) -> tuple[Place, str]:
    match = _PATH.match(path)
    if match is None:
        raise Refused(404, "NotFound", "the server could not find the requested resource")
    group = match["core"] or match["group"]
    return Place(group, match["plural"], match["namespace"] or "", match["name"] or ""), match["subresource"] or ""


def _inside(place: Place, collection: Place) -> bool:
    if place.collection != collection.collection:
        return False
    return collection.namespace in ("", place.namespace) and collection.name in ("", place.name)


def _as_listed(place: Place, obj: Json) -> Json:
    """Built-in lists leave out kind and apiVersion of the items, lists of custom resources do not."""
    built_in = "." not in place.group or place.group.partition("/")[0].endswith(".k8s.io")
    return {name: value for name, value in obj.items() if not built_in or name not in ("kind", "apiVersion")}


def _event(change: Change, query: dict[str, str]) -> Json | None:
    """As seen through the selectors: what begins to match was added, what ends to match was deleted."""
    was = change.old is not None and selects(query, change.old)
    is_now = change.new is not None and selects(query, change.new)
    if is_now:
        return {"type": "MODIFIED" if was else "ADDED", "object": change.new}
    return {"type": "DELETED", "object": change.new or change.last} if was else None
