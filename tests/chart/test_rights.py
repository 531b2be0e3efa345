"""The controller's rights are exactly those that it uses: without any one of them something it does is refused.

What it does is recorded in lives of releases. That the rules are read here as the API server reads them is held by a
real one, which is sent the same requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.lives import requests_of_all_lives
from tests.chart.replaying import Replay
from tests.chart.rights import Access, allows, asked_for, grants
from tests.fakes.connection import Request

pytestmark = pytest.mark.slow

INSTALL = Path(__file__).resolve().parents[2] / "manifests" / "install.yaml"

Json = dict[str, Any]
Used = dict[Access, Request]


def rules_of(*names: str) -> list[Json]:
    documents = yaml.safe_load_all(INSTALL.read_text())
    roles = [d for d in documents if d["kind"] in ("ClusterRole", "Role") and d["metadata"]["name"] in names]
    assert len(roles) == len(names)
    return [rule for role in roles for rule in role["rules"]]


GRANTS = grants(rules_of("adapter-release-controller", "adapter-release-leader"))
NAMES = {grant.name for grant in GRANTS}


@pytest.fixture(scope="module")
def used() -> Used:
    """What is asked for, each with a request that asks for it. Names that no right names are one to RBAC."""
    found: Used = {}
    for request in requests_of_all_lives():
        access = asked_for(request)
        found.setdefault(replace(access, name=access.name if access.name in NAMES else ""), request)
    return found


def without(grant: Access) -> list[Access]:
    return [other for other in GRANTS if other != grant]


def test_all_that_the_controller_asks_for_is_granted(used: Used) -> None:
    assert [str(access) for access in sorted(used) if not allows(GRANTS, access)] == []


@pytest.mark.parametrize("grant", GRANTS, ids=str)
def test_without_this_right_something_is_refused(used: Used, grant: Access) -> None:
    assert [access for access in used if not allows(without(grant), access)], f"nothing needs it: {grant}"


def test_no_right_is_granted_twice_nor_for_everything() -> None:
    assert len(set(GRANTS)) == len(GRANTS)
    assert not any("*" in part for grant in GRANTS for part in (grant.verb, grant.group, grant.resource, grant.name))


@pytest.fixture(scope="module")
def real(apiserver: Path) -> Iterator[Replay]:
    made = Replay(apiserver)
    yield made
    made.close()


@pytest.mark.apiserver
def test_a_real_api_server_lets_in_all_that_the_controller_asks_for(real: Replay, used: Used) -> None:
    user = real.user(GRANTS)
    real.until_in_force(user, next(iter(used.values())))
    assert [said for request in used.values() if (said := real.refusal(user, request))] == []


@pytest.mark.apiserver
@pytest.mark.parametrize("grant", GRANTS, ids=str)
def test_a_real_api_server_refuses_a_request_of_the_controller_without_this_right(
    real: Replay, used: Used, grant: Access
) -> None:
    user = real.user(without(grant))
    real.until_in_force(user, next(request for access, request in used.items() if allows(without(grant), access)))
    needing = [request for access, request in used.items() if not allows(without(grant), access)]
    for request in needing:
        wanted = f'cannot {grant.verb} resource "{grant.resource}" in API group "{grant.group}"'
        assert wanted in real.refusal(user, request), f"{request.method} {request.path}"
