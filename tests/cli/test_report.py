"""`adapterrelease report`, as a user calls it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.api.v1alpha1 import API_VERSION, KIND
from controller.cli.main import app
from controller.reconcile.caches import RELEASES
from tests.fakes.apiserver import ApiServer
from tests.report.samples import Sample, support, tone
from tests.report.test_release import ARTIFACT


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["report", *(str(a) for a in arguments)])


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    made = Sample(tmp_path / "store")
    made.measured(support(), tone())
    return made


def release_file(tmp_path: Path, drop: str, **validation: Any) -> Path:
    suites = [{"name": n, "source": {"uri": "pvc://a/b"}, "maxQuantizedScoreDrop": drop} for n in ("support", "tone")]
    path = tmp_path / "release.yaml"
    path.write_text(yaml.safe_dump(release(validation={"suites": suites} | validation)))
    return path


def release(**spec: Any) -> dict[str, Any]:
    adapters = [{"name": "support", "version": "v3", "source": {"uri": "pvc://a/b"}}]
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "support-bot", "namespace": "llm"},
        "spec": {"stage": "Stable", "baseRef": {"name": "llama3-8b"}, "adapters": adapters, **spec},
    }


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer() as api:
        kubeconfig = {
            "clusters": [{"name": "fake", "cluster": {"server": api.url}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me", "namespace": "llm"}}],
            "current-context": "fake",
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        yield api


def of_release(tmp_path: Path, *arguments: Any) -> Result:
    return call("support-bot", "--kubeconfig", tmp_path / "kubeconfig", *arguments)


def test_a_directory_makes_a_page_or_markdown(sample: Sample, tmp_path: Path) -> None:
    page = call(sample.directory)
    assert page.exit_code == 0 and page.stdout.startswith("<!doctype html>\n<html lang=")
    done = call(sample.directory, "-o", "markdown", "--out", tmp_path / "report.md")
    assert (done.exit_code, done.stdout) == (0, "") and "written: " in done.stderr
    assert (tmp_path / "report.md").read_text().startswith("## No verdict here: `merged-")


@pytest.mark.parametrize(
    ("drop", "validation", "word", "why"),
    [
        ("0.01", {}, "Pass", "adapter 0.945, artifact 0.94"),
        ("0.004", {}, "Fail", "a drop of 0.005, and 0.004 is allowed"),
        ("0.01", {"benchmark": {"minSpeedup": "1.6"}}, "Fail", "speedup 1.4483 is below minSpeedup 1.6"),
    ],
)
def test_a_release_s_file_judges_as_the_controller_would(
    drop: str, validation: dict[str, Any], word: str, why: str, sample: Sample, tmp_path: Path
) -> None:
    done = call(sample.directory, "-f", release_file(tmp_path, drop, **validation), "-o", "markdown")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"## {word}: `merged-") and why in done.stdout


def test_a_suite_that_was_not_measured_is_no_pass(sample: Sample, tmp_path: Path) -> None:
    suites = [{"name": "other", "source": {"uri": "pvc://a/b"}}]
    done = call(sample.directory, "-f", release_file(tmp_path, "0", suites=suites), "-o", "markdown")
    assert done.stdout.startswith("## Inconclusive: ") and "suite other was not scored" in done.stdout


def test_without_examples_has_none_and_says_so(sample: Sample) -> None:
    assert "Ticket 4017" in call(sample.directory).stdout
    done = call(sample.directory, "--without-examples")
    assert "Ticket" not in done.stdout and "left out by --without-examples" in done.stdout


def test_another_evaluation_is_reported_by_its_name(sample: Sample) -> None:
    sample.measured(tone(), inputs="1" * 64, ended="2026-11-20T00:00:00Z")
    assert "Ticket 4017" not in call(sample.directory, "--evaluation", "1" * 64).stdout
    done = call(sample.directory, "--evaluation", "2" * 64)
    assert done.exit_code == 2 and "InvalidArgument" in done.stderr and str(sample.directory) in done.stderr


def test_the_status_of_a_release_is_a_report_with_the_verdict(cluster: ApiServer, tmp_path: Path) -> None:
    cluster.create(RELEASES.path("llm", "support-bot"), release() | {"status": {"artifact": ARTIFACT}})
    done = of_release(tmp_path, "-o", "markdown")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("## Pass: `merged-llama3-8b`") and "`llm/support-bot`" in done.stdout
    assert {r.method for r in cluster.requests} <= {"GET", "POST"}


def test_a_release_and_its_directory_make_one_report(cluster: ApiServer, sample: Sample, tmp_path: Path) -> None:
    sample.measured(tone(), inputs="1" * 64, ended="2026-12-01T00:00:00Z")
    status = ARTIFACT | {"id": sample.statement.id, "validationInputs": "e" * 64}
    cluster.create(RELEASES.path("llm", "support-bot"), release() | {"status": {"artifact": status}})
    done = of_release(tmp_path, "--artifact", sample.directory)
    assert done.exit_code == 0, done.output
    assert "Pass: it may have traffic" in done.stdout
    assert "Ticket 4017" in done.stdout, "the evaluation that the verdict is of, not the last one"


def test_a_directory_of_another_artifact_gets_no_verdict(cluster: ApiServer, sample: Sample, tmp_path: Path) -> None:
    cluster.create(RELEASES.path("llm", "support-bot"), release() | {"status": {"artifact": ARTIFACT}})
    done = of_release(tmp_path, "--artifact", sample.directory, "-o", "markdown")
    assert done.stdout.startswith("## No verdict here: ") and "has another artifact by now" in done.stdout


def test_a_release_without_an_artifact_is_refused(cluster: ApiServer, tmp_path: Path) -> None:
    cluster.create(RELEASES.path("llm", "support-bot"), release())
    done = of_release(tmp_path)
    assert (done.exit_code, done.stdout) == (2, "") and "ArtifactNotFound: release support-bot has no" in done.stderr


def test_a_release_that_is_not_there_is_refused(cluster: ApiServer, tmp_path: Path) -> None:
    done = of_release(tmp_path)
    assert done.exit_code == 2 and "NotFound" in done.stderr


def test_a_directory_without_an_artifact_is_said(tmp_path: Path) -> None:
    done = call(tmp_path / "nowhere")
    assert (done.exit_code, done.stdout) == (1, "") and "artifact.json" in done.stderr


def test_a_damaged_artifact_is_refused(sample: Sample) -> None:
    (sample.directory / "artifact.json").write_text("{}")
    done = call(sample.directory)
    assert done.exit_code == 2 and "is not complete" in done.stderr


@pytest.mark.parametrize("which", ["-f with a release", "--artifact with a directory"])
def test_options_that_do_not_go_together_are_refused(which: str, sample: Sample, tmp_path: Path) -> None:
    path = release_file(tmp_path, "0.01")
    given = (
        ["support-bot", "-f", path] if which.startswith("-f") else [sample.directory, "--artifact", sample.directory]
    )
    done = call(*given)
    assert done.exit_code == 2 and "InvalidArgument" in done.stderr


@pytest.mark.parametrize("text", ["{", "kind: Pod", "[]"])
def test_a_file_that_is_no_release_is_refused(text: str, sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "release.yaml").write_text(text)
    done = call(sample.directory, "-f", tmp_path / "release.yaml")
    assert done.exit_code == 2 and "InvalidRelease" in done.stderr
