"""Actions on one base pod: load, prove, label, take out of the route, unload, replace.

Each can be repeated. All that is asked of one vLLM server between looking and changing is done under a lock, because
other releases on the same base fill the same slots. Must not know: when any of it is right.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from controller.domain.actions import (
    ClearAlias,
    FlipAlias,
    LoadAdapter,
    ProbeAndLabel,
    RemoveLabel,
    ReplaceAdapter,
    StageAdapter,
    SwitchRoute,
    TellRouted,
    UnloadAdapter,
)
from controller.domain.pod_steps import UNROUTE_DELAY
from controller.domain.snapshot import LoadFailure, PodFacts, Snapshot
from controller.engine.errors import EngineTroubled, NameTaken, UnknownAdapter
from controller.engine.plugin_client import Alias
from controller.errors import AdapterReleaseError, Conflict, LeadershipLost, NotFound, PermanentError, TransientError
from controller.reconcile.engines import Engine, Engines, Plugin
from controller.reconcile.failures import LoadFailures
from controller.reconcile.objects.engine import MEMORY_PREFIX, backend_label, memory
from controller.reconcile.pods import (
    UNROUTED_ANNOTATION_PREFIX,
    container_status,
    parse_time,
)
from controller.reconcile.turn import Fence, StalePod, StaleRelease, Turn
from controller.runtime.client import KubeClient
from controller.runtime.resources import PODS


class NoFreeSlot(TransientError):  # noqa: N818 - the reason that users read
    """vLLM would answer 200 and silently evict another adapter."""

    default_reason = "NoFreeAdapterSlot"


class StillRouted(TransientError):  # noqa: N818
    """Refused: clients would still be sent there."""

    default_reason = "StillRouted"


class PodActions:
    def __init__(
        self,
        client: KubeClient,
        engines: Engines,
        failures: LoadFailures,
        fence: Fence,
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._engines = engines
        self._failures = failures
        self._fence = fence
        self._now = now
        self._guard = threading.Lock()
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()

    def load(self, action: LoadAdapter, turn: Turn) -> None:
        pod = turn.pod(action.pod)
        engine = self._engine(turn, pod)
        with self._remembering(turn, pod, action.digest), self._alone_with(pod):
            self._load(engine, turn, action.engine_name, action.path)

    def stage(self, action: StageAdapter, turn: Turn) -> None:
        """Raises what the probe said, after the staging name is gone again."""
        pod = turn.pod(action.pod)
        engine = self._engine(turn, pod)
        with self._remembering(turn, pod, action.digest), self._alone_with(pod):
            self._load(engine, turn, action.engine_name, action.path)
            try:
                engine.probe(action.engine_name)
            except AdapterReleaseError:
                with suppress(AdapterReleaseError):
                    self._fence.check(turn)  # another may have given it to clients meanwhile
                    engine.unload(action.engine_name)
                raise

    def replace(self, action: ReplaceAdapter, turn: Turn) -> None:
        """Raises what went wrong, after the old version is back."""
        pod = turn.pod(action.pod)
        engine = self._engine(turn, pod)
        with self._remembering(turn, pod, action.digest), self._alone_with(pod):
            _expect(engine, action.staging_name, action.path)
            live = self._live(turn, pod)
            self._fence.check(turn)
            with suppress(UnknownAdapter):
                engine.unload(action.engine_name)
            try:
                self._load(engine, turn, action.engine_name, action.path)
                engine.probe(action.engine_name)
            except AdapterReleaseError:
                self._put_back(engine, action)
                raise
        self._label_replaced(turn, pod, live, action.label)
        with suppress(UnknownAdapter):
            engine.unload(action.staging_name)

    def flip(self, action: FlipAlias, turn: Turn) -> None:
        """The name first, then its memory and its label in one write: a restart in between brings the old version.
        What is not written now, because the pod has changed, is written with the label after a probe."""
        pod = turn.pod(action.pod)
        snapshot, alias = turn.snapshot, _alias(turn, action.digest, action.path, action.version)
        live, engine = self._live(turn, pod), self._engine(turn, pod)
        with self._remembering(turn, pod, action.digest):  # who loaded it may have died before it was proven
            shown = action.engine_name in engine.models()  # else it is what clients get already, or not there
            name = action.engine_name if shown else snapshot.model_name
            _expect(engine, name, action.path)
            engine.probe(name)
        self._fence.check(turn)
        self._plugin(turn, pod).set_alias(snapshot.model_name, alias)
        labels = live["metadata"].get("labels") or {}
        patch = {
            "uid": pod.uid,
            "resourceVersion": live["metadata"]["resourceVersion"],
            "labels": {snapshot.loaded_label: action.label} if snapshot.loaded_label in labels else {},
            "annotations": memory(snapshot.name, snapshot.model_name, alias),
        }
        with suppress(Conflict):
            self._client.merge_patch(PODS.path(turn.key.namespace, pod.name), {"metadata": patch})

    def clear_alias(self, action: ClearAlias, turn: Turn) -> None:
        pod = turn.pod(action.pod)
        if self._is_routed(self._live(turn, pod), turn.snapshot):
            raise StillRouted(f"pod {pod.name} may still get requests: {turn.snapshot.model_name} stays known there")
        self._fence.check(turn)
        forgotten = {"uid": pod.uid, "annotations": {MEMORY_PREFIX + turn.snapshot.name: None}}
        self._client.merge_patch(PODS.path(turn.key.namespace, pod.name), {"metadata": forgotten})
        self._plugin(turn, pod).clear_alias(turn.snapshot.model_name)

    def tell_routed(self, action: TellRouted, turn: Turn) -> None:
        pod, port = turn.server(action.pod)
        tokens = self._engines.secrets.plugin_tokens(turn.key.namespace)
        self._engines.plugin_at(pod.ip, port, tokens).tell_routed(turn.snapshot.model_name, action.routed)

    def tell_leaving(self, action: SwitchRoute, turn: Turn) -> None:
        """All at once, and each as well as it can: the route moves also without their answers."""
        self._engines.of_all(
            [partial(self.tell_routed, TellRouted(action.why, name, False), turn) for name in action.leaving]
        )

    def probe_and_label(self, action: ProbeAndLabel, turn: Turn) -> None:
        pod = turn.pod(action.pod)
        live = self._live(turn, pod)  # before the probe: a restart in between changes its resourceVersion
        engine = self._engine(turn, pod)
        with self._remembering(turn, pod, action.digest):
            _expect(engine, action.engine_name, action.path)
            engine.probe(action.engine_name)
        remembers: dict[str, str] = {}
        if pod.plugin is not None:
            alias = _alias(turn, action.digest, action.path, action.version)
            remembers = memory(turn.snapshot.name, turn.snapshot.model_name, alias)
        self._label(turn, pod, live, action.label, remembers)

    def remove_label(self, action: RemoveLabel, turn: Turn) -> None:
        """Fenced also where the label lies: who looks again at once takes it off by what is true then."""
        pod = turn.pod(action.pod)
        self._fence.check(turn)
        when = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        name = turn.snapshot.name
        patch = {
            "uid": pod.uid,
            "labels": {turn.snapshot.loaded_label: None, turn.snapshot.routed_label: None},
            "annotations": {UNROUTED_ANNOTATION_PREFIX + name: when},
        }
        with suppress(NotFound):
            self._client.merge_patch(PODS.path(turn.key.namespace, pod.name), {"metadata": patch})

    def unload(self, action: UnloadAdapter, turn: Turn) -> None:
        pod = turn.pod(action.pod)
        engine = self._engine(turn, pod)
        with self._alone_with(pod):  # checked inside: another's load may take as long as a lease lasts
            live = self._live(turn, pod)
            if action.engine_name == turn.snapshot.model_name and self._is_routed(live, turn.snapshot):
                raise StillRouted(f"pod {pod.name} may still get requests: {action.engine_name} is not unloaded there")
            self._fence.check(turn)
            with suppress(UnknownAdapter):
                engine.unload(action.engine_name)

    def _is_routed(self, live: dict[str, Any], snapshot: Snapshot) -> bool:
        """It carries the label, or did a moment ago: what was observed may be from before that."""
        meta = live["metadata"]
        left = parse_time((meta.get("annotations") or {}).get(UNROUTED_ANNOTATION_PREFIX + snapshot.name, ""))
        just_left = left is not None and self._now() < left + UNROUTE_DELAY
        labels = meta.get("labels") or {}
        return just_left or snapshot.loaded_label in labels or snapshot.routed_label in labels

    def _load(self, engine: Engine, turn: Turn, name: str, path: str) -> None:
        adapters = {n: m.root for n, m in engine.models().items() if m.parent is not None}
        if name in adapters:
            if adapters[name] != path:
                raise NameTaken(f"{name} is loaded from {adapters[name]}, not from {path}")
            return
        slots = turn.base.max_cpu_loras
        if len(adapters) >= slots:
            raise NoFreeSlot(f"the server holds {len(adapters)} adapters of {slots} (--max-cpu-loras)")
        engine.load(name, path)
        _expect(engine, name, path)

    def _put_back(self, engine: Engine, action: ReplaceAdapter) -> None:
        with suppress(AdapterReleaseError):
            engine.unload(action.engine_name)
        engine.load(action.engine_name, action.old_path)

    def _label_replaced(self, turn: Turn, pod: PodFacts, before: dict[str, Any], value: str) -> None:
        """Whatever else was written to the pod during the load: until it has this label, nobody answers."""
        try:
            self._label(turn, pod, self._same_in_route(turn, pod, before), value)
        except Conflict:
            self._label(turn, pod, self._same_in_route(turn, pod, before), value)

    def _same_in_route(self, turn: Turn, pod: PodFacts, before: dict[str, Any]) -> dict[str, Any]:
        """The pod as it is now, if it is still the container that was proven, and nobody else has moved its label."""
        live, label = self._live(turn, pod), turn.snapshot.loaded_label
        was, now = ((p["metadata"].get("labels") or {}).get(label) for p in (before, live))
        if was != now:
            raise StalePod(f"the label of pod {pod.name} was changed from {was} to {now} during its update")
        return live

    def _label(
        self, turn: Turn, pod: PodFacts, live: dict[str, Any], value: str, annotations: Mapping[str, str] | None = None
    ) -> None:
        patch = {
            "uid": pod.uid,
            "resourceVersion": live["metadata"]["resourceVersion"],
            "labels": {turn.snapshot.loaded_label: value, turn.snapshot.routed_label: "true"},
            "annotations": {UNROUTED_ANNOTATION_PREFIX + turn.snapshot.name: None, **(annotations or {})},
        }
        self._client.merge_patch(PODS.path(turn.key.namespace, pod.name), {"metadata": patch})

    def _live(self, turn: Turn, pod: PodFacts) -> dict[str, Any]:
        """The pod as it is now, if it is still the container that was observed."""
        try:
            live = self._client.get(PODS.path(turn.key.namespace, pod.name))
        except NotFound as error:
            raise StalePod(f"pod {pod.name} is gone") from error
        own = container_status(live, turn.base.container)
        if (live["metadata"]["uid"], own.get("containerID", "")) != (pod.uid, pod.container_id):
            raise StalePod(f"pod {pod.name} was replaced or its container restarted")
        return live

    def _plugin(self, turn: Turn, pod: PodFacts) -> Plugin:
        return self._engines.plugin_at(pod.ip, turn.base.port, self._engines.tokens_of(turn.key.namespace, turn.base))

    def _engine(self, turn: Turn, pod: PodFacts) -> Engine:
        return self._engines.in_pod(pod, turn.base, turn.key.namespace)

    @contextmanager
    def _alone_with(self, pod: PodFacts) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(pod.uid, threading.Lock())
        with lock:
            yield

    @contextmanager
    def _remembering(self, turn: Turn, pod: PodFacts, digest: str) -> Iterator[None]:
        """Keep what vLLM said, for the next plan: a refused load must not be tried again in the same container."""
        try:
            yield
        except (LeadershipLost, StaleRelease, StalePod):
            raise  # vLLM was not asked
        except AdapterReleaseError as error:
            # A name that is taken was free when the load was planned: another version still comes or goes.
            # A key or token that is refused is put right elsewhere.
            passing = isinstance(error, NameTaken) or error.reason == "ApiKeyRefused"
            permanent = isinstance(error, PermanentError) and not passing
            failure = LoadFailure(digest, error.message, permanent, self._now())
            self._failures.record(turn.key, pod.uid, pod.container_id, failure)
            raise
        self._failures.clear(turn.key, pod.uid, pod.container_id, digest)


def _alias(turn: Turn, digest: str, path: str, version: str) -> Alias:
    """What the plugin on a base pod is told about that version."""
    return Alias(turn.snapshot.engine_name(digest), path, str(turn.key), version, backend_label("adapter", digest))


def _expect(engine: Engine, name: str, path: str) -> None:
    """Whether the server lists the adapter with this very root. A 200 to a load is not enough."""
    found = engine.models().get(name)
    if found is None or found.root != path:
        raise EngineTroubled(f"vLLM lists {name} with root {found.root if found else None}, not {path}")
