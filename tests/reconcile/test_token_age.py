"""When the token of a namespace was last changed, by the API server's own notes of who wrote what."""

from __future__ import annotations

from typing import Any

import pytest

from controller.reconcile.engines import changed_at

CREATED, ROTATED, LABELLED = "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-05-01T00:00:00Z"
MADE = {"time": CREATED, "fieldsV1": {"f:data": {".": {}, "f:token": {}}, "f:type": {}}}
CHANGED = {"time": ROTATED, "fieldsV1": {"f:data": {"f:token": {}, "f:previous-token": {}}}}
OTHER = {"time": LABELLED, "fieldsV1": {"f:metadata": {"f:labels": {}}}}
KEPT_OLD = {"time": LABELLED, "fieldsV1": {"f:data": {"f:previous-token": {}}}}


@pytest.mark.parametrize(
    ("fields", "when"),
    [
        ([MADE], CREATED),
        ([MADE, CHANGED], ROTATED),
        ([CHANGED, MADE], ROTATED),
        ([MADE, OTHER], CREATED),
        ([MADE, KEPT_OLD], CREATED),
        ([OTHER], CREATED),
        (None, CREATED),
        ([{"time": "yesterday", "fieldsV1": MADE["fieldsV1"]}], None),
    ],
)
def test_a_token_is_as_old_as_its_last_value(fields: Any, when: str | None) -> None:
    secret = {"metadata": {"creationTimestamp": CREATED, "managedFields": fields}}
    found = changed_at(secret, "token")
    assert (found.strftime("%Y-%m-%dT%H:%M:%SZ") if found else None) == when


def test_a_secret_that_says_nothing_has_no_age() -> None:
    assert changed_at({}, "token") is None
