"""A user's HTTPRoute: its weights are read and changed, and nothing else of it, ever."""

from __future__ import annotations

import copy
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import Conflict, Invalid
from controller.reconcile.caches import RELEASES
from controller.reconcile.objects.httproute import HTTP_ROUTES, Backends, sight, unusable, weight_patch
from controller.reconcile.pods import condition
from controller.runtime.client import KubeClient
from controller.runtime.resources import Resource
from tests.builders import A1, release

BOT = Backends("bot", "bot-preview")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
CHECKOUT = Path(__file__).resolve().parents[2]

Json = dict[str, Any]


def backend(name: str, weight: int | None = 1, **more: Any) -> Json:
    """As the API server stores it, with its defaults."""
    ref = {"group": "", "kind": "Service", "name": name, "port": 80} | more
    return ref if weight is None else ref | {"weight": weight}


def rule(*refs: Json, path: str = "/v1") -> Json:
    header = {"set": [{"name": "x-team", "value": "a"}]}
    return {
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": header}],
        "backendRefs": list(refs),
        "timeouts": {"request": "5m"},
    }


DOCS = rule(backend("docs", 7), backend("bot-docs", 3), path="/docs")


def parent(generation: int = 3, gateway: str = "gateway", **conditions: str) -> Json:
    found = {"Accepted": "True", "ResolvedRefs": "True"} | conditions
    return {
        "parentRef": {"name": gateway},
        "controllerName": "traefik.io/gateway-controller",
        "conditions": [
            {"type": kind, "status": status, "reason": "Why", "message": "said", "observedGeneration": generation}
            for kind, status in found.items()
        ],
    }


def http_route(*rules: Json, parents: tuple[Json, ...] = (parent(),), gateways: tuple[str, ...] = ("gateway",)) -> Json:
    return {
        "apiVersion": HTTP_ROUTES.api_version,
        "kind": "HTTPRoute",
        "metadata": {
            "name": "bot",
            "namespace": "llm",
            "uid": "uid-bot",
            "resourceVersion": "5",
            "generation": 3,
            "managedFields": [managed("user", "hostnames", "rules")],
        },
        "spec": {
            "parentRefs": [{"name": name} for name in gateways],
            "hostnames": ["bot.example.com"],
            "rules": [copy.deepcopy(r) for r in rules],
        },
        "status": {"parents": list(parents)},
    }


def managed(manager: str, *fields: str) -> Json:
    return {
        "manager": manager,
        "operation": "Update",
        "fieldsV1": {"f:spec": {f"f:{name}": {} for name in fields}},
    }


def patched(found: Json, patch: Json | None) -> Json:
    """What a merge patch makes of it."""
    after = copy.deepcopy(found)
    if patch is not None:
        after["spec"] |= patch.get("spec", {})
        after["metadata"] |= patch["metadata"]
    return after


def with_weight(found: Json, percent: int) -> Json:
    return patched(found, weight_patch(found, BOT, percent))


def weights(found: Json, number: int = 0) -> dict[str, int]:
    return {ref["name"]: ref["weight"] for ref in found["spec"]["rules"][number]["backendRefs"]}


def seen(found: Json | None) -> int | None:
    return sight(found, "bot", BOT).weight


# -- the patch
def test_ten_percent_is_ninety_parts_and_ten() -> None:
    after = with_weight(http_route(rule(backend("bot"))), 10)
    assert weights(after) == {"bot": 90, "bot-preview": 10}
    assert seen(after) == 10


def test_the_preview_gets_what_the_other_backend_has() -> None:
    mirror = {"filters": [{"type": "RequestMirror"}], "namespace": "llm"}
    after = with_weight(http_route(rule(backend("bot", 5, port=8080, **mirror))), 50)
    assert after["spec"]["rules"][0]["backendRefs"] == [
        backend("bot", 250, port=8080, **mirror),
        backend("bot-preview", 250, port=8080, **mirror),
    ]


def test_a_weight_that_was_not_written_is_one() -> None:
    assert weights(with_weight(http_route(rule(backend("bot", None))), 20)) == {"bot": 80, "bot-preview": 20}


def test_it_is_made_of_the_version_that_was_read() -> None:
    patch = weight_patch(http_route(rule(backend("bot"))), BOT, 10)
    assert patch is not None
    assert patch["metadata"] == {"uid": "uid-bot", "resourceVersion": "5"}
    assert list(patch["spec"]) == ["rules"]


def test_what_is_so_already_is_not_written_again() -> None:
    assert weight_patch(with_weight(http_route(rule(backend("bot")), DOCS), 10), BOT, 10) is None
    assert weight_patch(http_route(rule(backend("bot")), DOCS), BOT, 0) is None


def test_each_rule_with_the_service_and_no_other_is_changed() -> None:
    before = http_route(rule(backend("bot")), DOCS, rule(backend("bot", 3), path="/v2"))
    after = with_weight(before, 25)
    assert weights(after) == {"bot": 75, "bot-preview": 25}
    assert weights(after, 2) == {"bot": 225, "bot-preview": 75}
    assert after["spec"]["rules"][1] == DOCS


def test_a_preview_without_weight_that_its_owner_has_written_stays() -> None:
    before = http_route(rule(backend("bot", 100), backend("bot-preview", 0)))
    assert weight_patch(before, BOT, 0) is None
    assert seen(before) == 0
    assert weights(with_weight(before, 10)) == {"bot": 9000, "bot-preview": 1000}


def test_weights_that_somebody_else_has_written_are_none_of_ours() -> None:
    before = http_route(rule(backend("bot", 3), backend("bot-preview", 1)))
    assert seen(before) is None
    assert not sight(before, "bot", BOT).clean
    assert seen(with_weight(before, 10)) == 10


def test_rules_that_differ_have_no_weight_in_common() -> None:
    found = http_route(
        rule(backend("bot", 90), backend("bot-preview", 10)), rule(backend("bot"), path="/v2"), parents=(parent(),)
    )
    assert seen(found) is None
    assert seen(with_weight(found, 10)) == 10


def test_afterwards_its_owner_manages_its_fields_again() -> None:
    found = with_weight(http_route(rule(backend("bot"))), 10)
    ours = managed("adapter-release-controller", "rules")
    found["metadata"]["managedFields"] = [managed("user", "hostnames"), ours]
    assert weight_patch(found, BOT, 10) is None, "ours for as long as the canary lasts"
    first = weight_patch(found, BOT, 0)
    assert first is not None and "managedFields" not in first["metadata"]
    given_back = patched(found, first)
    assert not sight(given_back, "bot", BOT).clean
    second = weight_patch(given_back, BOT, 0)
    assert second is not None and "spec" not in second
    assert second["metadata"]["managedFields"] == [managed("user", "hostnames")]
    assert sight(patched(given_back, second), "bot", BOT).clean


ONES = st.integers(1, 10_000)
OTHERS = st.lists(st.sampled_from([DOCS, {"matches": [{"path": {"value": "/"}}]}]), max_size=2)


@settings(deadline=None)
@given(st.lists(ONES, min_size=1, max_size=3), OTHERS, st.lists(st.integers(1, 100), max_size=5))
def test_whatever_was_set_it_ends_as_its_owner_wrote_it(own: list[int], others: list[Json], shares: list[int]) -> None:
    before = http_route(*others, *(rule(backend("bot", weight)) for weight in own))
    found = before
    for share in shares:
        found = with_weight(found, share)
        assert seen(found) == share
        assert all(0 <= w <= 1_000_000 for n in range(len(found["spec"]["rules"])) for w in _weights_of(found, n))
        assert _but_weights(found) == _but_weights(before)
    assert with_weight(found, 0)["spec"] == before["spec"]


def _weights_of(found: Json, number: int) -> list[int]:
    return [ref["weight"] for ref in found["spec"]["rules"][number].get("backendRefs", [])]


def _but_weights(found: Json) -> Json:
    """All that is not ours."""
    spec: Json = copy.deepcopy(found["spec"])
    for each in spec["rules"]:
        refs = each.get("backendRefs", [])
        each["backendRefs"] = [r["name"] if r["name"] == "bot" else r for r in refs if r["name"] != "bot-preview"]
    return spec


# -- what cannot be used
@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ((DOCS,), "no rule of HTTPRoute bot has a backendRef to Service bot: add one"),
        ((), "no rule of HTTPRoute bot has a backendRef to Service bot: add one"),
        (
            (DOCS, rule(backend("bot"), backend("docs"))),
            "rule 2 of HTTPRoute bot has other backends beside Service bot: give that a rule of its own",
        ),
        ((rule(backend("bot"), backend("bot")),), "rule 1 of HTTPRoute bot has other backends"),
        ((rule(backend("bot", 0)),), "gives Service bot the weight 0: use 1 to 10000"),
        ((rule(backend("bot", 10_001)),), "gives Service bot the weight 10001: use 1 to 10000"),
        ((rule(backend("bot", namespace="elsewhere")),), "no rule of HTTPRoute bot has a backendRef to Service bot"),
        ((rule(backend("bot", group="acme.dev", kind="Cache")),), "no rule of HTTPRoute bot has a backendRef to"),
    ],
)
def test_an_http_route_that_cannot_be_used_is_left_alone_and_said(rules: tuple[Json, ...], says: str) -> None:
    found = http_route(*rules)
    assert says in unusable(found, BOT)
    assert weight_patch(found, BOT, 10) is None
    sighting = sight(found, "bot", BOT)
    assert says in sighting.problem
    assert sighting.weight is None


def test_a_backend_that_was_added_on_the_way_does_not_keep_the_candidate_in_traffic() -> None:
    found = with_weight(http_route(rule(backend("bot"))), 10)
    found["spec"]["rules"][0]["backendRefs"].append(backend("spare"))
    assert sight(found, "bot", BOT).weight is None
    assert weights(with_weight(found, 0)) == {"bot": 100, "spare": 1}, "and its share stays as it was"


def test_one_that_is_not_there_has_nothing_of_ours() -> None:
    sighting = sight(None, "bot", BOT)
    assert (sighting.weight, sighting.clean) == (0, True)
    assert "there is no HTTPRoute bot" in sighting.problem and "spec.rollout.canary.httpRoute" in sighting.problem


# -- what the gateway says
@pytest.mark.parametrize(
    ("parents", "says"),
    [
        ((), "its controller has not looked at it yet"),
        ((parent(gateway="other"),), "its controller has not looked at it yet"),
        ((parent(generation=2),), "has not looked at the newest version yet"),
        ((parent(Accepted="False"),), "Accepted is False: Why: said"),
        ((parent(ResolvedRefs="False"),), "ResolvedRefs is False: Why: said"),
    ],
)
def test_a_weight_that_the_gateway_has_not_accepted_is_not_in_effect(parents: tuple[Json, ...], says: str) -> None:
    sighting = sight(http_route(rule(backend("bot")), parents=parents), "bot", BOT)
    assert sighting.weight is None
    assert sighting.problem.startswith("HTTPRoute bot, Gateway gateway: ")
    assert says in sighting.problem


def test_every_gateway_has_to_have_accepted_it() -> None:
    both = ("gateway", "inner")
    one = http_route(rule(backend("bot")), parents=(parent(),), gateways=both)
    assert "Gateway inner" in sight(one, "bot", BOT).problem
    all_of_them = http_route(rule(backend("bot")), parents=(parent(gateway="inner"), parent()), gateways=both)
    assert sight(all_of_them, "bot", BOT).weight == 0


# -- a real API server
@pytest.fixture(scope="module")
def client(apiserver: Path) -> Iterator[KubeClient]:
    """With the controller's own user agent: that is the name of the manager of its fields."""
    client = KubeClient.from_config(str(apiserver))
    directory = subprocess.run(
        ["bash", CHECKOUT / "sandbox/gateway/crds.sh"], text=True, capture_output=True, check=True
    ).stdout.strip()
    for file in (Path(directory) / "gateway.networking.k8s.io_httproutes.yaml", CHECKOUT / "manifests/crd.yaml"):
        crd = yaml.safe_load(file.read_text())
        client.apply(CRDS.path(name=crd["metadata"]["name"]), crd, "tests")
        established = client.watch(CRDS.path(), "", 60, field_selector=f"metadata.name={crd['metadata']['name']}")
        assert any(condition(e["object"], "Established") == "True" for e in established)
    yield client
    client.close()


@pytest.fixture
def namespace(client: KubeClient) -> Iterator[str]:
    name = f"httproute-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    client.create(NAMESPACES.path(), {"metadata": {"name": name}})
    yield name
    client.delete(NAMESPACES.path(name=name))


def as_a_user_writes_it() -> Json:
    """Without what the API server fills in."""
    written = http_route(
        rule({"name": "bot", "port": 80}), rule({"name": "docs", "port": 80}, path="/docs"), parents=()
    )
    written["metadata"] = {"name": "bot"}
    for each in written["spec"]["rules"]:
        each["filters"] = [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [_HEADER]}}]
    del written["status"]
    return written


_HEADER = {"name": "x-team", "value": "a"}


def apply_as_user(client: KubeClient, namespace: str, force: bool = False) -> Json:
    return client.apply(HTTP_ROUTES.path(namespace, "bot"), as_a_user_writes_it(), "user", force)


def set_weight(client: KubeClient, namespace: str, percent: int) -> Json:
    """As the controller does it: until there is nothing to change."""
    path = HTTP_ROUTES.path(namespace, "bot")
    for _ in range(3):
        found = client.get(path)
        patch = weight_patch(found, BOT, percent)
        if patch is None:
            return found
        client.merge_patch(path, patch)
    raise AssertionError("it takes two patches at most")


@pytest.mark.apiserver
def test_the_api_server_takes_the_weights_and_gives_everything_back(client: KubeClient, namespace: str) -> None:
    before = apply_as_user(client, namespace)
    for percent in (10, 50, 100):
        found = set_weight(client, namespace, percent)
        assert weights(found) == {"bot": 100 - percent, "bot-preview": percent}
        assert _but_weights(found) == _but_weights(before)
    after = set_weight(client, namespace, 0)
    assert after["spec"] == before["spec"]
    again = apply_as_user(client, namespace)  # no conflict
    assert again["spec"] == before["spec"]
    assert [f["manager"] for f in again["metadata"]["managedFields"]] == ["user"]


@pytest.mark.apiserver
def test_its_owner_is_told_while_the_canary_lasts_and_wins_by_force(client: KubeClient, namespace: str) -> None:
    apply_as_user(client, namespace)
    set_weight(client, namespace, 10)
    with pytest.raises(Conflict, match='conflict with "adapter-release-controller"'):
        apply_as_user(client, namespace)
    assert weights(apply_as_user(client, namespace, force=True)) == {"bot": 1}


@pytest.mark.apiserver
def test_who_has_read_an_older_version_writes_nothing(client: KubeClient, namespace: str) -> None:
    found = apply_as_user(client, namespace)
    patch = weight_patch(found, BOT, 10)
    assert patch is not None
    client.merge_patch(HTTP_ROUTES.path(namespace, "bot"), {"spec": {"hostnames": ["other.example.com"]}})
    with pytest.raises(Conflict):
        client.merge_patch(HTTP_ROUTES.path(namespace, "bot"), patch)
    assert weights(client.get(HTTP_ROUTES.path(namespace, "bot"))) == {"bot": 1}


@pytest.mark.apiserver
def test_an_apply_of_weights_alone_would_take_the_rest_along(client: KubeClient, namespace: str) -> None:
    """Why weights are not applied: the list of rules is one field. A Gateway API where it is not lets us do less."""
    apply_as_user(client, namespace)
    refs = [backend("bot", 90), backend("bot-preview", 10)]
    alone = {
        "apiVersion": HTTP_ROUTES.api_version,
        "kind": "HTTPRoute",
        "metadata": {"name": "bot"},
        "spec": {"rules": [{"backendRefs": refs}]},
    }
    path = HTTP_ROUTES.path(namespace, "bot")
    with pytest.raises(Conflict, match=r"\.spec\.rules"):
        client.apply(path, alone, "canary", force=False)
    rules = client.apply(path, alone, "canary")["spec"]["rules"]
    assert len(rules) == 1 and "filters" not in rules[0]


STEPS = [{"weight": 10, "pause": "5m"}, {"weight": 50}]
GOOD: Json = {"httpRoute": "bot.v1", "steps": STEPS, "approved": {"artifact": A1, "weight": 50}}
BOTH_OR_NEITHER = "strategy Canary needs rollout.canary, and rollout.canary needs strategy Canary"


@pytest.mark.apiserver
@pytest.mark.parametrize(
    ("rollout", "says"),
    [
        ({"strategy": "Canary"}, BOTH_OR_NEITHER),
        ({"canary": GOOD}, BOTH_OR_NEITHER),
        ({"strategy": "BlueGreen", "canary": GOOD}, BOTH_OR_NEITHER),
        ({"steps": []}, "should have at least 1 items"),
        ({"steps": STEPS[::-1]}, "canary.steps must rise: give each a higher weight"),
        ({"steps": [STEPS[0], STEPS[0]]}, "Duplicate value"),
        ({"steps": [{"weight": 0}]}, "should be greater than or equal to 1"),
        ({"steps": [{"weight": 101}]}, "should be less than or equal to 100"),
        ({"steps": [{"pause": "5m"}]}, "weight: Required value"),
        ({"steps": [{"weight": 10, "pause": "0s"}]}, "must be at least 1s, and is 0s"),
        ({"steps": [{"weight": w} for w in range(1, 22)]}, "must have at most 20 items"),
        ({"httpRoute": "Bot_1"}, "httpRoute in body should match"),
        ({"approved": {"artifact": "sha256:abc", "weight": 10}}, "artifact in body should match"),
        ({"approved": {"weight": 10}}, "artifact: Required value"),
        ({"approvalDeadline": "soon"}, "approvalDeadline in body should match"),
    ],
)
def test_the_api_server_refuses_a_canary_that_makes_no_sense(
    client: KubeClient, namespace: str, rollout: Json, says: str
) -> None:
    if not rollout.keys() & {"strategy", "canary"}:
        rollout = {"strategy": "Canary", "canary": GOOD | rollout}
    with pytest.raises(Invalid, match=says.replace("[", r"\[")):
        create(client, namespace, rollout)


@pytest.mark.apiserver
def test_the_api_server_takes_one_that_does(client: KubeClient, namespace: str) -> None:
    made = create(client, namespace, {"strategy": "Canary", "canary": GOOD})
    assert made["spec"]["rollout"]["canary"] == GOOD | {"approvalDeadline": "24h"}


def create(client: KubeClient, namespace: str, rollout: Json) -> Json:
    wire = release().wire
    body = {
        "apiVersion": RELEASES.api_version,
        "kind": RELEASES.kind,
        "metadata": {"name": "bot"},
        "spec": wire["spec"] | {"rollout": rollout},
    }
    return client.create(RELEASES.path(namespace), body)
