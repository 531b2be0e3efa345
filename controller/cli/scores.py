"""Prints what an evaluation measured, and asks the domain for the verdict.

Must not know how it was measured.
"""

from __future__ import annotations

import json

from controller.api.v1alpha1 import Source, Suite, Validation
from controller.domain import snapshot
from controller.domain.checks import Judgement, judge
from controller.job.summary import EvaluateResult, Throughput


def verdict(result: EvaluateResult, max_score_drop: str) -> Judgement:
    """The verdict that the controller would give with this tolerance."""
    validation = Validation(
        suites=[
            Suite(
                name=s.name,
                source=Source(uri=f"pvc://local/{s.name}"),
                max_score_drop=max_score_drop,
                max_quantized_score_drop=max_score_drop,
            )
            for s in result.suites
        ]
    )
    return judge(validation, True, _for_domain(result))


def _for_domain(result: EvaluateResult) -> snapshot.EvaluateResult:
    timed = result.benchmark
    reference = timed.reference if timed else None
    return snapshot.EvaluateResult(
        suites=tuple(
            snapshot.SuiteResult(
                name=s.name,
                samples=s.samples,
                adapter=s.reference,
                artifact=s.candidate,
                agreement=s.agreement,
                errors=s.errors,
            )
            for s in result.suites
        ),
        speedup=timed.speedup if timed else None,
        adapter_tokens_per_second=reference.output_tokens_per_second if reference else None,
        artifact_tokens_per_second=timed.candidate.output_tokens_per_second if timed else None,
        adapter_latency_seconds=reference.mean_latency_seconds if reference else None,
        artifact_latency_seconds=timed.candidate.mean_latency_seconds if timed else None,
        benchmark_errors=sum(t.errors for t in (reference, timed.candidate) if t) if timed else 0,
    )


def report(result: EvaluateResult, judgement: Judgement, as_json: bool) -> str:
    """For people, or for programs."""
    if as_json:
        document = json.loads(result.to_json())
        return json.dumps(document | {"verdict": str(judgement.verdict), "message": judgement.message})
    lines = [
        f"{s.name}: reference {_share(s.reference)}, candidate {_share(s.candidate)}, same answer {_share(s.agreement)}"
        f" ({s.samples} samples, {s.errors} errors)"
        for s in result.suites
    ]
    if result.benchmark is not None:
        if result.benchmark.reference is not None:
            lines.append(_line("reference", result.benchmark.reference))
        lines.append(_line("candidate", result.benchmark.candidate))
        speedup = result.benchmark.speedup
        lines.append(f"speedup: {speedup:.2f}" if speedup is not None else "speedup: not measured")
    return "\n".join([*lines, f"verdict: {judgement.verdict}: {judgement.message}"])


def _share(value: float | None) -> str:
    return "not asked" if value is None else f"{value:.4f}"


def _line(name: str, t: Throughput) -> str:
    return (
        f"{name}: {t.output_tokens_per_second:.1f} tokens/s, {t.requests_per_second:.2f} requests/s,"
        f" mean {t.mean_latency_seconds:.3f} s, p95 {t.p95_latency_seconds:.3f} s, {t.errors} errors"
    )
