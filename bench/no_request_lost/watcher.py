"""Notes what the cluster says and when: who serves, where the route points, what restarts. Judges nothing.

What an object's change means is told by pure functions, which a test can ask; informers only bring the changes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from bench.no_request_lost.records import NOTE, REPORTED, ROUTE, Mark, State
from controller.reconcile.caches import RELEASES
from controller.runtime.client import KubeClient
from controller.runtime.reflector import Informer
from controller.runtime.resources import ENDPOINTSLICES, EVENTS, PODS, SERVICES, Object, Resource

Said = tuple[str, str, State | None]
"""Kind, text and state of a mark that has no time yet."""


class Watcher:
    """Collects marks from `start` to `stop`; marks of one's own are added by `mark`."""

    def __init__(self, client: KubeClient, namespace: str, release: str) -> None:
        self.release = release
        self._marks: list[Mark] = []
        self._lock = threading.Lock()
        watched: list[tuple[Resource, Any]] = [
            (RELEASES, self._released),
            (SERVICES, self._served),
            (ENDPOINTSLICES, self._reached),
            (PODS, lambda old, new: of_pod(old, new)),
            (EVENTS, lambda old, new: of_event(old, new, self.release)),
        ]
        self._informers = []
        for resource, meaning in watched:
            informer = Informer(client, resource, namespace)
            informer.add_handler(self._handler(meaning))
            self._informers.append(informer)

    def __enter__(self) -> Watcher:
        """What is there already is no news, but for who serves."""
        for informer in self._informers:
            informer.start()
        for informer in self._informers:
            if not informer.wait_for_sync(30):
                raise TimeoutError(f"no list of {informer.name} from the API server within 30 s")
        with self._lock:
            self._marks = [m for m in self._marks if m.kind == REPORTED]
        return self

    def __exit__(self, *_: object) -> None:
        for informer in self._informers:
            informer.stop()

    def mark(self, kind: str, text: str, state: State | None = None) -> Mark:
        made = Mark(time.time(), kind, text, state)
        with self._lock:
            self._marks.append(made)
        return made

    def marks(self) -> list[Mark]:
        with self._lock:
            return sorted(self._marks, key=lambda m: m.at)

    def _handler(self, meaning: Any) -> Any:
        def handle(old: Object | None, new: Object | None) -> None:
            for kind, text, state in meaning(old, new):
                self.mark(kind, text, state)

        return handle

    def _released(self, old: Object | None, new: Object | None) -> Iterator[Said]:
        if new is not None and new["metadata"]["name"] == self.release:
            yield from of_release(old, new)

    def _served(self, old: Object | None, new: Object | None) -> Iterator[Said]:
        if new is not None and new["metadata"]["name"] == self.release:
            yield from of_service(old, new)

    def _reached(self, old: Object | None, new: Object | None) -> Iterator[Said]:
        if new is not None and new["metadata"].get("labels", {}).get("kubernetes.io/service-name") == self.release:
            yield from of_slice(old, new)


def state_of(release: Object | None) -> State | None:
    """Who serves, by the release's status; the version is that of the revision that serves."""
    status = (release or {}).get("status") or {}
    serving = status.get("serving")
    if not serving:
        return None
    backend, revision = serving["backend"], serving["revision"]
    version = next((h.get("version", "") for h in status.get("history", ()) if h["revision"] == revision), "")
    return State(backend["kind"], backend["id"], version)


def of_release(old: Object | None, new: Object) -> Iterator[Said]:
    before, now = state_of(old), state_of(new)
    if now is not None and now != before:
        yield REPORTED, f"{now} serves", now
    elif before is not None and now is None:
        yield NOTE, "nothing serves", None
    steps = [((obj or {}).get("status") or {}).get("rollout", {}).get("step", "") for obj in (old, new)]
    if steps[0] != steps[1]:
        yield NOTE, f"step {steps[0] or '-'} -> {steps[1] or '-'}", None
    known = _conditions(old)
    for kind, said in _conditions(new).items():
        if known.get(kind) != said:
            yield NOTE, f"{kind}={said[0]} {said[1]}", None


def _conditions(release: Object | None) -> dict[str, tuple[str, str]]:
    conditions = ((release or {}).get("status") or {}).get("conditions", ())
    return {c["type"]: (c["status"], c["reason"]) for c in conditions}


def of_service(old: Object | None, new: Object) -> Iterator[Said]:
    before, now = ((obj or {}).get("spec", {}).get("selector") or {} for obj in (old, new))
    if before != now:
        changed = {k: v for k, v in now.items() if before.get(k) != v}
        yield ROUTE, f"the route selects {changed}", None


def of_slice(old: Object | None, new: Object) -> Iterator[Said]:
    before, now = _ready(old), _ready(new)
    if before != now:
        yield NOTE, f"behind the route: {', '.join(sorted(now)) or 'nobody'}", None


def _ready(part: Object | None) -> set[str]:
    entries = (part or {}).get("endpoints") or ()
    return {e["targetRef"]["name"] for e in entries if e.get("conditions", {}).get("ready") is not False}


def of_pod(old: Object | None, new: Object | None) -> Iterator[Said]:
    name = (new or old or {})["metadata"]["name"]
    if new is None:
        yield NOTE, f"pod {name} is gone", None
        return
    if old is not None and "deletionTimestamp" in new["metadata"] and "deletionTimestamp" not in old["metadata"]:
        yield NOTE, f"pod {name} is to go", None
    before, now = _containers(old), _containers(new)
    for container, said in now.items():
        if container in before and before[container] != said:
            yield NOTE, f"pod {name}: {container} {said[1]}, restarts {said[0]}", None


def _containers(pod: Object | None) -> dict[str, tuple[int, str]]:
    """Restarts and readiness by container."""
    statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or ()
    return {s["name"]: (s["restartCount"], "ready" if s["ready"] else "not ready") for s in statuses}


def of_event(old: Object | None, new: Object | None, release: str) -> Iterator[Said]:
    if new is None or (old is not None and old.get("count") == new.get("count")):
        return
    about = new["involvedObject"].get("name", "")
    if about == release or new.get("type") == "Warning":
        yield NOTE, f"event on {about}: {new['reason']}: {new.get('message', '')[:160]}", None
