"""Reads what the store says of an artifact: its provenance, and what was measured of it, by any version.

The documents were written by others, some of them by earlier versions: what is missing in them, or cannot be believed,
is named. Must not know a cluster, nor how a report looks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.job.attestation import parse_statement
from controller.job.evaluation import Evaluation, EvaluationStatement, parse_examples
from controller.job.provenance import DOCUMENT, ArtifactStatement, parse_artifact
from controller.report.facts import Earlier, Examples, Report, Side, Size, Source, Speed, Stage, Suite, Verdict
from controller.report.origin import number, provenance_of

EVALUATE_AGAIN = "evaluate it again to have it (adapterrelease evaluate --artifact, or the retry annotation)"
_LISTED = 20  # evaluations, or files that are none: a store keeps them for as long as the artifact
NOT_JUDGED = Verdict(
    why="The store has scores and no verdict: that is given by the tolerances of a release. Name the release, or its "
    "file by -f, to have it here."
)


@dataclass(frozen=True)
class Documents:
    """`artifact` is artifact.json; `beside` are the files of `ID.evaluations/` by name."""

    artifact: bytes
    beside: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Found:
    """An evaluation of this artifact, and the file that it was read from."""

    name: str
    content: bytes
    said: Evaluation


def report_of(documents: Documents, inputs: str | None = None) -> Report:
    """What is known of the artifact. `inputs` names the evaluation; default: the last one.

    Raises ValueError if there is no artifact, or no evaluation of that name.
    """
    made = parse_artifact(documents.artifact)
    found, unread = _evaluations(documents)
    chosen = _chosen(found, inputs)
    report = Report(
        name=made.name,
        artifact_id=made.id,
        verdict=NOT_JUDGED,
        provenance=tuple(provenance_of(made)),
        sizes=tuple(_sizes(made)),
        stages=tuple(_build_stages(made)),
        sources=(Source(DOCUMENT, _sha256(documents.artifact)),),
        missing=tuple([*_missing_of_build(made), *unread]),
    )
    if chosen is None:
        nothing = "Scores, speed and examples: nothing was measured of this artifact yet, or not kept here."
        return replace(report, missing=(nothing, *report.missing))
    return _measured(report, chosen, [f for f in found if f is not chosen], documents)


def evaluation_of(documents: Documents, inputs: str | None = None) -> Evaluation | None:
    """The evaluation that `report_of` shows."""
    chosen = _chosen(_evaluations(documents)[0], inputs)
    return chosen.said if chosen else None


def _evaluations(documents: Documents) -> tuple[list[_Found], list[str]]:
    """Those of this very artifact, the last one first; and a sentence for each file that is none."""
    subject = _sha256(documents.artifact)
    found, unread = [], []
    for name in sorted(documents.beside):
        if name.startswith(".") or not name.endswith(".json"):
            continue
        content = documents.beside[name]
        try:
            statement = parse_statement(EvaluationStatement, content, name)
        except ValueError as e:
            unread.append(f"What {name} says: {e}.")
            continue
        if any((s.digest or {}).get("sha256") == subject for s in statement.subject):
            found.append(_Found(name, content, statement.predicate))
        else:
            unread.append(f"What {name} says: it is about another artifact.json, one that was here before.")
    if len(unread) > _LISTED:
        unread[_LISTED:] = [f"What {len(unread) - _LISTED} more files beside the artifact say: they are none of its."]
    return sorted(found, key=lambda f: (f.said.finished_on, f.name), reverse=True), unread


def _chosen(found: Iterable[_Found], inputs: str | None) -> _Found | None:
    if inputs is None:
        return next(iter(found), None)
    chosen = next((f for f in found if inputs in (f.said.inputs, f.name.removesuffix(".json"))), None)
    if chosen is None:
        raise ValueError(f"no evaluation {inputs} of this artifact is there")
    return chosen


def _measured(report: Report, chosen: _Found, others: Sequence[_Found], documents: Documents) -> Report:
    said = chosen.said
    examples, source, problem = _examples(said, documents)
    validation = [Stage("Validation", name, took) for name, took in (said.seconds or {}).items() if took >= 0]
    release = "/".join(part for part in (said.release.namespace, said.release.name) if part)
    return replace(
        report,
        release=release,
        evaluated=said.finished_on,
        suites=tuple(_suites(said)),
        speed=_speed(said),
        stages=(*report.stages, *validation),
        examples=examples,
        earlier=tuple(_earlier(f.said) for f in others[:_LISTED]),
        sources=(*report.sources, Source(chosen.name, _sha256(chosen.content)), *source),
        missing=(*_missing_of_evaluation(said), *problem, *_not_listed(others), *report.missing),
    )


def _suites(said: Evaluation) -> Iterable[Suite]:
    for s in said.suites:
        outcomes = s.outcomes
        if outcomes is not None:
            counted = outcomes.both_right + outcomes.only_reference + outcomes.only_candidate + outcomes.both_wrong
            outcomes = outcomes if counted == s.samples else None
        yield Suite(s.name, s.samples, s.reference, s.candidate, s.agreement, s.errors, s.scorer, outcomes)


def _speed(said: Evaluation) -> Speed | None:
    timed = said.benchmark
    if timed is None:
        return None
    sides = [
        Side(t.output_tokens_per_second, t.requests_per_second, t.mean_latency_seconds, t.p95_latency_seconds, t.errors)
        if t is not None
        else None
        for t in (timed.reference, timed.candidate)
    ]
    return Speed(sides[0], sides[1] or Side(), timed.speedup, timed.concurrency, timed.requests, timed.curves)


def _examples(said: Evaluation, documents: Documents) -> tuple[Examples | None, list[Source], list[str]]:
    """The examples, the file that they are from, and what is wrong with it."""
    named = said.examples
    if named is None or not named.name:
        return None, [], []
    content = documents.beside.get(named.name)
    if content is None:
        return None, [], [f"The examples that changed: {named.name} is not here."]
    source = Source(named.name, _sha256(content))
    if (named.digest or {}).get("sha256") != source.sha256:
        return None, [], [f"The examples that changed: {named.name} is not the file that the evaluation wrote."]
    try:
        header, changed = parse_examples(content)
    except ValueError as e:
        return None, [], [f"The examples that changed: {named.name} cannot be read: {e}."]
    return Examples(tuple(changed), header.counts), [source], []


def _earlier(said: Evaluation) -> Earlier:
    return Earlier(said.finished_on, tuple(_suites(said)), said.benchmark.speedup if said.benchmark else None)


def _not_listed(others: Sequence[_Found]) -> Iterable[str]:
    if (left := len(others) - _LISTED) > 0:
        yield f"The {left} oldest of the other evaluations: name one by --evaluation."


def _sizes(made: ArtifactStatement) -> Iterable[Size]:
    told = made.measured.get("sizeBytes")
    told = told if isinstance(told, Mapping) else {}
    for key, label in (("adapters", "Adapter"), ("base", "Base")):
        if (value := number(told.get(key))) is not None:
            yield Size(label, int(value))
    if number(made.size_bytes) is not None:
        yield Size("Artifact", made.size_bytes)


def _build_stages(made: ArtifactStatement) -> Iterable[Stage]:
    told = made.measured.get("seconds")
    for name, value in told.items() if isinstance(told, Mapping) else ():
        if (took := number(value)) is not None:
            yield Stage("Build", str(name), took)


def _missing_of_build(made: ArtifactStatement) -> Iterable[str]:
    if not list(_build_stages(made)):
        yield "Time by stage of the build: the build did not tell it."
    if not any(s.label == "Adapter" for s in _sizes(made)):
        yield "Size of the adapter: the build did not tell it, as those of earlier versions do not."


def _missing_of_evaluation(said: Evaluation) -> Iterable[str]:
    alone = all(s.reference is None for s in said.suites)
    if not alone and any(s.outcomes is None for s in said.suites):
        text = "How many examples changed, and how sure the difference of the scores is"
        yield f"{text}: an earlier version measured this; {EVALUATE_AGAIN}."
    if said.examples is None:
        yield "The examples that changed: none were kept, by request or by an earlier version."
    if said.benchmark is None:
        yield "Speed: no benchmark was asked for."
    elif said.benchmark.curves is None:
        yield f"Curves of latency and throughput: an earlier version measured this; {EVALUATE_AGAIN}."
    if said.seconds is None:
        yield "Time by stage of the validation: an earlier version measured this."


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
