"""manifests/: every file applied to a real API server, and what the controller may do there."""

from __future__ import annotations

import copy
import json
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
    "list adapterrelease.dev/adapterreleases",
    "watch adapterrelease.dev/adapterreleases",
    "patch adapterrelease.dev/adapterreleases",
    "update adapterrelease.dev/adapterreleases/status",
    "watch /pods",
    "patch /pods",
    "create /services",
    "patch /services",
    "get /configmaps",
    "create /configmaps",
    "patch /configmaps adapterrelease-engine",
    "get /secrets adapterrelease-engine",
    "create /secrets",
    "create apps/deployments",
    "delete apps/deployments",
    "get apps/deployments/scale",
    "patch apps/deployments/scale",
    "create policy/poddisruptionbudgets",
    "get policy/poddisruptionbudgets",
    "create batch/jobs",
    "delete batch/jobs",
    "watch discovery.k8s.io/endpointslices",
    "create /events",
    "patch /events",
]
FORBIDDEN = [
    "get /secrets",
    "get /secrets vllm-api-key",
    "list /secrets",
    "watch /secrets",
    "patch /secrets adapterrelease-engine",
    "delete /secrets adapterrelease-engine",
    "patch /configmaps",
    "delete /configmaps",
    "create adapterrelease.dev/adapterreleases",
    "update adapterrelease.dev/adapterreleases",
    "delete adapterrelease.dev/adapterreleases",
    "create /pods",
    "delete /pods",
    "create /pods/exec",
    "get /pods/log",
    "delete /services",
    "list /configmaps",
    "patch apps/deployments",
    "update apps/deployments/scale",
    "get /persistentvolumeclaims",
    "delete policy/poddisruptionbudgets",
    "patch policy/poddisruptionbudgets",
    "create /pods/eviction",
    "create coordination.k8s.io/leases",
    "create /serviceaccounts",
    "create /serviceaccounts/token",
    "bind rbac.authorization.k8s.io/clusterroles",
    "escalate rbac.authorization.k8s.io/clusterroles",
]


def may(kubectl: Kubectl, access: str, namespace: str = "llm") -> bool:
    """Asks the API server whether the controller's account may do `VERB GROUP/RESOURCE[/SUBRESOURCE] [NAME]`."""
    verb, what, name = [*access.split(), ""][:3]
    group, resource, subresource = [*what.split("/"), ""][:3]
    attributes = {"verb": verb, "group": group, "resource": resource, "namespace": namespace, "name": name}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": ACCOUNT, "resourceAttributes": attributes | {"subresource": subresource}},
    }
    answer = json.loads(kubectl("create", "-o", "json", "-f", "-", manifest=review))
    return bool(answer["status"]["allowed"])


@pytest.mark.apiserver
@pytest.mark.parametrize("access", ALLOWED)
def test_the_controller_may_do_what_it_must(installed: Kubectl, access: str) -> None:
    assert may(installed, access)


@pytest.mark.apiserver
@pytest.mark.parametrize("access", FORBIDDEN)
def test_the_controller_may_not_do_more(installed: Kubectl, access: str) -> None:
    assert not may(installed, access)


SECRETS = [
    ({"metadata": {"name": "adapterrelease-engine"}, "type": "Opaque"}, True),
    ({"metadata": {"name": "mine"}, "type": "Opaque"}, False),
    ({"metadata": {"generateName": "adapterrelease-engine"}, "type": "Opaque"}, False),
    (
        {
            "metadata": {
                "name": "adapterrelease-engine",
                "annotations": {"kubernetes.io/service-account.name": "default"},
            },
            "type": "kubernetes.io/service-account-token",
        },
        False,
    ),
]


REFUSAL = "makes one Secret, adapterrelease-engine of type Opaque, and no other"


def make_secret(kubectl: Kubectl, secret: dict[str, Any], *flags: str) -> tuple[int, str]:
    made = {"apiVersion": "v1", "kind": "Secret", "metadata": {}} | secret
    return kubectl.try_("create", "--dry-run=server", *flags, "-f", "-", manifest=made)


@pytest.fixture(scope="module")
def guarded(installed: Kubectl) -> Kubectl:
    """The API server takes a moment until a new policy is in force."""
    for _ in range(100):
        if REFUSAL in make_secret(installed, {"metadata": {"name": "any"}}, f"--as={ACCOUNT}")[1]:
            return installed
    raise AssertionError("the policy is not in force")


@pytest.mark.apiserver
@pytest.mark.parametrize(("secret", "allowed"), SECRETS)
def test_the_controller_makes_no_secret_but_its_own(guarded: Kubectl, secret: dict[str, Any], allowed: bool) -> None:
    """Above all not one that Kubernetes would fill with the token of an account."""
    assert make_secret(guarded, secret)[0] == 0  # others may
    status, output = make_secret(guarded, secret, f"--as={ACCOUNT}")
    assert (status == 0) is allowed, output
    assert allowed or REFUSAL in output


@pytest.mark.apiserver
@pytest.mark.parametrize("verb", ["get", "create", "update"])
def test_the_controller_may_hold_its_lease_in_its_own_namespace(installed: Kubectl, verb: str) -> None:
    assert may(installed, f"{verb} coordination.k8s.io/leases adapter-release-controller", SYSTEM)


@pytest.mark.apiserver
@pytest.mark.parametrize("verb", ["get", "update"])
def test_the_controller_may_not_touch_the_lease_of_another_one(installed: Kubectl, verb: str) -> None:
    assert not may(installed, f"{verb} coordination.k8s.io/leases kube-scheduler", SYSTEM)


@pytest.mark.apiserver
def test_whoever_views_a_namespace_may_view_its_releases(installed: Kubectl) -> None:
    added = '{.rules[?(@.apiGroups[0]=="adapterrelease.dev")].resources[0]}'
    installed("wait", "clusterrole/view", f"--for=jsonpath={added}=adapterreleases", "--timeout=60s")


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
