"""Import: what gets into the store, and what never does."""

from __future__ import annotations

import hashlib
import io
import math
import os
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.errors import PermanentError, TransientError
from controller.job.archive import extract
from controller.job.contract import AdapterSource, BaseReference, ImportContract, Release, Source
from controller.job.download import Downloader
from controller.job.findings import RejectedError
from controller.job.importer import run_import
from controller.job.progress import Progress
from controller.job.store import Store
from controller.job.summary import ImportResult
from tests.job import tiny_models
from tests.job.serving import Answer, certificate, serve
from tests.job.tiny_models import lora_config, lora_tensors
from tests.job.waiting import result_after

pytestmark = pytest.mark.slow

Files = dict[str, bytes]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.base(tmp_path / "base")


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    path = tiny_models.adapter(tmp_path / "incoming" / "v1")
    (path / "README.md").write_text("# adapter")
    (path / "events.log").write_text("not ours")
    return path


def contract(tmp_path: Path, source: Source, **changes: Any) -> ImportContract:
    adapter = AdapterSource(name="finetune", version="v1", source=source, digest=changes.pop("digest", None))
    return ImportContract(
        release=Release(namespace="llm", name="bot"),
        store=str(tmp_path / "store"),
        adapter=adapter,
        base=BaseReference(model=str(tmp_path / "base"), name="tiny"),
        max_lora_rank=16,
        **changes,
    )


def from_path(path: Path) -> Source:
    return Source(path=str(path), root=str(path.parent))


def imported(tmp_path: Path, source: Source, downloader: Downloader | None = None, **changes: Any) -> ImportResult:
    return run_import(contract(tmp_path, source, **changes), Progress(), downloader)


def in_store(tmp_path: Path) -> list[str]:
    """Everything in the store but the empty lock files."""
    root = tmp_path / "store"
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_an_adapter_is_kept_under_its_digest(base: Path, incoming: Path, tmp_path: Path) -> None:
    result = imported(tmp_path, from_path(incoming))
    hex_digest = result.digest.removeprefix("sha256:")
    files = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert in_store(tmp_path) == [f"adapters/finetune/{hex_digest}/{f}" for f in files]
    assert (result.path, result.rank, result.files) == (
        str(tmp_path / "store" / "adapters" / "finetune" / hex_digest),
        4,
        tuple(files),
    )
    assert result.size_bytes == sum((incoming / f).stat().st_size for f in files)
    assert (result.base_model, result.reused) == ("tiny/base", False)
    for f in files:
        assert (Path(result.path) / f).read_bytes() == (incoming / f).read_bytes()


@pytest.mark.parametrize("what", ["a path", "", "x.tar.gz", "x.zip"])
def test_a_config_beside_the_adapter_is_compared_and_not_kept(
    what: str, base: Path, incoming: Path, credentials: Path, https: Any, tmp_path: Path
) -> None:
    without = imported(tmp_path, from_path(incoming))

    def import_with(config: Path) -> ImportResult:
        (incoming / "config.json").write_bytes(config.read_bytes())
        if what == "a path":
            return imported(tmp_path, from_path(incoming))
        files = {what: archived(incoming, what.partition(".")[2])} if what else files_of(incoming)
        with https(files) as port:
            return imported(tmp_path, Source(url=f"https://localhost:{port}/a/{what}"), downloader(credentials))

    assert import_with(base / "config.json") == without.model_copy(update={"reused": True})
    (tmp_path / "other").write_text('{"model_type": "qwen2"}')
    with pytest.raises(RejectedError, match=r"the config\.json beside the adapter is of another model"):
        import_with(tmp_path / "other")


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_left_behind_is_told(
    packed: bool,
    base: Path,
    incoming: Path,
    credentials: Path,
    https: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    if packed:
        with https({"x.zip": archived(incoming, "zip")}) as port:
            imported(tmp_path, Source(url=f"https://localhost:{port}/a/x.zip"), downloader(credentials))
    else:
        imported(tmp_path, from_path(incoming))
    assert "note: not part of an adapter, left behind: events.log" in caplog.messages


def test_what_vllm_cannot_serve_is_imported_and_says_so(base: Path, tmp_path: Path) -> None:
    """Whether the stage suits it is the controller's to say: promoting imports nothing again."""
    tensors = tiny_models.lora_tensors()
    modules = {name.split(".lora_")[0] for name in tensors}
    shapes = {m: tensors[f"{m}.lora_B.weight"][1].shape[0] for m in modules}
    tensors |= {f"{m}.lora_magnitude_vector": ("F32", np.ones(n, "float32")) for m, n in shapes.items()}
    config = tiny_models.lora_config(use_dora=True)
    result = imported(tmp_path, from_path(tiny_models.adapter(tmp_path / "dora", tensors, config)))
    assert result.merge_only == ("DoRA (use_dora=True)",)
    plain = imported(tmp_path, from_path(tiny_models.adapter(tmp_path / "plain")))
    assert plain.merge_only == ()


def test_the_digest_is_what_sha256sum_says(base: Path, incoming: Path, tmp_path: Path) -> None:
    result = imported(tmp_path, from_path(incoming))
    command = "sha256sum * | LC_ALL=C sort -k2 | sha256sum"
    out = subprocess.run(["bash", "-c", command], cwd=result.path, capture_output=True, text=True, check=True)
    assert result.digest == "sha256:" + out.stdout.split()[0]


def test_every_user_may_read_it_whatever_the_umask(base: Path, incoming: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        path = Path(imported(tmp_path, from_path(incoming)).path)
    finally:
        os.umask(before)
    assert {p.stat().st_mode & 0o777 for p in path.iterdir()} == {0o444}
    assert {p.stat().st_mode & 0o777 for p in (path, path.parent, path.parent.parent)} == {0o755}


def test_the_second_import_changes_nothing(base: Path, incoming: Path, tmp_path: Path) -> None:
    first = imported(tmp_path, from_path(incoming))
    inodes = [p.stat().st_ino for p in sorted(Path(first.path).iterdir())]
    second = imported(tmp_path, from_path(incoming))
    assert second == first.model_copy(update={"reused": True})
    assert [p.stat().st_ino for p in sorted(Path(first.path).iterdir())] == inodes


def test_an_adapter_in_the_store_that_was_changed_is_noticed(base: Path, incoming: Path, tmp_path: Path) -> None:
    path = Path(imported(tmp_path, from_path(incoming)).path)
    (path / "README.md").chmod(0o644)
    (path / "README.md").write_text("other")
    with pytest.raises(PermanentError, match="somebody changed it") as e:
        imported(tmp_path, from_path(incoming))
    assert e.value.reason == "StoreCorrupted"


def test_a_pinned_digest_must_fit(base: Path, incoming: Path, tmp_path: Path) -> None:
    right = imported(tmp_path, from_path(incoming)).digest
    assert imported(tmp_path, from_path(incoming), digest=right).digest == right
    with pytest.raises(PermanentError, match="the files have changed") as e:
        imported(tmp_path, from_path(incoming), digest="sha256:" + "0" * 64)
    assert e.value.reason == "DigestMismatch"


def test_a_rejected_adapter_leaves_nothing_in_the_store(base: Path, tmp_path: Path) -> None:
    tensors = lora_tensors(rank=32)
    next(iter(tensors.values()))[1][0, 0] = math.nan
    path = tiny_models.adapter(tmp_path / "in" / "bad", tensors, lora_config(32))
    with pytest.raises(RejectedError) as e:
        imported(tmp_path, from_path(path))
    assert {str(f.reason) for f in e.value.findings} == {"NonFiniteWeights", "RankTooHigh"}
    assert in_store(tmp_path) == []


def test_a_source_outside_of_its_mount_is_refused(base: Path, incoming: Path, tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount" / "link").symlink_to(incoming)
    for path in (tmp_path / "mount" / ".." / "incoming" / "v1", tmp_path / "mount" / "link"):
        with pytest.raises(PermanentError, match="leads out of") as e:
            imported(tmp_path, Source(path=str(path), root=str(tmp_path / "mount")))
        assert e.value.reason == "SourceForbidden"


def test_a_link_out_of_the_adapter_is_refused(base: Path, incoming: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    (incoming / "tokenizer.json").symlink_to(tmp_path / "secret")
    with pytest.raises(RejectedError, match=r"^tokenizer\.json is a link"):
        imported(tmp_path, from_path(incoming))


def test_a_source_that_is_not_there_says_so(base: Path, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="is not there") as e:
        imported(tmp_path, Source(path=str(tmp_path / "gone"), root=str(tmp_path)))
    assert e.value.reason == "SourceNotFound"


def test_a_base_that_is_not_mounted_says_so(incoming: Path, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="mount the volume") as e:
        imported(tmp_path, from_path(incoming))
    assert e.value.reason == "BaseModelNotFound"


def test_size_is_bounded(base: Path, incoming: Path, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="larger than") as e:
        imported(tmp_path, from_path(incoming), max_bytes=1000)
    assert e.value.reason == "SourceTooLarge"


def test_two_imports_of_one_version_do_not_mix(
    base: Path, incoming: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Store(tmp_path / "store").working("import-finetune-v1-llm-bot")
    assert not result_after(other, lambda: imported(tmp_path, from_path(incoming)), caplog).reused


def test_an_import_does_not_wait_for_that_of_another_version(base: Path, incoming: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "store").working("import-finetune-v0-llm-bot"):
        assert not imported(tmp_path, from_path(incoming)).reused


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.mkdir()
    (path / "token").write_text("s3cret\n")
    return path


Respond = Callable[[BaseHTTPRequestHandler], Answer | None]


@pytest.fixture
def https(incoming: Path, credentials: Path) -> Iterator[Callable[[Files, Respond], Any]]:
    """Serves files over https, to who has the token."""
    pem = certificate(credentials)

    def start(files: Files, respond: Respond = lambda r: None) -> Any:
        def answer(request: BaseHTTPRequestHandler, _: bytes) -> Answer:
            if (special := respond(request)) is not None:
                return special
            if request.headers.get("Authorization") != "Bearer s3cret":
                return 401, {}, b""
            name = request.path.removeprefix("/a/")
            return (200, {}, files[name]) if name in files else (404, {}, b"")

        return serve(answer, pem)

    yield start


def downloader(credentials: Path) -> Downloader:
    return Downloader(credentials=credentials, timeout=10, is_allowed=lambda address: True)


def files_of(path: Path) -> Files:
    return {p.name: p.read_bytes() for p in path.iterdir()}


def archived(path: Path, kind: str, prefix: str = "some/dir/") -> bytes:
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
            for name, content in files_of(path).items():
                z.writestr(prefix + name, content)
    else:
        with tarfile.open(fileobj=out, mode="w:gz" if kind.endswith("gz") else "w") as t:
            for name, content in files_of(path).items():
                info = tarfile.TarInfo(prefix + name)
                info.size = len(content)
                t.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("what", ["", "x.tar", "x.tar.gz", "x.tgz", "x.zip"])
def test_https_gives_the_same_adapter_as_a_path(
    what: str, base: Path, incoming: Path, credentials: Path, https: Any, tmp_path: Path
) -> None:
    expected = imported(tmp_path, from_path(incoming))
    files = files_of(incoming) if not what else {what: archived(incoming, what.partition(".")[2])}
    with https(files) as port:
        url = f"https://localhost:{port}/a/{what}"
        result = imported(tmp_path, Source(url=url), downloader(credentials))
    assert result == expected.model_copy(update={"reused": True})


def test_the_pod_itself_and_the_metadata_service_are_no_source(base: Path, https: Any, tmp_path: Path) -> None:
    with https({}) as port:
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "0.0.0.0"):
            with pytest.raises((PermanentError, TransientError)) as e:
                imported(tmp_path, Source(url=f"https://{host}:{port}/a/"))
            assert e.value.reason == "SourceForbidden", host


@pytest.mark.parametrize(
    ("status", "headers", "kind", "reason"),
    [
        (503, {}, TransientError, "SourceUnavailable"),
        (429, {}, TransientError, "SourceUnavailable"),
        (404, {}, PermanentError, "SourceNotFound"),
        (403, {}, PermanentError, "SourceForbidden"),
        (302, {"Location": "http://localhost/"}, PermanentError, "SourceForbidden"),
        (302, {"Location": "file:///etc/passwd"}, PermanentError, "SourceForbidden"),
        (302, {}, PermanentError, "SourceInvalid"),
        (302, {"Location": "https://h:99999/"}, PermanentError, "SourceInvalid"),
        (302, {"Location": "https://[x/"}, PermanentError, "SourceInvalid"),
        (200, {"Content-Length": "99"}, TransientError, "SourceUnavailable"),
    ],
)
def test_what_the_server_answers_decides_about_a_retry(
    status: int,
    headers: dict[str, str],
    kind: type[Exception],
    reason: str,
    base: Path,
    credentials: Path,
    https: Any,
    tmp_path: Path,
) -> None:
    def respond(request: BaseHTTPRequestHandler) -> Answer:
        request.close_connection = True
        return status, headers, b"x"

    with https({}, respond) as port, pytest.raises(kind) as e:
        imported(tmp_path, Source(url=f"https://localhost:{port}/a/"), downloader(credentials))
    assert e.value.reason == reason  # type: ignore[attr-defined]


@pytest.mark.parametrize("address", ["h:99999/x", "h:port/x", "[::1/x", "h/\N{BULLET}", "h..x/"])
def test_an_address_that_is_none_is_refused_and_tells_no_secret(address: str, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="is no address") as e:
        Downloader().download(f"https://{address}?sig=s3cret@x", tmp_path / "x", 9, lambda _: None)
    assert e.value.reason == "SourceInvalid" and "s3cret" not in str(e.value)


def test_credentials_do_not_follow_a_redirect_to_another_server(
    base: Path, incoming: Path, credentials: Path, https: Any, tmp_path: Path
) -> None:
    seen = []

    def other(request: BaseHTTPRequestHandler) -> Answer:
        seen.append(request.headers.get("Authorization"))
        content = files_of(incoming).get(request.path.removeprefix("/a/"))
        return (404, {}, b"") if content is None else (200, {}, content)

    with https({}, other) as there:

        def here(request: BaseHTTPRequestHandler) -> Answer:
            return 302, {"Location": f"https://localhost:{there}{request.path}"}, b""

        with https({}, here) as port:
            imported(tmp_path, Source(url=f"https://localhost:{port}/a/"), downloader(credentials))
    assert seen and set(seen) == {None}


def test_a_signature_in_an_address_is_not_told(base: Path, credentials: Path, https: Any, tmp_path: Path) -> None:
    def respond(request: BaseHTTPRequestHandler) -> Answer:
        if "X-Signature" in request.path:
            return 403, {}, b""
        return 302, {"Location": request.path + "?X-Signature=s3cret"}, b""

    with https({}, respond) as port, pytest.raises(PermanentError, match="answered 403") as e:
        imported(tmp_path, Source(url=f"https://localhost:{port}/a/x.zip?sig=s3cret"), downloader(credentials))
    assert "s3cret" not in str(e.value)


def test_an_unknown_authority_is_refused(base: Path, https: Any, tmp_path: Path) -> None:
    with https({}) as port, pytest.raises(TransientError, match="certificate verify failed"):
        imported(tmp_path, Source(url=f"https://localhost:{port}/a/"), Downloader(is_allowed=lambda address: True))


def tar_with(*members: tuple[str, bytes, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as t:
        for name, content, link in members:
            info = tarfile.TarInfo(name)
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
            info.size = len(content)
            t.addfile(info, io.BytesIO(content))
    return out.getvalue()


CONFIG = ("a/adapter_config.json", b"{}", "")
BAD_ARCHIVES = {
    "climbs out": (tar_with(CONFIG, ("a/../../x", b"", "")), "SourceInvalid"),
    "absolute": (tar_with(CONFIG, ("/etc/x", b"", "")), "SourceInvalid"),
    "a link": (tar_with(CONFIG, ("a/adapter_model.safetensors", b"", "/etc/passwd")), "SourceInvalid"),
    "two adapters": (tar_with(CONFIG, ("b/adapter_config.json", b"{}", "")), "SourceInvalid"),
    "no adapter": (tar_with(("a/x", b"", "")), "SourceInvalid"),
    "not an archive": (b"hello", "SourceInvalid"),
    "cut off": (tar_with(CONFIG, ("a/README.md", os.urandom(9999), ""))[:-5000], "SourceInvalid"),
    "a bomb": (tar_with(CONFIG, ("a/README.md", bytes(2_000_000), "")), "SourceTooLarge"),
    "a pickle": (tar_with(CONFIG, ("a/adapter_model.bin", b"x", "")), "UnsupportedFormat"),
}


@pytest.mark.parametrize("case", BAD_ARCHIVES)
def test_a_bad_archive_is_refused(case: str, base: Path, credentials: Path, https: Any, tmp_path: Path) -> None:
    content, reason = BAD_ARCHIVES[case]
    with https({"x.tar.gz": content}) as port, pytest.raises(PermanentError) as e:
        imported(
            tmp_path,
            Source(url=f"https://localhost:{port}/a/x.tar.gz"),
            downloader(credentials),
            max_bytes=1_000_000,
        )
    assert e.value.reason == reason
    assert in_store(tmp_path) == []


def zip_with_broken_lzma() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as z:
        z.writestr("adapter_config.json", os.urandom(999))
    content = bytearray(out.getvalue())
    content[content.index(b"adapter_config.json") + 19 + 4] = 255  # the first of LZMA's properties
    return bytes(content)


def test_a_broken_zip_is_the_packer_s_mistake(base: Path, credentials: Path, https: Any, tmp_path: Path) -> None:
    with https({"x.zip": zip_with_broken_lzma()}) as port, pytest.raises(PermanentError) as e:
        imported(tmp_path, Source(url=f"https://localhost:{port}/a/x.zip"), downloader(credentials))
    assert e.value.reason == "SourceInvalid"


class Zeros(io.RawIOBase):
    def readinto(self, buffer: Any) -> int:
        buffer[:] = bytes(len(buffer))
        return len(buffer)


def tar_of_zeros(path: Path, type_: bytes, size: int) -> Path:
    """A .tar.gz of a few hundred kilobytes with one member of `size` zeros before the adapter."""
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as t:
        info = tarfile.TarInfo("a/unwanted")
        info.type, info.size = type_, size
        t.addfile(info, Zeros())  # type: ignore[arg-type]
        name, content, _ = CONFIG
        info = tarfile.TarInfo(name)
        info.size = len(content)
        t.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "type_", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_a_header_does_not_fill_the_memory(type_: bytes, tmp_path: Path) -> None:
    archive = tar_of_zeros(tmp_path / "x.tar.gz", type_, 100 << 20)
    assert archive.stat().st_size < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(PermanentError, match="headers are larger than") as e:
            extract(archive, tmp_path, "adapter_config.json", frozenset(), 1 << 30)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()
    assert e.value.reason == "SourceInvalid"


def test_what_is_not_wanted_counts_too_when_it_is_unpacked(tmp_path: Path) -> None:
    archive = tar_of_zeros(tmp_path / "x.tar.gz", tarfile.REGTYPE, 20 << 20)
    with pytest.raises(PermanentError, match="unpacks to more than allowed") as e:
        extract(archive, tmp_path, "adapter_config.json", frozenset(), 10 << 20)
    assert e.value.reason == "SourceTooLarge"
    assert extract(archive, tmp_path, "adapter_config.json", frozenset(), 30 << 20) == [
        "adapter_config.json",
        "unwanted",
    ]


def test_the_digest_does_not_depend_on_where_it_is_computed(base: Path, incoming: Path, tmp_path: Path) -> None:
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    lines = "".join(f"{hashlib.sha256((incoming / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    assert imported(tmp_path, from_path(incoming)).digest == "sha256:" + hashlib.sha256(lines.encode()).hexdigest()
