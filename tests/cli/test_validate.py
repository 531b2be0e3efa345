"""`validate`: what would become of a release in a file, without a cluster and by asking one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import celpy
import pytest
import yaml
from celpy import celtypes
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from controller.api.crd import release_schema
from controller.api.schema import RULES
from controller.cli.admission import STATED, problems_of
from controller.cli.main import app
from controller.runtime.resources import DEPLOYMENTS
from tests.api.manifests import ABSENT, Manifest, changed, experimental, stable
from tests.api.test_admission import WRONG_EXPERIMENTAL, WRONG_STABLE
from tests.cli.place import RELEASE, Place
from tests.docs.pages import ROOT
from tests.fakes import faults
from tests.job import tiny_models
from tests.job.tiny_models import lora_tensors
from tests.reconcile.deployments import container, deployment

Json = dict[str, Any]
SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))


def sample(name: str = "stable") -> Json:
    loaded: Json = yaml.safe_load((ROOT / "manifests" / "samples" / f"{name}.yaml").read_text())
    return loaded


def written(tmp_path: Path, *documents: Json) -> str:
    path = tmp_path / "release.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return str(path)


def validate(path: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["validate", "-f", path, *arguments])


# -- as the API server would say it
def rules_of(schema: Json) -> Iterator[Json]:
    yield from schema.get(RULES, ())
    inner = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    for one in inner:
        yield from rules_of(one)


def test_every_rule_of_the_crd_is_restated_and_no_other() -> None:
    assert {rule["rule"] for rule in rules_of(release_schema())} == set(STATED)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_the_samples_are_good(path: Path) -> None:
    assert problems_of(yaml.safe_load(path.read_text())) == []


REFUSED = [(experimental(), *row) for row in WRONG_EXPERIMENTAL] + [(stable(), *row) for row in WRONG_STABLE]


@pytest.mark.parametrize(("release", "field", "value", "message"), REFUSED)
def test_what_the_api_server_refuses_is_refused_here(release: Manifest, field: str, value: Any, message: str) -> None:
    """The table of tests/api, where a real API server refuses each."""
    assert problems_of(release) == []
    assert problems_of(changed(release, field, value)), message


def test_an_unknown_field_is_named() -> None:
    release = sample()
    release["spec"]["rollout"]["observe"]["durration"] = "1m"
    (problem,) = problems_of(release)
    assert (problem.field, problem.message) == ("spec.rollout.observe.durration", "is no field of the API")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "apiVersion"),
        ({"apiVersion": "adapterrelease.dev/v1alpha1", "kind": "AdapterRelease"}, "metadata.name"),
        ([], ""),
        (None, ""),
    ],
)
def test_what_is_no_release_is_said_to_be_none(document: Any, field: str) -> None:
    assert field in [p.field for p in problems_of(document)]


def _functions() -> dict[str, Any]:
    """What Kubernetes adds to CEL."""

    def substring(text: Any, start: Any) -> Any:
        return celtypes.StringType(str(text)[int(start) :])

    def split(text: Any, by: Any) -> Any:
        return celtypes.ListType([celtypes.StringType(part) for part in str(text).split(str(by))])

    def is_sorted(items: Any) -> Any:
        return celtypes.BoolType(list(items) == sorted(items))

    return {"substring": substring, "split": split, "isSorted": is_sorted}


def compiled(rule: str) -> Callable[[Any], bool]:
    environment = celpy.Environment()
    program = environment.program(environment.compile(rule), functions=_functions())
    return lambda value: bool(program.evaluate({"self": celpy.json_to_cel(value)}))


URIS = st.from_regex(r"(https://|pvc://)[a-zA-Z0-9@:%./-]{0,24}", fullmatch=True) | st.sampled_from(
    ["pvc://store/a/../b", "pvc://store/..", "https://h/%2e%2e/x", "https://me@h/x", "https://h/me@x", "pvc:///x", "x"]
)
DURATIONS = st.from_regex(r"(?:[0-9]{1,2}h)?(?:[0-9]{1,2}m)?[0-9]{1,3}s", fullmatch=True)
SHARES = st.decimals(0, 3, places=3).map(str)
METHODS = st.sampled_from(["AWQ", "GPTQ", "FP8", "INT8", "None"])
SCHEMES = st.sampled_from(["W4A16", "W4A16_ASYM", "FP8_DYNAMIC", "W8A8"])
QUANTIZATIONS = st.fixed_dictionaries(
    {"method": METHODS},
    optional={"scheme": SCHEMES, "groupSize": st.sampled_from([32, 128]), "calibration": st.just({"samples": 8})},
)
SPECS = st.fixed_dictionaries(
    {"stage": st.sampled_from(["Stable", "Experimental"])}, optional={"build": st.just({}), "validation": st.just({})}
)
SOURCES = st.fixed_dictionaries({"uri": URIS}, optional={"secretRef": st.just({"name": "x"})})
STEPS = st.lists(st.integers(1, 100), min_size=1, max_size=4).map(lambda w: {"steps": [{"weight": x} for x in w]})
ROLLOUTS = st.fixed_dictionaries(
    {"strategy": st.sampled_from(["BlueGreen", "Canary"])}, optional={"canary": st.just({})}
)
OBSERVED = st.fixed_dictionaries({"interval": DURATIONS, "duration": DURATIONS})
NAMES = st.from_regex(r"[a-zA-Z0-9.-]{1,45}", fullmatch=True).map(lambda n: {"metadata": {"name": n}})
VALUES = [
    ("metadata.name", NAMES),
    ("self.stage", SPECS),
    ("secretRef", SOURCES),
    ("self.matches", URIS),
    ("https://') || !self.substring", URIS),
    ("pvc://", URIS),
    ("self.scheme", QUANTIZATIONS),
    ("groupSize", QUANTIZATIONS),
    ("calibration", QUANTIZATIONS),
    ("duration(self)", DURATIONS),
    ("double(self)", SHARES),
    ("has(self.canary)", ROLLOUTS),
    ("isSorted", STEPS),
    ("self.interval", OBSERVED),
]
COMPARED = [rule for rule, holds in STATED.items() if holds is not None]


@pytest.mark.parametrize("rule", COMPARED)
def test_a_rule_says_the_same_in_cel(rule: str) -> None:
    values = next(values for mark, values in VALUES if mark in rule)
    holds, cel = STATED[rule], compiled(rule)  # compiling changes the interpreter's recursion limit
    assert holds is not None

    @settings(deadline=None)
    @given(values)
    def says_the_same(value: Any) -> None:
        assert holds(value) == cel(value)

    says_the_same()


# -- the command, offline
def test_a_good_release_is_good(tmp_path: Path) -> None:
    done = validate(written(tmp_path, sample(), {"kind": "ConfigMap"}), "--offline")
    assert (done.exit_code, done.stdout) == (0, "support-bot: good\n"), done.output


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    release = sample()
    release["spec"]["build"]["deadline"] = "0s"
    release["spec"]["validation"]["suites"][0]["minScore"] = "1.5"
    done = validate(written(tmp_path, release), "--offline")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "spec.build.deadline: must be at least 1s, and is 0s" in done.stderr
    assert "spec.validation.suites[0].minScore: must be between 0 and 1, and is 1.5" in done.stderr


def test_as_json_for_ci(tmp_path: Path) -> None:
    bad = changed(sample(), "spec.build", ABSENT)
    done = validate(written(tmp_path, sample(), bad), "--offline", "--json")
    said = json.loads(done.stdout)
    assert (done.exit_code, said["ok"]) == (2, False)
    assert [len(r["findings"]) for r in said["releases"]] == [0, 1]


@pytest.mark.parametrize("text", ["a: [", "kind: ConfigMap\n", ""])
def test_a_file_without_a_release_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    done = validate(str(path), "--offline")
    assert done.exit_code == 2 and "InvalidRelease" in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("kind: AdapterRelease".encode("utf-16"), "not written in UTF-8"),
        (b"kind: AdapterRelease\nspec: {when: 2024-13-45}", "is no YAML: month must be in 1..12"),
        (b"kind: [", "is no YAML"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "release.yaml"
    path.write_bytes(content)
    done = validate(str(path), "--offline")
    assert done.exit_code == 2 and said in done.stderr, done.output


def test_a_release_without_metadata_is_refused_in_json_too(tmp_path: Path) -> None:
    done = validate(written(tmp_path, {"kind": "AdapterRelease", "metadata": None}), "--offline", "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["releases"][0]["name"] is None


def test_a_release_can_come_on_stdin() -> None:
    done = CliRunner().invoke(app, ["validate", "-f", "-", "--offline"], input=yaml.safe_dump(sample()))
    assert (done.exit_code, done.stdout) == (0, "support-bot: good\n")


# -- with the base's directory: what the jobs would refuse
@pytest.fixture
def store(tmp_path: Path) -> Path:
    """What the sample's sources name, on this machine."""
    store = tmp_path / "store"
    tiny_models.base(tmp_path / "base")
    tiny_models.adapter(store / "incoming" / "support-bot" / "v1")
    for name in ("calibration", "suites"):
        (store / name).mkdir()
        line = {"messages": [{"role": "user", "content": "a"}], "expected": "b"}
        (store / name / "support.jsonl").write_text(json.dumps(line) + "\n")
    return store


def locally(tmp_path: Path, store: Path, release: Json, *arguments: str) -> Result:
    base = ("--base", str(tmp_path / "base"), "--volume", f"store={store}")
    return validate(written(tmp_path, release), *base, *arguments)


def fitting() -> Json:
    return changed(sample(), "spec.build.quantization.groupSize", 32)


def test_a_release_whose_files_are_good_is_good(tmp_path: Path, store: Path) -> None:
    done = locally(tmp_path, store, fitting())
    assert done.exit_code == 0, done.output


def test_an_adapter_that_the_import_would_refuse(tmp_path: Path, store: Path) -> None:
    adapter = store / "incoming" / "support-bot" / "v1"
    shutil.rmtree(adapter)
    tiny_models.adapter(adapter, lora_tensors(layers=9))
    done = locally(tmp_path, store, fitting())
    assert done.exit_code == 2 and "BaseMismatch" in done.stderr


def test_a_rank_over_the_server_s(tmp_path: Path, store: Path) -> None:
    release = fitting()
    release["spec"]["stage"] = "Experimental"
    done = locally(tmp_path, store, release, "--max-lora-rank", "1")
    assert done.exit_code == 2 and "RankTooHigh" in done.stderr


def test_files_that_are_not_there_or_hold_nothing(tmp_path: Path, store: Path) -> None:
    (store / "suites" / "support.jsonl").write_text("")
    (store / "calibration" / "support.jsonl").unlink()
    done = locally(tmp_path, store, fitting())
    assert done.exit_code == 2
    assert "EmptySuite" in done.stderr and "SourceNotFound" in done.stderr


def test_what_was_not_looked_at_is_named(tmp_path: Path, store: Path) -> None:
    done = validate(written(tmp_path, fitting()), "--base", str(tmp_path / "base"))
    assert done.exit_code == 0
    assert "say where it is, --volume store=DIR" in done.stderr


# -- asked of the cluster
def test_the_cluster_is_asked_by_a_dry_run_and_nothing_is_written(place: Place, tmp_path: Path) -> None:
    place.api.create(DEPLOYMENTS.path("llm", "tiny-llama"), deployment(container()))
    done = place.run("validate", "-f", written(tmp_path, sample()))
    (asked,) = [r for r in place.api.requests if r.method == "POST" and "adapterreleases" in r.path]
    assert asked.query["dryRun"] == "All" and asked.query["fieldValidation"] == "Strict"
    assert done.exit_code == 0, done.output
    assert place.run("get", "support-bot").exit_code == 2


def test_a_release_that_is_there_is_tried_with_the_whole_file_in_its_place(place: Place, tmp_path: Path) -> None:
    place.api.create(RELEASE, sample("experimental"))
    done = place.run("validate", "-f", written(tmp_path, sample()))
    (asked,) = [r for r in place.api.requests if r.method == "PUT"]
    assert asked.query["dryRun"] == "All" and asked.query["fieldValidation"] == "Strict"
    assert asked.body["spec"] == sample()["spec"]
    assert done.exit_code == 0, done.output
    assert place.release()["spec"] == sample("experimental")["spec"]


def test_what_the_cluster_refuses(place: Place, tmp_path: Path) -> None:
    place.api.inject(faults.status(422, "Invalid", "baseRef is immutable: make a new release"), "POST")
    done = place.run("validate", "-f", written(tmp_path, sample()))
    assert done.exit_code == 2 and "baseRef is immutable" in done.stderr


def test_a_base_that_cannot_be_one(place: Place, tmp_path: Path) -> None:
    made = container(args=[a for a in container()["args"] if a != "--enable-lora"])
    place.api.create(DEPLOYMENTS.path("llm", "tiny-llama"), deployment(made))
    done = place.run("validate", "-f", written(tmp_path, sample()))
    assert done.exit_code == 2 and "LoraNotEnabled" in done.stderr


def test_a_base_that_is_not_there_yet_is_a_note(place: Place, tmp_path: Path) -> None:
    done = place.run("validate", "-f", written(tmp_path, sample()))
    assert done.exit_code == 0 and "there is no Deployment tiny-llama" in done.stderr
