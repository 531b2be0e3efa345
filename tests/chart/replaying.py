"""A real API server that is sent the controller's own requests once more, as users who have some of its rights.

Nothing is changed there: writes are dry runs. Must not know which rights there should be.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from kubernetes.client.rest import RESTClientObject

from controller.runtime.client import KubeClient
from controller.runtime.resources import Resource
from controller.runtime.transport import load_configuration
from tests.chart.rights import Access
from tests.fakes.connection import Request

CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
_OF_ANOTHER_SERVER = {"resourceVersion", "continue"}

Json = dict[str, Any]


class Replay:
    """`close` takes the users' roles away."""

    def __init__(self, kubeconfig: Path) -> None:
        configuration, _ = load_configuration(str(kubeconfig), None)
        token = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        self._headers = {"Accept": "application/json"} | ({"Authorization": token} if token else {})
        self._url = configuration.host.rstrip("/")
        self._pool = RESTClientObject(configuration).pool_manager
        self._admin = KubeClient.from_config(str(kubeconfig))
        self._users: list[str] = []

    def user(self, rights: Sequence[Access]) -> str:
        name = f"chart-{os.getpid()}-{len(self._users)}"
        self._users.append(name)
        self._apply(CLUSTER_ROLES, name, {"rules": [_rule(right) for right in rights]})
        role = {"apiGroup": CLUSTER_ROLES.group, "kind": CLUSTER_ROLES.kind, "name": name}
        subject = {"apiGroup": CLUSTER_ROLES.group, "kind": "User", "name": name}
        self._apply(BINDINGS, name, {"roleRef": role, "subjects": [subject]})
        return name

    def until_in_force(self, user: str, allowed: Request) -> None:
        """The authorizer reads from caches, which are a moment late."""
        assert any(not self.refusal(user, allowed) for _ in range(2000)), f"{user} never got its role"

    def refusal(self, user: str, request: Request) -> str:
        """What the authorizer says against it; empty when it lets the request in, whatever comes of it there."""
        query = {key: value for key, value in request.query.items() if key not in _OF_ANOTHER_SERVER}
        if request.method != "GET":
            query["dryRun"] = "All"
        response = self._pool.request(
            request.method,
            f"{self._url}{request.path}?{urlencode(query)}",
            body=None if request.body is None else json.dumps(request.body).encode(),
            headers=self._headers | {"Impersonate-User": user, "Content-Type": request.content_type},
            preload_content=False,
            retries=False,
            timeout=10,
        )
        try:
            if response.status != 403:
                return ""
            said: str = json.loads(response.read())["message"]
            return said if f'User "{user}" cannot ' in said else ""
        finally:
            response.close()  # a watch would go on

    def close(self) -> None:
        for user in self._users:
            self._admin.delete(BINDINGS.path(name=user))
            self._admin.delete(CLUSTER_ROLES.path(name=user))
        self._admin.close()
        self._pool.clear()

    def _apply(self, resource: Resource, name: str, fields: Json) -> None:
        made = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}} | fields
        self._admin.apply(resource.path(name=name), made, "tests")


def _rule(right: Access) -> Json:
    rule: Json = {"apiGroups": [right.group], "resources": [right.resource], "verbs": [right.verb]}
    return rule | ({"resourceNames": [right.name]} if right.name else {})
