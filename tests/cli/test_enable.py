"""`adapterrelease enable`, as a user calls it, against an API server."""

from __future__ import annotations

import copy
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.cli.main import app
from controller.reconcile.objects.engine import ENGINE_NAME, mount, plugin_in, volume
from controller.runtime.client import KubeClient
from controller.runtime.resources import CONFIGMAPS, DEPLOYMENTS, Resource
from tests.fakes.apiserver import ApiServer
from tests.fakes.connection import Connection
from tests.reconcile.deployments import SHELL_FORM, UNKNOWN, container, deployment

pytestmark = pytest.mark.slow

Json = dict[str, Any]

NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
PATH = DEPLOYMENTS.path("llm", "tiny-llama")
FILES = CONFIGMAPS.path("llm", ENGINE_NAME)
ARGUMENT = "--middleware=adapterrelease_engine.Middleware"


class Place:
    """A cluster with one base, and a kubeconfig whose context has the namespace llm."""

    def __init__(self, api: ApiServer, kubeconfig: Path) -> None:
        self.api = api
        self.kubeconfig = kubeconfig

    def enable(self, *arguments: str, says: str = "") -> Result:
        return CliRunner().invoke(app, ["enable", *arguments, "--kubeconfig", str(self.kubeconfig)], input=says)

    def base(self, made: Json | None = None) -> None:
        self.api.create(PATH, made or deployment())

    @property
    def pod(self) -> Json:
        found: Json = self.api.get(PATH)["spec"]["template"]["spec"]
        return found

    def writes(self) -> list[str]:
        return [f"{r.method} {r.path.rsplit('/', 1)[-1]}" for r in self.api.requests if r.method != "GET"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ApiServer() as api:
        context = {"cluster": "fake", "user": "me", "namespace": "llm"}
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": api.url}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "fake", "context": context}],
            "current-context": "fake",
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        yield Place(api, tmp_path / "kubeconfig")


def refused(place: Place, *arguments: str) -> str:
    done = place.enable("tiny-llama", "--yes", *arguments)
    assert (done.exit_code, place.writes()) == (2, []), done.output
    return done.stderr


def test_it_shows_what_it_changes_asks_and_writes_files_before_pods_need_them(place: Place) -> None:
    place.base()
    done = place.enable("tiny-llama", says="y\n")
    assert done.exit_code == 0, done.output
    added = [line[1:].strip() for line in done.stdout.splitlines() if line.startswith("+")]
    assert f"- {ARGUMENT}" in added and "value: /opt/adapterrelease" in added
    assert not [line for line in done.stdout.splitlines() if line.startswith("-") and not line.startswith("---")]
    assert f"ConfigMap {ENGINE_NAME}: will be made, version {plugin_in().version}" in done.stdout
    assert "[y/N]" in done.stderr
    assert place.writes() == ["POST configmaps", "PATCH tiny-llama"]
    assert place.api.get(FILES)["data"] == plugin_in().files
    assert mount() in place.pod["containers"][0]["volumeMounts"]
    assert volume() in place.pod["volumes"]


def test_a_script_keeps_its_lines_and_gets_one_word_more(place: Place) -> None:
    place.base(deployment(SHELL_FORM))
    done = place.enable("tiny-llama", "--dry-run")
    changed = [line[1:].strip() for line in done.stdout.splitlines() if line[:1] in ("-", "+") and "vllm" in line]
    assert changed == []
    (was, now) = [line[1:].strip() for line in done.stdout.splitlines() if "--quantization fp8" in line]
    assert now == f"{was} {ARGUMENT}"


@pytest.mark.parametrize("says", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_changed(place: Place, says: str) -> None:
    place.base()
    assert place.enable("tiny-llama", says=says).exit_code == 1
    assert place.writes() == []


def test_a_dry_run_shows_the_same_and_changes_nothing(place: Place) -> None:
    place.base()
    dry = place.enable("tiny-llama", "--dry-run")
    assert (dry.exit_code, place.writes()) == (0, [])
    assert dry.stdout == place.enable("tiny-llama", "--yes").stdout


@pytest.mark.parametrize("made", [container(), SHELL_FORM])
def test_a_second_run_has_nothing_to_do(place: Place, made: Json) -> None:
    place.base(deployment(made))
    assert place.enable("tiny-llama", "--yes").exit_code == 0
    before, written = copy.deepcopy(place.pod), place.writes()
    again = place.enable("tiny-llama", "--yes")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "carries the engine plugin: nothing to do" in again.stderr
    assert (place.pod, place.writes()) == (before, written)


def test_an_older_plugin_is_brought_up_without_touching_the_pods(place: Place) -> None:
    place.base()
    place.enable("tiny-llama", "--yes")
    place.api.patch(FILES, {"metadata": {"labels": {"adapterrelease.dev/plugin-version": "0"}}, "data": {"old.py": ""}})
    done = place.enable("tiny-llama", "--yes")
    assert "will be brought to version" in done.stdout
    assert place.writes()[2:] == [f"PATCH {ENGINE_NAME}"]
    assert place.api.get(FILES)["data"] == plugin_in().files


def test_all_else_of_the_deployment_stays_as_it_is(place: Place) -> None:
    made = deployment(container(), {"name": "proxy", "image": "envoy:1"}, tolerations=[{"operator": "Exists"}])
    place.base(made)
    before = copy.deepcopy(place.api.get(PATH))
    place.enable("tiny-llama", "--yes")
    after = copy.deepcopy(place.api.get(PATH))
    pod, was = after["spec"]["template"]["spec"], before["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"] == [*was["containers"][0]["args"], ARGUMENT]
    for found in (pod, was):
        found["volumes"] = [v for v in found["volumes"] if v["name"] != ENGINE_NAME]
        del found["containers"][0]
    assert after["spec"] == before["spec"]


def meanwhile(place: Place, patch: Json, subresource: str = "", times: int | None = None) -> None:
    def somebody_else_first(connection: Connection) -> None:
        place.api.patch(f"{PATH}{subresource}", patch)
        connection.answer_truly()

    place.api.inject(somebody_else_first, "PATCH", "tiny-llama", times=times)


def test_a_pod_template_that_changed_after_it_was_shown_is_not_overwritten(place: Place) -> None:
    place.base()
    newer = deployment(container(image="vllm:2"))["spec"]
    meanwhile(place, {"spec": newer})
    done = place.enable("tiny-llama", "--yes")
    assert (done.exit_code, place.pod) == (1, newer["template"]["spec"])
    assert "the Deployment has changed since it was shown: run this again" in done.stderr
    assert place.enable("tiny-llama", "--yes").exit_code == 0


def test_a_status_that_changes_meanwhile_is_no_reason_to_stop(place: Place) -> None:
    place.base()
    meanwhile(place, {"status": {"readyReplicas": 1}}, "/status", times=1)
    assert place.enable("tiny-llama", "--yes").exit_code == 0
    assert len(place.pod["volumes"]) == 2


def test_what_it_cannot_extend_is_refused_by_the_name_of_the_field(place: Place) -> None:
    made = deployment(UNKNOWN, annotations={"adapterrelease.dev/container": "engine"})
    place.base(made)
    assert "Deployment tiny-llama, spec.template.spec.containers[engine].command: " in refused(place)


def test_a_deployment_without_vllm_is_refused(place: Place) -> None:
    place.base(deployment({"name": "web", "image": "nginx"}))
    said = refused(place)
    assert "spec.template.spec.containers: none of them starts vLLM" in said and "adapterrelease.dev/container" in said


def test_a_merged_deployment_needs_none(place: Place) -> None:
    made = deployment()
    made["metadata"]["labels"] = {"adapterrelease.dev/release": "support-bot"}
    place.base(made)
    assert "carry the engine plugin from the start" in refused(place)


def test_what_an_operator_makes_is_left_to_it(place: Place) -> None:
    made = deployment()
    owner = {"kind": "InferenceService", "name": "llama", "controller": True}
    made["metadata"]["ownerReferences"] = [owner]
    place.base(made)
    assert "it is made by InferenceService llama, which would undo a change here" in refused(place)


def test_what_helm_keeps_is_changed_with_a_word_of_warning(place: Place) -> None:
    made = deployment()
    made["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    place.base(made)
    done = place.enable("tiny-llama", "--yes")
    assert done.exit_code == 0
    assert "app.kubernetes.io/managed-by: Helm keeps this Deployment" in done.stderr


def test_a_config_map_of_somebody_else_is_not_touched(place: Place) -> None:
    place.base()
    place.api.create(FILES, {"metadata": {"name": ENGINE_NAME}, "data": {"a": "b"}})
    assert "is not the engine plugin: rename it or remove it" in refused(place)


def test_a_deployment_that_is_not_there_is_refused(place: Place) -> None:
    assert "NotFound" in refused(place)


def test_a_namespace_can_be_named(place: Place) -> None:
    place.base()
    assert "NotFound" in refused(place, "-n", "elsewhere")


def test_without_a_name_it_says_what_to_give(place: Place) -> None:
    done = place.enable("--yes")
    assert done.exit_code == 2
    assert "name the Deployment, or give --print" in done.stderr


def test_for_git_it_prints_six_lines_and_the_config_map_and_needs_no_cluster() -> None:
    done = CliRunner().invoke(app, ["enable", "--print", "-n", "llm"])
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line.startswith("#")]
    assert len(lines) == 6
    fields: Json = {}
    for line in lines:
        fields |= yaml.safe_load(line.removeprefix("# ")) if ": " in line else {}
    made = yaml.safe_load(done.stdout)
    assert fields["args"] == [ARGUMENT]
    assert (fields["volumeMounts"], fields["volumes"]) == ([mount()], [volume()])
    assert made["data"] == plugin_in().files
    assert made["metadata"]["namespace"] == "llm"


def test_what_is_kept_in_git_is_left_to_git(place: Place) -> None:
    place.base()
    made = yaml.safe_load(CliRunner().invoke(app, ["enable", "--print", "-n", "llm"]).stdout)
    made["data"]["state.py"] = "older"
    place.api.create(FILES, made)
    place.enable("tiny-llama", "--yes")
    assert place.writes() == ["PATCH tiny-llama"]


@pytest.mark.apiserver
@pytest.mark.parametrize("made", [container(), SHELL_FORM])
def test_a_real_api_server_takes_it_and_a_second_run_finds_it_there(apiserver: Path, made: Json) -> None:
    """With the defaults that it fills in, which must not look like a change."""
    client = KubeClient.from_config(str(apiserver))
    namespace = f"enable-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    client.create(NAMESPACES.path(), {"metadata": {"name": namespace}})
    arguments = ["enable", "tiny-llama", "-n", namespace, "--kubeconfig", str(apiserver), "--yes"]
    try:
        base = deployment(made)
        base["metadata"] = {"name": "tiny-llama"}
        client.create(DEPLOYMENTS.path(namespace), base)
        first = CliRunner().invoke(app, arguments)
        assert first.exit_code == 0, first.output
        before = client.get(DEPLOYMENTS.path(namespace, "tiny-llama"))["metadata"]["generation"]
        again = CliRunner().invoke(app, arguments)
        assert (again.exit_code, again.stdout) == (0, ""), again.output
        assert client.get(DEPLOYMENTS.path(namespace, "tiny-llama"))["metadata"]["generation"] == before == 2
    finally:
        client.delete(NAMESPACES.path(name=namespace))
        client.close()
