"""The dashboard of all releases: where each stands, what waits, what failed, and what the bases have room for."""

from __future__ import annotations

from dashboards.board import Board
from dashboards.panels import BAD, GOOD, HALF, IDLE, THIRD, WARN, bars, lines, listing, number
from dashboards.queries import RATE, Query

UID = "adapterrelease-fleet"
_ALL = 'namespace=~"$namespace"'
_ONE = "namespace, name"
_CONDITION = "adapterrelease_status_condition"
_STEPS = 12  # rows of the grid: there are up to ten steps


def _count(metric: str, selector: str) -> str:
    """How many releases; 0 is shown as such."""
    found, everything = f"{metric}{{{_ALL}, {selector}}}", f"adapterrelease_info{{{_ALL}}}"
    return f"count(max by ({_ONE}) ({found})) or 0 * count(max by ({_ONE}) ({everything}))"


def _named(series: str, label: str, new: str, by: str = "") -> str:
    """The label under another name, since columns of several metrics stand in one table."""
    return f'max by ({_ONE}, {new}{by}) (label_replace({series}, "{new}", "$1", "{label}", "(.*)"))'


def board() -> Board:
    made = Board(UID, "Adapter releases: fleet", "All releases: stages, what waits, what failed, room.", hours=24)
    made.choice("namespace", "Namespace", "label_values(adapterrelease_info, namespace)", every=True)
    _counts(made)
    _releases(made)
    _attention(made)
    _room(made)
    return made


def _counts(made: Board) -> None:
    made.row(
        "At a glance",
        number(
            "Releases",
            "All that the controller knows.",
            "short",
            Query(f"count(max by ({_ONE}) (adapterrelease_info{{{_ALL}}}))", "releases"),
        ),
        number(
            "Ready",
            "What the spec asks for is what answers.",
            "short",
            Query(_count(_CONDITION, 'condition="Ready", status="True"'), "ready"),
            steps=((None, GOOD),),
        ),
        number(
            "Merged",
            "Releases that an artifact serves.",
            "short",
            Query(_count("adapterrelease_serving_info", 'backend="Artifact"'), "merged"),
        ),
        number(
            "Under way",
            "A step is being done: an import, a build, a validation, a swap.",
            "short",
            Query(_count("adapterrelease_rollout_step", 'step!="Idle"'), "under way"),
        ),
        number(
            "Wait for people",
            "Releases that go on when a person decides.",
            "short",
            Query(_count("adapterrelease_waiting_for_people", 'what!=""'), "waiting"),
            steps=((None, GOOD), (1, WARN)),
            runbooks=["AdapterReleaseWaitingForPeople"],
        ),
        number(
            "Failed",
            "Releases with the condition Degraded.",
            "short",
            Query(_count(_CONDITION, 'condition="Degraded", status="True"'), "failed"),
            steps=((None, GOOD), (1, BAD)),
        ),
    )


def _releases(made: Board) -> None:
    synced = f"time() - max by ({_ONE}) (adapterrelease_last_successful_sync_timestamp_seconds{{{_ALL}}})"
    columns = {
        "namespace": "Namespace",
        "name": "Release",
        "base": "Base",
        "stage": "Stage",
        "serves": "Serves",
        "version": "Version",
        "ready": "Ready",
        "step": "Step",
        "synced": "Last sync",
    }
    made.row(
        "Where each stands",
        listing(
            "All releases",
            "One line for each release. Ready has the reason of that condition; Last sync is the age of the last "
            "look that succeeded.",
            columns,
            Query(f"max by ({_ONE}, base, stage) (adapterrelease_info{{{_ALL}}})", ""),
            Query(_named(f"adapterrelease_serving_info{{{_ALL}}}", "backend", "serves", ", version"), ""),
            Query(_named(f'{_CONDITION}{{{_ALL}, condition="Ready"}}', "reason", "ready"), ""),
            Query(f"max by ({_ONE}, step) (adapterrelease_rollout_step{{{_ALL}}})", ""),
            Query(synced, "synced"),
            units={"Last sync": "s"},
            colors={"Ready": {"Serving": GOOD, "Pending": IDLE, "RolledBack": BAD, "NoReadyBackend": BAD}},
            runbooks=["AdapterReleaseNotSyncing", "AdapterReleaseNotServing"],
        ),
    )


def _attention(made: Board) -> None:
    waited = f"max by ({_ONE}) (adapterrelease_waited_for_people_seconds_total{{{_ALL}}})"
    waiting = f"max by ({_ONE}, what) (adapterrelease_waiting_for_people{{{_ALL}}})"
    made.row(
        "What needs somebody",
        listing(
            "What waits for people",
            "Approval of a canary, a Decision after a rejection, or Mending of what a condition names. Waited: all in "
            "all, since the controller that leads began.",
            {"namespace": "Namespace", "name": "Release", "what": "For", "waited": "Waited"},
            Query(f"{waiting} * on ({_ONE}) group_left () {waited}", "waited"),
            width=HALF,
            units={"Waited": "s"},
            runbooks=["AdapterReleaseWaitingForPeople"],
        ),
        listing(
            "What failed",
            "Reason of the condition Degraded. What served before still serves; kubectl describe has the message.",
            {"namespace": "Namespace", "name": "Release", "reason": "Reason"},
            Query(f'max by ({_ONE}, reason) ({_CONDITION}{{{_ALL}, condition="Degraded", status="True"}})', ""),
            width=HALF,
            colors={"Reason": {"RolledBack": BAD, "ValidationFailed": BAD, "NoBackendToRollBackTo": BAD}},
            runbooks=["AdapterReleaseValidationFailed", "AdapterReleaseRolledBack", "AdapterReleaseBuildFailed"],
        ),
        lines(
            "Switches of the routes",
            "By cause, where there are any. Causes that are no promotion, update or wish are rollbacks.",
            "short",
            Query(
                f"round(sum by (cause) (increase(adapterrelease_switches_total{{{_ALL}}}[{RATE}]))) > 0", "{{cause}}"
            ),
            width=THIRD,
        ).height(_STEPS),
        bars(
            "How long steps take",
            "Median over all releases, since the controller that leads began; steps that none has ended are left out.",
            "s",
            Query(
                "histogram_quantile(0.5, sum by (le, step) (adapterrelease_step_duration_seconds_bucket)) >= 0",
                "{{step}}",
            ),
            width=THIRD,
        ).height(_STEPS),
        bars(
            "Waited for people",
            "Time in which releases waited for a decision, since the controller that leads began.",
            "s",
            Query(
                f"sum by ({_ONE}) (adapterrelease_waited_for_people_seconds_total{{{_ALL}}})", "{{namespace}}/{{name}}"
            ),
            width=THIRD,
        ).height(_STEPS),
    )


def _room(made: Board) -> None:
    requests = f'sum by (release) (rate(adapterrelease_requests_total{{{_ALL}, release!=""}}[{RATE}]))'
    used, total = (
        f'max by (namespace, base) (adapterrelease_base_slots{{{_ALL}, state="{state}"}})'
        for state in ("used", "total")
    )
    claims = f"max by (namespace, persistentvolumeclaim) (adapterrelease_base_info{{{_ALL}}})"
    free, whole = (
        f"max by (namespace, persistentvolumeclaim) (kubelet_volume_stats_{what}_bytes{{{_ALL}}})"
        for what in ("available", "capacity")
    )
    made.row(
        "Traffic and room",
        lines(
            "Requests by release",
            "Answered requests of the ten busiest releases.",
            "reqps",
            Query(f"topk(10, {requests})", "{{release}}"),
        ),
        bars(
            "Speedup by release",
            "Output tokens a second of the artifact over the adapter's, in the validation.",
            "suffix:x",
            Query(f"max by ({_ONE}) (adapterrelease_artifact_speedup_ratio{{{_ALL}}})", "{{namespace}}/{{name}}"),
            decimals=2,
            steps=((None, WARN), (1, GOOD)),
        ),
        bars(
            "Adapter slots in use",
            "Places for adapters in the base's servers (--max-cpu-loras). Without a free one nothing new is loaded.",
            "percentunit",
            Query(f"{used} / ({total} > 0)", "{{namespace}}/{{base}}"),
            maximum=1,
            steps=((None, GOOD), (0.75, WARN), (1, BAD)),
            runbooks=["AdapterReleaseAdapterMissing"],
        ),
        bars(
            "Stores in use",
            "Share of each store's volume that is used, where the kubelet can say.",
            "percentunit",
            Query(
                f"(1 - {free} / {whole}) and on (namespace, persistentvolumeclaim) {claims}",
                "{{namespace}}/{{persistentvolumeclaim}}",
            ),
            maximum=1,
            decimals=1,
            steps=((None, GOOD), (0.8, WARN), (0.9, BAD)),
            runbooks=["AdapterReleaseStoreNearlyFull", "AdapterReleaseNextArtifactDoesNotFit"],
        ),
    )
