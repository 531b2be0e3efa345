"""docs/how-to/first-release.md as it is typed: from a checkout to an adapter that answers, in ten commands.

Another namespace stands for the page's. What the sandbox lacks is replaced: its images are there already, its store is
a directory of the node, and its vLLM has no GPU.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.recording.stage import programs
from bench.recording.story import TAKE_OVER
from controller.runtime.resources import SERVICES
from tests.chart.conftest import helm_program as helm_program
from tests.docs.pages import commands
from tests.e2e.cluster import Cluster, measured
from tests.e2e.release import ANSWER, QUESTION
from tests.e2e.sandbox import CHECKOUT
from tests.e2e.test_helm import Helm
from tests.e2e.test_helm import helm as helm

pytestmark = [pytest.mark.e2e, pytest.mark.helm]

Json = dict[str, Any]

PAGE = CHECKOUT / "docs" / "how-to" / "first-release.md"
MANIFESTS = Path("manifests") / "first-release"
SPACE = "first"
USER = 1000
NO_ENGINE = ("podman build", "pip install")  # of containers; and the commands run from the checkout
ON_CPUS = [
    "--max-model-len=256",
    "--max-num-seqs=16",
    "--block-size=32",
    "--enforce-eager",
    "--kv-cache-memory-bytes=67108864",
]


def typed() -> list[str]:
    """The page's commands until the release serves."""
    found = [re.sub(r"\bllm\b", SPACE, command).replace("0.1.0", "dev") for command in commands(PAGE)]
    asked = next(i for i, command in enumerate(found) if "port-forward" in command)
    done = [c for c in found[1:asked] if not any(skipped in c for skipped in NO_ENGINE)]
    return [command + TAKE_OVER if command.startswith("helm ") else command for command in done]


def replaced(manifest: Json) -> Json:
    """As the sandbox can run it."""
    kind, meta = manifest["kind"], manifest["metadata"]
    meta["name" if kind == "Namespace" else "namespace"] = SPACE
    if kind == "Pod":
        manifest["spec"]["containers"][0]["image"] = "localhost/adapterrelease/controller:dev"
    if kind == "Deployment":
        (server,) = manifest["spec"]["template"]["spec"]["containers"]
        server["image"] = "vllm/vllm-openai:sandbox"
        server["resources"] = {"requests": {"cpu": "100m", "memory": "2Gi"}, "limits": {"memory": "4Gi"}}
        server["args"] += ON_CPUS
    return manifest


def volume() -> Json:
    """What a StorageClass would make for the page's claim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{SPACE}-store"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "100Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"namespace": SPACE, "name": "store"},
            "hostPath": {"path": f"/var/lib/adapterrelease/store/{SPACE}", "type": "Directory"},
        },
    }


def lay_out(desk: Path, store: Path) -> None:
    """The directory in which they are typed: the checkout, a model and an adapter."""
    (desk / "charts").symlink_to(CHECKOUT / "charts")
    (desk / MANIFESTS).mkdir(parents=True)
    for file in sorted((CHECKOUT / MANIFESTS).glob("*.yaml")):
        made = [replaced(manifest) for manifest in yaml.safe_load_all(file.read_text())]
        (desk / MANIFESTS / file.name).write_text(yaml.safe_dump_all(made))
    shutil.copytree(store / "models" / "base", desk / "models" / "llama")
    shutil.copytree(store / "incoming" / "support-bot" / "v1", desk / "runs" / "support-bot")


@pytest.fixture(scope="module")
def space(cluster: Cluster) -> Iterator[str]:
    """The namespace's volume; afterwards nothing of it is left."""
    directory = cluster.store / SPACE
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    os.chown(directory, USER, USER)
    cluster.apply(volume())
    yield SPACE
    gone = ("--ignore-not-found", "--timeout=180s")
    for what in (
        ("-n", SPACE, "delete", "ar", "--all"),
        ("delete", "namespace", SPACE),
        ("delete", "pv", f"{SPACE}-store"),
    ):
        print(cluster.kubectl(*what, *gone, check=False))
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def answers(
    cluster: Cluster, helm: Helm, helm_program: str, space: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of the release's Service, once all commands have ended well."""
    desk = tmp_path_factory.mktemp("desk")
    lay_out(desk, cluster.store)
    with programs(cluster.kubeconfig, Path(cluster.kubectl_command[0]), Path(helm_program)) as environment:
        for command in typed():
            type_in(cluster, command, desk, environment | {"REGISTRY": "localhost/adapterrelease"})
    service = cluster.client.get(SERVICES.path(space, "support-bot"))
    yield f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"


def type_in(cluster: Cluster, command: str, desk: Path, environment: Mapping[str, str]) -> None:
    print(f"$ {command}", flush=True)
    ended = subprocess.run(
        ["bash", "-c", command], cwd=desk, env=environment, text=True, capture_output=True, check=False
    )
    print(ended.stdout + ended.stderr, flush=True)
    if ended.returncode:
        there = cluster.kubectl("-n", SPACE, "get", "ar,pods,jobs,events", check=False)
        pytest.fail(
            f"{command}\nended with {ended.returncode}: {ended.stdout}{ended.stderr}\n{there}{cluster.report()}"
        )


def test_after_the_page_s_commands_the_adapter_answers(cluster: Cluster, answers: str) -> None:
    body = {"model": "support-bot", "temperature": 0, "max_tokens": 24}
    messages = [{"role": "system", "content": "Route the ticket."}, {"role": "user", "content": QUESTION}]
    answer = cluster.http.post(f"{answers}/v1/chat/completions", json={**body, "messages": messages}).raise_for_status()
    assert ANSWER in answer.json()["choices"][0]["message"]["content"]
    measured("who answers after the ten commands", answer.headers["x-adapterrelease-backend"])
