"""The weights in a user's HTTPRoute: what they are, and the patch that makes them others. Pure.

The HTTPRoute stays its owner's. To server-side apply its `rules` are one atomic list, so nobody can own a weight alone:
an apply of weights takes matches, filters and other rules along (Argo's plugin #158, #203 rewrote rules that were not
its own). So a patch here is what was read, with two backendRefs changed, at the version that was read; and after a
canary the HTTPRoute is as its owner wrote it, down to who manages its fields (docs/canary.md has what was tried).

The owner's weight W of the Service is kept in the sum of both: 10 % is 90 W and 10 W. Must not know: which weight is
right.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.api.v1alpha1 import AdapterRelease
from controller.domain.canary import ALL, Sighting
from controller.reconcile.objects.metadata import MANAGER, preview_service_name
from controller.runtime.resources import Resource

HTTP_ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
LARGEST_WEIGHT = 1_000_000 // ALL  # Gateway API's limit, for the hundredfold

Json = dict[str, Any]
JsonView = Mapping[str, Any]


@dataclass(frozen=True)
class Backends:
    """The Services of the release: the route, and its preview."""

    stable: str
    preview: str


def backends_of(release: AdapterRelease) -> Backends:
    return Backends(release.metadata.name, preview_service_name(release))


def sight(http_route: JsonView | None, name: str, backends: Backends) -> Sighting:
    """What the HTTPRoute called `name` (None: there is none) sends to the candidate. Not who is ready: that is asked
    elsewhere."""
    if http_route is None:
        there = f"there is no HTTPRoute {name} in the release's namespace"
        return Sighting(0, f"{there}: make it, or correct spec.rollout.canary.httpRoute", clean=True)
    clean = weight_patch(http_route, backends, 0) is None
    problem = unusable(http_route, backends) or _not_accepted(http_route)
    shares = {_share(rule, backends) for rule in _own_rules(http_route, backends)}
    return Sighting(shares.pop() if len(shares) == 1 and not problem else None, problem, clean)


def weight_patch(http_route: JsonView, backends: Backends, weight: int, manager: str = MANAGER) -> Json | None:
    """The next merge patch on the way to `weight` percent for the preview; None: there is nothing to change.

    Weight 0 may take two: the second lets go of the fields, or their owner's next apply would meet a conflict. More
    than 0 is refused, by None, while a rule is `unusable`.
    """
    rules = copy.deepcopy(http_route["spec"].get("rules") or [])
    if not weight:
        for rule in _own_rules(http_route, backends, rules):
            _give_back(rule, backends)
    elif not unusable(http_route, backends):
        for rule in _own_rules(http_route, backends, rules):
            _set_share(rule, backends, weight)
    meta = http_route["metadata"]
    version = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
    if rules != (http_route["spec"].get("rules") or []):
        return {"metadata": version, "spec": {"rules": rules}}
    others = [f for f in meta.get("managedFields") or () if not _manages_rules(f, manager)]
    if not weight and len(others) != len(meta.get("managedFields") or ()):
        return {"metadata": version | {"managedFields": others}}
    return None


def unusable(http_route: JsonView, backends: Backends) -> str:
    """Why its weights are left alone, and what to do; "" for nothing."""
    name = http_route["metadata"]["name"]
    found = False
    for number, rule in enumerate(http_route["spec"].get("rules") or (), start=1):
        names = [_service(http_route, ref) for ref in rule.get("backendRefs") or ()]
        if backends.stable not in names:
            continue
        found = True
        where = f"rule {number} of HTTPRoute {name}"
        if sorted(map(str, names)) not in ([backends.stable], [backends.stable, backends.preview]):
            return f"{where} has other backends beside Service {backends.stable}: give that a rule of its own"
        if not 1 <= (weight := _owners_weight(rule, backends)) <= LARGEST_WEIGHT:
            return f"{where} gives Service {backends.stable} the weight {weight}: use 1 to {LARGEST_WEIGHT}"
    return "" if found else f"no rule of HTTPRoute {name} has a backendRef to Service {backends.stable}: add one"


def _own_rules(http_route: JsonView, backends: Backends, rules: list[Json] | None = None) -> Iterator[Json]:
    for rule in http_route["spec"].get("rules") or () if rules is None else rules:
        if any(_service(http_route, ref) == backends.stable for ref in rule.get("backendRefs") or ()):
            yield rule


def _service(http_route: JsonView, ref: JsonView) -> str | None:
    """Name of a Service in the HTTPRoute's own namespace; None for any other backend."""
    own = http_route["metadata"].get("namespace")
    is_service = ref.get("kind", "Service") == "Service" and not ref.get("group")
    return str(ref["name"]) if is_service and ref.get("namespace", own) == own else None


def _weights(rule: JsonView, backends: Backends) -> tuple[int, int]:
    weights = {ref["name"]: int(ref.get("weight", 1)) for ref in rule["backendRefs"]}
    return weights[backends.stable], weights.get(backends.preview, 0)


def _owners_weight(rule: JsonView, backends: Backends) -> int:
    stable, preview = _weights(rule, backends)
    total = stable + preview
    return total // ALL if preview and total % ALL == 0 else total


def _share(rule: JsonView, backends: Backends) -> int | None:
    """Percent for the preview; None: weights that are none of ours."""
    stable, preview = _weights(rule, backends)
    whole = _owners_weight(rule, backends)
    share = preview // whole if whole else 0
    return share if not preview or (stable, preview) == (whole * (ALL - share), whole * share) else None


def _set_share(rule: Json, backends: Backends, percent: int) -> None:
    whole, refs = _owners_weight(rule, backends), rule["backendRefs"]
    stable = next(ref for ref in refs if ref["name"] == backends.stable)
    preview = next((ref for ref in refs if ref["name"] == backends.preview), None)
    if preview is None:  # with the port and the filters of the other
        preview = copy.deepcopy(stable) | {"name": backends.preview}
        refs.append(preview)
    stable["weight"], preview["weight"] = whole * (ALL - percent), whole * percent


def _give_back(rule: Json, backends: Backends) -> None:
    """A preview without weight may be the owner's own, and is left. Beside others the Service keeps the sum of both:
    its owner has weighed them against that."""
    if _weights(rule, backends)[1]:
        alone = all(ref["name"] in (backends.stable, backends.preview) for ref in rule["backendRefs"])
        whole = _owners_weight(rule, backends) if alone else sum(_weights(rule, backends))
        rule["backendRefs"] = [ref for ref in rule["backendRefs"] if ref["name"] != backends.preview]
        for ref in rule["backendRefs"]:
            if ref["name"] == backends.stable:
                ref["weight"] = whole


def _manages_rules(entry: JsonView, manager: str) -> bool:
    fields = entry.get("fieldsV1", {})
    return entry.get("manager") == manager and "f:rules" in fields.get("f:spec", {})


def _not_accepted(http_route: JsonView) -> str:
    """Which of its gateways does not do what its newest version says; "" for none."""
    meta, told = http_route["metadata"], (http_route.get("status") or {}).get("parents") or ()
    for wanted in http_route["spec"].get("parentRefs") or ():
        problems = [_refusal(p, meta["generation"]) for p in told if _same_parent(p["parentRef"], wanted, meta)]
        if "" not in problems:
            says = problems[0] if problems else "its controller has not looked at it yet: does it run?"
            return f"HTTPRoute {meta['name']}, Gateway {wanted['name']}: {says}"
    return ""


def _same_parent(one: JsonView, other: JsonView, meta: JsonView) -> bool:
    def key(ref: JsonView) -> tuple[Any, ...]:
        return (ref.get("namespace", meta["namespace"]), ref["name"], ref.get("sectionName"), ref.get("port"))

    return key(one) == key(other)


def _refusal(parent: JsonView, generation: int) -> str:
    conditions = {c["type"]: c for c in parent.get("conditions") or ()}
    for kind in ("Accepted", "ResolvedRefs"):
        found = conditions.get(kind, {})
        if found.get("observedGeneration") != generation:
            return "its controller has not looked at the newest version yet"
        if found.get("status") != "True":
            return f"{kind} is {found.get('status')}: {found.get('reason')}: {found.get('message')}"
    return ""
