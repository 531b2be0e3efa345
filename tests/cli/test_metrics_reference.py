"""docs/metrics.md lists what the processes serve, and what they serve is called as Prometheus wants it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from controller.api.crd import ROOT, main
from controller.cli.main import app
from controller.cli.metrics_reference import (
    Declared,
    metrics_reference,
    of_jobs,
    of_plugin,
    of_releases,
    of_runtime,
)
from controller.job.progress import JobMetrics, Progress
from controller.reconcile.release_metrics import FAMILIES
from tests.cli.exposition import whole_exposition

ALL = [*of_releases(), *of_runtime(), *of_plugin(), *of_jobs()]
# What a name may end in: a unit, or what is counted where there is no unit.
UNITS = {"seconds", "bytes", "ratio", "total", "info"}
WITHOUT_UNIT = {
    # states: 1 for what is the case
    *("adapterrelease_status_condition", "adapterrelease_rollout_step", "adapterrelease_waiting_for_people"),
    "adapterrelease_adapter_loaded",
    # numbers of things; those of a stage are bytes, layers or answers, as its label or its stage says
    *("adapterrelease_base_slots", "adapterrelease_build_stage_done", "adapterrelease_build_stage_expected"),
    *("adapterrelease_job_stage_done", "adapterrelease_job_stage_expected", "adapterrelease_requests_in_flight"),
    "adapterrelease_job_stage_bytes_per_second",
    # names that are not ours
    *("workqueue_depth", "controller_runtime_active_workers", "controller_runtime_max_concurrent_reconciles"),
    "leader_election_master_status",
}
RUN = CliRunner()


@pytest.mark.parametrize("declared", ALL, ids=lambda d: d.name)
def test_a_metric_is_called_as_prometheus_wants_it(declared: Declared) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", declared.name)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", label) for label in declared.labels)
    assert "le" not in declared.labels
    assert declared.name.endswith("_total") == (declared.kind == "counter")
    assert declared.name.rpartition("_")[2] in UNITS or declared.name in WITHOUT_UNIT
    assert declared.text and not declared.text.endswith(".")


def test_what_needs_no_unit_exists() -> None:
    assert {d.name for d in ALL} >= WITHOUT_UNIT


def test_no_name_is_there_twice_or_is_the_beginning_of_a_series_of_another() -> None:
    names = [d.name for d in ALL]
    assert len(set(names)) == len(names)
    histograms = {d.name for d in ALL if d.kind == "histogram"}
    assert not {f"{h}_{end}" for h in histograms for end in ("bucket", "sum", "count")} & set(names)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_every_label_of_a_release_s_metric_is_bounded(family: Declared) -> None:
    """What people name, and words of the API. Ids and messages make a series for each of them."""
    bounded = {
        *("namespace", "name", "base", "stage", "model", "condition", "status", "reason", "backend", "version"),
        *("artifact", "step", "what", "suite", "of", "to", "cause", "pod", "state", "persistentvolumeclaim", "plugin"),
    }
    assert set(family.labels) <= bounded


def documented() -> Iterator[tuple[str, str, str]]:
    for line in (ROOT / "docs" / "metrics.md").read_text().splitlines():
        if row := re.fullmatch(r"\| `(\w+)` \| (\w+) \| (.*?) \| .+ \|", line):
            yield row[1], row[2], row[3]


def test_the_page_lists_each_metric_with_its_labels() -> None:
    wanted = [(d.name, d.kind, ", ".join(f"`{label}`" for label in d.labels)) for d in ALL]
    assert list(documented()) == wanted


def test_what_is_served_has_the_labels_that_are_listed() -> None:
    """Of all that a life of a release makes; each metric of releases is among it."""
    listed = {d.name: (d.kind, set(d.labels)) for d in ALL}
    served = set()
    for family in text_string_to_metric_families(whole_exposition()):
        name = family.name + ("_total" if family.type == "counter" else "")
        if name in listed and family.samples:
            served.add(name)
            kind, labels = listed[name]
            assert family.type == kind, name
            assert {label for s in family.samples for label in s.labels} - {"le"} == labels, name
            assert family.documentation, name
    assert {d.name for d in of_releases()} - served == set()


def test_a_running_job_serves_what_is_listed() -> None:
    registry = CollectorRegistry()
    registry.register(JobMetrics(Progress()))
    served = {f.name: f for f in text_string_to_metric_families(generate_latest(registry).decode())}
    assert [*served] == [d.name for d in of_jobs()]
    assert {tuple(s.labels) for f in served.values() for s in f.samples} == {d.labels for d in of_jobs()}


def test_the_page_is_up_to_date() -> None:
    """`crd --check` looks at it, too."""
    assert main(check=True, more={"docs/metrics.md": metrics_reference()}) == 0


def test_the_command_notices_a_page_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.cli.metrics_reference.metrics_reference", lambda: "another page\n")
    result = RUN.invoke(app, ["crd", "--check"])
    assert result.exit_code == 1
    assert "docs/metrics.md is out of date" in result.output
