"""The controller's rights are exactly those that it uses: without any one of them something it does is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.runtime.client import KubeClient
from controller.runtime.resources import Resource
from tests.chart.lives import requests_of_all_lives
from tests.chart.rights import Access, allows, asked_for, grants

INSTALL = Path(__file__).resolve().parents[2] / "manifests" / "install.yaml"
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)

Json = dict[str, Any]


def rules_of(*names: str) -> list[Json]:
    documents = yaml.safe_load_all(INSTALL.read_text())
    roles = [d for d in documents if d["kind"] in ("ClusterRole", "Role") and d["metadata"]["name"] in names]
    assert len(roles) == len(names)
    return [rule for role in roles for rule in role["rules"]]


GRANTS = grants(rules_of("adapter-release-controller", "adapter-release-leader"))
NAMES = {grant.name for grant in GRANTS}


@pytest.fixture(scope="module")
def used() -> list[Access]:
    """Names that no right names are one to RBAC."""
    asked = map(asked_for, requests_of_all_lives())
    return sorted({replace(access, name=access.name if access.name in NAMES else "") for access in asked})


def test_all_that_the_controller_asks_for_is_granted(used: list[Access]) -> None:
    assert [str(access) for access in used if not allows(GRANTS, access)] == []


@pytest.mark.parametrize("grant", GRANTS, ids=str)
def test_without_this_right_something_is_refused(used: list[Access], grant: Access) -> None:
    rest = [other for other in GRANTS if other != grant]
    assert [access for access in used if not allows(rest, access)], f"nothing needs it: {grant}"


def test_no_right_is_granted_twice_nor_for_everything() -> None:
    assert len(set(GRANTS)) == len(GRANTS)
    assert not any("*" in part for grant in GRANTS for part in (grant.verb, grant.group, grant.resource, grant.name))


class Authorizer:
    """RBAC of a real API server, with a user for each right who has all of them but that one."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._run = f"chart-{os.getpid()}"

    def make(self) -> None:
        for number, missing in enumerate(GRANTS):
            rules = [_rule(grant) for grant in GRANTS if grant != missing]
            self._apply(CLUSTER_ROLES, number, {"rules": rules})
            role = {"apiGroup": CLUSTER_ROLES.group, "kind": "ClusterRole", "name": self.user(number)}
            subject = {"apiGroup": CLUSTER_ROLES.group, "kind": "User", "name": self.user(number)}
            self._apply(BINDINGS, number, {"roleRef": role, "subjects": [subject]})

    def user(self, number: int) -> str:
        return f"{self._run}-without-{number}"

    def may(self, number: int, access: Access) -> bool:
        resource, _, subresource = access.resource.partition("/")
        attributes = {"verb": access.verb, "group": access.group, "resource": resource, "subresource": subresource}
        spec = {
            "user": self.user(number),
            "resourceAttributes": attributes | {"name": access.name, "namespace": "llm"},
        }
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        return bool(self._client.create(REVIEWS.path(), review)["status"]["allowed"])

    def until_in_force(self, number: int, access: Access) -> None:
        """The authorizer reads from caches, which are a moment late."""
        assert any(self.may(number, access) for _ in range(2000)), f"{self.user(number)} never got its role"

    def _apply(self, resource: Resource, number: int, fields: Json) -> None:
        name = self.user(number)
        made = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}} | fields
        self._client.apply(resource.path(name=name), made, "tests")


@pytest.fixture(scope="module")
def authorizer(apiserver: Path) -> Iterator[Authorizer]:
    client = KubeClient.from_config(str(apiserver))
    made = Authorizer(client)
    made.make()
    yield made
    for number in range(len(GRANTS)):
        client.delete(BINDINGS.path(name=made.user(number)))
        client.delete(CLUSTER_ROLES.path(name=made.user(number)))
    client.close()


@pytest.mark.apiserver
@pytest.mark.parametrize("number", range(len(GRANTS)), ids=[str(grant) for grant in GRANTS])
def test_a_real_authorizer_refuses_it_without_this_right(
    authorizer: Authorizer, used: list[Access], number: int
) -> None:
    """And refuses nothing else: it reads the rules as the other tests here do."""
    rest = [grant for grant in GRANTS if grant != GRANTS[number]]
    authorizer.until_in_force(number, next(access for access in used if allows(rest, access)))
    decided = {access: authorizer.may(number, access) for access in used}
    assert decided == {access: allows(rest, access) for access in used}
    assert not all(decided.values())


def _rule(grant: Access) -> Json:
    rule: Json = {"apiGroups": [grant.group], "resources": [grant.resource], "verbs": [grant.verb]}
    return rule | ({"resourceNames": [grant.name]} if grant.name else {})
