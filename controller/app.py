"""The composition root of the operator: the only place that builds clients and starts threads.

Every replica keeps warm caches and answers probes; the one that leads works. A leader that loses its Lease stops its
workers and the process ends, so that the kubelet starts a fresh one.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import ParamSpec, Protocol, TypeVar

import httpx

from controller.domain.plan import plan
from controller.engine.server import new_http
from controller.engine.vllm import Timeouts
from controller.reconcile.act import Actor
from controller.reconcile.act_engine import EngineObjects
from controller.reconcile.act_objects import ObjectActions
from controller.reconcile.act_pods import PodActions
from controller.reconcile.board import Board
from controller.reconcile.engines import Engines, Secrets
from controller.reconcile.failures import LoadFailures
from controller.reconcile.informers import Informers
from controller.reconcile.jobs import Progress
from controller.reconcile.objects.pod_template import PodTemplate, pod_template
from controller.reconcile.objects.verify import ArtifactCheck
from controller.reconcile.observe import Observer
from controller.reconcile.plugin_bases import PluginBases
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.status import StatusWriter
from controller.reconcile.turn import Fence
from controller.runtime import logs
from controller.runtime.client import KubeClient
from controller.runtime.elector import Elector
from controller.runtime.events import EventRecorder
from controller.runtime.health import HealthServer
from controller.runtime.metrics import registry_with
from controller.runtime.resources import Key
from controller.runtime.worker import Workers
from controller.runtime.workqueue import WorkQueue
from controller.settings import Settings

log = logging.getLogger(__name__)

NAME = "adapterrelease"
_BASES = "pluginbase"
_COMPONENT = "adapter-release-controller"
_SYNC_POLL = 1.0
_LAST_EVENTS = 5.0

P = ParamSpec("P")
R = TypeVar("R")


class Around(Protocol):
    """Put around each write: chaos tests kill the process there."""

    def __call__(self, write: Callable[P, R], /) -> Callable[P, R]: ...


def _unchanged(write: Callable[P, R], /) -> Callable[P, R]:
    return write


class Operator:
    """Everything that one process runs."""

    def __init__(
        self,
        settings: Settings,
        client: KubeClient,
        http: httpx.Client,
        executor: ThreadPoolExecutor,
        around: Around = _unchanged,
    ) -> None:
        self._settings = settings
        self._around = around
        self._elector = Elector(
            client,
            settings.lease_namespace or client.namespace,
            settings.lease_name,
            f"{socket.gethostname()}_{uuid.uuid4().hex[:12]}",
            lease_duration=settings.lease_duration,
            renew_deadline=settings.lease_renew_deadline,
            retry_period=settings.lease_retry_period,
        )
        self._informers = Informers(client, settings.namespaces)
        self._recorder = EventRecorder(client, _COMPONENT)
        self._secrets = Secrets(client)
        self._board = Board(self._secrets.token_changed_at)
        self._queue: WorkQueue[Key] = WorkQueue(NAME, max_delay=settings.retry_max_delay)
        writing = client.fenced(self._elector.remaining)
        engine_objects = EngineObjects(writing)
        reconciler = self._reconciler(client, writing, http, executor, engine_objects)
        self._workers = Workers(NAME, self._queue, reconciler, settings.workers)
        self._bases: WorkQueue[Key] = WorkQueue(_BASES, max_delay=settings.retry_max_delay)
        self._base_workers = Workers(_BASES, self._bases, PluginBases(self._informers.caches, engine_objects))
        self._health = HealthServer(settings.metrics_port, registry=registry_with(self._board))
        self._health.add_ready_check("informers", self._informers.problem)
        self._stopping = threading.Event()

    @property
    def health_port(self) -> int:
        return self._health.port

    def run(self) -> bool:
        """Until `stop` (True), or until leadership is lost (False)."""
        self._health.start()
        self._recorder.start()
        self._informers.start()
        kept = False
        try:
            kept = self._elector.run(self._work, self._rest)
        finally:
            self._stopping.set()
            self._recorder.stop(_LAST_EVENTS if kept else 0.0)  # another may lead already
            self._informers.stop()
            self._health.stop()
        return kept

    def stop(self) -> None:
        """Finish what is under way, give the Lease back, end `run`. May be called by a signal handler."""
        self._stopping.set()
        self._elector.stop()

    def _work(self) -> None:
        while not self._informers.wait_for_sync(_SYNC_POLL):
            if self._stopping.is_set():
                return
        self._informers.report_to(self._queue.add)
        self._informers.report_plugin_bases_to(self._bases.add)
        self._workers.start()
        self._base_workers.start()

    def _rest(self) -> None:
        """What is left of the Lease is all the time there is after leadership was lost."""
        self._stopping.set()
        margin = self._settings.lease_duration - self._settings.lease_renew_deadline
        patience = self._settings.drain_timeout if self._elector.still_leading() else margin * 0.8
        self._base_workers.stop(0.0)
        if not self._workers.stop(patience):
            log.warning("a reconciliation did not end in time; its next write will be refused")
        self._board.close()

    def _reconciler(
        self,
        client: KubeClient,
        writing: KubeClient,
        http: httpx.Client,
        executor: ThreadPoolExecutor,
        engine_objects: EngineObjects,
    ) -> Reconciler:
        settings = self._settings
        timeouts = Timeouts(settings.engine_ask_timeout, settings.engine_load_timeout, settings.engine_probe_timeout)
        engines = Engines(http, self._secrets, executor, timeouts)
        failures = LoadFailures()
        fence = Fence(client, self._elector.still_leading)
        actor = Actor(
            ObjectActions(
                writing,
                fence,
                settings.job_image,
                settings.job_service_account,
                ArtifactCheck(settings.artifact_check),
                settings.keep_examples,
                engine_objects=engine_objects,
                of_all_jobs=_of_all_jobs(settings),
            ),
            PodActions(writing, engines, failures, fence, _now),
        )
        return Reconciler(
            observe=Observer(client, self._informers.caches, engines, failures, Progress(http), engine_objects).observe,
            plan=plan,
            act=self._around(actor),
            write_status=self._around(StatusWriter(writing)),
            recorder=self._recorder,
            account=self._board,
            now=_now,
        )


def run_operator(settings: Settings | None = None, around: Around = _unchanged) -> int:
    """Runs until SIGTERM or SIGINT. Exit code: 0 stopped, 1 leadership lost."""
    settings = settings or Settings()
    logs.configure(settings.log_level)
    client = KubeClient.from_config(settings.kubeconfig, settings.context)
    executor = ThreadPoolExecutor(settings.engine_connections, thread_name_prefix="engine")
    with new_http() as http, executor:
        operator = Operator(settings, client, http, executor, around)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: operator.stop())
        log.info("starting", extra={"namespaces": ",".join(settings.namespaces) or "all", "host": client.host})
        kept = operator.run()
    client.close()
    log.info("stopped", extra={"leadershipLost": not kept})
    return 0 if kept else 1


def _of_all_jobs(settings: Settings) -> PodTemplate | None:
    """Read once, at the start: a wrong one ends the process, and not each job that is to be made."""
    given = settings.job_pod_template
    return pod_template(given, "ADAPTERRELEASE_JOB_POD_TEMPLATE") if given else None


def _now() -> datetime:
    return datetime.now(UTC)
