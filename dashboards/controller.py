"""The dashboard of the controller itself: leader, queue, reconciliations, calls to the API server, events, memory."""

from __future__ import annotations

from dashboards.board import Board
from dashboards.panels import GOOD, IDLE, THIRD, lines, rows
from dashboards.queries import CONTROLLER, RATE, Query, quantiles

UID = "adapterrelease-controller"


def _each(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{CONTROLLER}}}[{RATE}]))"


def _last(metric: str, by: str) -> str:
    return f"max by ({by}) ({metric}{{{CONTROLLER}}})"


def board() -> Board:
    made = Board(UID, "Adapter releases: controller", "The controller's queue, work and calls.", hours=6)
    made.choice("namespace", "Namespace", 'label_values(workqueue_depth{name="adapterrelease"}, namespace)')
    made.choice("job", "Job", 'label_values(workqueue_depth{name="adapterrelease", namespace="$namespace"}, job)')
    _leader(made)
    _work(made)
    _calls(made)
    _process(made)
    return made


def _leader(made: Board) -> None:
    made.row(
        "Who leads",
        rows(
            "Leader",
            "One replica leads and does the work; the others wait to take over.",
            {1: ("leads", GOOD), 0: ("waits", IDLE)},
            Query(_last("leader_election_master_status", "pod"), "{{pod}}"),
            runbooks=["AdapterReleaseControllerNotLeading"],
        ),
        lines(
            "Age of the oldest look",
            "Seconds since the release that has waited longest was looked at successfully. Healthy: below 30 s.",
            "s",
            Query('time() - min(adapterrelease_last_successful_sync_timestamp_seconds{job="$job"})', "oldest"),
            runbooks=["AdapterReleaseNotSyncing"],
        ),
    )


def _work(made: Board) -> None:
    made.row(
        "Work",
        lines(
            "Keys that wait",
            "Depth of the queues: releases that wait for a worker.",
            "short",
            Query(_last("workqueue_depth", "name"), "{{name}}"),
            width=THIRD,
        ),
        lines(
            "How long keys wait",
            "Until a worker takes them.",
            "s",
            *quantiles("workqueue_queue_duration_seconds", CONTROLLER, "name", "{{name}}", 0.5, 0.99),
            width=THIRD,
        ),
        lines(
            "Work that is stuck",
            "Seconds of work in progress, and of the longest running worker. Loading an adapter may take a minute.",
            "s",
            Query(_last("workqueue_unfinished_work_seconds", "name"), "unfinished {{name}}"),
            Query(_last("workqueue_longest_running_processor_seconds", "name"), "longest {{name}}"),
            width=THIRD,
            runbooks=["AdapterReleaseControllerStuck"],
        ),
        lines(
            "Reconciliations",
            "By result. requeue_after: something is under way and is looked at again.",
            "ops",
            Query(_each("controller_runtime_reconcile_total", "controller, result"), "{{controller}} {{result}}"),
            width=THIRD,
            stacked=True,
        ),
        lines(
            "Failed reconciliations",
            "Those that raised, and keys that were put back to be tried again.",
            "ops",
            Query(_each("controller_runtime_reconcile_errors_total", "controller"), "errors {{controller}}"),
            Query(_each("workqueue_retries_total", "name"), "retries {{name}}"),
            width=THIRD,
            runbooks=["AdapterReleaseReconcileErrors"],
        ),
        lines(
            "Duration of reconciliations",
            "Median and 99th percentile.",
            "s",
            *quantiles(
                "controller_runtime_reconcile_time_seconds", CONTROLLER, "controller", "{{controller}}", 0.5, 0.99
            ),
            width=THIRD,
        ),
        lines(
            "Workers",
            "How many reconcile now, and how many there are.",
            "short",
            Query(_last("controller_runtime_active_workers", "controller"), "busy {{controller}}"),
            Query(_last("controller_runtime_max_concurrent_reconciles", "controller"), "all {{controller}}"),
            width=THIRD,
        ),
        lines(
            "Keys added",
            "By queue; informers and timers add them.",
            "ops",
            Query(_each("workqueue_adds_total", "name"), "{{name}}"),
            width=THIRD,
        ),
        lines(
            "Duration of work",
            "How long workers process a key: median and 99th percentile.",
            "s",
            *quantiles("workqueue_work_duration_seconds", CONTROLLER, "name", "{{name}}", 0.5, 0.99),
            width=THIRD,
        ),
    )


def _calls(made: Board) -> None:
    made.row(
        "Kubernetes",
        lines(
            "Calls to the API server",
            "By method and status; <error> is no answer.",
            "reqps",
            Query(f"{_each('rest_client_requests_total', 'method, code')} > 0", "{{method}} {{code}}"),
            width=THIRD,
            stacked=True,
            runbooks=["AdapterReleaseUnauthorized", "AdapterReleaseForbidden"],
        ),
        lines(
            "Duration of calls",
            "Up to the first byte, 99th percentile by verb. A WATCH counts until it is open.",
            "s",
            *quantiles("rest_client_request_duration_seconds", CONTROLLER, "verb", "{{verb}}", 0.99),
            width=THIRD,
        ),
        lines(
            "Informers",
            "Lists and watches that began, in all pods, and those that failed, by reason.",
            "ops",
            Query(_each("reflector_lists_total", "job"), "lists"),
            Query(_each("reflector_watches_total", "job"), "watches"),
            Query(_each("reflector_errors_total", "reason"), "failed: {{reason}}"),
            width=THIRD,
            runbooks=["AdapterReleaseInformersFailing"],
        ),
        lines(
            "Events",
            "Written, and dropped by reason.",
            "ops",
            Query(_each("event_recorder_sent_total", "component"), "written"),
            Query(_each("event_recorder_dropped_total", "reason"), "dropped: {{reason}}"),
            width=24,
        ),
    )


def _process(made: Board) -> None:
    made.row(
        "Process",
        lines(
            "Memory",
            "Resident memory by pod.",
            "bytes",
            Query(_last("process_resident_memory_bytes", "pod"), "{{pod}}"),
            width=THIRD,
        ),
        lines(
            "Processor",
            "Cores in use by pod.",
            "short",
            Query(_each("process_cpu_seconds_total", "pod"), "{{pod}}"),
            width=THIRD,
        ),
        lines(
            "Open files",
            "Sockets among them. A number that only grows is a leak.",
            "short",
            Query(_last("process_open_fds", "pod"), "{{pod}}"),
            width=THIRD,
        ),
    )
