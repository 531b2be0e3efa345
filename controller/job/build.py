"""Build: preflight, merge, quantize, publish; each stage once, whatever happens in between.

A stage writes into `STAGE.partial/` and gets its name by a rename when it is finished; a retried job goes on
after the last one that has a name. Must not know how the artifact will be served.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.errors import PermanentError
from controller.job import artifact, calibration, merge, quantize
from controller.job.base import Base, find_base, read_base
from controller.job.calibration import Row, Sample
from controller.job.contract import BuildContract
from controller.job.document import utc_now
from controller.job.memory_needs import Placement, needs_of, placed
from controller.job.merge import Weighted
from controller.job.merge_stream import merged_tensors, write_other_files
from controller.job.merged_model import from_tensors
from controller.job.peak_memory import PeakMemory
from controller.job.preflight import (
    MERGE_MEMORY,
    base_can_be_merged,
    device_has_room,
    memory_used,
    readable_adapters,
    there_is_room,
)
from controller.job.progress import Progress
from controller.job.provenance import ArtifactStatement
from controller.job.publish import Made, publish_artifact
from controller.job.reasons import Reason
from controller.job.sources import downloader_for, local_file
from controller.job.store import (
    Store,
    digest_of,
    directory_digests,
    file_digest,
    make_directory,
    remove_directory,
    sync,
)
from controller.job.summary import BuildResult

ABANDONED_SECONDS = 7 * 86400

log = logging.getLogger("adapterrelease.job")


@dataclass(frozen=True)
class _Parts:
    """What the stages work on: the base, what is merged into it, calibration data in tokens; and what that needs."""

    base: Base
    adapters: Sequence[Weighted]
    rows: Sequence[Row]
    memory: Placement


def run_build(contract: BuildContract, progress: Progress, now: Callable[[], str] = utc_now) -> BuildResult:
    """Builds the artifact of `contract`, or finds it. Raises PermanentError, TransientError or OSError."""
    store, started = Store(Path(contract.store)), now()
    progress.stage("preflight", unit="items")
    base = read_base(find_base(contract.base.model, contract.base.revision))
    base_can_be_merged(base, contract)
    adapters = readable_adapters(base, contract.adapters)
    samples, calibration_digest = _calibration(store, contract, progress)
    _adapters_are_the_imported_ones(contract)
    progress.stage("digest", base.size)
    base_files = _base_digests(base, progress)
    inputs = artifact.inputs_of(contract, digest_of(base_files), calibration_digest)
    made = Made(contract, inputs, base, base_files, started)
    store.sweep(time.time() - ABANDONED_SECONDS)
    with store.working(inputs.artifact_id) as work:
        found = artifact.published(store, inputs)
        reused = found is not None
        if found is None:
            weighted = [Weighted(a, i.weight) for a, i in zip(adapters, contract.adapters, strict=True)]
            parts = _Parts(base, weighted, *_prepared(base, contract, samples, progress))
            there_is_room(base, contract, work, parts.memory.host)
            try:
                found = _build(store, made, parts, work, progress, now)
            except PermanentError:
                remove_directory(work)  # nobody will go on from here
                raise
        store.artifact(inputs.artifact_id).chmod(0o555)
        # Made here, by the user that jobs run as: a missing subPath would be made by the kubelet, for root.
        make_directory(store.evaluations(inputs.artifact_id))
        remove_directory(work)
    return artifact.result_of(store, contract, inputs, found, reused)


def _build(
    store: Store,
    made: Made,
    parts: _Parts,
    work: Path,
    progress: Progress,
    now: Callable[[], str],
) -> ArtifactStatement:
    contract, used = made.contract, dict[str, int]()
    if made.inputs.quantization is None:
        dtype = contract.merge.dtype
        finished = _stage(
            work / "merged", lambda out: merge.merge(parts.base, parts.adapters, out, dtype, progress), resumable=True
        )
    else:
        finished = _stage(work / "quantized", lambda out: used.update(_quantize(contract, parts, out, progress)))
    final = store.artifact(made.inputs.artifact_id)
    publish_artifact(finished, final, made, progress, now, {"memoryBytes": used} if used else {})
    found = artifact.published(store, made.inputs)
    if found is None:
        raise PermanentError(f"{final} has vanished after it was published", reason=Reason.STORE_CORRUPTED)
    return found


def _stage(directory: Path, make: Callable[[Path], None], resumable: bool = False) -> Path:
    """`directory`, made by `make` unless an earlier try has finished it."""
    if not directory.is_dir():
        partial = directory.with_name(f"{directory.name}.partial")
        if not resumable:
            remove_directory(partial)
        partial.mkdir(exist_ok=True)
        make(partial)
        partial.rename(directory)
        sync(directory.parent)
    return directory


def _prepared(
    base: Base, contract: BuildContract, samples: Sequence[Sample], progress: Progress
) -> tuple[list[Row], Placement]:
    """Calibration data in tokens, and the memory that the build will need at its peak.

    Raises PermanentError if the device has not as much.
    """
    spec = contract.quantization
    if spec is None or spec.method is None:
        return [], Placement(MERGE_MEMORY)
    progress.stage("calibration", unit="items")
    rows = quantize.prepared(base.path, spec, samples)
    lengths, device = [len(row["input_ids"]) for row in rows], quantize.device_memory()
    memory = placed(needs_of(base, contract.merge.dtype, spec, lengths), device)
    device_has_room(memory.device, device)
    return rows, memory


def _quantize(contract: BuildContract, parts: _Parts, out: Path, progress: Progress) -> dict[str, int]:
    """Merges into memory and quantizes there: a second copy of the weights is never on the disk.

    So a retry merges again, in seconds, and goes on with nothing but a finished quantization. Gives back how much
    memory was predicted and used.
    """
    base, dtype, spec = parts.base, contract.merge.dtype, contract.quantization
    if spec is None:
        raise ValueError("there is nothing to quantize")
    files = out.with_name("files")
    remove_directory(files)
    write_other_files(base, parts.adapters, files, dtype)
    peak = PeakMemory()

    def load() -> Any:
        return from_tensors(merged_tensors(base, parts.adapters, dtype, progress), files, base.path)

    memory = parts.memory
    quantize.quantize(load, files, out, spec, parts.rows, progress, memory.inputs_on_host)
    used = {"predicted": memory.host, "peak": peak.host()}
    used |= {"devicePredicted": memory.device, "devicePeak": peak.device()}
    log.info("%s: %s", spec, memory_used(used))
    return used


def _calibration(store: Store, contract: BuildContract, progress: Progress) -> tuple[list[Sample], str | None]:
    """Samples and digest of the calibration file, if there is to be one."""
    spec = contract.quantization
    if spec is None or spec.calibration is None:
        return [], None
    owner = f"calibration-{contract.release.namespace}-{contract.release.name}"
    with store.working(owner) as work:
        source = spec.calibration
        path = local_file(source, work, calibration.MAX_BYTES, progress.advance, downloader_for(source))
        samples = calibration.read_samples(path, source.samples)
        digest = "sha256:" + file_digest(path)
        remove_directory(work)
    return samples, digest


def _adapters_are_the_imported_ones(contract: BuildContract) -> None:
    for one in contract.adapters:
        found = digest_of(directory_digests(Path(one.path)))
        if found != one.digest:
            raise PermanentError(
                f"{one.path} has {found}, not {one.digest}: import the adapter again", reason=Reason.DIGEST_MISMATCH
            )


def _base_digests(base: Base, progress: Progress) -> dict[str, str]:
    """Of what the merge reads of the base: its shards, its config and its tokenizer."""
    return directory_digests(base.path, [*base.shards, *merge.other_files(base)], progress.advance)
