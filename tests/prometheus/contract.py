"""Every metric that dashboards and rules may ask for, with its labels: what the project declares is taken from the
declarations themselves, what others expose is written down here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from controller.cli.metrics_reference import Declared, of_plugin, of_releases, of_runtime

TARGET = frozenset({"namespace", "pod", "job", "instance"})  # what a PodMonitor adds
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


def metrics() -> dict[str, frozenset[str]]:
    """Name of each series -> its labels, those of the target included."""
    known = {**_OTHERS, **_series([*of_releases(), *of_runtime(), *of_plugin()])}
    return {name: TARGET | set(labels) for name, labels in known.items()}


def _series(declared: Iterable[Declared]) -> dict[str, tuple[str, ...]]:
    """A histogram is three."""
    found = {}
    for one in declared:
        if one.kind == "histogram":
            found[f"{one.name}_bucket"] = (*one.labels, "le")
            found |= {f"{one.name}_{part}": one.labels for part in ("sum", "count")}
        else:
            found[one.name] = one.labels
    return found
