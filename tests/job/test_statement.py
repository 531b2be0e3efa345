"""What an evaluation keeps: a statement beside the artifact, written once, and nothing anywhere else."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from controller import __version__
from controller.errors import PermanentError
from controller.job import store as store_module
from controller.job.contract import Benchmark, Endpoint, EvaluateContract, EvaluatedArtifact, Release, Source, Suite
from controller.job.evaluate import run_evaluate
from controller.job.evaluation import Change, parse_examples
from controller.job.failures import failure_of
from controller.job.progress import Progress
from controller.job.provenance import parse_artifact
from controller.job.store import Store, digest_of, directory_digests, publish_file
from controller.job.summary import EvaluateResult
from tests.job import artifacts
from tests.job.serving import FakeModel, serve

pytestmark = pytest.mark.slow

HEX = artifacts.ID.removeprefix("sha256:")
INPUTS = "e" * 64
ADAPTER = "sha256:" + "1" * 64
BOTH = {"reference": 1.0, "candidate": 0.9}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one published artifact."""
    artifacts.publish(tmp_path / "store", {"model.safetensors": b"weights"}).chmod(0o755)
    return Store(tmp_path / "store")


@pytest.fixture
def asked(store: Store, tmp_path: Path) -> Iterator[list[FakeModel]]:
    """Reference and candidate, up; the candidate is wrong in one of ten."""
    with ExitStack() as stack:
        models = [FakeModel("bot", lambda q: q), FakeModel("bot", lambda q: q if q != "t3" else "?")]
        for model, name in zip(models, BOTH, strict=True):
            port = stack.enter_context(serve(model))
            (tmp_path / name).write_text(f"http://127.0.0.1:{port}")
        yield models


def contract(store: Store, tmp_path: Path, **artifact: str) -> EvaluateContract:
    rows = [{"messages": [{"role": "user", "content": f"t{i}"}], "expected": f"t{i}"} for i in range(10)]
    (tmp_path / "suite.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    digest = digest_of(directory_digests(store.artifact(HEX), ["model.safetensors"]))
    known = {"id": f"sha256:{HEX}", "digest": digest, "adapter_digest": ADAPTER, "inputs": INPUTS}
    reference, candidate = (Endpoint(url=(tmp_path / name).read_text(), model="bot") for name in BOTH)
    return EvaluateContract(
        release=Release(namespace="llm", name="bot", uid="u"),
        store=str(store.root),
        artifact=EvaluatedArtifact(**(known | artifact)),
        reference=reference,
        candidate=candidate,
        suites=(Suite(name="s", source=Source(path=str(tmp_path / "suite.jsonl"), root=str(tmp_path))),),
        benchmark=Benchmark(concurrency=2, requests=4),
    )


def evaluated(store: Store, tmp_path: Path, **artifact: str) -> EvaluateResult:
    times = iter(["2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"])
    return run_evaluate(contract(store, tmp_path, **artifact), Progress(), now=lambda: next(times))


def statement(store: Store) -> Any:
    return json.loads((store.evaluations(HEX) / f"{INPUTS}.json").read_text())


def in_store(store: Store) -> dict[str, bytes]:
    return {str(p.relative_to(store.root)): p.read_bytes() for p in store.root.rglob("*") if p.is_file()}


def visible(store: Store) -> set[str]:
    return {p.name for p in store.evaluations(HEX).iterdir() if not p.name.startswith(".")}


def test_it_says_what_was_measured_of_what(store: Store, asked: list[FakeModel], tmp_path: Path) -> None:
    result = evaluated(store, tmp_path)
    assert result.benchmark is not None
    said = statement(store)
    document = (store.artifact(HEX) / "artifact.json").read_bytes()
    assert (said["_type"], said["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://adapterrelease.dev/evaluation/v1alpha1",
    )
    assert said["subject"] == [
        {"name": f"{HEX}/artifact.json", "digest": {"sha256": hashlib.sha256(document).hexdigest()}}
    ]
    outcomes = {"bothRight": 9, "onlyReference": 1, "onlyCandidate": 0, "bothWrong": 0, "reworded": 0}
    scored = {"name": "s", "samples": 10, **BOTH, "agreement": 0.9, "errors": 0, "outcomes": outcomes}
    suite = scored | {"scorer": "Contains", "maxTokens": 64}
    data = hashlib.sha256((tmp_path / "suite.jsonl").read_bytes()).hexdigest()
    timed = result.benchmark.model_dump(by_alias=True)
    (examples,) = store.evaluations(HEX).glob("*.examples.jsonl")
    curves, seconds = said["predicate"]["benchmark"].pop("curves"), said["predicate"].pop("seconds")
    assert set(curves) == {"rounds", "latencyQuantiles"} and set(seconds) == {"fetch", "score", "benchmark"}
    assert said["predicate"] == {
        "release": {"namespace": "llm", "name": "bot", "uid": "u"},
        "artifact": {"id": f"sha256:{HEX}", "digest": parse_artifact(document).digest, "name": "merged-x"},
        "adapter": {"digest": ADAPTER},
        "inputs": INPUTS,
        "suites": [suite | {"dataDigest": f"sha256:{data}"}],
        "benchmark": {"concurrency": 2, "requests": 4, **timed},
        "examples": {
            "name": examples.name,
            "digest": {"sha256": hashlib.sha256(examples.read_bytes()).hexdigest()},
            "mediaType": "application/jsonl",
        },
        "startedOn": "2026-01-01T00:00:00Z",
        "finishedOn": "2026-01-01T00:01:00Z",
        "tool": {"name": "adapter-release-controller", "version": __version__},
    }


def test_without_a_reference_it_says_null(store: Store, asked: list[FakeModel], tmp_path: Path) -> None:
    run_evaluate(contract(store, tmp_path).model_copy(update={"reference": None}), Progress())
    said = statement(store)["predicate"]
    (suite,) = said["suites"]
    assert (suite["reference"], suite["candidate"], suite["agreement"]) == (None, 0.9, None)
    assert said["benchmark"]["reference"] is said["benchmark"]["speedup"] is None
    assert said["adapter"] == {"digest": ADAPTER}, "what is in the artifact is known"
    assert asked[0].requests == []


def test_it_lies_beside_the_artifact_and_changes_nothing(store: Store, asked: list[FakeModel], tmp_path: Path) -> None:
    before = in_store(store)
    evaluated(store, tmp_path)
    after = in_store(store)
    assert {name: after[name] for name in before} == before
    examples = statement(store)["predicate"]["examples"]["name"]
    assert visible(store) == {f"{INPUTS}.json", examples}
    names = (".lock", f"{INPUTS}.json", examples)
    assert set(after) - set(before) == {f"artifacts/{HEX}.evaluations/{n}" for n in names}
    assert {(store.evaluations(HEX) / n).stat().st_mode & 0o777 for n in names[1:]} == {0o444}


def test_the_same_inputs_leave_the_first_one_as_it_is(store: Store, asked: list[FakeModel], tmp_path: Path) -> None:
    result = evaluated(store, tmp_path)
    first, requests = in_store(store), [len(model.requests) for model in asked]
    asked[1].answers = lambda q: "?"
    assert evaluated(store, tmp_path) == result, "a verdict rests on the scores that are kept"
    assert [len(model.requests) for model in asked] == requests
    assert in_store(store) == first
    evaluated(store, tmp_path, inputs="f" * 64)
    assert {n for n in visible(store) if n.endswith(".json")} == {f"{INPUTS}.json", f"{'f' * 64}.json"}


def test_who_measures_the_same_at_once_reports_what_is_kept(
    store: Store, asked: list[FakeModel], tmp_path: Path
) -> None:
    told = contract(store, tmp_path)
    started: list[bool] = []

    def now() -> str:
        """The first is at its beginning: another one measures, and is quicker."""
        if not started:
            started.append(True)
            run_evaluate(told, Progress())
            asked[1].answers = lambda q: "?"
        return "2026-01-01T00:00:00Z"

    result = run_evaluate(told, Progress(), now=now)
    assert result.suites[0].candidate == statement(store)["predicate"]["suites"][0]["candidate"] == 0.9
    assert visible(store) == {f"{INPUTS}.json", statement(store)["predicate"]["examples"]["name"]}


@pytest.mark.parametrize("change", [{"suites": None}, {"suites": [{}]}, {"suites": [1]}, {"benchmark": 1}])
def test_a_statement_that_says_no_scores_is_not_reported(
    change: dict[str, Any], store: Store, asked: list[FakeModel], tmp_path: Path
) -> None:
    evaluated(store, tmp_path)
    said, path = statement(store), store.evaluations(HEX) / f"{INPUTS}.json"
    path.unlink()
    path.write_text(json.dumps(said | {"predicate": said["predicate"] | change}))
    with pytest.raises(PermanentError, match="does not say what was measured") as e:
        evaluated(store, tmp_path)
    assert e.value.reason == "StoreCorrupted"


def test_the_examples_that_changed_are_kept_word_for_word(store: Store, asked: list[FakeModel], tmp_path: Path) -> None:
    evaluated(store, tmp_path)
    (path,) = store.evaluations(HEX).glob("*.examples.jsonl")
    header, changed = parse_examples(path.read_bytes())
    assert (header.artifact, header.inputs) == (f"sha256:{HEX}", INPUTS)
    assert [(c.suite, c.change, c.count) for c in header.counts] == [("s", Change.LOST, 1)]
    (example,) = changed
    assert (example.number, example.messages[0].text, example.expected.text) == (4, "t3", "t3")
    assert example.reference is not None and (example.reference.text, example.candidate.text) == ("t3", "?")


def test_no_word_of_the_suite_is_kept_where_none_is_wanted(
    store: Store, asked: list[FakeModel], tmp_path: Path
) -> None:
    run_evaluate(contract(store, tmp_path).model_copy(update={"examples": "None"}), Progress())
    assert visible(store) == {f"{INPUTS}.json"}
    said = statement(store)["predicate"]
    assert said["examples"] is None and said["suites"][0]["outcomes"]["onlyReference"] == 1


def test_what_a_killed_try_has_left_goes_when_the_statement_is_there(
    store: Store, asked: list[FakeModel], tmp_path: Path
) -> None:
    store.evaluations(HEX).mkdir()
    left, of_others = f"{INPUTS}.{'0' * 16}.examples.jsonl", f"{'f' * 64}.{'0' * 16}.examples.jsonl"
    for name in (left, of_others):
        (store.evaluations(HEX) / name).write_text("{}")
    evaluated(store, tmp_path)
    named = statement(store)["predicate"]["examples"]["name"]
    assert visible(store) == {f"{INPUTS}.json", named, of_others}


def test_examples_that_cannot_be_kept_leave_no_statement_that_names_them(
    store: Store, asked: list[FakeModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(store_module.os, "fsync", full)
        with pytest.raises(OSError, match="the scores could not be kept"):
            evaluated(store, tmp_path)
    assert visible(store) == set()


def test_a_statement_of_a_later_version_is_kept_though_it_says_more(
    store: Store, asked: list[FakeModel], tmp_path: Path
) -> None:
    result = evaluated(store, tmp_path)
    said, path = statement(store), store.evaluations(HEX) / f"{INPUTS}.json"
    said["predicate"]["suites"][0]["new"] = said["predicate"]["benchmark"]["newer"] = 1
    path.unlink()
    path.write_text(json.dumps(said))
    assert evaluated(store, tmp_path) == result


def test_without_an_artifact_nothing_is_kept(store: Store, asked: list[FakeModel], tmp_path: Path) -> None:
    before = in_store(store)
    told = contract(store, tmp_path).model_copy(update={"artifact": None})
    run_evaluate(told, Progress())
    assert in_store(store) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "sha256:" + "b" * 64}, "no artifact is in"),
        ({"digest": "sha256:" + "b" * 64}, "somebody changed it"),
    ],
)
def test_scores_are_of_the_artifact_that_was_built_or_of_none(
    change: dict[str, str], message: str, store: Store, asked: list[FakeModel], tmp_path: Path
) -> None:
    before = in_store(store)
    with pytest.raises(PermanentError, match=message) as e:
        evaluated(store, tmp_path, **change)
    assert e.value.reason == "ArtifactCorrupted"
    assert in_store(store) == before
    assert not any(model.requests for model in asked)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": 1}', '{"id": NaN}'])
def test_a_damaged_document_is_no_artifact(text: str, store: Store, asked: list[FakeModel], tmp_path: Path) -> None:
    told = contract(store, tmp_path)
    (store.artifact(HEX) / "artifact.json").unlink()
    (store.artifact(HEX) / "artifact.json").write_text(text)
    with pytest.raises(PermanentError) as e:
        run_evaluate(told, Progress())
    assert e.value.reason == "ArtifactCorrupted"


@pytest.mark.parametrize("text", ["{", '{"subject": []}'])
def test_a_statement_about_another_artifact_is_not_taken_for_its_own(
    text: str, store: Store, asked: list[FakeModel], tmp_path: Path
) -> None:
    store.evaluations(HEX).mkdir()
    (store.evaluations(HEX) / f"{INPUTS}.json").write_text(text)
    with pytest.raises(PermanentError, match="remove") as e:
        evaluated(store, tmp_path)
    assert e.value.reason == "StoreCorrupted"
    assert not any(model.requests for model in asked)


@pytest.mark.parametrize("target", [f"artifacts/{HEX}", "../elsewhere", "artifacts/nowhere"])
def test_a_link_leads_nowhere_else(target: str, store: Store, asked: list[FakeModel], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    store.evaluations(HEX).symlink_to(store.root / target)
    before = in_store(store)
    with pytest.raises(PermanentError, match="remove that link") as e:
        evaluated(store, tmp_path)
    assert e.value.reason == "StoreCorrupted"
    assert in_store(store) == before
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, "DiskFull"), (errno.EDQUOT, "DiskFull"), (errno.EIO, "StorageError")]
)
def test_what_cannot_be_kept_fails_and_may_be_tried_again(
    number: int, reason: str, store: Store, asked: list[FakeModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as broken:
        broken.setattr(store_module.os, "fsync", full)
        with pytest.raises(OSError, match="the scores could not be kept") as e:
            evaluated(store, tmp_path)
    failure = failure_of(e.value)
    assert (str(failure.kind), failure.reason) == ("Transient", reason)
    assert str(store.evaluations(HEX)) in failure.message
    assert visible(store) == set()
    evaluated(store, tmp_path)
    assert statement(store)["predicate"]["inputs"] == INPUTS


def test_what_cannot_be_kept_is_not_measured(
    store: Store, asked: list[FakeModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tests may run as root, who may write anywhere: the kernel's answer is given here.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=r"fsGroup") as e:
        evaluated(store, tmp_path)
    assert failure_of(e.value).reason == "StorageError"
    assert not any(model.requests for model in asked)


KILLED = """
import os, pathlib, signal, sys
from controller.job import store
left = int(sys.argv[2])
def deadly(function):
    def call(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return call
os.fsync = deadly(os.fsync)
os.fchmod = deadly(os.fchmod)
pathlib.Path.rename = deadly(pathlib.Path.rename)
pathlib.Path.unlink = deadly(pathlib.Path.unlink)
store.publish_file("whole" * 10000, pathlib.Path(sys.argv[1]))
"""


def test_killed_at_any_step_it_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "x.json"
    for step in range(1, 20):
        command = [sys.executable, "-c", KILLED, str(final), str(step)]
        done = subprocess.run(command, capture_output=True, text=True)
        if final.exists():
            assert final.read_text() == "whole" * 10000
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert step > 5
    assert {p.name for p in tmp_path.iterdir()} == {"x.json", ".lock"}


def test_a_file_in_the_store_is_never_written_twice(tmp_path: Path) -> None:
    assert publish_file("first", tmp_path / "x.json") is True
    assert publish_file("second", tmp_path / "x.json") is False
    assert (tmp_path / "x.json").read_text() == "first"


def test_while_one_writes_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def locked(_: int) -> None:
        with (tmp_path / ".lock").open("a") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        seen.append((tmp_path / "x.json").exists())

    monkeypatch.setattr(store_module.os, "fsync", locked)
    publish_file("text", tmp_path / "x.json")
    assert seen == [False, True]


def test_the_version_in_it_is_the_project_s() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["version"]) == ("adapter-release-controller", __version__)
