"""Merge an adapter, or keep serving it dynamically? Facts in, a verdict with its reasons out. Pure.

Every fact that speaks for or against has points, and the sum decides; so more of what speaks for merging never turns
the verdict against it. What is not known has none, and is named. Must not know: where a fact comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from controller.cli.words import age, bytes_of

ENOUGH = 2  # points, for either side
_MUST = 100


class Verdict(StrEnum):
    MERGE = "Merge"
    KEEP = "KeepDynamic"
    EITHER = "Either"


@dataclass(frozen=True)
class Facts:
    """None: not known."""

    variants: int = 1  # releases on this base, this one among them
    age: timedelta | None = None  # since when this version of the adapter serves
    updates_per_week: float | None = None
    requests_per_second: float | None = None
    speedup: float | None = None  # output tokens a second, artifact over adapter
    gpus: int = 0  # that the base has, all replicas together
    replicas: int | None = 1  # of the base
    adapter_bytes: int = 0
    artifact_bytes: int = 0  # 0: none was built yet
    merge_only: bool = False


@dataclass(frozen=True)
class Reason:
    points: int  # over 0: for merging
    text: str


@dataclass(frozen=True)
class Advice:
    verdict: Verdict
    reasons: tuple[Reason, ...]
    unknown: tuple[str, ...] = field(default=())

    @property
    def points(self) -> int:
        return sum(r.points for r in self.reasons)


def advice(facts: Facts) -> Advice:
    found = [weigh(facts) for weigh in (_merge_only, _variants, _age, _updates, _requests, _speedup, _base)]
    reasons = tuple(r for r in [*found, *_memory(facts)] if isinstance(r, Reason))
    points = sum(r.points for r in reasons)
    verdict = Verdict.MERGE if points >= ENOUGH else Verdict.KEEP if points <= -ENOUGH else Verdict.EITHER
    return Advice(verdict, reasons, tuple(text for text in found if isinstance(text, str) and text))


def _merge_only(facts: Facts) -> Reason | str:
    return (
        Reason(_MUST, "vLLM cannot serve this adapter dynamically: it is merged, or not served")
        if facts.merge_only
        else ""
    )


def _variants(facts: Facts) -> Reason | str:
    others = facts.variants - 1
    if others <= 0:
        return Reason(
            2, "no other release is on this base: once merged, the base can rest (rollout.settle.scaleBaseTo)"
        )
    shared = f"it shares the base with {others} other release{'s' if others > 1 else ''}"
    if others < 3:
        return Reason(-1, f"{shared}: merged, it needs GPUs of its own")
    return Reason(-3, f"{shared}: one base serves all of them, and a merged model serves one")


def _age(facts: Facts) -> Reason | str:
    if facts.age is None:
        return "since when this version serves"
    since = f"this version has served for {age(facts.age)}"
    if facts.age < timedelta(days=1):
        return Reason(-2, f"{since}: it may change soon")
    if facts.age < timedelta(days=7):
        return Reason(-1, f"{since}: less than a week")
    return Reason(2 if facts.age >= timedelta(days=30) else 1, f"{since}: it has settled")


def _updates(facts: Facts) -> Reason | str:
    rate = facts.updates_per_week
    if rate is None:
        return "how often it is updated: the history is too short"
    said = f"{rate:.1f} updates a week"
    if rate > 2:
        return Reason(-3, f"{said}: each would be merged, validated and started anew")
    if rate > 0.5:
        return Reason(-1, f"{said}: it still changes")
    return Reason(1, f"{said}: it hardly changes")


def _requests(facts: Facts) -> Reason | str:
    rate = facts.requests_per_second
    if rate is None:
        return "how many requests it has: --prometheus URL says where to ask"
    said = f"{rate:.2f} requests a second"
    if rate < 0.1:
        return Reason(-4, f"{said}: a merged model would idle on its GPUs")
    if rate < 1:
        return Reason(0, said)
    return Reason(2 if rate >= 10 else 1, f"{said}: enough to keep a model of its own busy")


def _speedup(facts: Facts) -> Reason | str:
    if facts.speedup is None:
        return "the speedup: no artifact was measured yet"
    said = f"measured {facts.speedup:.2f} times the adapter's output tokens a second"
    if facts.speedup < 1.05:
        return Reason(-5, f"{said}: merging brings nothing")
    if facts.speedup < 1.2:
        return Reason(0, f"{said}: merging brings little")
    return Reason(2 if facts.speedup >= 1.5 else 1, said)


def _base(facts: Facts) -> str:
    if facts.replicas is None:
        return "the base's replicas and GPUs: it is not there, or you may not get Deployments"
    return ""


def _memory(facts: Facts) -> list[Reason]:
    """What both need on the GPUs; it decides only where the base is needed beside the merged model."""
    each = f" of {facts.gpus} GPUs" if facts.gpus else ""
    replicas = "replicas" if facts.replicas is None else f"{facts.replicas} replicas"
    dynamic = f"dynamic: {bytes_of(facts.adapter_bytes)} on each of the base's {replicas}{each}"
    weights = f"{bytes_of(facts.artifact_bytes)} of weights" if facts.artifact_bytes else "weights of the base's size"
    merged = f"merged: {weights}, and its own KV cache, on each replica"
    if facts.variants > 1 and facts.gpus:
        return [Reason(0, dynamic), Reason(-1, f"{merged}: {facts.gpus} GPUs more, as long as the base is needed")]
    return [Reason(0, dynamic), Reason(0, merged)]
