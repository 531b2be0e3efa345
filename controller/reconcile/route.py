"""The route as it is: its Service, the pods behind it, and what answers through it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.api.v1alpha1 import AdapterRelease
from controller.domain.snapshot import RouteFacts
from controller.engine.errors import EngineTroubled
from controller.errors import AdapterReleaseError
from controller.reconcile.engines import Engine
from controller.reconcile.objects.metadata import is_ours
from controller.reconcile.objects.services import ROUTE_PORT

Json = Mapping[str, Any]

# Each try opens a connection of its own, and so may reach another pod.
_TRIES = 3


@dataclass(frozen=True)
class Answer:
    """What answered through the Service; without a root, why not."""

    root: str | None = None
    problem: str = ""


def route_facts(release: AdapterRelease, service: Json, slices: Iterable[Json], answer: Answer) -> RouteFacts:
    return RouteFacts(
        owned=is_ours(service, release),
        selector=dict(service["spec"].get("selector") or {}),
        target_port=_target_port(service),
        endpoints=ready_endpoints(slices),
        answered_root=answer.root,
        answer_problem=answer.problem,
    )


def _target_port(service: Json) -> int | None:
    """Where clients get to; None, too, for a port of the pods that is given by its name."""
    ports = service["spec"].get("ports") or ()
    found = next((p.get("targetPort") for p in ports if p["port"] == ROUTE_PORT), None)
    return found if isinstance(found, int) else None


def ready_endpoints(slices: Iterable[Json]) -> frozenset[str]:
    """Names of the pods that get requests. A condition `ready` that is absent means true."""
    return frozenset(
        endpoint["targetRef"]["name"]
        for part in slices
        for endpoint in part.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("targetRef")
    )


def address_of(service: Json) -> tuple[str, int] | None:
    """Cluster IP and port; None for a Service without one."""
    ip, ports = service["spec"].get("clusterIP"), service["spec"].get("ports") or ()
    return (ip, int(ports[0]["port"])) if ip and ip != "None" and ports else None


def ask_route(engine: Engine, model_name: str) -> Answer:
    """The root of our model, if every try gives the same one and a completion answers."""
    try:
        roots = {_root(engine, model_name) for _ in range(_TRIES)}
        if len(roots) > 1:
            return Answer(problem=f"several backends answer: {', '.join(sorted(roots))}")
        engine.probe(model_name)
    except AdapterReleaseError as error:
        return Answer(problem=error.message)
    return Answer(root=roots.pop())


def _root(engine: Engine, model_name: str) -> str:
    model = engine.models().get(model_name)
    if model is None:
        raise EngineTroubled(f"a server behind the route does not know {model_name}")
    return model.root
