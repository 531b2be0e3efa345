"""Lives of releases on the fake API server that together do all that the controller ever does there.

What they end with is tested elsewhere; here it counts what was asked of the API server.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.reconcile.act_engine import EngineObjects
from controller.reconcile.objects.engine import Plugin
from controller.runtime.events import EventRecorder
from controller.runtime.resources import DEPLOYMENTS, EVENTS
from tests.builders import release
from tests.fakes.apiserver import ApiServer
from tests.fakes.connection import Request
from tests.reconcile.cluster import KEY, NAMESPACE, cluster
from tests.reconcile.deployments import deployment
from tests.reconcile.test_canary_life import until_validated, until_weights
from tests.reconcile.test_capacity_life import Scaling, edit, kind, replicas, settled
from tests.reconcile.test_life import job_names, serve_adapter, until_job
from tests.reconcile.test_operator import apply, running, wait_for

OLDER = Plugin({"__init__.py": "class Middleware: ...\n"}, "0" * 12)


def requests_of_all_lives() -> Iterator[Request]:
    yield from there_and_back()
    yield from by_an_http_route()
    yield from given_up_in_the_middle()
    yield from the_whole_process()


def there_and_back() -> list[Request]:
    """An adapter that is promoted, whose base is scaled to zero and comes back, and that serves again; then deleted."""
    with cluster() as world:
        world.__class__ = Scaling
        world.add_base(2)
        EngineObjects(world.client, OLDER).ensure(NAMESPACE)  # the controller is upgraded
        settled(world)  # type: ignore[arg-type]
        world.run(lambda: replicas(world) == 0)
        edit(world, {"stage": "Experimental"})
        world.run(lambda: kind(world) == "Adapter")
        world.run(lambda: world.names(DEPLOYMENTS) == ["tiny-llama"], passes=120)
        world.api.delete(f"/apis/adapterrelease.dev/v1alpha1/namespaces/{KEY.namespace}/adapterreleases/{KEY.name}")
        world.run(lambda: not any(place.plural == "adapterreleases" for place in world.api.etcd.objects))
        return list(world.api.requests)


def by_an_http_route() -> list[Request]:
    """The first weight of a canary."""
    with cluster() as world:
        until_validated(world)
        until_weights(world, ("support-bot", 90), ("support-bot-preview", 10))
        return list(world.api.requests)


def given_up_in_the_middle() -> list[Request]:
    """A build that nobody waits for any more is ended."""
    with cluster() as world:
        world.add_base()
        world.apply(release().stable())
        serve_adapter(world)
        building = until_job(world, "build")
        edit(world, {"stage": "Experimental"})
        world.run(lambda: building not in job_names(world, "build"))
        return list(world.api.requests)


def the_whole_process() -> list[Request]:
    """Informers, election, workers and events; the same event twice is one that counts."""
    with ApiServer() as api:
        api.create(DEPLOYMENTS.path("llm"), deployment())
        with running(api) as process:
            apply(api)
            wait_for(api, "jobs", "llm")
            api.wait_for_requests(6, watch=True)
            assert process.stop()
        with running(api) as process:
            wait_for(api, "events", "llm")
            assert process.stop()
        return [*api.requests, *_told_twice(api)]


def _told_twice(api: ApiServer) -> list[Request]:
    with cluster() as world:
        recorder = EventRecorder(world.client, "tests")
        recorder.start()
        obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": NAMESPACE, "uid": "u"}}
        recorder.event(obj, "Normal", "Told", "once")
        world.api.wait_for_requests(1, "POST", path="/events")
        recorder.event(obj, "Normal", "Told", "once")
        world.api.wait_for_requests(1, "PATCH", path="/events")
        recorder.stop(5.0)
        return [r for r in world.api.requests if EVENTS.plural in r.path]
