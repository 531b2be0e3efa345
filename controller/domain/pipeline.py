"""From a spec to the next backend: import, load, build, start, validate, and then the switch.

Each function does one step and says by its result whether the next may go on. A step that has failed for these very
inputs is not tried again by itself; what serves goes on serving.
"""

from __future__ import annotations

import math
from datetime import timedelta

from controller.api.reasons import Reason
from controller.api.status import (
    AdapterStatus,
    ArtifactStatus,
    Backend,
    BackendKind,
    HistoryEntry,
    Step,
    SuiteScore,
)
from controller.api.types import parse_duration
from controller.api.v1alpha1 import Build, QuantizationMethod, Stage, Validation
from controller.domain.actions import EnsureJob, JobKind
from controller.domain.backends import (
    artifact_backend,
    can_answer,
    can_take_over,
    enough_to_flip,
    imported_adapter,
    is_given_up,
    name_is_taken,
    pinned_revision,
    proven_pods,
)
from controller.domain.capacity import has_all_replicas
from controller.domain.checks import Verdict, judge, judge_alone, lacks_to_judge_alone
from controller.domain.draft import Draft
from controller.domain.inputs import build_attempt, build_inputs, import_inputs, validate_inputs
from controller.domain.shifting import begin_canary, has_given_back_others, not_given_back, wants_canary
from controller.domain.snapshot import (
    BaseFacts,
    BuildResult,
    EvaluateResult,
    ImportResult,
    JobFacts,
    JobState,
    Problem,
)
from controller.domain.traffic import begin_observation, begin_switch, ensure_merged, first_switch_is_late

IMPORT_DEADLINE = timedelta(minutes=15)
LOAD_DEADLINE = timedelta(minutes=10)
_PLAIN_KEY = (
    "Deployment {} has the API key of vLLM in its pod template, where the validation job cannot get it: "
    "put the key into a Secret and refer to it by secretKeyRef"
)


def advance(d: Draft) -> None:
    """Take the release one step further towards what the spec asks for."""
    release, base = d.seen.release, d.seen.base
    if d.step is Step.SWITCHING and not first_switch_is_late(d):
        return
    if base is None or base.problems or name_is_taken(d.seen):
        _pause(d)
    elif d.step is Step.ROLLING_BACK:
        _import_meanwhile(d, base)
    elif release.spec.rollback is not None:
        _pinned(d, pinned_revision(d))
    elif release.spec.stage is Stage.EXPERIMENTAL:
        _experimental(d, base)
    elif d.step is not Step.OBSERVING and not _is_shifting_as_asked(d, base):
        _stable(d, base, release.spec.build, release.spec.validation)


def _is_shifting_as_asked(d: Draft, base: BaseFacts) -> bool:
    """A canary goes on while the spec asks for its artifact."""
    if d.step is not Step.SHIFTING:
        return False
    artifact, adapter = d.status.artifact, d.status.adapter
    if artifact is None or adapter is None or d.rollout.target != artifact_backend(artifact.id):
        return False
    asked = adapter.inputs == import_inputs(d.seen.release, base)
    return asked and artifact.inputs == build_inputs(d.seen.release, base, adapter.digest)


def _pause(d: Draft) -> None:
    """Nothing can go on. What was under way is forgotten with its deadline; it begins again where its job stands."""
    if d.step not in (Step.OBSERVING, Step.ROLLING_BACK):
        d.rest()


def _pinned(d: Draft, revision: HistoryEntry | None) -> None:
    if revision is None or (revision.backend.kind is BackendKind.ARTIFACT and d.seen.services_taken):
        _pause(d)
    else:
        bring_up(d, revision.backend, Reason.ROLLED_BACK_BY_USER)


def _experimental(d: Draft, base: BaseFacts) -> None:
    adapter = imported_adapter(d)
    back_from_artifact = d.served is not None and d.served.kind is BackendKind.ARTIFACT
    if back_from_artifact and adapter is not None:  # going back must not wait for an import
        bring_up(d, adapter, Reason.ROLLED_BACK_BY_USER)
        return
    if _import(d, base) is False or d.status.adapter is None:
        return
    if (adapter := imported_adapter(d)) is not None:
        bring_up(d, adapter, _reason_to_load(d))
    elif d.step not in (Step.SWITCHING, Step.OBSERVING):  # vLLM cannot serve it: what serves goes on serving
        d.rest()


def _reason_to_load(d: Draft) -> Reason:
    return Reason.FIRST_LOAD if d.served is None else Reason.ADAPTER_UPDATED


def _stable(d: Draft, base: BaseFacts, build: Build | None, validation: Validation | None) -> None:
    if build is None or validation is None or d.seen.services_taken:  # the first: somebody got around the API server
        _pause(d)
        return
    if not _import(d, base) or d.status.adapter is None:
        return
    adapter, artifact = imported_adapter(d), d.status.artifact
    inputs = build_inputs(d.seen.release, base, d.status.adapter.digest)
    built = artifact is not None and artifact.inputs == inputs
    if built and artifact is not None and d.served == artifact_backend(artifact.id):
        _watch_to_the_end(d, d.served)
        return
    attempt = build_attempt(d.seen.release, base, d.status.adapter.digest)
    stopped = d.backend_rejection(artifact.id) if artifact and built else d.rejection(Step.BUILDING, attempt)
    if stopped or unprovable(d):
        _stay_with_what_serves(d, adapter)
        return
    if adapter is not None and not _adapter_is_live(d, adapter):
        return
    if not built and base.api_key_is_plain:  # before hours of building: nobody could judge the artifact
        d.reject(Step.BUILDING, attempt, Reason.API_KEY_IN_PLAIN_TEXT, _PLAIN_KEY.format(base.name))
        d.rest()
    elif not built:
        _build(d, build, inputs, attempt)
    elif artifact is not None and _start(d, artifact) and _validate(d, artifact, validation) and _grow(d, artifact):
        _switch_to(d, artifact_backend(artifact.id), Reason.PROMOTED)


def _watch_to_the_end(d: Draft, served: Backend) -> None:
    """What the spec asks for serves. An observation that did not end, or not well, is no success: it is made anew."""
    if d.is_unobserved and can_answer(d.seen, served) and d.backend_rejection(served.id) is None:
        begin_observation(d, served, None)
    else:
        d.rest()


def unprovable(d: Draft) -> Problem | None:
    """Why nothing can be proven of what would be built. Said before hours of building; no verdict is no pass."""
    validation, adapter = d.seen.release.spec.validation, d.status.adapter
    if validation is None or adapter is None or not adapter.merge_only:
        return None
    lacking = lacks_to_judge_alone(validation)
    return Problem(Reason.NOTHING_TO_COMPARE_WITH, f"{adapter.merge_only}: {lacking}") if lacking else None


def _stay_with_what_serves(d: Draft, adapter: Backend | None) -> None:
    if adapter is not None and (d.served is None or d.served.kind is BackendKind.ADAPTER):
        bring_up(d, adapter, _reason_to_load(d))
    else:
        d.rest()


def _adapter_is_live(d: Draft, adapter: Backend) -> bool:
    """Serve the adapter, or (behind an artifact) have it loaded: it is what the artifact is compared with."""
    if d.served is None or d.served.kind is BackendKind.ADAPTER:
        if d.served != adapter:
            bring_up(d, adapter, _reason_to_load(d))
            return False
        return True
    if proven_pods(d.seen, adapter.id):
        return True
    _wait(d, Step.LOADING, LOAD_DEADLINE, adapter.id)
    return False


def bring_up(d: Draft, backend: Backend, reason: Reason) -> None:
    """Have the backend ready, then switch to it."""
    if d.served == backend:
        if d.step is not Step.OBSERVING:
            d.rest()
        return
    if is_given_up(d, backend):
        d.rest()
        return
    if can_take_over(d.seen, backend, d.served) or (_is_late(d, backend) and enough_to_flip(d.seen, backend)):
        _switch_to(d, backend, reason)
    elif backend.kind is BackendKind.ADAPTER:
        _wait(d, Step.LOADING, LOAD_DEADLINE, backend.id)
    else:
        limit = parse_duration(d.seen.release.spec.rollout.progress_deadline)
        _wait(d, Step.STARTING, limit, backend.id)
        if d.seen.base is not None:
            ensure_merged(d, backend.id, d.seen.base.artifact_path(backend.id))


def _is_late(d: Draft, backend: Backend) -> bool:
    return (d.step, d.rollout.inputs) == (Step.LOADING, backend.id) and d.is_late


def _switch_to(d: Draft, backend: Backend, reason: Reason) -> None:
    if (canary := wants_canary(d, backend, reason)) is not None:
        if has_given_back_others(d, backend, canary):
            begin_canary(d, backend, canary)
    elif (d.step, d.rollout.target) != (Step.SWITCHING, backend):  # else a late first switch goes on
        begin_switch(d, backend, reason)


def _wait(d: Draft, step: Step, limit: timedelta, inputs: str) -> bool:
    """Be in the step; True when its deadline is over."""
    if d.step is not step or d.rollout.inputs != inputs:
        d.begin(step, limit, inputs=inputs)
    deadline = d.rollout.deadline or d.now
    d.wake_at(deadline)
    return d.now >= deadline


# -- import


def _import(d: Draft, base: BaseFacts) -> bool | None:
    """True: imported for this spec. None: an older import is what there is, the new one was refused. False: wait."""
    release = d.seen.release
    inputs = import_inputs(release, base)
    if d.status.adapter is not None and d.status.adapter.inputs == inputs:
        return True
    if d.rejection(Step.IMPORTING, inputs):
        return None if d.status.adapter is not None and release.spec.stage is Stage.EXPERIMENTAL else _stop(d)
    if d.step is Step.OBSERVING:
        return None
    job = d.seen.job(JobKind.IMPORT, inputs)
    if job is not None and isinstance(job.result, ImportResult):
        d.update(adapter=_imported(d, inputs, job.result))
        d.rest()
        return True
    problem = _failure(job, Reason.IMPORT_FAILED)
    if problem is None and _wait(d, Step.IMPORTING, IMPORT_DEADLINE, inputs):
        problem = Problem(Reason.IMPORT_DEADLINE_EXCEEDED, f"the import did not end within {IMPORT_DEADLINE}")
    if problem is not None:
        d.reject(Step.IMPORTING, inputs, problem.reason, problem.message)
        d.rest()
        return False
    _run(d, JobKind.IMPORT, inputs, job)
    return False


def _import_meanwhile(d: Draft, base: BaseFacts) -> None:
    """The traffic goes back. A new version is fetched already: it may be the only one that can still be loaded."""
    inputs = import_inputs(d.seen.release, base)
    if d.seen.release.spec.rollback is not None or d.rejection(Step.IMPORTING, inputs):
        return
    if d.status.adapter is not None and d.status.adapter.inputs == inputs:
        return
    job = d.seen.job(JobKind.IMPORT, inputs)
    if job is not None and isinstance(job.result, ImportResult):
        d.update(adapter=_imported(d, inputs, job.result))
    elif problem := _failure(job, Reason.IMPORT_FAILED):
        d.reject(Step.IMPORTING, inputs, problem.reason, problem.message)
    else:
        _run(d, JobKind.IMPORT, inputs, job)


def _stop(d: Draft) -> bool:
    d.rest()
    return False


def _imported(d: Draft, inputs: str, result: ImportResult) -> AdapterStatus:
    adapter = d.seen.release.spec.adapters[0]
    return AdapterStatus(
        digest=result.digest,
        version=adapter.version,
        inputs=inputs,
        rank=result.rank,
        path=result.path,
        size_bytes=result.size_bytes,
        training_run=adapter.training_run or "",
        merge_only=result.merge_only,
    )


# -- build


def _build(d: Draft, build: Build, inputs: str, attempt: str) -> None:
    """A job for an older attempt at the same is left alone (cleanup.py)."""
    job = d.seen.job(JobKind.BUILD, attempt)
    if job is not None and isinstance(job.result, BuildResult):
        d.update(artifact=_built(d, build, inputs, job.result))
        d.rest()
        advance(d)
        return
    problem = _failure(job, Reason.BUILD_FAILED)
    if problem is None and _wait(d, Step.BUILDING, parse_duration(build.deadline), attempt):
        problem = Problem(Reason.BUILD_DEADLINE_EXCEEDED, f"the build did not end within {build.deadline}")
    if problem is not None:
        d.reject(Step.BUILDING, attempt, problem.reason, problem.message)
        d.rest()
        return
    _run(d, JobKind.BUILD, attempt, job)


def _built(d: Draft, build: Build, inputs: str, result: BuildResult) -> ArtifactStatus:
    known, merge_only = d.status.artifact, d.status.adapter is not None and bool(d.status.adapter.merge_only)
    if known is not None and (known.id, known.digest) == (result.artifact_id, result.digest):
        made = {"inputs": inputs, "name": result.name, "path": result.path, "reused": result.reused}
        made |= {"merge_only": merge_only, "build_seconds": _seconds_of(result)}
        return known.model_copy(update=made)  # with what was measured of these very files
    return ArtifactStatus(
        id=result.artifact_id,
        inputs=inputs,
        name=result.name,
        path=result.path,
        digest=result.digest,
        size_bytes=result.size_bytes,
        adapter_digest=d.status.adapter.digest if d.status.adapter else "",
        merge_only=merge_only,
        reused=result.reused,
        quantized=build.quantization.method is not QuantizationMethod.NONE,
        provenance=dict(result.provenance),
        build_seconds=_seconds_of(result),
    )


def _seconds_of(result: BuildResult) -> dict[str, str]:
    return {stage: f"{seconds:.1f}" for stage, seconds in result.seconds.items() if math.isfinite(seconds)}


# -- start and validate


def _start(d: Draft, artifact: ArtifactStatus) -> bool:
    """Is the candidate up?"""
    merged = d.seen.merged_for(artifact.id)
    if can_take_over(d.seen, artifact_backend(artifact.id), d.served):
        return True
    if merged is not None and merged.refused is not None:
        d.reject_backend(Step.STARTING, artifact.id, merged.refused.reason, merged.refused.message)
        d.rest()
        return False
    if d.step is Step.VALIDATING and merged is not None:  # a short absence must not lose a running validation
        d.wake_at(d.rollout.deadline or d.now)
        if d.rollout.deadline is None or d.now < d.rollout.deadline:
            return False
    limit = d.seen.release.spec.rollout.progress_deadline
    if _wait(d, Step.STARTING, parse_duration(limit), artifact.id):
        trouble = f": {merged.trouble}" if merged and merged.trouble else ""
        message = f"the merged model was not available within {limit}{trouble}"
        d.reject_backend(Step.STARTING, artifact.id, Reason.CANDIDATE_NOT_READY, message)
        d.rest()
        return False
    ensure_merged(d, artifact.id, artifact.path)
    return False


def _grow(d: Draft, artifact: ArtifactStatus) -> bool:
    """Has the candidate all its replicas? From the next look on `_start` waits for them, by the same deadline."""
    if has_all_replicas(d, artifact.id):
        return True
    limit = d.seen.release.spec.rollout.progress_deadline
    if _wait(d, Step.STARTING, parse_duration(limit), artifact.id):
        message = f"the merged model could not be scaled up within {limit}"
        d.reject_backend(Step.STARTING, artifact.id, Reason.CANDIDATE_NOT_READY, message)
        d.rest()
    return False


def _validate(d: Draft, artifact: ArtifactStatus, validation: Validation) -> bool:
    """Is there a verdict Pass for this artifact and this validation?"""
    inputs = validate_inputs(d.seen.release, artifact)
    if artifact.validation_inputs == inputs and artifact.verdict == Verdict.PASS:
        return True
    job = d.seen.job(JobKind.VALIDATE, inputs)
    if job is not None and isinstance(job.result, EvaluateResult):
        _conclude(d, artifact, validation, inputs, job.result)
        return False
    problem = _failure(job, Reason.VALIDATION_INCONCLUSIVE)
    if problem is None and _wait(d, Step.VALIDATING, parse_duration(validation.deadline), inputs):
        problem = Problem(Reason.VALIDATION_DEADLINE_EXCEEDED, f"no verdict within {validation.deadline}")
    if problem is not None:
        d.update(artifact=artifact.model_copy(update={"verdict": Verdict.INCONCLUSIVE, "validation_inputs": inputs}))
        d.reject_backend(
            Step.VALIDATING,
            artifact.id,
            Reason.VALIDATION_INCONCLUSIVE,
            f"{problem.reason}: {problem.message}",
        )
        d.rest()
        return False
    if (http_route := not_given_back(d, artifact.id)) is not None:
        d.update_rollout(progress=f"waits until HTTPRoute {http_route} is given back: it sends clients to the preview")
    else:
        _run(d, JobKind.VALIDATE, inputs, job)
    return False


def _conclude(d: Draft, artifact: ArtifactStatus, validation: Validation, inputs: str, result: EvaluateResult) -> None:
    if artifact.merge_only:
        judgement = judge_alone(validation, result)
    else:
        judgement = judge(validation, artifact.quantized, result)
    d.update(artifact=_with_scores(artifact, inputs, judgement.verdict, result))
    if judgement.verdict is Verdict.FAIL:
        d.reject_backend(Step.VALIDATING, artifact.id, Reason.VALIDATION_FAILED, judgement.message)
    elif judgement.verdict is Verdict.INCONCLUSIVE:
        d.reject_backend(Step.VALIDATING, artifact.id, Reason.VALIDATION_INCONCLUSIVE, judgement.message)
    d.rest()
    advance(d)


def _with_scores(artifact: ArtifactStatus, inputs: str, verdict: Verdict, result: EvaluateResult) -> ArtifactStatus:
    def text(value: float | None, digits: int = 4) -> str:
        return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"

    scores = [
        SuiteScore(
            name=s.name,
            samples=s.samples,
            adapter=text(s.adapter),
            artifact=text(s.artifact),
            agreement=text(s.agreement),
        )
        for s in result.suites
    ]
    return artifact.model_copy(
        update={
            "verdict": str(verdict),
            "validation_inputs": inputs,
            "scores": scores,
            "speedup": text(result.speedup, 2),
            "adapter_tokens_per_second": text(result.adapter_tokens_per_second, 1),
            "artifact_tokens_per_second": text(result.artifact_tokens_per_second, 1),
            "adapter_latency_seconds": text(result.adapter_latency_seconds),
            "artifact_latency_seconds": text(result.artifact_latency_seconds),
        }
    )


# -- jobs


def _failure(job: JobFacts | None, default: Reason) -> Problem | None:
    if job is None or job.state is not JobState.FAILED:
        if job is not None and job.state is JobState.SUCCEEDED and job.result is None:
            return Problem(default, f"job {job.name} ended without a result")
        return None
    return job.failure or Problem(default, f"job {job.name} failed; see its log")


def _run(d: Draft, kind: JobKind, inputs: str, job: JobFacts | None) -> None:
    if job is None:
        d.do(EnsureJob(f"{kind} with inputs {inputs[:8]}", kind, inputs))
    elif job.progress != d.rollout.progress:
        d.update_rollout(progress=job.progress)
