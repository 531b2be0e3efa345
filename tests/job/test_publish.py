"""The last stage: what an artifact says of itself, and that it appears whole or not at all, whatever ends it."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from controller import __version__
from controller.job import build, merge, store
from controller.job.contract import AdapterInput, BaseReference, BuildContract, Quantization, Release
from controller.job.failures import failure_of
from controller.job.progress import Progress
from controller.job.provenance import read_artifact
from controller.job.publish import Made, publish_artifact
from controller.job.store import Store, digest_of, directory_digests
from controller.job.summary import BuildResult
from controller.job.verify import Wanted, verify
from tests.job import tiny_models

BEGIN, END = "2026-01-02T03:04:05Z", "2026-01-02T03:05:00Z"


def contract(root: Path, **changes: Any) -> BuildContract:
    path = root / "adapter"
    one = AdapterInput(
        name="finetune",
        version="v1",
        digest=digest_of(directory_digests(path)),
        path=str(path),
        training_run="mlflow:/runs/1",
    )
    known = {
        "release": Release(namespace="llm", name="bot", uid="u"),
        "store": str(root / "store"),
        "base": BaseReference(model=str(root / "base"), name="tiny-llama", revision="r1"),
        "adapters": (one,),
    }
    return BuildContract(**(known | changes))


def built(root: Path) -> BuildResult:
    times = iter([BEGIN, END])
    return build.run_build(contract(root), Progress(), lambda: next(times))


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A base with a card and a licence, and an adapter."""
    base = tiny_models.base(tmp_path / "base", shards=2)
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# The base's own card\n")
    tiny_models.adapter(tmp_path / "adapter")
    (tmp_path / "store").mkdir()
    return tmp_path


# -- what it says


def test_it_is_a_statement_with_slsa_provenance_about_every_file_but_itself(inputs: Path) -> None:
    result = built(inputs)
    path = Path(result.path)
    document = json.loads((path / "artifact.json").read_text())
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    files = directory_digests(path)
    del files["artifact.json"]
    assert {s["name"]: s["digest"]["sha256"] for s in document["subject"]} == files
    sizes = {s["name"]: s["annotations"]["sizeBytes"] for s in document["subject"]}
    assert sizes == {n: (path / n).stat().st_size for n in files}
    assert result.size_bytes == sum(sizes.values())
    del files["README.md"]
    assert result.digest == digest_of(files), "of what is served: names change a card, not a digest"


def test_it_says_what_was_asked_for_and_what_that_resolved_to(inputs: Path) -> None:
    result = built(inputs)
    said = read_artifact(Path(result.path)).predicate.build_definition
    adapter = contract(inputs).adapters[0]
    assert said.build_type == "https://adapterrelease.dev/merge/v1alpha1"
    assert said.external_parameters["release"] == {"namespace": "llm", "name": "bot", "uid": "u"}
    assert said.external_parameters["base"]["revision"] == "r1"
    assert said.external_parameters["adapters"] == [
        {
            "name": "finetune",
            "version": "v1",
            "digest": adapter.digest,
            "trainingRun": "mlflow:/runs/1",
            "weight": 1.0,
        }
    ]
    assert said.internal_parameters.artifact_id == result.artifact_id
    assert said.internal_parameters.inputs["tools"] == {"merge": merge.VERSION}
    base, lora = said.resolved_dependencies
    files = directory_digests(inputs / "base")
    del files["model.safetensors.index.json"]
    assert (base.name, base.digest) == ("base", {"dirHash": digest_of(files).removeprefix("sha256:")})
    assert base.annotations == {"name": "tiny-llama", "revision": "r1", "files": files}
    assert (lora.name, lora.digest) == ("adapter/finetune", {"dirHash": adapter.digest.removeprefix("sha256:")})
    assert lora.annotations == {"version": "v1", "trainingRun": "mlflow:/runs/1", "weight": 1.0}


def test_it_says_by_what_and_when_it_was_made_and_what_that_took(inputs: Path) -> None:
    result = built(inputs)
    said = read_artifact(Path(result.path))
    run = said.predicate.run_details
    assert run.builder.version == {"adapter-release-controller": __version__, "merge": merge.VERSION}
    assert (run.metadata.started_on, run.metadata.finished_on) == (BEGIN, END)
    assert run.metadata.invocation_id.startswith("urn:uuid:")
    assert said.measured["seconds"] == result.seconds
    assert said.measured["sizeBytes"]["artifact"] == result.size_bytes > said.measured["sizeBytes"]["base"]
    adapter = sum(p.stat().st_size for p in (inputs / "adapter").iterdir())
    assert said.measured["sizeBytes"]["adapters"] == adapter


def test_a_model_of_the_hub_is_named_as_packages_are(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = inputs / "hub" / "models--org--tiny" / "snapshots" / ("c" * 40)
    snapshot.parent.mkdir(parents=True)
    (inputs / "base").rename(snapshot)
    refs = inputs / "hub" / "models--org--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("c" * 40)
    monkeypatch.setenv("HF_HUB_CACHE", str(inputs / "hub"))
    told = contract(inputs, base=BaseReference(model="org/tiny", name="tiny-llama"))
    result = build.run_build(told, Progress())
    base = read_artifact(Path(result.path)).dependency("base")
    assert base is not None and base.uri == f"pkg:huggingface/org/tiny@{'c' * 40}"
    assert "base_model: org/tiny\n" in (Path(result.path) / "README.md").read_text()


def test_nothing_secret_of_a_source_gets_in(inputs: Path) -> None:
    secret = "https://user:hunter2@data.example/c.jsonl?X-Signature=hunter2#hunter2"
    calibration = {"url": secret, "credentials": "/credentials/hub"}
    told = contract(inputs, quantization=Quantization.model_validate({"calibration": calibration}))
    directory = inputs / "finished"
    shutil.copytree(inputs / "base", directory)
    base = build.read_base(inputs / "base")
    made = Made(told, build.artifact.inputs_of(contract(inputs), "sha256:" + "1" * 64, None), base, {}, BEGIN)
    publish_artifact(directory, inputs / "final", made, Progress(), lambda: END)
    text = (inputs / "final" / "artifact.json").read_text()
    assert "hunter2" not in text and "/credentials" not in text
    asked = read_artifact(inputs / "final").predicate.build_definition.external_parameters
    assert asked["quantization"]["calibration"]["source"] == "https://data.example/c.jsonl"


def test_the_base_s_own_card_and_document_are_replaced(inputs: Path) -> None:
    (inputs / "base" / "artifact.json").write_text('{"of": "another artifact"}')
    path = Path(built(inputs).path)
    card = (path / "README.md").read_text()
    assert "The base's own card" not in card and "license: apache-2.0" in card
    assert read_artifact(path).id


def test_two_builds_differ_in_their_times_and_in_nothing_else(inputs: Path) -> None:
    first = built(inputs)
    before = directory_digests(Path(first.path))
    (inputs / "store").rename(inputs / "old")
    (inputs / "store").mkdir()
    second = build.run_build(contract(inputs), Progress(), lambda: "2027-01-01T00:00:00Z")
    after = directory_digests(Path(second.path))
    assert (second.artifact_id, second.digest) == (first.artifact_id, first.digest)
    assert {n for n in before if before[n] != after[n]} == {"artifact.json"}


# -- that it appears whole or not at all


class Stopped(Exception):
    """Before the last stage."""


@pytest.fixture
def merged(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store in which a build has come as far as its last stage."""

    def stop(*_: Any) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(build, "publish_artifact", stop)
        with pytest.raises(Stopped):
            built(inputs)
    (inputs / "store").rename(inputs / "merged")
    return inputs


def begin_again(root: Path) -> None:
    for path in (root / "store").rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(root / "store", ignore_errors=True)
    shutil.copytree(root / "merged", root / "store")


def is_whole(root: Path, **wanted: Any) -> bool:
    """The artifact is there, and nothing in it is wrong; False: it is not there. Anything else is an error."""
    found = list((root / "store" / "artifacts").glob("[0-9a-f]" * 64))
    for path in found:
        _, findings = verify(path, Wanted(**wanted), lambda _: None, lambda _: None)
        assert findings == []
    return bool(found)


def killed_at(root: Path, number: int) -> int:
    """Publishes in a process of its own, which is killed at its `number`-th call into C; the calls that there were."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - the child never comes back
        try:
            calls = _count_calls(number)
            built(root)
            os.write(send, str(calls()).encode())
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) == (text == ""), "it either was killed or ended well"
    return int(text or 0)


def _count_calls(number: int) -> Callable[[], int]:
    """From the beginning of the last stage on, in all threads."""
    real, counted = build.publish_artifact, 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal counted
        if event == "c_call":
            counted += 1
            if counted == number:
                os.kill(os.getpid(), signal.SIGKILL)

    def begin(*arguments: Any) -> None:
        threading.setprofile(profile)
        sys.setprofile(profile)
        real(*arguments)

    build.publish_artifact = begin
    return lambda: counted


def test_killed_at_any_moment_it_is_there_whole_or_not_and_the_next_try_makes_the_same(merged: Path) -> None:
    begin_again(merged)
    total = killed_at(merged, 0)
    assert total > 100 and is_whole(merged)
    expected = built(merged)
    outcomes = set()
    for number in sorted(random.Random(4).sample(range(1, total), 20)):
        begin_again(merged)
        killed_at(merged, number)
        outcomes.add(is_whole(merged, modes=False))
        again = built(merged)
        assert (again.artifact_id, again.digest, again.name) == (
            expected.artifact_id,
            expected.digest,
            expected.name,
        )
        assert is_whole(merged)
        assert not list((merged / "store" / ".work").glob("*[0-9a-f]")), "nothing is left to take up room"
    assert False in outcomes


def _failing(real: Callable[..., Any], number: int, left: list[int]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **named)

    return call


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "write_text"), (Path, "rename"), (Path, "chmod")])
@pytest.mark.parametrize(("number", "reason"), [(errno.ENOSPC, "DiskFull"), (errno.EIO, "StorageError")])
def test_a_disk_that_fails_at_any_step_is_said_and_leaves_nothing_half(
    owner: Any, name: str, number: int, reason: str, merged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_again(merged)
    for step in range(1, 100):
        left = [step]
        with monkeypatch.context() as broken:
            broken.setattr(owner, name, _failing(getattr(owner, name), number, left))
            try:
                result = built(merged)
            except OSError as e:
                failure = failure_of(e)
                assert (str(failure.kind), failure.reason) == ("Transient", reason)
                is_whole(merged, modes=False)
            else:
                break
    assert step > 1
    assert is_whole(merged)
    assert result.artifact_id


@pytest.mark.parametrize("name", ["fsync", "write"])
def test_a_full_disk_is_said_with_the_file_that_did_not_fit(
    name: str, merged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_again(merged)
    owner, method = (store.os, "fsync") if name == "fsync" else (Path, "write_text")
    monkeypatch.setattr(owner, method, _failing(getattr(owner, method), errno.ENOSPC, [1]))
    with pytest.raises(OSError, match="No space left on device") as e:
        built(merged)
    assert str(merged / "store" / ".work") in failure_of(e.value).message
    assert not (merged / "store" / "artifacts").exists()


def test_a_file_that_cannot_be_read_back_is_not_published(merged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_again(merged)

    def unreadable(path: Path, *_: Any) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    real = store.file_digest
    monkeypatch.setattr(store, "file_digest", lambda p, *a: (unreadable if ".work" in str(p) else real)(p, *a))
    with pytest.raises(OSError, match="Input/output error"):
        built(merged)
    assert not Store(merged / "store").root.joinpath("artifacts").exists()
