"""manifests/: every file applied to a real API server, and what the controller may do there."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.api.v1alpha1 import AdapterRelease
from tests.api.kubectl import Kubectl

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
SAMPLES = sorted((MANIFESTS / "samples").glob("*.yaml"))
SYSTEM = "adapter-release-system"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:adapter-release-controller"


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


@pytest.fixture(scope="module")
def installed(cluster: Kubectl) -> Kubectl:
    cluster("apply", "--server-side", "--force-conflicts", "-f", MANIFESTS / "install.yaml")
    return cluster


def test_there_are_samples() -> None:
    assert len(SAMPLES) >= 5


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_the_models_can_read_every_sample(sample: Path) -> None:
    for document in documents(sample):
        release = AdapterRelease.model_validate(document)
        assert release.to_wire()["spec"]["baseRef"] == document["spec"]["baseRef"]


@pytest.mark.apiserver
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_the_api_server_accepts_every_sample(kubectl: Kubectl, sample: Path) -> None:
    assert "server dry run" in kubectl("apply", "--dry-run=server", "-f", sample)
    kubectl("apply", "-f", sample)
    for document in documents(sample):
        stored = kubectl.get(document["metadata"]["name"])
        # Defaults are the server's in the cluster and the models' on the command line: the same ones.
        assert AdapterRelease.model_validate(stored).spec == AdapterRelease.model_validate(document).spec


@pytest.mark.apiserver
def test_an_experimental_release_is_promoted_by_applying_the_stable_sample(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", MANIFESTS / "samples" / "experimental.yaml")
    kubectl("apply", "-f", MANIFESTS / "samples" / "stable.yaml")
    assert kubectl.get("support-bot")["spec"]["stage"] == "Stable"


ALLOWED = [
    ("list", "adapterreleases.adapterrelease.dev"),
    ("watch", "adapterreleases.adapterrelease.dev"),
    ("patch", "adapterreleases.adapterrelease.dev"),
    ("update", "adapterreleases.adapterrelease.dev/status"),
    ("patch", "pods"),
    ("create", "services"),
    ("patch", "services"),
    ("create", "configmaps"),
    ("create", "deployments.apps"),
    ("delete", "deployments.apps"),
    ("create", "jobs.batch"),
    ("watch", "endpointslices.discovery.k8s.io"),
    ("get", "persistentvolumeclaims"),
    ("create", "events"),
]
FORBIDDEN = [
    ("get", "secrets"),
    ("list", "secrets"),
    ("create", "adapterreleases.adapterrelease.dev"),
    ("delete", "adapterreleases.adapterrelease.dev"),
    ("create", "pods"),
    ("delete", "pods"),
    ("create", "pods/exec"),
    ("delete", "persistentvolumeclaims"),
    ("create", "leases.coordination.k8s.io"),
    ("create", "serviceaccounts"),
    ("escalate", "clusterroles.rbac.authorization.k8s.io"),
]


@pytest.mark.apiserver
@pytest.mark.parametrize(("verb", "resource"), ALLOWED)
def test_the_controller_may_do_what_it_must(installed: Kubectl, verb: str, resource: str) -> None:
    status, output = installed.try_("auth", "can-i", verb, resource, f"--as={ACCOUNT}")
    assert status == 0, output


@pytest.mark.apiserver
@pytest.mark.parametrize(("verb", "resource"), FORBIDDEN)
def test_the_controller_may_not_do_more(installed: Kubectl, verb: str, resource: str) -> None:
    status, output = installed.try_("auth", "can-i", verb, resource, f"--as={ACCOUNT}")
    assert (status, output.split()[-1]) == (1, "no")


@pytest.mark.apiserver
def test_the_controller_may_hold_its_lease_in_its_own_namespace_only(installed: Kubectl) -> None:
    for verb in ("get", "create", "update", "patch"):
        installed("auth", "can-i", verb, "leases.coordination.k8s.io", f"--as={ACCOUNT}", "-n", SYSTEM)


@pytest.mark.apiserver
def test_editors_of_a_namespace_may_edit_its_releases(installed: Kubectl) -> None:
    role = "-o=jsonpath={.rules[*].resources}"
    installed("wait", "clusterrole/edit", "--for=jsonpath={.kind}=ClusterRole")
    assert "adapterreleases" in installed("get", "clusterrole", "adapter-release-edit", role)


@pytest.mark.apiserver
def test_the_controllers_pods_pass_the_restricted_standard(installed: Kubectl) -> None:
    pod = _controller_pod()
    output = installed("create", "--dry-run=server", "-f", "-", manifest=pod)
    assert "created (server dry run)" in output
    loose = copy.deepcopy(pod)
    loose["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    status, output = installed.try_("create", "--dry-run=server", "-f", "-", manifest=loose)
    assert status != 0
    assert 'violates PodSecurity "restricted' in output


def _controller_pod() -> dict[str, Any]:
    (deployment,) = [d for d in documents(MANIFESTS / "install.yaml") if d["kind"] == "Deployment"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one-of-them", "namespace": SYSTEM},
        "spec": deployment["spec"]["template"]["spec"],
    }
