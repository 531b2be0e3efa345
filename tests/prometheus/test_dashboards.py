"""The dashboards: complete, stable, up to date, and every query of theirs has an answer in a life of releases."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from dashboards.__main__ import DIRECTORY, documents, text_of
from dashboards.board import panels_of
from tests.prometheus import contract
from tests.prometheus.boards import Asked, filled, queries, values_for
from tests.prometheus.life import BACK, OBSERVES, STABLE
from tests.prometheus.rules import FILES, ROOT, rules
from tests.prometheus.scraped import releases
from tests.prometheus.server import Prometheus

Json = dict[str, Any]
BOARDS = documents()
PANELS = [(name, panel) for name, document in BOARDS.items() for panel in panels_of(document)]
UIDS = {
    "release.json": "adapterrelease-release",
    "fleet.json": "adapterrelease-fleet",
    "controller.json": "adapterrelease-controller",
}
GRAFANAS = {"__rate_interval", "__range", "__all"}  # variables and values of its own
every_panel = pytest.mark.parametrize("panel", [p for _, p in PANELS], ids=[f"{n}: {p['title']}" for n, p in PANELS])
every_board = pytest.mark.parametrize("name", BOARDS)


@every_board
def test_what_is_in_the_manifests_is_what_the_code_says(name: str) -> None:
    assert (DIRECTORY / name).read_text() == text_of(BOARDS[name]), "run `make generate`"


@every_panel
def test_a_panel_has_title_unit_description_legends_and_the_chosen_data_source(panel: Json) -> None:
    assert panel["title"]
    assert len(panel["description"]) > 15
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["targets"]
    is_table = panel["type"] == "table"
    assert all(target.get("legendFormat") or is_table for target in panel["targets"])


@every_panel
def test_a_panel_says_where_its_alerts_are_explained(panel: Json) -> None:
    alerts = {rule["alert"] for rule in rules("alerts.yaml")}
    for link in panel.get("links", ()):
        assert link["title"] in alerts
        assert link["url"] == f"${{runbooks}}/{link['title']}.md"
        assert link["title"] in panel["description"]


def test_every_alert_is_named_by_a_panel_or_has_none_to_look_at() -> None:
    linked = {link["title"] for _, panel in PANELS for link in panel.get("links", ())}
    without = {"AdapterReleaseImportFailed", "AdapterReleaseDeadlineNear", "AdapterReleaseNoWayBack"}
    without |= {"AdapterReleaseBlocked", "AdapterReleaseUpdatesNotGapFree", "AdapterReleaseEngineTokenOld"}
    without |= {"AdapterReleasePluginErrors"}
    assert linked | without == {rule["alert"] for rule in rules("alerts.yaml")}
    assert not linked & without


@every_board
def test_uids_last_and_ids_and_titles_are_unique(name: str) -> None:
    document = BOARDS[name]
    assert document["uid"] == UIDS[name]
    ids = Counter(panel["id"] for panel in document["panels"])
    titles = Counter(panel["title"] for panel in document["panels"])
    assert [key for key, times in (ids + titles).items() if times > 1] == []


@every_board
def test_nothing_points_to_a_server(name: str) -> None:
    assert re.findall(r"https?://[^\"]*", json.dumps(BOARDS[name])) == []


@every_board
def test_panels_fill_the_grid_and_do_not_overlap(name: str) -> None:
    taken: Counter[tuple[int, int]] = Counter()
    for panel in BOARDS[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        taken.update((place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"]))
    assert max(taken.values()) == 1
    widths = Counter(y for _, y in taken)
    assert set(widths.values()) == {24}, "a line of panels is not full"


@every_board
def test_every_variable_that_is_used_is_there(name: str) -> None:
    there = {variable["name"] for variable in BOARDS[name]["templating"]["list"]} | GRAFANAS
    used = set(re.findall(r"\$\{?([a-zA-Z_]\w*)", json.dumps(BOARDS[name])))
    assert used <= there
    assert there <= used | GRAFANAS | {"runbooks"}


# -- asked of a real Prometheus


def _names(tree: Any) -> Iterator[tuple[str, set[str]]]:
    """Each selector of a parsed query: the metric, and the labels that it is matched by."""
    if isinstance(tree, dict):
        if tree.get("type") in ("vectorSelector", "matrixSelector"):
            labels = {matcher["name"] for matcher in tree["matchers"]} - {"__name__"}
            yield tree["name"], labels
        for value in tree.values():
            yield from _names(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _names(value)


def _unknown(server: Prometheus, expr: str) -> list[str]:
    known, found = contract.metrics(), []
    for name, labels in _names(server.tree(expr)):
        if name not in known:
            found.append(name)
        elif wrong := labels - known[name]:
            found.append(f"{name}: {wrong}")
    return found


@pytest.mark.prometheus
def test_queries_and_rules_ask_only_for_metrics_and_labels_that_exist(lived: tuple[Prometheus, int, int]) -> None:
    server, *_ = lived
    exprs = [asked.expr for asked in queries()] + [rule["expr"] for file in FILES for rule in rules(file)]
    assert {expr: unknown for expr in exprs if (unknown := _unknown(server, expr))} == {}


@pytest.mark.prometheus
def test_each_release_that_waits_for_people_is_listed_also_where_no_step_is_under_way(
    lived: tuple[Prometheus, int, int],
) -> None:
    """A canary's step waits for an approval; after a rejection nothing is under way."""
    server, _, ended = lived
    (asked,) = [asked for asked in queries() if str(asked) == "fleet.json: What waits for people A"]
    found = server.instant(asked.expr, ended - 60)
    assert {(one["metric"]["name"], one["metric"]["what"]) for one in found} == {
        ("invoice-bot", "Approval"),
        ("support-bot", "Decision"),
    }


@pytest.mark.prometheus
@pytest.mark.parametrize("asked", list(queries()), ids=str)
def test_every_query_has_an_answer_in_a_life_of_releases(asked: Asked, lived: tuple[Prometheus, int, int]) -> None:
    server, began, ended = lived
    found = server.range(asked.expr, began, ended, 30)
    numbers = [value for series in found for _, value in series["values"] if value not in ("NaN", "+Inf", "-Inf")]
    assert numbers, f"no data: {asked.expr}"


@pytest.mark.prometheus
def test_every_choice_of_a_variable_has_values(lived: tuple[Prometheus, int, int]) -> None:
    server, began, ended = lived
    for name, document in BOARDS.items():
        for variable in document["templating"]["list"]:
            if variable["type"] == "query":
                found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
                assert found, variable["query"]
                series = server.range(filled(found[1], values_for(name)), began, ended, 30)
                assert all(one["metric"].get(found[2]) for one in series) and series, variable


@pytest.mark.prometheus
def test_the_swap_and_the_way_back_are_marked_and_nothing_else(lived: tuple[Prometheus, int, int]) -> None:
    server, began, ended = lived
    (mark,) = [asked for asked in queries() if asked.panel.startswith("annotation")]
    found = server.range(mark.expr, began, ended, 30)
    times = {series["metric"]["backend"]: [float(at) - began for at, _ in series["values"]] for series in found}
    assert {backend: min(at) for backend, at in times.items()} == {"Artifact": 2910, "Adapter": 5460}
    assert all(max(at) - min(at) <= 60 for at in times.values())


def test_dashboards_named_in_the_docs_are_those_that_there_are() -> None:
    page = (ROOT / "docs" / "dashboards.md").read_text()
    for name, document in BOARDS.items():
        assert f"manifests/grafana/{name}" in page
        assert document["title"] in page


def test_the_life_has_only_series_that_are_declared() -> None:
    """What the tests above ask of is what the controller, the plugin and the others really expose."""
    known = contract.metrics()
    for now in (STABLE, OBSERVES, BACK):
        for sample in releases(now):
            assert set(sample.labels) <= known[sample.name] - {"job", "instance"}, sample
