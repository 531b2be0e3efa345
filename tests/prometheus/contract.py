"""Every metric that dashboards and rules may ask for, with its labels: what the project declares is taken from the
declarations themselves, what others expose is written down here.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from controller.engine.plugin.measured import Measured
from controller.runtime.metrics import REGISTRY

TARGET = frozenset({"namespace", "pod", "job", "instance"})  # what a PodMonitor adds
_ONE = ("namespace", "name")

# Of releases: controller/reconcile, as docs/metrics.md lists them.
_RELEASES: Mapping[str, tuple[str, ...]] = {
    "adapterrelease_info": (*_ONE, "base", "stage", "model"),
    "adapterrelease_status_condition": (*_ONE, "condition", "status", "reason"),
    "adapterrelease_serving_info": (*_ONE, "backend", "version", "artifact"),
    "adapterrelease_rollout_step": (*_ONE, "step"),
    "adapterrelease_rollout_step_started_timestamp_seconds": (*_ONE, "step"),
    "adapterrelease_rollout_deadline_timestamp_seconds": _ONE,
    "adapterrelease_step_duration_seconds_bucket": ("step", "le"),
    "adapterrelease_waiting_for_people": (*_ONE, "what"),
    "adapterrelease_waited_for_people_seconds_total": _ONE,
    "adapterrelease_build_stage_done": (*_ONE, "stage"),
    "adapterrelease_build_stage_expected": (*_ONE, "stage"),
    "adapterrelease_build_stage_bytes": (*_ONE, "stage"),
    "adapterrelease_build_stage_duration_seconds": (*_ONE, "stage"),
    "adapterrelease_artifact_size_bytes": (*_ONE, "artifact"),
    "adapterrelease_artifact_speedup_ratio": (*_ONE, "artifact"),
    "adapterrelease_suite_score_ratio": (*_ONE, "suite", "of"),
    "adapterrelease_switches_total": (*_ONE, "to", "cause"),
    "adapterrelease_adapter_loaded": (*_ONE, "pod"),
    "adapterrelease_base_slots": ("namespace", "base", "state"),
    "adapterrelease_base_info": ("namespace", "base", "persistentvolumeclaim", "plugin"),
    "adapterrelease_last_successful_sync_timestamp_seconds": _ONE,
    "adapterrelease_engine_token_created_timestamp_seconds": ("namespace",),
}
_VLLM = ("model_name", "engine")
_OTHERS: Mapping[str, tuple[str, ...]] = {
    "vllm:kv_cache_usage_perc": _VLLM,
    "vllm:num_requests_running": _VLLM,
    "vllm:num_requests_waiting": _VLLM,
    "vllm:generation_tokens_total": _VLLM,
    "vllm:prefix_cache_queries_total": _VLLM,
    "vllm:prefix_cache_hits_total": _VLLM,
    "kubelet_volume_stats_available_bytes": ("namespace", "persistentvolumeclaim"),
    "kubelet_volume_stats_capacity_bytes": ("namespace", "persistentvolumeclaim"),
    "process_resident_memory_bytes": (),
    "process_cpu_seconds_total": (),
    "process_open_fds": (),
}
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def metrics() -> dict[str, frozenset[str]]:
    """Name of each series -> its labels, those of the target included."""
    plugin = CollectorRegistry()
    Measured(plugin)
    known = {**_RELEASES, **_OTHERS, **_declared(REGISTRY), **_declared(plugin)}
    return {name: TARGET | set(labels) for name, labels in known.items()}


def _declared(registry: CollectorRegistry) -> dict[str, tuple[str, ...]]:
    found = {}
    for metric in list(registry._collector_to_names):
        if (kind := getattr(metric, "_type", None)) in _SUFFIXES:
            for suffix in _SUFFIXES[kind]:
                labels = (*metric._labelnames, "le") if suffix == "_bucket" else tuple(metric._labelnames)
                found[metric._name + suffix] = labels
    return found
