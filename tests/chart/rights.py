"""What RBAC grants and what a client asks for, as one can compare them. Knows nothing of who asks, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.fakes.apiserver import parse
from tests.fakes.connection import Request

_WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, order=True)
class Access:
    """One verb on one resource, `plural` or `plural/subresource`; `name` is empty where the request has none."""

    verb: str
    group: str
    resource: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.group}/{self.resource} {self.name}".rstrip()


def asked_for(request: Request) -> Access:
    """What the API server would ask its authorizer."""
    place, subresource = parse(request.path)
    group = place.group.rpartition("/")[0]
    resource = f"{place.plural}/{subresource}" if subresource else place.plural
    verb = _WRITES.get(request.method) or ("get" if place.name else "watch" if request.watch else "list")
    return Access(verb, group, resource, place.name)


def grants(rules: Iterable[Mapping[str, Any]]) -> list[Access]:
    """The rules taken apart; a grant without a name is for all names."""
    return list(_taken_apart(rules))


def allows(granted: Iterable[Access], wanted: Access) -> bool:
    return any(
        (grant.verb, grant.group, grant.resource) == (wanted.verb, wanted.group, wanted.resource)
        and grant.name in ("", wanted.name)
        for grant in granted
    )


def _taken_apart(rules: Iterable[Mapping[str, Any]]) -> Iterator[Access]:
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames", [""]):
                        yield Access(verb, group, resource, name)
