"""Which releases look again when something changes."""

from __future__ import annotations

from typing import Any

import pytest

from controller.reconcile.caches import Caches, Concerned, Namespaces, enqueueing, enqueueing_deleted, without_spec
from controller.runtime.indexer import Indexer
from controller.runtime.resources import Key

Json = dict[str, Any]


def made(name: str, namespace: str = "llm", labels: Json | None = None, **fields: Any) -> Json:
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels or {}}, **fields}


def lister(*objects: Json) -> Indexer:
    indexer = Indexer()
    for obj in objects:
        indexer.put(obj)
    return indexer


BASE = made("base", spec={"selector": {"matchLabels": {"app": "base"}}})
RELEASES = lister(
    made("one", spec={"baseRef": {"name": "base"}}),
    made("two", spec={"baseRef": {"name": "base"}}),
    made("else", spec={"baseRef": {"name": "another"}}),
    made("one", "elsewhere", spec={"baseRef": {"name": "base"}}),
)
CONCERNED = Concerned(Caches(RELEASES, lister(BASE), Indexer(), Indexer(), Indexer(), Indexer()))
ONE, TWO = Key("llm", "one"), Key("llm", "two")
OURS = {"adapterrelease.dev/release": "one"}


@pytest.mark.parametrize(
    ("concerned", "obj", "expected"),
    [
        (CONCERNED.by_release, made("one", spec={"baseRef": {"name": "base"}}), {ONE}),
        (CONCERNED.by_deleted_release, made("gone", spec={"baseRef": {"name": "base"}}), {ONE, TWO}),
        (CONCERNED.by_pod, made("pod", labels={"app": "base", "x": "y"}), {ONE, TWO}),
        (CONCERNED.by_pod, made("pod", labels={"app": "shop"}), set()),
        (CONCERNED.by_pod, made("pod", labels=OURS), {ONE}),
        (CONCERNED.by_deployment, BASE, {ONE, TWO}),
        (CONCERNED.by_deployment, made("one-merged-x", labels=OURS), {ONE}),
        (CONCERNED.by_label, made("one-import-x", labels=OURS), {ONE}),
        (CONCERNED.by_service, made("one"), {ONE}),
        (CONCERNED.by_service, made("two-preview"), {TWO}),
        (CONCERNED.by_service, made("two-adapter"), {TWO}),
        (CONCERNED.by_service, made("shop"), set()),
        (CONCERNED.by_endpoint_slice, made("one-x7z", labels={"kubernetes.io/service-name": "one"}), {ONE}),
        (CONCERNED.by_endpoint_slice, made("one-x7z"), set()),
    ],
)
def test_a_change_concerns(concerned: Any, obj: Json, expected: set[Key]) -> None:
    assert set(concerned(obj)) == expected


def test_a_label_that_is_gone_concerned_somebody() -> None:
    added: list[Key] = []
    handle = enqueueing(CONCERNED.by_pod, added.append)
    handle(made("pod", labels=OURS), made("pod", labels={}))
    handle(made("pod", labels=OURS), None)
    assert added == [ONE, ONE]


def test_only_a_deletion_wakes_the_others() -> None:
    added: list[Key] = []
    handle = enqueueing_deleted(CONCERNED.by_deleted_release, added.append)
    release = made("gone", spec={"baseRef": {"name": "base"}})
    handle(None, release)
    handle(release, release)
    assert added == []
    handle(release, None)
    assert set(added) == {ONE, TWO}


def test_several_namespaces_are_one_cache_and_others_are_empty() -> None:
    both = Namespaces({"llm": lister(BASE), "prod": lister(made("base", "prod"))})
    assert both.get("prod", "base") == made("base", "prod")
    assert both.get("elsewhere", "base") is None
    assert len(both.list()) == 2
    assert both.list("llm", {"app": "x"}) == []


def test_pods_are_kept_without_what_nobody_reads() -> None:
    pod = made("pod", spec={"containers": []}, status={"phase": "Running"})
    assert without_spec(pod) == made("pod", status={"phase": "Running"})
