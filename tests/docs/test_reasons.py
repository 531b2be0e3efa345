"""Every reason that the code can put into a condition has its line in docs/reasons.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "reasons.md"
_CAMEL = re.compile(r"[A-Z][a-z]+(?:[A-Z]+[a-z]*)*")
# Reasons of actions that could not be carried out: they are in the log (the event says ActionRefused), the next pass
# tries again.
LOGGED_ONLY = {
    *("InvalidObject", "NameInUse", "StalePod", "StaleRelease", "StillRouted", "TargetNotReady", "Unexpected"),
}
FROM_KUBERNETES = {"OOMKilled", "Error", "DeadlineExceeded", "BackoffLimitExceeded", "PodFailurePolicy"}


def explained() -> set[str]:
    return set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE))


def reasons_in(source: Path) -> Iterator[str]:
    """Strings that stand where a reason stands: `reason=`, `default_reason =`, Problem(...), _failure(...)."""
    for node in ast.walk(ast.parse(source.read_text())):
        places: list[ast.AST] = []
        if isinstance(node, ast.Call):
            places += [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            places += node.args if called in ("Problem", "_failure") else []
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("reason", "default_reason"):
            places.append(node.value)
        for place in places:
            constants = [c.value for c in ast.walk(place) if isinstance(c, ast.Constant)]
            yield from (c for c in constants if isinstance(c, str) and _CAMEL.fullmatch(c))


def test_every_reason_that_the_controller_gives_is_explained() -> None:
    """Those of jobs are an enum of their own: tests/api/test_reasons.py."""
    given = {reason for source in (ROOT / "controller/reconcile").rglob("*.py") for reason in reasons_in(source)}
    assert given
    assert sorted(given - explained() - LOGGED_ONLY) == []


def test_the_kubelet_s_and_the_job_controller_s_reasons_are_explained() -> None:
    assert sorted(FROM_KUBERNETES - explained()) == []
