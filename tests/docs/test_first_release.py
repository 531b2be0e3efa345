"""docs/how-to: manifests and values that a newcomer applies are what the controller reads, and fit together."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from controller.api.v1alpha1 import AdapterRelease
from controller.cli.enable import patched
from controller.reconcile.base import base_facts
from tests.api.kubectl import Kubectl
from tests.docs.pages import PAGES, ROOT, blocks, commands, section

Json = dict[str, Any]

PAGE = ROOT / "docs" / "how-to" / "first-release.md"
OWNERS = ROOT / "docs" / "how-to" / "other-owners.md"
MANIFESTS = ROOT / "manifests" / "first-release"


def manifest(file: str, kind: str) -> Json:
    [found] = [m for m in yaml.safe_load_all((MANIFESTS / file).read_text()) if m["kind"] == kind]
    return dict(found)


@pytest.fixture(scope="module")
def base() -> Json:
    return manifest("base.yaml", "Deployment")


def typed() -> list[str]:
    return [command for command in commands(PAGE) if not command.startswith("export ")]


def test_it_takes_ten_commands() -> None:
    assert section(PAGE, "Ten commands").startswith("\n```console\nexport ")
    asked = next(i for i, command in enumerate(typed()) if "port-forward" in command)
    assert asked == 10, "then it serves, and can be asked"


def test_the_base_is_one_that_the_controller_can_use(base: Json) -> None:
    facts = base_facts(base)
    assert [problem.message for problem in facts.problems] == []
    assert facts.store_claim == manifest("store.yaml", "PersistentVolumeClaim")["metadata"]["name"]
    assert facts.max_cpu_loras >= 2, "one for the release, and one for its update"


def test_the_release_is_of_that_base_and_of_the_adapter_that_was_copied(base: Json) -> None:
    release = AdapterRelease.model_validate(manifest("release.yaml", "AdapterRelease"))
    assert release.spec.base_ref.name == base["metadata"]["name"]
    copied = re.findall(r"^kubectl cp \S+ llm/(\w+):(\S+)$", "\n".join(typed()), re.MULTILINE)
    assert {pod for pod, _ in copied} == {manifest("store.yaml", "Pod")["metadata"]["name"]}
    store = base_facts(base).store_path
    adapter = release.spec.adapters[0].source.uri.removeprefix("pvc://")
    assert [path for _, path in copied] == [base_facts(base).model, f"{store}/{adapter.partition('/')[2]}"]


def test_files_are_written_by_the_user_who_reads_them(base: Json) -> None:
    files = manifest("store.yaml", "Pod")["spec"]["securityContext"]
    server = base["spec"]["template"]["spec"]["securityContext"]
    assert files == server


def test_enable_puts_the_plugin_in_and_has_nothing_to_do_afterwards(base: Json) -> None:
    base = {**base, "metadata": {**base["metadata"], "uid": "u", "resourceVersion": "1"}}
    patch, shown = patched(base)
    assert "adapterrelease_engine.Middleware" in shown
    spec = {**base["spec"]["template"]["spec"], **patch["spec"]["template"]["spec"]}
    enabled = {**base, "spec": {**base["spec"], "template": {**base["spec"]["template"], "spec": spec}}}
    assert base_facts(enabled).has_plugin
    assert patched(enabled) == ({}, "")


def test_values_that_pages_set_exist_in_the_chart() -> None:
    chart = yaml.safe_load((ROOT / "charts" / "adapter-release-controller" / "values.yaml").read_text())
    typed = " ".join(command for page in PAGES for command in commands(page) if command.startswith("helm "))
    paths = [pair.partition("=")[0] for pairs in re.findall(r"--set (\S+)", typed) for pair in pairs.split(",")]
    assert "image.repository" in paths
    for path in paths:
        found: Any = chart
        for key in path.split("."):
            assert key in found, path
            found = found[key]


def examples(kind: str) -> list[Json]:
    found = [m for b in blocks(OWNERS) if b.language == "yaml" for m in yaml.safe_load_all(b.text)]
    return [m for m in found if kind in (m.get("kind"), next(iter(m)))]


def as_base(container: Json, volumes: list[Json]) -> Json:
    spec = {"containers": [container], "volumes": volumes}
    return {"metadata": {"name": "made"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": spec}}}


def test_an_inference_service_of_that_form_makes_a_base() -> None:
    [service] = examples("InferenceService")
    predictor = service["spec"]["predictor"]
    facts = base_facts(as_base(predictor["containers"][0], predictor["volumes"]))
    assert ([p.message for p in facts.problems], facts.has_plugin, facts.port) == ([], True, 8080)


def test_those_values_of_production_stack_make_a_base() -> None:
    """As its chart puts the command together."""
    [values] = examples("servingEngineSpec")
    [model] = values["servingEngineSpec"]["modelSpec"]
    command = ["vllm", "serve", model["modelURL"], "--host", "0.0.0.0", "--port", "8000", "--enable-lora"]
    config = model["vllmConfig"]
    command += ["--no-enable-prefix-caching", "--max_loras", str(config["maxLoras"]), *config["extraArgs"]]
    container = {"name": "vllm", "command": command, "env": model["env"], "volumeMounts": model["extraVolumeMounts"]}
    facts = base_facts(as_base(container, model["extraVolumes"]))
    assert ([p.message for p in facts.problems], facts.has_plugin, facts.max_loras) == ([], True, 4)


@pytest.mark.apiserver
def test_a_real_api_server_takes_the_manifests(kubectl: Kubectl) -> None:
    kubectl.try_("create", "serviceaccount", "default")  # the controller that makes it does not run here
    taken = kubectl("apply", "--dry-run=server", "--validate=strict", "-f", MANIFESTS)
    assert taken.count("(server dry run)") == 5
