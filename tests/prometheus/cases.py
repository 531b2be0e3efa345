"""For each alert: series with which it fires, and series, close to those, with which it does not.

Series are in promtool's notation, one value a minute. `at` is when it is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

Series = dict[str, str]
_BOT = 'namespace="llm", name="bot"'
_CONTROLLER = 'job="controller", instance="a:8080", namespace="system"'
_OTHER = 'job="controller", instance="b:8080", namespace="system"'
_QUEUES = {
    f'workqueue_depth{{{_CONTROLLER}, name="adapterrelease"}}': "0x60",
    f'workqueue_depth{{{_OTHER}, name="adapterrelease"}}': "0x60",
}
_CLAIM = 'namespace="llm", persistentvolumeclaim="store"'
_BASE_INFO = 'adapterrelease_base_info{namespace="llm", base="tiny", persistentvolumeclaim="store", plugin="true"}'
GIB = 2**30


@dataclass(frozen=True)
class Case:
    alert: str
    at: str
    fires: Series
    labels: dict[str, str]  # of the alert, without its name and severity
    summary: str
    silent: tuple[Series, ...]


def _condition(kind: str, status: str, reason: str, values: str = "1x400") -> Series:
    labels = f'{_BOT}, condition="{kind}", status="{status}", reason="{reason}"'
    return {f"adapterrelease_status_condition{{{labels}}}": values}


def _of_condition(alert: str, at: str, kind: str, status: str, reason: str, summary: str, *silent: Series) -> Case:
    return Case(alert, at, _condition(kind, status, reason), {**BOT, "reason": reason}, summary, silent)


BOT = {"namespace": "llm", "name": "bot"}
CONTROLLER = {"namespace": "system", "job": "controller"}
_STEP = f'adapterrelease_rollout_step{{{_BOT}, step="%s"}}'
_STARTED = f'adapterrelease_rollout_step_started_timestamp_seconds{{{_BOT}, step="%s"}}'
_DEADLINE = f"adapterrelease_rollout_deadline_timestamp_seconds{{{_BOT}}}"
_DONE = f'adapterrelease_build_stage_done{{{_BOT}, stage="merge"}}'
_BYTES = f'adapterrelease_build_stage_bytes{{{_BOT}, stage="merge"}}'
_WAITS = f'adapterrelease_waiting_for_people{{{_BOT}, what="%s"}}'
_LOADED = f'adapterrelease_adapter_loaded{{{_BOT}, pod="tiny-0"}}'
_INFO = f'adapterrelease_info{{{_BOT}, base="tiny", stage="Stable", model="bot"}}'
_COUNT = 'adapterrelease_request_duration_seconds_count{namespace="llm", pod="%s", release="llm/bot", backend="%s"}'
_SERVES = f'adapterrelease_serving_info{{{_BOT}, backend="Artifact", version="v1", artifact="aabbccddeeff"}}'
_REQUESTS = (
    'adapterrelease_requests_total{namespace="llm", pod="p", release="llm/bot", version="v1", backend="b", code="%s"}'
)
_BUILDING = {_STEP % "Building": "1x120"}
_APPROVAL = {_STEP % "Shifting": "1x120", _STARTED % "Shifting": "0x120", _DEADLINE: "6000x120"}

RELEASES = (
    _of_condition(
        "AdapterReleaseImportFailed",
        "2m",
        "AdapterImported",
        "False",
        "BaseMismatch",
        "llm/bot: the adapter was refused (BaseMismatch)",
        _condition("AdapterImported", "Unknown", "Importing"),
        _condition("AdapterImported", "True", "Imported"),
    ),
    _of_condition(
        "AdapterReleaseBuildFailed",
        "2m",
        "ArtifactBuilt",
        "False",
        "BuildFailed",
        "llm/bot: the artifact cannot be built (BuildFailed)",
        _condition("ArtifactBuilt", "Unknown", "Building"),
        _condition("Validated", "False", "ValidationFailed"),
    ),
    Case(
        "AdapterReleaseBuildStuck",
        "40m",
        {**_BUILDING, _DONE: "5x120", _BYTES: "5x120"},
        BOT,
        "llm/bot: the build has made no progress for 15 minutes",
        (
            {**_BUILDING, _DONE: "5x120", _BYTES: "0+1x120"},  # one large unit
            {**_BUILDING, _DONE: "5x29 6x120"},  # it goes on
            {**_BUILDING, _DONE: "_x30 0x90"},  # another stage has begun
            {_STEP % "Validating": "1x120"},
        ),
    ),
    Case(
        "AdapterReleaseDeadlineNear",
        "90m",
        {**_BUILDING, _STARTED % "Building": "0x120", _DEADLINE: "6000x120"},
        BOT,
        "llm/bot: its step ends in 10m 0s with the default outcome",
        (
            {**_BUILDING, _STARTED % "Building": "0x120", _DEADLINE: "9000x120"},  # there is time
            {_STEP % "Observing": "1x120", _STARTED % "Observing": "0x120", _DEADLINE: "6000x120"},  # ends well then
            _APPROVAL,  # a pause of its own
            {**_APPROVAL, _WAITS % "Mending": "1x120"},
        ),
    ),
    _of_condition(
        "AdapterReleaseValidationFailed",
        "2m",
        "Validated",
        "False",
        "ValidationFailed",
        "llm/bot: the artifact was not proven good (ValidationFailed)",
        _condition("Validated", "Unknown", "Validating"),
        {  # the other alert says it
            **_condition("Validated", "False", "NothingToCompareWith"),
            **_condition("ArtifactBuilt", "False", "NothingToCompareWith"),
        },
    ),
    _of_condition(  # of an artifact that was built before
        "AdapterReleaseValidationFailed",
        "2m",
        "Validated",
        "False",
        "NothingToCompareWith",
        "llm/bot: the artifact was not proven good (NothingToCompareWith)",
    ),
    Case(
        "AdapterReleaseRolledBack",
        "1m",
        _condition("Degraded", "True", "RolledBack"),
        BOT,
        "llm/bot: went back by itself",
        (_condition("Degraded", "True", "ValidationFailed"), _condition("Promoted", "False", "RolledBackByUser")),
    ),
    Case(
        "AdapterReleaseNoWayBack",
        "3m",
        _condition("Degraded", "True", "NoBackendToRollBackTo"),
        BOT,
        "llm/bot: what serves fails its checks, and nothing else can answer",
        (
            _condition("Degraded", "True", "RollingBack"),
            _condition("Degraded", "True", "NoBackendToRollBackTo", "1 0x9"),
        ),
    ),
    Case(
        "AdapterReleaseNotServing",
        "3m",
        _condition("Ready", "False", "NoReadyBackend"),
        BOT,
        "llm/bot: no pod of what serves is ready",
        (_condition("Ready", "False", "Pending"), _condition("Ready", "False", "NoReadyBackend", "1 stale")),
    ),
    Case(  # somebody has deleted the base
        "AdapterReleaseNotServing",
        "3m",
        {**_condition("Ready", "False", "BaseNotFound"), **_condition("Degraded", "True", "NoReadyBackend")},
        BOT,
        "llm/bot: no pod of what serves is ready",
        ({**_condition("Ready", "False", "BaseNotFound"), **_condition("Degraded", "False", "AsExpected")},),
    ),
    _of_condition(
        "AdapterReleaseBlocked",
        "12m",
        "Ready",
        "False",
        "LoraNotEnabled",
        "llm/bot: cannot go on (LoraNotEnabled)",
        _condition("Ready", "False", "Pending"),
        _condition("Ready", "False", "RolledBack"),
        {
            **_condition("Ready", "False", "ValidationFailed"),
            **_condition("Validated", "False", "ValidationFailed"),
        },
        _condition("Ready", "False", "LoraNotEnabled", "1x5 stale"),
    ),
    _of_condition(
        "AdapterReleaseBlocked",
        "12m",
        "Ready",
        "False",
        "NoReadyBasePod",
        "llm/bot: cannot go on (NoReadyBasePod)",
    ),
    Case(
        "AdapterReleaseServingErrors",
        "30m",
        {_REQUESTS % "200": "0+90x60", _REQUESTS % "500": "0+10x60"},
        {"namespace": "llm", "release": "llm/bot", "backend": "b"},
        "llm/bot: 10% of the answers of b are 5xx",
        (
            {_REQUESTS % "200": "0+98x60", _REQUESTS % "500": "0+2x60"},
            {_REQUESTS % "200": "0+90x60", _REQUESTS % "400": "0+10x60"},
            {_REQUESTS % "200": "0x60", _REQUESTS % "500": "9x60"},  # none asks any more
        ),
    ),
    Case(
        "AdapterReleaseCandidateIdle",
        "2h",
        {
            _INFO: "1x100 stale 1x100",  # a scrape was lost
            _COUNT % ("m", "artifact-aabbccddeeff"): "7x200",
            _COUNT % ("b", "adapter-1"): "0+9x200",
        },
        {"namespace": "llm", "release": "llm/bot", "backend": "artifact-aabbccddeeff"},
        "llm/bot: the pods of artifact-aabbccddeeff have had no request for an hour",
        (
            {_INFO: "1x200", _COUNT % ("m", "artifact-aabbccddeeff"): "7x200", _SERVES: "1x200"},  # nobody asks
            {_COUNT % ("m", "artifact-aabbccddeeff"): "7x200"},  # nobody says what serves: no controller works
            {_INFO: "1x200", _COUNT % ("m", "artifact-aabbccddeeff"): "0+1x200"},
            {_INFO: "1x200", _COUNT % ("b", "adapter-1"): "7x200"},
        ),
    ),
    Case(
        "AdapterReleaseWaitingForPeople",
        "5h",
        {_WAITS % "Approval": "1x150 stale 1x250"},  # another replica leads from then on
        {**BOT, "what": "Approval"},
        "llm/bot: has waited for people for 4 hours (Approval)",
        ({_WAITS % "Approval": "1x200 stale"}, {_STEP % "Shifting": "1x400"}),
    ),
)
BASES = (
    Case(
        "AdapterReleaseAdapterMissing",
        "12m",
        {_LOADED: "0x60"},
        {**BOT, "pod": "tiny-0"},
        "llm/bot: pod tiny-0 does not hold the adapter",
        ({_LOADED: "1x60"}, {_LOADED: "0x5 1x60"}, {_LOADED: "0x5 stale"}),
    ),
    Case(
        "AdapterReleaseUpdatesNotGapFree",
        "62m",
        _condition("GapFree", "False", "NoEnginePlugin", "1x30 stale 1x100"),  # a scrape was lost
        {**BOT, "reason": "NoEnginePlugin"},
        "llm/bot: an update of the adapter may lose requests (NoEnginePlugin)",
        (
            _condition("GapFree", "Unknown", "EnginePluginNotAsked"),
            _condition("GapFree", "True", "EnginePlugin"),
            _condition("GapFree", "False", "NoEnginePlugin", "1x40 stale"),
        ),
    ),
    Case(
        "AdapterReleaseStoreNearlyFull",
        "12m",
        {
            f"kubelet_volume_stats_available_bytes{{{_CLAIM}}}": "8x60",
            f"kubelet_volume_stats_capacity_bytes{{{_CLAIM}}}": "100x60",
            _BASE_INFO: "1x60",
        },
        {"namespace": "llm", "persistentvolumeclaim": "store"},
        "llm: 8% of the store store are free",
        (
            {
                f"kubelet_volume_stats_available_bytes{{{_CLAIM}}}": "11x60",
                f"kubelet_volume_stats_capacity_bytes{{{_CLAIM}}}": "100x60",
                _BASE_INFO: "1x60",
            },
            {
                f"kubelet_volume_stats_available_bytes{{{_CLAIM}}}": "8x60",  # somebody else's volume
                f"kubelet_volume_stats_capacity_bytes{{{_CLAIM}}}": "100x60",
            },
        ),
    ),
    Case(
        "AdapterReleaseNextArtifactDoesNotFit",
        "12m",
        {
            f'adapterrelease_artifact_size_bytes{{{_BOT}, artifact="aabbccddeeff"}}': f"{6 * GIB}x60",
            _INFO: "1x60",
            _BASE_INFO: "1x60",
            f"kubelet_volume_stats_available_bytes{{{_CLAIM}}}": f"{5 * GIB}x60",
        },
        {"namespace": "llm", "persistentvolumeclaim": "store"},
        "llm: another artifact of 6GiB does not fit into the store store",
        (
            {
                f'adapterrelease_artifact_size_bytes{{{_BOT}, artifact="aabbccddeeff"}}': f"{6 * GIB}x60",
                _INFO: "1x60",
                _BASE_INFO: "1x60",
                f"kubelet_volume_stats_available_bytes{{{_CLAIM}}}": f"{7 * GIB}x60",
            },
        ),
    ),
    Case(
        "AdapterReleaseEngineTokenOld",
        "2h",
        {'adapterrelease_engine_token_created_timestamp_seconds{namespace="llm"}': f"{-90 * 86400}x200"},
        {"namespace": "llm"},
        "llm: the engine's token is 90d 2h 0m 0s old",
        ({'adapterrelease_engine_token_created_timestamp_seconds{namespace="llm"}': f"{-89 * 86400}x200"},),
    ),
    Case(
        "AdapterReleasePluginErrors",
        "20m",
        {'adapterrelease_plugin_errors_total{namespace="llm", pod="tiny-0", where="request"}': "0x15 1x30"},
        {"namespace": "llm", "pod": "tiny-0", "where": "request"},
        "llm/tiny-0: the engine plugin failed in request",
        ({'adapterrelease_plugin_errors_total{namespace="llm", pod="tiny-0", where="request"}': "1x60"},),
    ),
)
_LEADS = "leader_election_master_status{%s}"
_LONGEST = f'workqueue_longest_running_processor_seconds{{{_CONTROLLER}, name="%s"}}'
_ERRORS = f'controller_runtime_reconcile_errors_total{{{_CONTROLLER}, controller="adapterrelease"}}'
_SYNCED = f"adapterrelease_last_successful_sync_timestamp_seconds{{{_BOT}}}"
_REFLECTOR = f'reflector_errors_total{{{_CONTROLLER}, name="adapterreleases", reason="%s"}}'
_CALLS = f'rest_client_requests_total{{{_CONTROLLER}, method="GET", host="h", code="%s"}}'
CONTROLLERS = (
    Case(
        "AdapterReleaseControllerNotLeading",
        "7m",
        {**_QUEUES, _LEADS % _CONTROLLER: "0x60", _LEADS % _OTHER: "0x60"},
        CONTROLLER,
        "the adapter release controller has no leader, or more than one",
        (
            {**_QUEUES, _LEADS % _CONTROLLER: "1x60", _LEADS % _OTHER: "0x60"},
            {**_QUEUES, _LEADS % _CONTROLLER: "1x2 0x60", _LEADS % _OTHER: "0x4 1x60"},  # it went over to the other
        ),
    ),
    Case(
        "AdapterReleaseControllerNotLeading",
        "7m",
        {**_QUEUES, _LEADS % _CONTROLLER: "1x60", _LEADS % _OTHER: "1x60"},
        CONTROLLER,
        "the adapter release controller has no leader, or more than one",
        ({**_QUEUES, _LEADS % _CONTROLLER: "1x60", _LEADS % 'job="x", instance="c:1"': "0x60"},),  # not ours
    ),
    Case(
        "AdapterReleaseControllerNotLeading",
        "7m",
        {'up{job="something"}': "1x60"},
        {"name": "adapterrelease"},
        "the adapter release controller has no leader, or more than one",
        (),
    ),
    Case(
        "AdapterReleaseNotSyncing",
        "20m",
        {_INFO: "1x60", _SYNCED: "0x60"},
        BOT,
        "llm/bot: no look at it has succeeded for more than 5 minutes",
        ({_INFO: "1x60", _SYNCED: "0+60x60"},),
    ),
    Case(  # each look at it has failed since this replica leads
        "AdapterReleaseNotSyncing",
        "7m",
        {_INFO: "1x60"},
        BOT,
        "llm/bot: no look at it has succeeded for more than 5 minutes",
        ({_INFO: "1x60", _SYNCED: "_x4 0+60x60"},),
    ),
    Case(
        "AdapterReleaseControllerStuck",
        "20m",
        {_LONGEST % "adapterrelease": "0+60x60"},
        {**CONTROLLER, "name": "adapterrelease"},
        "a worker of adapterrelease has been at one key for 20m 0s",
        ({_LONGEST % "adapterrelease": "60x60"}, {_LONGEST % "somebody-elses": "0+60x60"}),
    ),
    Case(
        "AdapterReleaseReconcileErrors",
        "40m",
        {_ERRORS: "0+1x60"},
        {**CONTROLLER, "controller": "adapterrelease"},
        "10 reconciliations of adapterrelease failed in ten minutes",
        ({_ERRORS: "0x20 9x60"}, {_ERRORS: "3x60"}),
    ),
    Case(
        "AdapterReleaseInformersFailing",
        "40m",
        {**_QUEUES, _REFLECTOR % "NotFound": "0+1x60"},
        {**CONTROLLER, "name": "adapterreleases"},
        "the adapter release controller cannot list or watch adapterreleases",
        (
            {**_QUEUES, _REFLECTOR % "Expired": "0x15 1x10 2x10 3x30"},  # as in any cluster
            {**_QUEUES, _REFLECTOR % "ConnectionLost": "0x20 9x60"},  # the API server was away
            {_REFLECTOR % "NotFound": "0+1x60"},  # not ours
        ),
    ),
    Case(
        "AdapterReleaseUnauthorized",
        "32m",
        {**_QUEUES, _CALLS % "401": "0+5x60"},
        CONTROLLER,
        "the API server does not know the adapter release controller (401)",
        (
            {**_QUEUES, _CALLS % "403": "0+5x60"},
            {_CALLS % "401": "0+5x60"},
            {**_QUEUES, _CALLS % "401": "0x20 5 9 12x60"},  # for a moment
        ),
    ),
    Case(
        "AdapterReleaseForbidden",
        "32m",
        {**_QUEUES, _CALLS % "403": "0+5x60"},
        {**CONTROLLER, "method": "GET"},
        "the API server forbids the adapter release controller a GET (403)",
        (
            {**_QUEUES, _CALLS % "409": "0+5x60"},
            {_CALLS % "403": "0+5x60"},
            {**_QUEUES, _CALLS % "403": "0x20 5 9 12x60"},
        ),
    ),
)
CASES = (*RELEASES, *BASES, *CONTROLLERS)
