"""What Argo CD and Flux say of a release in each of its states, by their own rules: docs/health, docs/gitops.md.

Argo CD's script runs in Lua, Flux's expressions in CEL, as their controllers run them. kstatus is restated.
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import celpy
import lupa
import pytest
import yaml

from controller.api.v1alpha1 import AdapterRelease
from controller.cli.standing import Health, Outcome, outcome
from controller.domain.stalled import WAITS
from tests.cli.place import release_of
from tests.cli.states import STATES, world_in
from tests.docs.pages import ROOT, blocks

Json = dict[str, Any]

LUA = (ROOT / "docs" / "health" / "argocd.lua").read_text()
PAGE = ROOT / "docs" / "gitops.md"
every_state = pytest.mark.parametrize("name", STATES)


def argo(obj: Json) -> tuple[str, str]:
    """As util/lua of Argo CD: a global `obj`, a table with status and message comes back."""
    lua = lupa.LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(obj, recursive=True)
    result = lua.execute(LUA)
    return str(result["status"]), str(result["message"])


@cache
def flux_expressions() -> Json:
    documents = [yaml.safe_load(b.text) for b in blocks(PAGE) if b.language == "yaml"]
    (kustomization,) = [d for d in documents if d["kind"] == "Kustomization"]
    (expressions,) = kustomization["spec"]["healthCheckExprs"]
    assert (expressions["apiVersion"], expressions["kind"]) == ("adapterrelease.dev/v1alpha1", "AdapterRelease")
    return expressions


@cache
def compiled(expression: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(expression))


def holds(expression: str, obj: Json) -> bool:
    return bool(compiled(expression).evaluate({key: celpy.json_to_cel(value) for key, value in obj.items()}))


def flux(obj: Json) -> str:
    """As the status evaluator of fluxcd/pkg/runtime/cel: the generation first, then failed, then current.

    An expression that fails, as one about a status that is not there yet, is no answer: it goes on waiting.
    """
    observed = obj.get("status", {}).get("observedGeneration")
    if observed is not None and observed != obj["metadata"]["generation"]:
        return "InProgress"
    expressions = flux_expressions()
    try:
        for name, says in (("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")):
            if name in expressions and holds(expressions[name], obj):
                return says
    except celpy.CELEvalError:
        return "InProgress"
    return "InProgress"


def kstatus(obj: Json) -> str:
    """The generic rules of kstatus, in their order; a custom resource has no others."""
    status = obj.get("status", {})
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if "observedGeneration" in status and status["observedGeneration"] != obj["metadata"]["generation"]:
        return "InProgress"
    for condition in status.get("conditions", ()):
        if condition["type"] == "Reconciling" and condition["status"] == "True":
            return "InProgress"
        if condition["type"] == "Stalled" and condition["status"] == "True":
            return "Failed"
    ready = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), None)
    return "Current" if ready is None or ready["status"] == "True" else "InProgress"


@every_state
def test_argo_cd_says_the_same_as_status(name: str) -> None:
    world, state = world_in(name), STATES[name]
    status, message = argo(release_of(world))
    assert status == state.health
    assert message


@every_state
def test_flux_says_when_it_is_there_and_when_it_will_not_get_there(name: str) -> None:
    assert flux(release_of(world_in(name))) == said_by_conditions(name)


def said_by_conditions(name: str) -> str:
    state = STATES[name]
    return "Current" if state.health is Health.HEALTHY else "Failed" if state.final else "InProgress"


@every_state
def test_kstatus_says_so_too_without_any_rule(name: str) -> None:
    wanted = {
        "deleting": "Terminating",
        "deletion-not-seen": "Terminating",
        "retried": "Failed",  # an annotation is no new generation: for the seconds until the controller has looked
    }
    assert kstatus(release_of(world_in(name))) == wanted.get(name, said_by_conditions(name))


def test_a_retry_that_was_seen_is_no_news() -> None:
    obj = release_of(world_in("rolled-back"))
    obj["metadata"]["annotations"] = {"adapterrelease.dev/retry": "1"}
    assert (argo(obj)[0], flux(obj)) == ("Progressing", "InProgress")
    obj["status"]["observedRetry"] = "1"
    assert (argo(obj)[0], flux(obj)) == ("Degraded", "Failed")


def test_a_status_of_a_version_that_knew_no_retry_is_read_as_it_is() -> None:
    obj = release_of(world_in("rolled-back"))
    obj["metadata"]["annotations"] = {"adapterrelease.dev/retry": "1"}
    del obj["status"]["observedRetry"]
    assert (argo(obj)[0], flux(obj)) == ("Degraded", "Failed")
    assert outcome(AdapterRelease.model_validate(obj), world_in("rolled-back").now)[0] is Outcome.FAILED


def test_a_stable_release_that_is_ready_and_not_promoted_is_not_there() -> None:
    """The plan writes both at once; a rule that looks at one of them alone would do until it does not."""
    obj = copy.deepcopy(release_of(world_in("promoted")))
    for condition in obj["status"]["conditions"]:
        if condition["type"] == "Promoted":
            condition["status"] = "Unknown"
    assert argo(obj)[0] == "Progressing"
    assert outcome(AdapterRelease.model_validate(obj), world_in("promoted").now)[0] is Outcome.WAITING


def test_the_rule_names_the_reasons_that_status_goes_by() -> None:
    for word in WAITS:
        assert f"{word} = true" in LUA, word


def test_the_page_names_the_script_and_where_it_goes() -> None:
    text = Path(PAGE).read_text()
    assert "resource.customizations.health.adapterrelease.dev_AdapterRelease" in text
    assert "docs/health/argocd.lua" in text
