"""Import: fetch an adapter, check it, and keep an immutable copy in the store under its digest.

What is checked is the copy, so nobody can change it between the check and vLLM. Runs without torch.
Must not know how the adapter is served.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlunsplit

from controller.errors import PermanentError
from controller.job.adapter import CONFIG, WEIGHTS, Adapter
from controller.job.adapter_files import (
    COMPARED,
    KNOWN,
    MAX_OPTIONAL_BYTES,
    OPTIONAL,
    PICKLES,
    REQUIRED,
    file_is_of_another_format,
    is_readable,
    left_behind,
    left_behind_note,
    strangers,
)
from controller.job.archive import extract, is_archive
from controller.job.base import find_base, read_base
from controller.job.check import examine
from controller.job.contract import ImportContract, Source
from controller.job.download import Downloader, parsed
from controller.job.findings import Finding, RejectedError, some
from controller.job.progress import Progress
from controller.job.reasons import Reason
from controller.job.sources import downloader_for, resolve_inside
from controller.job.store import Store, copy_file, digest_of, directory_digests, publish, remove_directory
from controller.job.summary import ImportResult

log = logging.getLogger("adapterrelease.job")


def run_import(contract: ImportContract, progress: Progress, downloader: Downloader | None = None) -> ImportResult:
    """Imports the adapter of `contract`. Raises RejectedError with every reason, or what the fetch raised.

    An adapter that is in the store already is checked again, since the base or its limits may have changed.
    """
    store = Store(Path(contract.store))
    one, whose = contract.adapter, contract.release
    name = f"import-{one.name}-{one.version}-{whose.namespace}-{whose.name}"
    with store.working(name) as work:
        try:
            copy = work / "adapter"
            remove_directory(copy)
            copy.mkdir()
            left = fetch_adapter(contract.adapter.source, copy, contract.max_bytes, progress, downloader)
            digests = _digests(copy, contract.adapter.digest, progress)
            adapter, merge_only = _check(copy, contract, left, progress)
            (copy / COMPARED).unlink(missing_ok=True)
            made = _publish(store, contract, adapter, copy, digests, progress)
            return made.model_copy(update={"merge_only": merge_only})
        finally:
            remove_directory(work)


def fetch_adapter(
    source: Source, copy: Path, max_bytes: int, progress: Progress, downloader: Downloader | None = None
) -> list[str]:
    """Copies the known files of the adapter that `source` names into `copy`; what else is seen there.

    A config.json beside it is copied too, since it may say of which model the adapter is.
    """
    progress.stage("fetch")
    if source.path is not None:
        return _from_path(Path(source.path), Path(source.root or "/"), copy, max_bytes, progress)
    if is_archive(parsed(str(source.url)).path):
        return _from_archive(str(source.url), copy, max_bytes, progress, downloader or downloader_for(source))
    _from_directory(str(source.url), copy, max_bytes, progress, downloader or downloader_for(source))
    return []  # a server says of no file but those that it is asked for


def _from_path(path: Path, root: Path, copy: Path, room: int, progress: Progress) -> list[str]:
    directory = resolve_inside(path, root)
    if not directory.is_dir():
        raise PermanentError(f"{path} is not a directory", reason=Reason.SOURCE_INVALID)
    if findings := list(file_is_of_another_format(directory)):
        raise RejectedError(findings)
    compared = {COMPARED} if is_readable(directory / COMPARED) else set()
    for name in sorted(KNOWN | compared):
        if (directory / name).exists():
            source = resolve_inside(directory / name, directory)
            if not source.is_file():
                raise PermanentError(f"{path}/{name} is not a regular file", reason=Reason.SOURCE_INVALID)
            room -= copy_file(source, copy / name, room, progress.advance)
    return left_behind(directory)


def _from_archive(url: str, copy: Path, room: int, progress: Progress, downloader: Downloader) -> list[str]:
    archive = copy.parent / Path(parsed(url).path).name
    downloader.download(url, archive, room, progress.advance)
    names = extract(archive, copy, CONFIG, KNOWN | {COMPARED}, room)
    archive.unlink()
    if pickles := [n for n in names if n.endswith(PICKLES)]:
        raise RejectedError([Finding(Reason.UNSUPPORTED_FORMAT, f"{some(pickles)}: only safetensors is accepted")])
    return strangers(names)


def _from_directory(url: str, copy: Path, room: int, progress: Progress, downloader: Downloader) -> None:
    parts = parsed(url)
    for name in (*REQUIRED, *OPTIONAL, COMPARED):
        one = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))
        limit = room if name == WEIGHTS else min(room, MAX_OPTIONAL_BYTES)
        try:
            room -= downloader.download(one, copy / name, limit, progress.advance)
        except PermanentError as e:
            # Object stores say 403 for a file that is not there when listing is not allowed.
            if name in REQUIRED or e.reason not in (Reason.SOURCE_NOT_FOUND, Reason.SOURCE_FORBIDDEN):
                raise
            (copy / name).unlink(missing_ok=True)


def _digests(copy: Path, pinned: str | None, progress: Progress) -> Mapping[str, str]:
    progress.stage("digest")
    names = [path.name for path in copy.iterdir() if path.name in KNOWN]
    digests = directory_digests(copy, names, progress.advance)
    if pinned is not None and digest_of(digests) != pinned:
        raise PermanentError(
            f"the source has {digest_of(digests)}, pinned is {pinned}: the files have changed",
            reason=Reason.DIGEST_MISMATCH,
        )
    return digests


def _check(
    copy: Path, contract: ImportContract, left: Sequence[str], progress: Progress
) -> tuple[Adapter, tuple[str, ...]]:
    """The adapter, and what of it vLLM cannot serve."""
    progress.stage("check")
    base = read_base(find_base(contract.base.model, contract.base.revision))
    report = examine(copy, base, contract.max_lora_rank, contract.use)
    for note in (*report.notes, *left_behind_note(left)):
        log.info("note: %s", note)
    if report.adapter is None or report.findings:
        raise RejectedError(report.findings)
    return report.adapter, report.merge_only


def _publish(
    store: Store,
    contract: ImportContract,
    adapter: Adapter,
    copy: Path,
    digests: Mapping[str, str],
    progress: Progress,
) -> ImportResult:
    progress.stage("publish")
    digest = digest_of(digests)
    final = store.adapter(contract.adapter.name, digest)
    size = sum((copy / name).stat().st_size for name in digests)
    published = publish(copy, final)
    if not published and digest_of(directory_digests(final)) != digest:
        raise PermanentError(
            f"{final} does not hold what its name says: somebody changed it. Remove it and import again",
            reason=Reason.STORE_CORRUPTED,
        )
    return ImportResult(
        digest=digest,
        rank=adapter.rank,
        path=str(final),
        size_bytes=size,
        files=tuple(sorted(digests)),
        base_model=adapter.config.base_model,
        reused=not published,
    )
