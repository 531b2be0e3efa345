"""Who gets which rights where, in both scopes, and what is left of the cluster for who is not its admin."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.rendering import NAME, NAMESPACE, Chart, identity, of_kind, one
from tests.chart.test_rights import rules_of

pytestmark = pytest.mark.helm

Json = dict[str, Any]

OF_THE_CLUSTER = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Namespace",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
NAMESPACED: Json = {"rbac": {"scope": "Namespaced"}, "watchNamespaces": ["llm", "prod"]}
WITHOUT_THE_CLUSTER: Json = {
    "rbac": {"scope": "Namespaced", "aggregateRoles": False},
    "watchNamespaces": ["llm"],
    "crds": {"install": False},
    "admissionPolicy": {"enabled": False},
}
ACCOUNT = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
RULES = rules_of(NAME)


def test_by_default_one_role_holds_in_all_namespaces(chart: Chart) -> None:
    made = chart.render()
    assert one(made, "ClusterRole", NAME)["rules"] == RULES
    binding = one(made, "ClusterRoleBinding")
    assert (binding["roleRef"]["name"], binding["subjects"]) == (NAME, [ACCOUNT])
    assert [r["metadata"]["name"] for r in of_kind(made, "Role")] == ["adapter-release-leader"]


def test_by_namespace_each_has_the_same_rules_and_the_cluster_none(chart: Chart) -> None:
    made = chart.render(NAMESPACED)
    roles = [role for role in of_kind(made, "Role") if role["metadata"]["namespace"] != NAMESPACE]
    assert {role["metadata"]["namespace"]: role["rules"] for role in roles} == {"llm": RULES, "prod": RULES}
    bindings = [b for b in of_kind(made, "RoleBinding") if b["metadata"]["namespace"] != NAMESPACE]
    assert [b["metadata"]["namespace"] for b in bindings] == ["llm", "prod"]
    for binding, role in zip(bindings, roles, strict=True):
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("Role", role["metadata"]["name"])
        assert binding["subjects"] == [ACCOUNT]


def test_by_namespace_nobody_is_bound_in_the_cluster(chart: Chart) -> None:
    """What is left there are roles for people, which nobody has by them alone."""
    made = chart.render(NAMESPACED)
    assert of_kind(made, "ClusterRoleBinding") == []
    for role in of_kind(made, "ClusterRole"):
        assert any(label.startswith("rbac.authorization.k8s.io/aggregate-to-") for label in role["metadata"]["labels"])


def test_who_has_no_right_in_the_cluster_can_install_it(chart: Chart) -> None:
    made = chart.render(WITHOUT_THE_CLUSTER)
    assert [identity(o) for o in made if o["kind"] in OF_THE_CLUSTER] == []
    assert {o["metadata"]["namespace"] for o in made} == {NAMESPACE, "llm"}


def test_two_installations_by_namespace_share_no_object(chart: Chart) -> None:
    """But the CRD and the roles of people, which one of them leaves to the other."""
    first = chart.render(NAMESPACED, namespace="team-a")
    second = chart.render(
        NAMESPACED | {"crds": {"install": False}, "rbac": {"scope": "Namespaced", "aggregateRoles": False}},
        namespace="team-b",
    )
    assert {identity(o) for o in first} & {identity(o) for o in second} == set()


def test_two_in_one_namespace_have_names_and_leases_of_their_own(chart: Chart) -> None:
    off = {"crds": {"install": False}}
    aggregate = {"scope": "Namespaced", "aggregateRoles": False}
    first = chart.render(NAMESPACED | off | {"rbac": aggregate}, name="a")
    second = chart.render(NAMESPACED | off | {"rbac": aggregate}, name="b")
    assert {identity(o) for o in first} & {identity(o) for o in second} == set()
    for made, name in ((first, "a"), (second, "b")):
        (container,) = one(made, "Deployment")["spec"]["template"]["spec"]["containers"]
        assert {"name": "ADAPTERRELEASE_LEASE_NAME", "value": f"{name}-{NAME}"} in container["env"]
        (role,) = [r for r in of_kind(made, "Role") if r["metadata"]["namespace"] == NAMESPACE]
        assert [r.get("resourceNames") for r in role["rules"]] == [None, [f"{name}-{NAME}"]]
        selector = one(made, "Deployment")["spec"]["selector"]["matchLabels"]
        assert selector["app.kubernetes.io/instance"] == name


def test_whoever_edits_a_namespace_edits_its_releases_unless_one_says_no(chart: Chart) -> None:
    made = chart.render()
    edit = one(made, "ClusterRole", "adapter-release-edit")
    assert edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    assert "adapterreleases/status" not in edit["rules"][0]["resources"]
    view = one(made, "ClusterRole", "adapter-release-view")
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert view["rules"][0]["verbs"] == ["get", "list", "watch"]
    without = chart.render({"rbac": {"aggregateRoles": False}})
    assert [r["metadata"]["name"] for r in of_kind(without, "ClusterRole")] == [NAME]


def test_an_api_key_is_one_secret_that_may_be_read(chart: Chart) -> None:
    made = chart.render({"rbac": {"apiKeySecrets": [{"namespace": "llm", "name": "vllm-api-key"}]}})
    (role,) = [r for r in of_kind(made, "Role") if r["metadata"]["namespace"] == "llm"]
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["vllm-api-key"], "verbs": ["get"]}
    ]
    (binding,) = [b for b in of_kind(made, "RoleBinding") if b["metadata"]["namespace"] == "llm"]
    assert (binding["roleRef"]["name"], binding["subjects"]) == (role["metadata"]["name"], [ACCOUNT])


def test_the_policy_is_about_the_account_that_is_used(chart: Chart) -> None:
    values = {"serviceAccount": {"create": False, "name": "mine"}}
    made = chart.render(values, namespace="elsewhere")
    (condition,) = one(made, "ValidatingAdmissionPolicy")["spec"]["matchConditions"]
    assert condition["expression"] == "request.userInfo.username == 'system:serviceaccount:elsewhere:mine'"
    assert one(made, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == "mine"
    assert of_kind(made, "ServiceAccount") == []
    assert one(made, "ClusterRoleBinding")["subjects"][0]["name"] == "mine"
    binding = one(made, "ValidatingAdmissionPolicyBinding")
    assert binding["spec"]["policyName"] == one(made, "ValidatingAdmissionPolicy")["metadata"]["name"]


def test_rights_can_be_left_to_others(chart: Chart) -> None:
    made = chart.render({"rbac": {"create": False}, "admissionPolicy": {"enabled": False}})
    assert {o["kind"] for o in made} & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} == set()
