"""kubectl on the real API server, with the CRD installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.kubectl import Kubectl

CRD = Path(__file__).resolve().parents[2] / "manifests" / "crd.yaml"
NAMESPACE = "llm"


@pytest.fixture(scope="session")
def cluster(apiserver: Path, kubectl_program: str, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """The CRD and the namespace `llm`, which is the default of the kubeconfig (a copy)."""
    kubeconfig = tmp_path_factory.mktemp("api") / "kubeconfig"
    kubeconfig.write_bytes(apiserver.read_bytes())
    kubectl = Kubectl(kubectl_program, kubeconfig)
    kubectl("config", "set-context", "--current", f"--namespace={NAMESPACE}")
    kubectl("apply", "--server-side", "--force-conflicts", "-f", CRD)
    # First for any condition: to look for one among none is an error, and no reason to wait.
    for awaited in ("jsonpath={.status.conditions}", "condition=Established"):
        kubectl("wait", f"--for={awaited}", "crd/adapterreleases.adapterrelease.dev")
    if kubectl.try_("get", "namespace", NAMESPACE)[0] != 0:
        kubectl("create", "namespace", NAMESPACE)
    return kubectl


@pytest.fixture
def kubectl(cluster: Kubectl) -> Iterator[Kubectl]:
    """A namespace without releases, before and after."""
    yield cluster
    cluster("delete", "ar", "--all", "--wait=true")
