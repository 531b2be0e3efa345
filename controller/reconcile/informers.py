"""The informers of everything that concerns releases, and the handlers that turn changes into keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from controller.reconcile.caches import (
    RELEASES,
    Caches,
    Concerned,
    Lister,
    Namespaces,
    enqueueing,
    enqueueing_deleted,
    without_spec,
)
from controller.reconcile.objects.metadata import MANAGED_BY_LABEL, MANAGER
from controller.reconcile.plugin_bases import plugin_base
from controller.runtime.client import KubeClient
from controller.runtime.reflector import Informer
from controller.runtime.resources import (
    DEPLOYMENTS,
    ENDPOINTSLICES,
    JOBS,
    PODS,
    SERVICES,
    Key,
    Resource,
)

_OURS = f"{MANAGED_BY_LABEL}={MANAGER}"
_STALE_AFTER = 300.0  # seconds of silence; a healthy watch says something every two minutes


class Informers:
    """One informer for each resource and namespace; without namespaces one for each resource."""

    def __init__(self, client: KubeClient, namespaces: Sequence[str] = ()) -> None:
        self._client = client
        self._namespaces = tuple(namespaces)
        self._by_resource: dict[str, dict[str, Informer]] = {
            "releases": self._of(RELEASES),
            "deployments": self._of(DEPLOYMENTS),
            "pods": self._pods(),
            "services": self._of(SERVICES),
            "jobs": self._of(JOBS, _OURS),
            "endpoint_slices": self._of(ENDPOINTSLICES),
        }
        self.caches = Caches(**{name: self._lister(found) for name, found in self._by_resource.items()})

    def start(self) -> None:
        for informer in self._all():
            informer.start()

    def stop(self) -> None:
        """All are told before any is waited for."""
        for informer in self._all():
            informer.stop(timeout=0.0)

    def wait_for_sync(self, timeout: float) -> bool:
        return all([informer.wait_for_sync(timeout) for informer in self._all()])

    def report_to(self, add: Callable[[Key], None]) -> None:
        """From now on the keys of releases that something changed for are added; first those of all there are."""
        concerned = Concerned(self.caches)
        handlers = {
            "deployments": enqueueing(concerned.by_deployment, add),
            "pods": enqueueing(concerned.by_pod, add),
            "services": enqueueing(concerned.by_service, add),
            "jobs": enqueueing(concerned.by_label, add),
            "endpoint_slices": enqueueing(concerned.by_endpoint_slice, add),
            "releases": enqueueing(concerned.by_release, add),
        }
        for name, handler in handlers.items():
            for informer in self._by_resource[name].values():
                informer.add_handler(handler)
        for informer in self._by_resource["releases"].values():
            informer.add_handler(enqueueing_deleted(concerned.by_deleted_release, add))

    def report_plugin_bases_to(self, add: Callable[[Key], None]) -> None:
        """From now on the keys of Deployments with the engine plugin are added; first those of all there are."""
        for informer in self._by_resource["deployments"].values():
            informer.add_handler(enqueueing(plugin_base, add))

    def problem(self) -> str | None:
        """For readiness: what is not there yet, or not up to date."""
        for informer in self._all():
            if not informer.has_synced:
                return f"{informer.name} are not listed yet"
            if informer.seconds_since_sync() > _STALE_AFTER:
                return f"{informer.name} have not been heard of for {informer.seconds_since_sync():.0f} s"
        return None

    def _of(self, resource: Resource, label_selector: str | None = None) -> dict[str, Informer]:
        return {
            namespace: Informer(self._client, resource, namespace or None, label_selector)
            for namespace in self._namespaces or ("",)
        }

    def _pods(self) -> dict[str, Informer]:
        return {
            namespace: Informer(self._client, PODS, namespace or None, transform=without_spec)
            for namespace in self._namespaces or ("",)
        }

    def _lister(self, informers: dict[str, Informer]) -> Lister:
        if not self._namespaces:
            return informers[""].indexer
        return Namespaces({namespace: informer.indexer for namespace, informer in informers.items()})

    def _all(self) -> Iterator[Informer]:
        for informers in self._by_resource.values():
            yield from informers.values()
