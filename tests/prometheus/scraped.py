"""The life as a file that `promtool tsdb create-blocks-from openmetrics` reads: each sample with the labels of its
target, as a PodMonitor with honorLabels gives them, and its time.
"""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from controller.api.status import Step
from controller.reconcile.board import step_durations
from tests.prometheus.life import (
    ARTIFACT,
    BACK,
    EVERY,
    FAILS,
    GIB,
    INVOICE,
    INVOICE_ARTIFACT,
    LASTS,
    OBSERVES,
    PROMOTED,
    STABLE,
    STARTS,
    SUMMARY,
    SWITCHES,
    VALIDATES,
    Controller,
    Sample,
    Server,
    serving_at,
    stage_at,
    step_at,
)

Labels = dict[str, str]
BOT = {"namespace": "llm", "name": "support-bot"}
BILLS = {"namespace": "llm", "name": "invoice-bot"}
SUMS = {"namespace": "shop", "name": "summary-bot"}
ALL = (BOT, BILLS, SUMS)
_BASE = {"support-bot": "tiny-llama", "invoice-bot": "tiny-llama", "summary-bot": "qwen"}
_CONDITIONS = (
    "Ready",
    "Degraded",
    "Promoted",
    "Validated",
    "ArtifactBuilt",
    "AdapterImported",
    "AdapterLoaded",
    "GapFree",
)
SYSTEM = "adapter-release-system"
BEGAN = 1_790_000_000 - 1_790_000_000 % 7200  # one block


def lived_through(promtool: Path, directory: Path, began: int) -> Path:
    """A directory with blocks of Prometheus's data."""
    return blocks_of(_scrapes(), promtool, directory, began)


def blocks_of(scrapes: Iterable[tuple[int, Sample]], promtool: Path, directory: Path, began: int) -> Path:
    """Samples with the seconds since `began`, which is Unix time; from there times that samples tell count, too."""
    _write(directory / "life.txt", scrapes, began)
    make = [promtool, "tsdb", "create-blocks-from", "openmetrics", directory / "life.txt", directory / "blocks"]
    subprocess.run(make, check=True, capture_output=True)
    return directory / "blocks"


def _write(path: Path, scrapes: Iterable[tuple[int, Sample]], began: int) -> None:
    by_series: dict[str, list[str]] = defaultdict(list)
    for at, sample in scrapes:
        labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
        value = sample.value + began * sample.name.endswith("_timestamp_seconds")
        by_series[f"{sample.name}{{{labels}}}"].append(f"{value:.12g} {began + at}")
    with path.open("w") as file:
        for series, points in sorted(by_series.items()):
            file.writelines(f"{series} {point}\n" for point in points)
        file.write("# EOF\n")


def _scrapes() -> Iterator[tuple[int, Sample]]:
    servers = [
        Server("llm", "tiny-llama-6d4-a"),
        Server("llm", "tiny-llama-6d4-b"),
        Server("llm", "support-bot-merged-99aabbccddee-x", since=STARTS + 120),
        Server("llm", "invoice-bot-merged-444455556666-y"),
        Server("shop", "qwen-5c8-a"),
    ]
    controllers = [Controller("controller-a", leads=True), Controller("controller-b", leads=False)]
    for now in range(0, LASTS, EVERY):
        _traffic(now, servers)
        for server in servers:
            if server.since <= now <= server.until:
                target = _target(server.namespace, server.pod, "vllm")
                yield from ((now, _on(target, s)) for s in server.samples(busy=0.5 + 0.3 * ((now // 600) % 2)))
        for controller in controllers:
            controller.work(now)
            target = _target(SYSTEM, controller.pod, "adapter-release-controller")
            yield from ((now, _on(target, s)) for s in controller.samples(now))
        target = _target(SYSTEM, "controller-a", "adapter-release-controller")
        yield from ((now, _on(target, s)) for s in releases(now))
        yield from ((now, s) for s in _kubelet(now))


def _traffic(now: int, servers: list[Server]) -> None:
    one, two, merged, bills, shop = servers
    requests = 60 + 6 * ((now // 300) % 4)
    if serving_at(now) is ARTIFACT:
        merged.serve(ARTIFACT, requests, first=0.035, each=0.006, failed=20 if now >= FAILS else 0)
    else:
        for base in (one, two):
            base.serve(serving_at(now), requests // 2, first=0.06, each=0.014)
    if VALIDATES <= now < SWITCHES:
        merged.serve(ARTIFACT, 16, first=0.03, each=0.005)
    for base in (one, two):
        base.serve(INVOICE, 9, first=0.06, each=0.014)
    bills.serve(INVOICE_ARTIFACT, 2, first=0.03, each=0.005)
    shop.serve(SUMMARY, 12, first=0.09, each=0.02)


def releases(now: int) -> Iterator[Sample]:
    """What the controller that leads says of releases."""
    yield from _of_bot(now)
    yield from _of_the_others(now)
    for one in ALL:
        base = {"base": _BASE[one["name"]], "stage": "Experimental" if one is SUMS or now < STABLE else "Stable"}
        yield Sample("adapterrelease_info", {**one, **base, "model": one["name"]}, 1)
        yield Sample("adapterrelease_last_successful_sync_timestamp_seconds", one, now - now % 10)
    for namespace, base, used in (("llm", "tiny-llama", 2), ("shop", "qwen", 1)):
        of_base = {"namespace": namespace, "base": base}
        yield Sample("adapterrelease_base_slots", {**of_base, "state": "used"}, used)
        yield Sample("adapterrelease_base_slots", {**of_base, "state": "total"}, 4)
        yield Sample("adapterrelease_base_info", {**of_base, "persistentvolumeclaim": "store", "plugin": "true"}, 1)
        yield Sample("adapterrelease_engine_token_created_timestamp_seconds", {"namespace": namespace}, -86400)


def _of_bot(now: int) -> Iterator[Sample]:
    step, since = step_at(now)
    _, version, backend = serving_at(now)
    kind = "Artifact" if backend.startswith("artifact") else "Adapter"
    shown = {"backend": kind, "version": version, "artifact": backend[9:] if kind == "Artifact" else ""}
    yield Sample("adapterrelease_serving_info", {**BOT, **shown}, 1)
    yield from _step(BOT, step, since, {"Building": 7200, "Observing": 600}.get(step, 900))
    said = {
        "Ready": ("True", "Serving") if step == "Idle" and now < FAILS else ("False", "Pending"),
        "Degraded": ("True", "RolledBack") if now >= BACK else ("False", "AsExpected"),
        "Promoted": ("True", "Promoted") if PROMOTED <= now < FAILS else ("False", "Pending"),
    }
    yield from _conditions(BOT, said)
    if now >= BACK:
        yield Sample("adapterrelease_waiting_for_people", {**BOT, "what": "Decision"}, 1)
    yield Sample("adapterrelease_waited_for_people_seconds_total", BOT, max(0, now - BACK))
    for pod in ("tiny-llama-6d4-a", "tiny-llama-6d4-b"):
        lost = pod.endswith("b") and 600 <= now < 660
        yield Sample("adapterrelease_adapter_loaded", {**BOT, "pod": pod}, 0 if lost else 1)
    if running := stage_at(now):
        stage, share = running
        of_stage = {**BOT, "stage": stage}
        yield Sample("adapterrelease_build_stage_done", of_stage, share * 8e9)
        yield Sample("adapterrelease_build_stage_expected", of_stage, 8e9)
        yield Sample("adapterrelease_build_stage_bytes", of_stage, share * 8e9)
    if now >= STARTS:
        yield from _artifact(BOT, ARTIFACT[2][9:], speedup=1.82 if now >= SWITCHES else None)
    for to, cause, at in (("Artifact", "Promoted", OBSERVES), ("Adapter", "ChecksFailed", BACK)):
        yield Sample("adapterrelease_switches_total", {**BOT, "to": to, "cause": cause}, int(now >= at))
    yield from _durations(now)


def _durations(now: int) -> Iterator[Sample]:
    """A series for each step from the beginning on, as the board has them."""
    made = step_durations()
    for step in set(Step) - {Step.IDLE}:
        made.labels(str(step))
    ended = [(Step.BUILDING, STARTS, 900.0), (Step.VALIDATING, SWITCHES, 480.0), (Step.OBSERVING, PROMOTED, 600.0)]
    for step, at, seconds in ended:
        if now >= at:
            made.labels(str(step)).observe(seconds)
    yield from (Sample(s.name, dict(s.labels), s.value) for family in made.collect() for s in family.samples)


def _of_the_others(now: int) -> Iterator[Sample]:
    yield Sample("adapterrelease_serving_info", {**BILLS, "backend": "Adapter", "version": "v3", "artifact": ""}, 1)
    yield Sample("adapterrelease_serving_info", {**SUMS, "backend": "Adapter", "version": "v2", "artifact": ""}, 1)
    yield from _step(BILLS, "Shifting", -1800, 86400)
    yield from _step(SUMS, "Idle", 0, 0)
    yield Sample("adapterrelease_waiting_for_people", {**BILLS, "what": "Approval"}, 1)
    yield Sample("adapterrelease_waited_for_people_seconds_total", BILLS, 1800 + now)
    yield from _conditions(BILLS, {"Ready": ("False", "Pending")})
    failed = {"Ready": ("False", "ValidationFailed"), "Degraded": ("True", "ValidationFailed")}
    yield from _conditions(SUMS, {**failed, "Validated": ("False", "ValidationFailed")})
    yield from _artifact(BILLS, "444455556666", speedup=1.6)
    yield from _artifact(SUMS, "000011112222", speedup=1.2)
    for one, pods in ((BILLS, ("tiny-llama-6d4-a", "tiny-llama-6d4-b")), (SUMS, ("qwen-5c8-a",))):
        for pod in pods:
            yield Sample("adapterrelease_adapter_loaded", {**one, "pod": pod}, 1)


def _step(one: Labels, step: str, since: int, lasts: int) -> Iterator[Sample]:
    yield Sample("adapterrelease_rollout_step", {**one, "step": step}, 1)
    if step != "Idle":
        yield Sample("adapterrelease_rollout_step_started_timestamp_seconds", {**one, "step": step}, since)
        yield Sample("adapterrelease_rollout_deadline_timestamp_seconds", one, since + lasts)


def _conditions(one: Labels, said: dict[str, tuple[str, str]]) -> Iterator[Sample]:
    for kind in _CONDITIONS:
        status, reason = said.get(kind, ("Unknown", "NotRequested") if kind == "Validated" else ("True", "Loaded"))
        if kind == "Degraded" and kind not in said:
            status, reason = "False", "AsExpected"
        labels = {**one, "condition": kind, "status": status, "reason": reason}
        yield Sample("adapterrelease_status_condition", labels, 1)


def _artifact(one: Labels, artifact: str, speedup: float | None) -> Iterator[Sample]:
    of_artifact = {**one, "artifact": artifact}
    yield Sample("adapterrelease_artifact_size_bytes", of_artifact, 5.2 * GIB)
    for stage, seconds in (("merge", 300.0), ("quantize", 480.0), ("publish", 120.0)):
        yield Sample("adapterrelease_build_stage_duration_seconds", {**one, "stage": stage}, seconds)
    if speedup is not None:
        yield Sample("adapterrelease_artifact_speedup_ratio", of_artifact, speedup)
        for suite, scores in (("support", (0.97, 0.965)), ("tone", (0.91, 0.9))):
            for of, score in zip(("adapter", "artifact"), scores, strict=True):
                yield Sample("adapterrelease_suite_score_ratio", {**one, "suite": suite, "of": of}, score)


def _kubelet(now: int) -> Iterator[Sample]:
    used = {"llm": 60 if now < OBSERVES else 65, "shop": 30}
    for namespace, gib in used.items():
        claim = {"namespace": namespace, "persistentvolumeclaim": "store", "job": "kubelet", "instance": "node"}
        yield Sample("kubelet_volume_stats_capacity_bytes", claim, 100 * GIB)
        yield Sample("kubelet_volume_stats_available_bytes", claim, (100 - gib) * GIB)


def _target(namespace: str, pod: str, job: str) -> Labels:
    return {"namespace": namespace, "pod": pod, "job": job, "instance": f"{pod}:8000"}


def _on(target: Labels, sample: Sample) -> Sample:
    """Labels of the metric win: honor_labels."""
    return Sample(sample.name, {**target, **sample.labels}, sample.value)
