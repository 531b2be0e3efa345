"""What a report takes from a store, what it does without, and what it does not believe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controller.cli.report import documents_in
from controller.job import provenance
from controller.job.evaluation import Change
from controller.report.documents import Documents, evaluation_of, report_of
from controller.report.facts import Report
from tests.report.samples import EVALUATION, Sample, artifact_statement, renamed, support, tone, without_what_is_new


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path)


def reported(sample: Sample, inputs: str | None = None) -> Report:
    return report_of(documents_in(sample.directory), inputs)


def test_a_fresh_evaluation_lacks_nothing(sample: Sample) -> None:
    sample.measured(support(), tone())
    report = reported(sample)
    assert report.missing == ()
    assert (report.name, report.release) == (sample.statement.name, "llm/support-bot")
    assert [(s.name, s.samples, s.adapter, s.artifact) for s in report.suites] == [
        ("support", 200, 0.945, 0.94),
        ("tone", 60, 1.0, 1.0),
    ]
    assert report.speed is not None and report.speed.curves is not None and len(report.speed.curves.rounds) == 4
    assert [s.label for s in report.sizes] == ["Adapter", "Base", "Artifact"]
    assert {s.job for s in report.stages} == {"Build", "Validation"}
    assert [s.name for s in report.sources] == ["artifact.json", f"{EVALUATION}.json", *_examples_names(sample)]


def _examples_names(sample: Sample) -> list[str]:
    return [p.name for p in sample.beside.glob("*.examples.jsonl")]


def test_the_store_gives_no_verdict(sample: Sample) -> None:
    sample.measured(tone())
    assert reported(sample).verdict.word == "" and "no verdict" in reported(sample).verdict.why


def test_the_provenance_names_base_adapter_method_and_tools(sample: Sample) -> None:
    said = {d.label: d.value for d in reported(sample).provenance}
    assert said["Base"] == "llama3-8b, revision 8c22764a"
    assert said["Adapter support"] == "v3" and said["Training run"] == "mlflow:/runs/4711"
    assert said["Adapter digest"] == "sha256:" + "a" * 64
    assert said["Quantized"] == "AWQ W4A16_ASYM, groups of 128"
    assert said["Calibrated with"] == "256 samples of at most 2048 tokens, from /sources/data/calibration.jsonl"
    assert "llmcompressor 0.14.0.1" in said["Tools"]


def test_examples_are_those_that_changed(sample: Sample) -> None:
    sample.measured(support(lost=(17, 58), gained=(91,)), tone())
    examples = reported(sample).examples
    assert examples is not None
    found = {change: [e.number for e in examples.changed if e.change is change] for change in Change}
    assert found[Change.LOST] == [18, 59] and found[Change.GAINED] == [92]
    assert len(found[Change.REWORDED]) == 9 and not found[Change.FAILED] and not found[Change.WRONG]


def test_what_an_earlier_version_kept_still_makes_a_report_that_names_what_is_missing(sample: Sample) -> None:
    sample.measured(support())
    sample.rewritten(without_what_is_new)
    report = reported(sample)
    assert [s.artifact for s in report.suites] == [0.94] and report.speed is not None and report.speed.speedup
    for lacking in ("How many examples changed", "The examples that changed", "Curves", "Time by stage of the vali"):
        assert any(text.startswith(lacking) for text in report.missing), lacking


def test_an_earlier_build_lacks_the_size_of_its_adapter(tmp_path: Path) -> None:
    sample = Sample(tmp_path, artifact_statement(sizeBytes={"base": 5}, seconds={}))
    report = reported(sample)
    assert [s.label for s in report.sizes] == ["Base", "Artifact"]
    lacking = " ".join(report.missing)
    assert "Size of the adapter" in lacking and "Time by stage of the build" in lacking


@pytest.mark.parametrize("told", [{"seconds": {"merge": "long", "x": -1}}, {"seconds": 3, "sizeBytes": [1]}])
def test_a_build_that_measured_nonsense_measured_nothing(told: dict[str, Any], tmp_path: Path) -> None:
    assert reported(Sample(tmp_path, artifact_statement(**told))).stages == ()


def test_without_an_evaluation_there_is_the_build(sample: Sample) -> None:
    report = reported(sample)
    assert not report.suites and report.provenance and report.stages
    assert report.missing[0].startswith("Scores, speed and examples")


def test_without_an_adapter_to_compare_with_the_artifact_is_reported_alone(sample: Sample) -> None:
    sample.measured(renamed(support(), adapter=None))
    report = reported(sample)
    assert (report.suites[0].adapter, report.suites[0].artifact, report.suites[0].outcomes) == (None, 0.94, None)
    assert report.speed is not None and report.speed.adapter is None and report.speed.speedup is None
    assert report.examples is not None and {e.change for e in report.examples.changed} == {Change.WRONG}
    assert not any("How many examples changed" in text for text in report.missing)


def test_the_last_evaluation_is_reported_and_the_others_are_named(sample: Sample) -> None:
    sample.measured(tone(), inputs="1" * 64, ended="2026-11-25T08:00:00Z")
    sample.measured(support(), inputs="2" * 64, ended="2026-11-25T09:00:00Z")
    report = reported(sample)
    assert report.evaluated == "2026-11-25T09:00:00Z" and report.suites[0].name == "support"
    assert [e.finished for e in report.earlier] == ["2026-11-25T08:00:00Z"]
    assert reported(sample, "1" * 64).suites[0].name == "tone"
    assert evaluation_of(documents_in(sample.directory), "1" * 64) is not None
    with pytest.raises(ValueError, match=r"no evaluation 3+ of this artifact"):
        reported(sample, "3" * 64)


def test_an_evaluation_of_another_artifact_is_not_taken_for_this_one_s(sample: Sample) -> None:
    sample.measured(support())
    document = sample.directory / provenance.DOCUMENT
    document.write_text(document.read_text() + "\n")
    report = reported(sample)
    assert not report.suites
    assert any("it is about another artifact.json" in text for text in report.missing)


@pytest.mark.parametrize("text", ["{", "[]", '{"_type": "https://in-toto.io/Statement/v1"}', ""])
def test_a_file_that_is_no_evaluation_is_named_and_the_rest_is_reported(text: str, sample: Sample) -> None:
    sample.measured(tone())
    (sample.beside / "other.json").write_text(text)
    report = reported(sample)
    assert report.suites and any(t.startswith("What other.json says: ") for t in report.missing)


@pytest.mark.parametrize("asked", [[], "x", {"calibration": []}, {"calibration": {"source": [1]}}])
def test_a_build_that_was_asked_for_nonsense_is_still_reported(asked: Any, sample: Sample) -> None:
    path = sample.directory / provenance.DOCUMENT
    said = json.loads(path.read_text())
    said["predicate"]["buildDefinition"]["externalParameters"]["quantization"] = asked
    path.write_text(json.dumps(said))
    assert any(d.value.startswith("256 samples of at most") for d in reported(sample).provenance)


def test_sizes_that_nothing_can_have_are_not_reported(sample: Sample) -> None:
    path = sample.directory / provenance.DOCUMENT
    said = json.loads(path.read_text())
    said["subject"][0]["annotations"]["sizeBytes"] = 10**400
    path.write_text(json.dumps(said))
    assert [s.label for s in reported(sample).sizes] == ["Adapter", "Base"]


def test_of_very_many_evaluations_the_last_are_listed_and_the_others_counted(sample: Sample) -> None:
    for number in range(25):
        sample.measured(
            renamed(tone(), name=f"s{number}"),
            inputs=f"{number:064x}",
            ended=f"2026-11-25T09:{number:02d}:00Z",
            with_benchmark=False,
        )
    for number in range(30):
        (sample.beside / f"{number}.json").write_text("{")
    report = reported(sample)
    assert report.suites[0].name == "s24"
    assert len(report.earlier) == 20 and any("The 4 oldest of the other" in text for text in report.missing)
    assert len([text for text in report.missing if "is not valid JSON" in text]) == 20
    assert any("What 10 more files beside" in text for text in report.missing)


@pytest.mark.parametrize(
    "change",
    [{"candidate": float("nan")}, {"candidate": "one"}, {"candidate": 1.5}, {"samples": -1}, {"samples": 10**400}],
)
def test_scores_that_are_none_are_not_reported(change: dict[str, Any], sample: Sample) -> None:
    sample.measured(tone())

    def spoil(said: dict[str, Any]) -> None:
        said["predicate"]["suites"][0] |= change

    sample.rewritten(spoil)
    assert reported(sample).suites == ()


def test_counts_that_do_not_add_up_are_not_believed(sample: Sample) -> None:
    sample.measured(support())
    sample.rewritten(lambda said: said["predicate"]["suites"][0]["outcomes"].update(onlyReference=50))
    assert reported(sample).suites[0].outcomes is None


def test_examples_that_somebody_changed_are_not_shown(sample: Sample) -> None:
    sample.measured(support())
    (path,) = sample.beside.glob("*.examples.jsonl")
    path.chmod(0o644)
    path.write_text(path.read_text().replace("shipping", "nowhere"))
    report = reported(sample)
    assert report.examples is None
    assert any("not the file that the evaluation wrote" in text for text in report.missing)


def test_examples_that_were_not_copied_are_named(sample: Sample) -> None:
    sample.measured(support())
    for path in sample.beside.glob("*.examples.jsonl"):
        path.unlink()
    assert any("is not here" in text for text in reported(sample).missing)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "secret"])
def test_a_name_in_a_statement_leads_nowhere_else(name: str, sample: Sample) -> None:
    sample.measured(support())
    (sample.store.root / "artifacts" / "secret").write_text("{}")
    (sample.beside / "secret").symlink_to("/etc/passwd")
    sample.rewritten(lambda said: said["predicate"]["examples"].update(name=name))
    report = reported(sample)
    assert report.examples is None and any(f"{name} is not here" in text for text in report.missing)


def test_what_is_no_artifact_is_refused() -> None:
    with pytest.raises(ValueError, match=r"artifact\.json is not complete"):
        report_of(Documents(json.dumps({"id": 1}).encode()))


def test_a_suite_whose_examples_were_not_to_be_kept_has_counts_and_no_words(sample: Sample) -> None:
    sample.measured(support(), examples="None")
    report = reported(sample)
    assert not list(sample.beside.glob("*.examples.jsonl")) and report.examples is None
    assert report.suites[0].outcomes is not None and report.suites[0].outcomes.only_reference == 2
    assert any(text.startswith("The examples that changed: none were kept") for text in report.missing)
