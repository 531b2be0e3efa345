"""What must be true before a build reads a single weight: shapes, memory and disk.

Must not know how merging and quantizing work, only what they need.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from controller.errors import PermanentError, TransientError
from controller.job.adapter import Adapter
from controller.job.base import Base
from controller.job.check import check_adapter
from controller.job.contract import AdapterInput, BuildContract, Use
from controller.job.findings import Finding, RejectedError, some
from controller.job.merge import merged_size
from controller.job.quantize import undividable
from controller.job.reasons import Reason

SLACK = 1.1
QUANTIZED_SHARE = 0.6  # of the merged size, generously: 4-bit layers, embeddings as they were
MERGE_MEMORY = 1 << 30


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
    quantization = contract.quantization
    if quantization is None or quantization.method is None:
        return
    if bad := undividable(base, quantization.group_size):
        raise PermanentError(
            f"group size {quantization.group_size} does not divide the input size of {some(bad)}",
            reason=Reason.INVALID_GROUP_SIZE,
        )


def there_is_room(base: Base, contract: BuildContract, work: Path, available: int | None = None) -> None:
    """Raises if the store's disk or this container's memory cannot hold the build. `work` may be half done."""
    merged = merged_size(base, contract.merge.dtype)
    quantizes = contract.quantization is not None and contract.quantization.method is not None
    disk = int(merged * (1 + QUANTIZED_SHARE * quantizes) * SLACK)
    done = sum(p.stat().st_size for p in work.rglob("*") if p.is_file())
    free = shutil.disk_usage(contract.store).free + done
    if free < disk:
        raise TransientError(
            f"the store has {_gib(free)} free, the build needs {_gib(disk)}: remove artifacts or enlarge it",
            reason=Reason.INSUFFICIENT_DISK,
        )
    memory = MERGE_MEMORY // 2 + int(merged * SLACK) * quantizes
    available = memory_available() if available is None else available
    if available < memory:
        raise PermanentError(
            f"{_gib(available)} of memory are available, the build needs {_gib(memory)}: raise the memory limit in"
            " build.podTemplate",
            reason=Reason.INSUFFICIENT_MEMORY,
        )


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
