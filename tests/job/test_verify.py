"""A published artifact is good; every way to change it is found, and all of them at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.errors import TransientError
from controller.job.findings import Finding
from controller.job.provenance import ArtifactStatement
from controller.job.verify import Wanted, verify
from tests.job import artifacts
from tests.job.artifacts import ID

OTHER = "sha256:" + "b" * 64
SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return artifacts.publish(tmp_path / "store")


def check(directory: Path, **wanted: Any) -> tuple[ArtifactStatement | None, list[Finding]]:
    return verify(directory, Wanted(**wanted), lambda _: None, lambda _: None)


def reasons(directory: Path, **wanted: Any) -> list[str]:
    return [str(f.reason) for f in check(directory, **wanted)[1]]


def rewrite(directory: Path, change: Callable[[Any], object]) -> None:
    """Changes artifact.json, and leaves everything else as it is."""
    path = directory / "artifact.json"
    document = json.loads(path.read_text())
    change(document)
    path.chmod(0o644)
    path.write_text(json.dumps(document))
    path.chmod(0o444)


def replace(path: Path, content: bytes) -> None:
    path.parent.chmod(0o755)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)
    path.parent.chmod(0o555)


def test_a_published_artifact_is_good(artifact: Path) -> None:
    found, findings = check(artifact, artifact_id=ID)
    assert findings == []
    assert found is not None and (found.id, found.size_bytes) == (ID, sum(map(len, artifacts.FILES.values())))
    assert reasons(artifact, digest=found.digest) == []


def test_every_byte_is_read_and_counted(artifact: Path) -> None:
    total: list[int] = []
    read: list[int] = []
    verify(artifact, Wanted(), total.append, read.append)
    assert total == [sum(read)] == [sum(map(len, artifacts.FILES.values()))]


def test_a_changed_byte_is_found_by_its_digest_alone(artifact: Path) -> None:
    replace(artifact / SHARD, b"0ne")
    (finding,) = check(artifact)[1]
    assert finding.reason == "ArtifactCorrupted"
    assert SHARD in finding.message and "build it again" in finding.message
    assert reasons(artifact, contents=False) == []


@pytest.mark.parametrize("contents", [True, False])
def test_another_size_is_found_without_reading(contents: bool, artifact: Path) -> None:
    replace(artifact / SHARD, b"longer")
    (finding,) = check(artifact, contents=contents)[1]
    assert "has 6 bytes, not 3" in finding.message


def test_what_is_missing_and_what_is_there_besides_are_both_said(artifact: Path) -> None:
    replace(artifact / "generation_config.json", b"{}")
    artifact.chmod(0o755)
    (artifact / SHARD).unlink()
    (artifact / "sub").mkdir()
    artifact.chmod(0o555)
    texts = [f.message for f in check(artifact)[1]]
    assert len(texts) == 2
    assert f"{SHARD}: missing" in texts[0]
    assert "generation_config.json, sub: not listed" in texts[1]


def test_a_link_is_no_file_wherever_it_leads(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "same").write_bytes(b"one")
    artifact.chmod(0o755)
    (artifact / SHARD).unlink()
    (artifact / SHARD).symlink_to(tmp_path / "same")
    artifact.chmod(0o555)
    (finding,) = check(artifact)[1]
    assert finding.reason == "ArtifactCorrupted" and "not a regular file" in finding.message


def test_a_document_that_is_a_link_is_found(artifact: Path, tmp_path: Path) -> None:
    artifact.chmod(0o755)
    (artifact / "artifact.json").rename(tmp_path / "artifact.json")
    (artifact / "artifact.json").symlink_to(tmp_path / "artifact.json")
    artifact.chmod(0o555)
    assert "ArtifactCorrupted" in reasons(artifact, modes=False)


def test_an_artifact_that_somebody_could_change_is_found(artifact: Path, tmp_path: Path) -> None:
    (artifact / SHARD).chmod(0o464)
    os.link(artifact / "config.json", tmp_path / "other-name")
    writable, linked = check(artifact)[1]
    assert writable.reason == linked.reason == "ArtifactWritable"
    assert f"{SHARD} can be written" in writable.message and "config.json has another name" in linked.message
    assert reasons(artifact, modes=False) == []


def test_a_directory_that_can_be_written_to_is_found(artifact: Path) -> None:
    artifact.chmod(0o755)
    assert reasons(artifact) == ["ArtifactWritable"]


def test_a_copy_elsewhere_is_good_but_for_its_modes(artifact: Path, tmp_path: Path) -> None:
    copy = tmp_path / "my-model"
    copy.mkdir()
    for path in artifact.iterdir():
        shutil.copyfile(path, copy / path.name)
    assert reasons(copy) == ["ArtifactWritable"]
    assert reasons(copy, modes=False) == []


def test_another_artifact_than_the_one_that_was_asked_for_is_found(artifact: Path) -> None:
    assert reasons(artifact, artifact_id=OTHER) == ["ArtifactMismatch"]
    assert reasons(artifact, digest=OTHER) == ["ArtifactMismatch"]


def test_a_directory_named_after_another_artifact_is_found(artifact: Path) -> None:
    moved = artifact.rename(artifact.with_name("b" * 64))
    assert reasons(moved) == ["ArtifactMismatch"]


def test_inputs_that_do_not_have_this_id_are_found(artifact: Path) -> None:
    def other_dtype(document: Any) -> None:
        document["predicate"]["buildDefinition"]["internalParameters"]["inputs"]["dtype"] = "float16"

    rewrite(artifact, other_dtype)
    (finding,) = check(artifact)[1]
    assert finding.reason == "ArtifactMismatch" and "its inputs have sha256:" in finding.message


def test_weights_and_statement_changed_together_are_found_by_the_digest_that_was_recorded(artifact: Path) -> None:
    before = check(artifact)[0]
    assert before is not None
    replace(artifact / SHARD, b"0ne")
    text = artifacts.statement(artifact).to_json()
    replace(artifact / "artifact.json", text.encode())
    assert reasons(artifact, artifact_id=ID) == []
    assert reasons(artifact, artifact_id=ID, digest=before.digest) == ["ArtifactMismatch"]


BROKEN: dict[str, Callable[[Any], object]] = {
    "another type": lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"),
    "another predicate": lambda d: d.update(predicateType="https://slsa.dev/provenance/v0.2"),
    "another sort of build": lambda d: d["predicate"]["buildDefinition"].update(buildType="https://example.com/x"),
    "no files": lambda d: d.update(subject=[]),
    "a file without a size": lambda d: d["subject"][0].pop("annotations"),
    "a file without sha256": lambda d: d["subject"][0].update(digest={"md5": "0"}),
    "a file twice": lambda d: d["subject"].append(d["subject"][0]),
    "a path out of the directory": lambda d: d["subject"][0].update(name="../x"),
    "a hidden file": lambda d: d["subject"][0].update(name=".x"),
    "itself": lambda d: d["subject"][0].update(name="artifact.json"),
    "no inputs": lambda d: d["predicate"]["buildDefinition"]["internalParameters"].pop("inputs"),
    "no base": lambda d: d["predicate"]["buildDefinition"]["resolvedDependencies"].pop(0),
    "no adapter": lambda d: d["predicate"]["buildDefinition"]["resolvedDependencies"].pop(1),
    "a base without a digest": lambda d: d["predicate"]["buildDefinition"]["resolvedDependencies"][0].update(
        digest=None, uri="pkg:huggingface/x/y"
    ),
    "no builder": lambda d: d["predicate"]["runDetails"].pop("builder"),
    "no invocation": lambda d: d["predicate"]["runDetails"]["metadata"].pop("invocationId"),
    "no time": lambda d: d["predicate"]["runDetails"]["metadata"].update(finishedOn="yesterday"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_incomplete_provenance_is_said(change: Callable[[Any], object], artifact: Path) -> None:
    rewrite(artifact, change)
    assert reasons(artifact) == ["ProvenanceIncomplete"]


def test_everything_that_is_incomplete_is_said_at_once(artifact: Path) -> None:
    rewrite(artifact, BROKEN["no builder"])
    rewrite(artifact, BROKEN["no inputs"])
    (finding,) = check(artifact)[1]
    assert "runDetails.builder" in finding.message and "internalParameters.inputs" in finding.message


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000])
def test_what_is_no_statement_is_said(text: bytes, artifact: Path) -> None:
    replace(artifact / "artifact.json", text)
    assert reasons(artifact) == ["ProvenanceIncomplete"]


@pytest.mark.parametrize("value", ["1e999", '"\\ud800"', '{"\\udfff": 1}'])
def test_inputs_that_no_id_can_be_made_of_are_said(value: str, artifact: Path) -> None:
    text = (artifact / "artifact.json").read_text()
    replace(artifact / "artifact.json", text.replace('"dtype": "bfloat16"', f'"dtype": {value}').encode())
    assert value in (artifact / "artifact.json").read_text()
    assert reasons(artifact) == ["ProvenanceIncomplete"]


def test_characters_that_are_escaped_in_two_halves_are_whole(artifact: Path) -> None:
    rewrite(artifact, lambda d: d["predicate"]["runDetails"].update(vendor_field="\N{GRINNING FACE}"))
    assert "\\ud83d\\ude00" in (artifact / "artifact.json").read_text()
    assert reasons(artifact) == []


def test_fields_that_we_do_not_know_are_ignored(artifact: Path) -> None:
    rewrite(artifact, lambda d: d["predicate"]["runDetails"].update(vendor_field={"a": 1}))
    assert reasons(artifact) == []


def test_where_nothing_is_it_may_appear(tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TransientError, match="no artifact is in") as e:
            check(missing)
        assert e.value.reason == "ArtifactNotFound"


def test_what_cannot_be_read_is_not_called_corrupted(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error", str(artifact / SHARD))

    monkeypatch.setattr("controller.job.verify.directory_digests", fails)
    with pytest.raises(OSError, match="Input/output error"):
        check(artifact)


def test_it_needs_neither_numpy_nor_torch(artifact: Path) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['numpy', 'torch', 'rich', 'yaml', 'kubernetes', 'httpx']));"
        f"from controller.cli.main import app; app(['verify', {str(artifact)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
