"""What an evaluation measured, in the domain's words: reference and candidate are the adapter and the artifact.

For the controller, which reads a job's last words, and for commands, which have just measured or read a statement.
Must not know what follows from it.
"""

from __future__ import annotations

from controller.domain.snapshot import EvaluateResult, SuiteResult
from controller.job import summary
from controller.job.evaluation import Evaluation


def measured(result: summary.EvaluateResult | Evaluation) -> EvaluateResult:
    suites = tuple(
        SuiteResult(s.name, s.samples, s.reference, s.candidate, s.agreement, s.errors) for s in result.suites
    )
    benchmark = result.benchmark
    if benchmark is None:
        return EvaluateResult(suites)
    adapter = benchmark.reference
    return EvaluateResult(
        suites=suites,
        speedup=benchmark.speedup,
        adapter_tokens_per_second=adapter.output_tokens_per_second if adapter else None,
        artifact_tokens_per_second=benchmark.candidate.output_tokens_per_second,
        adapter_latency_seconds=adapter.mean_latency_seconds if adapter else None,
        artifact_latency_seconds=benchmark.candidate.mean_latency_seconds,
        benchmark_errors=(adapter.errors if adapter else 0) + benchmark.candidate.errors,
    )
