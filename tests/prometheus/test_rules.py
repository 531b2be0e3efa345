"""Alerts and recording rules: complete, known to promtool, explained, and tested both ways."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from controller.api.reasons import Reason
from controller.api.status import ConditionType, Step
from tests.docs.pages import anchors
from tests.e2e.watched_life import CAUSES
from tests.prometheus.cases import CASES, Case
from tests.prometheus.rules import DIRECTORY, FILES, HURRY, ROOT, hurried, rules
from tests.prometheus.unit import document

ALERTS = {rule["alert"]: rule for rule in rules("alerts.yaml")}
every_alert = pytest.mark.parametrize("name", ALERTS)


@every_alert
def test_an_alert_says_how_bad_it_is_what_is_the_case_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert name.startswith("AdapterRelease")
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook_url"}
    assert not said["summary"].endswith(".")
    assert said["description"].endswith(".") and len(said["description"]) > 60


@every_alert
def test_an_alert_has_a_runbook(name: str) -> None:
    path = ALERTS[name]["annotations"]["runbook_url"]
    assert path == f"docs/runbooks/{name}.md"
    page = (ROOT / path).read_text()
    assert page.startswith(f"# {name}\n")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings == ["What it means", "What to look at", "What to do", "When it ends"]


@every_alert
def test_links_of_a_runbook_lead_somewhere(name: str) -> None:
    page = ROOT / "docs" / "runbooks" / f"{name}.md"
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())):
        there = (page.parent / target).resolve()
        assert there.is_file(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


def test_every_runbook_is_of_an_alert_that_there_is() -> None:
    pages = {page.stem for page in (ROOT / "docs" / "runbooks").glob("*.md")} - {"README"}
    assert pages == set(ALERTS)


def test_the_list_of_runbooks_has_them_all() -> None:
    listed = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|", (ROOT / "docs/runbooks/README.md").read_text(), re.M)
    assert listed == [(name, rule["labels"]["severity"]) for name, rule in ALERTS.items()]


def test_the_list_says_of_each_by_which_real_cause_it_is_tested_or_why_by_none() -> None:
    rows = re.findall(r"^\| (AdapterRelease\w+) \| (.+) \|$", (ROOT / "docs/runbooks/README.md").read_text(), re.M)
    assert {alert: cause for alert, cause in rows if alert in CAUSES} == CAUSES
    assert sorted(alert for alert, _ in rows) == sorted(ALERTS)
    assert f"divided by {HURRY};" in (ROOT / "docs/runbooks/README.md").read_text()


def test_a_hurried_alert_is_the_same_but_for_its_for_and_a_label() -> None:
    for rule in (rule for group in hurried() for rule in group["rules"]):
        real = ALERTS[rule["alert"]]
        assert rule["labels"] == real["labels"] | {"hurried": "yes"}
        assert {**rule, "for": "", "labels": {}} == {**real, "for": "", "labels": {}}
    found = {rule["alert"]: rule.get("for") for group in hurried() for rule in group["rules"]}
    assert found["AdapterReleaseWaitingForPeople"] == "30000ms" and found["AdapterReleaseImportFailed"] == "125ms"
    assert found["AdapterReleaseRolledBack"] is None


@pytest.mark.parametrize("file", FILES)
def test_words_in_the_rules_are_those_of_the_controller(file: str) -> None:
    """A reason, condition or step that is renamed must not silence an alert."""
    known = {"reason": set(Reason), "condition": set(ConditionType), "step": set(Step)}
    for rule in rules(file):
        for label, words in re.findall(r'\b(reason|condition|step)(?:=~|=|!=|!~)"([^"]*)"', rule["expr"]):
            assert set(words.split("|")) <= known[label], rule


def test_recorded_series_are_named_by_level_metric_and_operation() -> None:
    for rule in rules("recording.yaml"):
        assert re.fullmatch(r"[a-z_]+:adapterrelease_[a-z_]+:[a-z0-9_]+", rule["record"])


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert {case.alert for case in CASES if case.silent} == set(ALERTS)


@pytest.mark.prometheus
@pytest.mark.parametrize("file", FILES)
def test_promtool_finds_nothing_wrong_with_the_rules(file: str, promtool: Path) -> None:
    command = [promtool, "check", "rules", "--lint=all", "--lint-fatal", DIRECTORY / file]
    result = subprocess.run(command, text=True, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.prometheus
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_fires_when_it_should_and_only_then(case: Case, promtool: Path, tmp_path: Path) -> None:
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(document(case)))
    result = subprocess.run([promtool, "test", "rules", file], text=True, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
