"""What must be true before a build reads a single weight: shapes, memory and disk.

Must not know how merging and quantizing work, only what they need.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from controller.errors import PermanentError, TransientError
from controller.job.adapter import Adapter
from controller.job.base import Base
from controller.job.check import check_adapter
from controller.job.contract import AdapterInput, BuildContract, Quantization, Use
from controller.job.findings import Finding, RejectedError, some
from controller.job.linears import quantized_size, unfit
from controller.job.merge import merged_size
from controller.job.reasons import Reason

SLACK = 1.1
MERGE_MEMORY = 1 << 29


def readable_adapters(base: Base, inputs: Sequence[AdapterInput]) -> list[Adapter]:
    """The adapters, checked against the base again: the store may be older than today's checks."""
    adapters: list[Adapter] = []
    findings: list[Finding] = []
    for one in inputs:
        adapter, found = check_adapter(Path(one.path), base, None, Use.MERGE)
        findings += [Finding(f.reason, f"{one.name}: {f.message}") for f in found]
        adapters += [adapter] if adapter is not None else []
    if findings:
        raise RejectedError(findings)
    return adapters


def base_can_be_merged(base: Base, contract: BuildContract) -> None:
    """Raises PermanentError for a base or a request that no merge can serve."""
    if base.config.get("quantization_config"):
        raise PermanentError(
            f"base model {base.path} is quantized: merge into its unquantized form, the result is quantized afterwards",
            reason=Reason.INVALID_BASE,
        )
    if contract.merge.device == "cuda":
        raise PermanentError("merging runs on the CPU; set device: auto", reason=Reason.UNSUPPORTED_DEVICE)
    if contract.quantization is not None:
        shapes_fit(base, contract.quantization)


def shapes_fit(base: Base, spec: Quantization) -> None:
    """Raises PermanentError for weights that cannot be quantized in groups of this size."""
    if bad := unfit(base, spec):
        raise PermanentError(
            f"group size {spec.group_size} does not divide the input size of {some(bad)}, or their output size is no"
            " multiple of 8: choose a smaller one, or method FP8 or INT8",
            reason=Reason.INVALID_GROUP_SIZE,
        )


def there_is_room(
    base: Base, contract: BuildContract, work: Path, memory: int = MERGE_MEMORY, available: int | None = None
) -> None:
    """Raises if the store's disk or this container's memory cannot hold the build. `work` may be half done.

    `memory` is what the build needs at its peak, `available` what this container may still use.
    """
    disk = int(_size(base, contract) * SLACK)
    done = sum(p.stat().st_size for p in work.rglob("*") if p.is_file())
    free = shutil.disk_usage(contract.store).free + done
    if free < disk:
        raise TransientError(
            f"the store has {_gib(free)} free, the build needs {_gib(disk)}: remove artifacts or enlarge it",
            reason=Reason.INSUFFICIENT_DISK,
        )
    available = memory_available() if available is None else available
    if available < memory:
        raise PermanentError(
            f"{_gib(available)} of memory are available, the build needs {_gib(memory)}: raise the memory limit in"
            " build.podTemplate, or calibrate with fewer or shorter samples",
            reason=Reason.INSUFFICIENT_MEMORY,
        )


def _size(base: Base, contract: BuildContract) -> int:
    spec = contract.quantization
    if spec is None or spec.method is None:
        return merged_size(base, contract.merge.dtype)
    return quantized_size(base, contract.merge.dtype, spec)


def device_has_room(needed: int, available: int | None) -> None:
    """Raises PermanentError if the device cannot hold its part. `available`: None where there is no device."""
    if available is not None and available < needed:
        raise PermanentError(
            f"{_gib(available)} are free on the GPU, the build needs {_gib(needed)} there: ask for a larger GPU in"
            " build.podTemplate, or calibrate with fewer or shorter samples",
            reason=Reason.INSUFFICIENT_MEMORY,
        )


def memory_used(used: Mapping[str, int]) -> str:
    """What a build took against what was predicted, for its log."""
    text = f"{_gib(used['peak'])} of memory at the peak, {_gib(used['predicted'])} were predicted"
    if not used["devicePeak"]:
        return text
    return f"{text}; {_gib(used['devicePeak'])} on the device, {_gib(used['devicePredicted'])} were predicted"


def memory_available(proc: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this container may still use: the node's and its own limit (cgroup v2), whichever is less."""
    available = 1 << 60
    if proc.is_file():
        for line in proc.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    limit, current = cgroup / "memory.max", cgroup / "memory.current"
    if limit.is_file() and current.is_file() and limit.read_text().strip() != "max":
        # Page cache counts as used there, but gives way: take the inactive part off.
        available = min(available, int(limit.read_text()) - int(current.read_text()) + _inactive(cgroup))
    return available


def _inactive(cgroup: Path) -> int:
    stat = cgroup / "memory.stat"
    lines = stat.read_text().splitlines() if stat.is_file() else []
    return next((int(x.split()[1]) for x in lines if x.startswith("inactive_file ")), 0)


def _gib(n: int) -> str:
    return f"{n / (1 << 30):.2f} GiB"
