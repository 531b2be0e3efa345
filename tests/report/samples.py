"""Documents as a build and an evaluation leave them in a store, written by what writes them, without any server."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from controller.job import provenance
from controller.job.attestation import TOOL, Descriptor
from controller.job.benchmark import Run, timed
from controller.job.chat import Answer
from controller.job.contract import Benchmark, Endpoint, EvaluateContract, EvaluatedArtifact, Release, Source, Suite
from controller.job.outcomes import Scored, scored
from controller.job.provenance import ArtifactStatement, File, FileDigest, FileSize
from controller.job.statement import Kept, Statement
from controller.job.store import Store
from controller.job.suite import Example
from controller.job.summary import EvaluateResult

INPUTS = {
    "baseDigest": "sha256:" + "b" * 64,
    "combine": "linear",
    "adapters": [{"digest": "sha256:" + "a" * 64, "weight": 1.0}],
    "dtype": "bfloat16",
    "quantization": {
        "method": "AWQ",
        "scheme": "W4A16_ASYM",
        "groupSize": 128,
        "calibrationDigest": "sha256:" + "c" * 64,
        "samples": 256,
        "sequenceLength": 2048,
    },
    "tools": {"merge": "1", "quantize": "1", "llmcompressor": "0.14.0.1", "torch": "2.13.0"},
}
ID = provenance.id_of(INPUTS)
NAME = "merged-llama3-8b-8c22764a-adapter-support-v3"
EVALUATION = "e" * 64
GB = 1_000_000_000


def artifact_statement(name: str = NAME, training_run: str = "mlflow:/runs/4711", **measured: Any) -> ArtifactStatement:
    """artifact.json of a model of 8 billion weights, quantized to four bits."""
    told = {
        "seconds": {
            "preflight": 1.2,
            "digest": 14.8,
            "calibration": 6.1,
            "merge": 41.5,
            "quantize": 1912,
            "publish": 9.4,
        },
        "sizeBytes": {"base": 16 * GB, "adapters": 83_900_000},
        **measured,
    }
    adapter = Descriptor(
        name="adapter/support",
        digest={"dirHash": "a" * 64},
        annotations={"version": "v3", "trainingRun": training_run, "weight": 1.0},
    )
    base = Descriptor(
        name="base",
        uri="pkg:huggingface/meta-llama/Llama-3.1-8B@8c22764a",
        digest={"dirHash": "b" * 64},
        annotations={"name": "llama3-8b", "revision": "8c22764a"},
    )
    sizes = {"config.json": 1200, "model-00001-of-00001.safetensors": 5_700_000_000}
    return ArtifactStatement(
        subject=tuple(
            File(name=n, digest=FileDigest(sha256=f"{i}" * 64), annotations=FileSize(size_bytes=size))
            for i, (n, size) in enumerate(sizes.items(), 1)
        ),
        predicate=provenance.Predicate(
            build_definition=provenance.BuildDefinition(
                external_parameters={"quantization": {"calibration": {"source": "/sources/data/calibration.jsonl"}}},
                internal_parameters=provenance.InternalParameters(artifact_id=ID, name=name, inputs=INPUTS),
                resolved_dependencies=(base, adapter),
            ),
            run_details=provenance.RunDetails(
                builder=provenance.Builder(id=provenance.BUILDER, version={TOOL: "0.1.0", **INPUTS["tools"]}),
                metadata=provenance.Metadata(
                    invocation_id="urn:uuid:0b0e7a52-6f0d-4a5e-9d1c-6a3c1f6e2d11",
                    started_on="2026-11-25T09:12:04Z",
                    finished_on="2026-11-25T09:45:09Z",
                ),
                byproducts=(provenance.measured(told),),
            ),
        ),
    )


@dataclass(frozen=True)
class Asked:
    """A suite with what both answered; `adapter` None where it was not asked."""

    name: str
    questions: Sequence[str]
    expected: Sequence[str]
    adapter: Sequence[str | None] | None
    artifact: Sequence[str | None]
    scorer: str = "Contains"

    def scored(self) -> Scored:
        examples = [
            Example(({"role": "system", "content": "You sort tickets into queues."}, {"role": "user", "content": q}), e)
            for q, e in zip(self.questions, self.expected, strict=True)
        ]
        return scored(self.suite(), examples, answers(self.adapter) if self.adapter else None, answers(self.artifact))

    def suite(self) -> Suite:
        source = Source(path=f"/sources/{self.name}.jsonl", root="/sources")
        return Suite(name=self.name, source=source, scorer=self.scorer, max_tokens=64)


def answers(texts: Sequence[str | None]) -> list[Answer]:
    return [
        Answer(text, tokens=len(text.split())) if text is not None else Answer(None, error="status 503: no server")
        for text in texts
    ]


# Queues of a help desk: what people write to them, in short, and what it is about.
TICKETS = (
    ("billing", "my last invoice has two lines for the same order, and one of them is not mine", "a double charge"),
    ("technical", "since the update the app logs me out whenever I open the camera", "a fault of the app"),
    ("shipping", "my parcel was to arrive on Tuesday, and tracking has said Leipzig for six days", "a late parcel"),
    ("returns", "the shoes are one size too small, so I would like to send them back", "shoes that go back"),
)


def support(n: int = 200, lost: Sequence[int] = (17, 58), gained: Sequence[int] = (91,), reworded: int = 9) -> Asked:
    """Tickets that are sorted into queues: the adapter is wrong in one of twenty."""
    queues = [queue for queue, _, _ in TICKETS]

    def question(i: int) -> str:
        return f"Ticket {4000 + i}: {TICKETS[i % 4][1]}."

    def right(i: int) -> str:
        return f"The ticket belongs to the queue {queues[i % 4]}, since it is about {TICKETS[i % 4][2]}."

    def wrong(i: int) -> str:
        return f"The ticket belongs to the queue {queues[(i + 1) % 4]}, since it is about {TICKETS[(i + 1) % 4][2]}."

    def in_other_words(i: int) -> str:
        return f"This one goes to the queue {queues[i % 4]}: it is about {TICKETS[i % 4][2]}."

    def adapter(i: int) -> str:
        return wrong(i) if i % 20 == 19 or i in gained else right(i)

    def artifact(i: int) -> str:
        if i in lost:
            return wrong(i)
        if i in gained:
            return right(i)
        return in_other_words(i) if i % 20 == 7 and i < 20 * reworded else adapter(i)

    numbers = range(n)
    return Asked(
        "support",
        [question(i) for i in numbers],
        [f"queue {queues[i % 4]}" for i in numbers],
        [adapter(i) for i in numbers],
        [artifact(i) for i in numbers],
    )


def tone(n: int = 60) -> Asked:
    said = [f"Thank you for writing to us about order {i}. We will look at it today." for i in range(n)]
    return Asked("tone", [f"Answer order {i}" for i in range(n)], ["Thank you"] * n, said, said, "Contains")


def runs(scale: float, tokens: int, rounds: int = 4, each: int = 16) -> list[Run]:
    """Rounds of a benchmark: latencies with a tail, and no randomness."""

    def took(number: int) -> float:
        return scale * (1 + 0.35 * math.sin(number * 2.399) + (0.9 if number % 13 == 12 else 0))

    return [
        (
            [Answer("x", tokens=tokens, seconds=took(r * each + i)) for i in range(each)],
            scale * each / 8 * (1 + 0.04 * ((r * 7) % 3 - 1)),
        )
        for r in range(rounds)
    ]


@dataclass
class Sample:
    """A store with one artifact; what is measured of it is published by `measured`."""

    root: Path
    statement: ArtifactStatement = field(default_factory=artifact_statement)

    def __post_init__(self) -> None:
        self.store = Store(self.root)
        self.directory = self.store.artifact(self.statement.id)
        self.directory.mkdir(parents=True)
        (self.directory / provenance.DOCUMENT).write_text(self.statement.to_json())

    @property
    def beside(self) -> Path:
        return self.store.evaluations(self.statement.id)

    def measured(
        self,
        *asked: Asked,
        inputs: str = EVALUATION,
        ended: str = "2026-11-25T09:58:31Z",
        with_benchmark: bool = True,
        **contract: Any,
    ) -> Path:
        """Publishes an evaluation as the job does; the statement's path."""
        about = EvaluatedArtifact(
            id=self.statement.id, digest=self.statement.digest, adapter_digest="sha256:" + "a" * 64, inputs=inputs
        )
        found = [one.scored() for one in asked]
        alone = all(one.adapter is None for one in asked)
        times = timed(None if alone else runs(0.42, 40), runs(0.29, 40)) if with_benchmark else None
        told = EvaluateContract(
            release=Release(namespace="llm", name="support-bot", uid="u"),
            store=str(self.root),
            artifact=about,
            candidate=Endpoint(url="http://preview", model="support-bot"),
            suites=tuple(one.suite() for one in asked),
            benchmark=Benchmark(concurrency=8, requests=64) if with_benchmark else None,
            **contract,
        )
        result = EvaluateResult(suites=tuple(f.result for f in found), benchmark=times.result if times else None)
        statement = Statement(self.store, about)
        seconds = {"fetch": 0.4, "score": 71.2, "benchmark": 46.9}
        digests = [f"sha256:{'d' * 64}" for _ in asked]
        kept = Kept(digests, found, times.curves if times else None, "2026-11-25T09:56:30Z", ended, seconds)
        statement.publish(told, result, kept)
        return statement.path

    def rewritten(self, change: Callable[[dict[str, Any]], None], inputs: str = EVALUATION) -> None:
        """The statement as somebody else has written it."""
        path = self.beside / f"{inputs}.json"
        said = json.loads(path.read_text())
        change(said)
        path.unlink()
        path.write_text(json.dumps(said))


def without_what_is_new(said: dict[str, Any]) -> None:
    """As an earlier version has written it."""
    predicate = said["predicate"]
    for suite in predicate["suites"]:
        del suite["outcomes"]
    del predicate["benchmark"]["curves"], predicate["examples"], predicate["seconds"]


def renamed(asked: Asked, **changes: Any) -> Asked:
    return replace(asked, **changes)
