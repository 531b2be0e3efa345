"""verify, card and sign, as a user and as an init container calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from controller.cli.display import size
from controller.cli.main import app
from controller.job.store import file_digest
from controller.job.summary import FailureKind, parse_summary
from tests.job import artifacts
from tests.job.test_signing import keys

SHARD = "model-00001-of-00002.safetensors"


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return artifacts.publish(
        tmp_path / "store", artifacts.FILES | {"README.md": b"# merged-x\n\n## Scores\n\nElsewhere.\n"}
    )


def spoil(artifact: Path) -> None:
    artifact.chmod(0o755)
    (artifact / SHARD).unlink()
    (artifact / SHARD).write_bytes(b"0ne")
    (artifact / SHARD).chmod(0o444)
    (artifact / "extra").write_bytes(b"")
    artifact.chmod(0o555)


def test_a_good_artifact_is_called_so(artifact: Path) -> None:
    done = call("verify", artifact)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"good: merged-x, {artifacts.ID}; 4 files, ")
    said = json.loads(call("verify", artifact, "--json").stdout)
    assert (said["ok"], said["id"], said["files"], said["findings"]) == (True, artifacts.ID, 4, [])


def test_a_changed_one_is_refused_with_every_reason_on_a_line(artifact: Path) -> None:
    spoil(artifact)
    done = call("verify", artifact)
    assert (done.exit_code, done.stdout) == (2, "")
    lines = [x for x in done.stderr.splitlines() if x.startswith("adapterrelease: ")]
    assert len(lines) == 2 and all(x.startswith("adapterrelease: Artifact") for x in lines)
    said = json.loads(call("verify", artifact, "--json").stdout)
    assert said["ok"] is False and len(said["findings"]) == 2


def test_an_init_container_says_it_in_its_termination_message(artifact: Path, tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    assert call("verify", artifact, "--any-mode", "--termination-log", log).exit_code == 0
    assert not log.exists()
    spoil(artifact)
    assert call("verify", artifact, "--any-mode", "--termination-log", log).exit_code == 2
    failure = parse_summary(log.read_text()).failure
    assert failure is not None and (failure.kind, failure.reason) == (FailureKind.PERMANENT, "ArtifactCorrupted")
    assert SHARD in failure.message and len(log.read_bytes()) <= 4096


def test_what_may_pass_is_told_apart_from_what_will_not(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    assert call("verify", tmp_path / "nowhere", "--termination-log", log).exit_code == 1
    failure = parse_summary(log.read_text()).failure
    assert failure is not None and (failure.kind, failure.reason) == (FailureKind.TRANSIENT, "ArtifactNotFound")


def test_sizes_alone_are_compared_when_that_is_asked(artifact: Path) -> None:
    spoil(artifact)
    done = call("verify", artifact, "--any-mode", "--sizes-only", "--json")
    assert [f["message"].partition(": ")[2] for f in json.loads(done.stdout)["findings"]] == [
        "extra: not listed in artifact.json; remove the directory and build it again"
    ]


@pytest.mark.parametrize(("option", "value"), [("--id", "sha256:" + "b" * 64), ("--digest", "sha256:" + "b" * 64)])
def test_another_artifact_is_refused(option: str, value: str, artifact: Path) -> None:
    done = call("verify", artifact, option, value)
    assert done.exit_code == 2 and "ArtifactMismatch" in done.stderr


def test_a_signature_is_made_and_checked(artifact: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "mine")
    _, stranger = keys(tmp_path, "stranger")
    unsigned = call("verify", artifact, "--public-key", public)
    assert unsigned.exit_code == 0 and "not signed" in unsigned.stderr
    required = ("verify", artifact, "--require-signature", "--public-key")
    assert "SignatureMissing" in call(*required, public).stderr
    assert call("sign", artifact, "--key", private).exit_code == 0
    assert call(*required, public).exit_code == 0
    assert "was not checked" in call("verify", artifact).stderr
    refused = call(*required, stranger)
    assert refused.exit_code == 2 and "SignatureInvalid" in refused.stderr


def test_a_signature_is_not_required_without_a_key(artifact: Path) -> None:
    done = call("verify", artifact, "--require-signature")
    assert done.exit_code == 2 and "needs --public-key" in done.stderr


def test_what_is_not_good_is_not_signed(artifact: Path, tmp_path: Path) -> None:
    private, _ = keys(tmp_path, "mine")
    spoil(artifact)
    done = call("sign", artifact, "--key", private)
    assert done.exit_code == 2 and "ArtifactCorrupted" in done.stderr
    assert not artifact.with_name(f"{artifact.name}.sig").exists()


def evaluation(digest: str, name: str = "support") -> dict[str, Any]:
    suite = {"name": name, "samples": 10, "reference": 1.0, "candidate": 0.9, "agreement": 0.95, "errors": 0}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "x", "digest": {"sha256": digest}}],
        "predicateType": "https://adapterrelease.dev/evaluation/v1alpha1",
        "predicate": {"suites": [suite], "finishedOn": "2026-01-01T00:00:00Z"},
    }


def test_a_card_has_the_scores_that_were_measured_of_these_files(artifact: Path) -> None:
    bare = call("card", artifact)
    assert bare.stdout == "# merged-x\n\n## Scores\n\nNothing was measured of it yet.\n"
    beside = artifact.with_name(f"{artifact.name}.evaluations")
    beside.mkdir()
    digest = file_digest(artifact / "artifact.json")
    (beside / "1.json").write_text(json.dumps(evaluation(digest)))
    (beside / "2.json").write_text(json.dumps(evaluation("0" * 64, "of-another-artifact")))
    (beside / "3.json").write_text("{")
    (beside / ".4.json.partial").write_text("{")
    done = call("card", artifact)
    assert done.exit_code == 0
    rows = [x for x in done.stdout.splitlines() if x.startswith("| `")]
    assert rows == ["| `2026-01-01T00:00:00Z` | `support` | 10 | 1.0000 | 0.9000 | 0.9500 |"]


def test_a_card_says_what_was_not_asked(artifact: Path) -> None:
    beside = artifact.with_name(f"{artifact.name}.evaluations")
    beside.mkdir()
    alone = evaluation(file_digest(artifact / "artifact.json"))
    alone["predicate"]["suites"][0] |= {"reference": None, "agreement": None}
    (beside / "1.json").write_text(json.dumps(alone))
    rows = [x for x in call("card", artifact).stdout.splitlines() if x.startswith("| `")]
    assert rows == ["| `2026-01-01T00:00:00Z` | `support` | 10 | not asked | 0.9000 | not asked |"]


def test_without_an_artifact_there_is_no_card(tmp_path: Path) -> None:
    done = call("card", tmp_path)
    assert done.exit_code == 1 and "StorageError" in done.stderr


def test_a_card_that_is_no_text_is_said(artifact: Path) -> None:
    (artifact / "README.md").chmod(0o644)
    (artifact / "README.md").write_bytes(b"\xff")
    done = call("card", artifact)
    assert done.exit_code == 2 and "README.md is no card" in done.stderr


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e12, "2.5 TB")])
def test_sizes_are_for_people(count: float, text: str) -> None:
    assert size(count) == text
