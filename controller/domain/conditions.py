"""The conditions: what the user reads. Each is computed anew from the snapshot and the memory, every time.

Order and meaning are documented in docs/reasons.md; a message says what is the case, and what to do where something is.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.api.reasons import Reason
from controller.api.status import Backend, BackendKind, Condition, ConditionType, Rejected, Step, SuiteScore
from controller.api.v1alpha1 import Stage
from controller.domain.backends import (
    can_answer,
    imported_adapter,
    is_given_up,
    name_is_taken,
    pinned_revision,
    proven_pods,
    usable_pods,
    wanted_digest,
)
from controller.domain.draft import Draft
from controller.domain.inputs import build_attempt, build_inputs, import_inputs, validate_inputs
from controller.domain.loading import lacks_slot
from controller.domain.pipeline import unprovable
from controller.domain.snapshot import SHORT, JobKind, Problem, hex_of
from controller.domain.stalled import is_stalled, load_has_failed, load_may_succeed
from controller.domain.traffic import first_switch_is_late


@dataclass(frozen=True)
class Report:
    """What a condition will say."""

    status: str
    reason: str
    message: str


RETRY_HINT = "Change the spec, or set the annotation adapterrelease.dev/retry to a new value, to try again."


def conclude(d: Draft) -> list[Condition]:
    """All conditions, with lastTransitionTime kept where the status did not change."""
    reports = {
        ConditionType.ADAPTER_IMPORTED: _imported(d),
        ConditionType.ADAPTER_LOADED: _loaded(d),
        ConditionType.ARTIFACT_BUILT: _built(d),
        ConditionType.VALIDATED: _validated(d),
        ConditionType.PROMOTED: _promoted(d),
        ConditionType.GAP_FREE: _gap_free(d),
        ConditionType.PROGRESSING: _progressing(d),
    }
    reports[ConditionType.DEGRADED] = _degraded(d, reports[ConditionType.ADAPTER_LOADED])
    reports[ConditionType.READY] = _ready(d, reports)
    reports[ConditionType.STALLED] = _stalled(d, reports[ConditionType.READY])
    return [_condition(d, kind, report) for kind, report in reports.items()]


def _condition(d: Draft, kind: ConditionType, report: Report) -> Condition:
    old = d.seen.release.status.condition(kind)
    changed = old is None or old.status != report.status
    return Condition(
        type=kind,
        status=report.status,
        observed_generation=d.seen.release.metadata.generation,
        last_transition_time=d.now if changed or old is None else old.last_transition_time,
        reason=report.reason,
        message=report.message[:1024],
    )


def _says(status: bool | None, reason: Reason | str, message: str) -> Report:
    return Report("Unknown" if status is None else str(status), str(reason), message)


def blocker(d: Draft) -> Problem | None:
    """What keeps the controller from working on the release at all."""
    seen = d.seen
    if seen.release.metadata.deletion_timestamp:
        return Problem(Reason.DELETING, "the release is being deleted")
    if seen.services_taken:
        taken = ", ".join(seen.services_taken)
        return Problem(
            Reason.SERVICE_NAME_TAKEN,
            f"Service {taken} exists and was not made for this release; it is not touched. "
            "Rename the release or the Service.",
        )
    if seen.base is None:
        name = seen.release.spec.base_ref.name
        return Problem(
            Reason.BASE_NOT_FOUND,
            f"there is no Deployment {name} in namespace {seen.release.metadata.namespace}",
        )
    if seen.base.problems:
        return seen.base.problems[0]
    if name_is_taken(seen):
        who = f"release {seen.rivals[0]}" if seen.rivals else f"base {seen.base.name} itself"
        return Problem(
            Reason.MODEL_NAME_TAKEN,
            f"{who} already serves {seen.model_name!r} on this base; choose another modelName",
        )
    if seen.release.spec.rollback is not None and pinned_revision(d) is None:
        return Problem(
            Reason.REVISION_NOT_FOUND,
            f"spec.rollback names revision {seen.release.spec.rollback.revision}, which is not in status.history",
        )
    return None


def _imported(d: Draft) -> Report:
    adapter, base = d.status.adapter, d.seen.base
    if base is not None:
        rejected = d.rejection(Step.IMPORTING, import_inputs(d.seen.release, base))
        if rejected:
            return _rejected(rejected)
    if d.step is Step.IMPORTING:
        return _says(
            None,
            Reason.IMPORTING,
            _of_job(d, JobKind.IMPORT, d.rollout.inputs, "the adapter is fetched and checked"),
        )
    if adapter is None:
        return _says(None, Reason.PENDING, "the import has not begun")
    return _says(
        True,
        Reason.IMPORTED,
        f"version {adapter.version}, digest {hex_of(adapter.digest)[:12]}, rank {adapter.rank}",
    )


def _of_job(d: Draft, kind: JobKind, inputs: str, otherwise: str) -> str:
    """Its progress, if there is such a job and it says any."""
    if d.seen.job(kind, inputs) is None:
        return f"the {kind} job is not made yet; if it cannot be, the release's events say why"
    return d.rollout.progress or otherwise


def _rejected(rejected: Rejected) -> Report:
    return _says(False, rejected.reason, f"{rejected.message}. {RETRY_HINT}")


def _loaded(d: Draft) -> Report:
    if (report := _never_loaded(d)) is not None:
        return report
    wanted = wanted_digest(d)
    if wanted is None:
        if d.status.adapter is None:
            return _says(None, Reason.PENDING, "there is no imported adapter yet")
        return _says(False, Reason.UNLOADED, "the rollback window is over; the merged model serves without the adapter")
    pods, proven = usable_pods(d.seen), proven_pods(d.seen, wanted)
    says = f"{hex_of(wanted)[:SHORT]} is loaded on {len(proven)} of {len(pods)} ready base pods"
    if pods and len(proven) == len(pods):
        return _says(True, Reason.LOADED, says)
    failed = [p for p in pods if p.load_failure is not None and p.load_failure.digest == wanted and p not in proven]
    if failed and failed[0].load_failure is not None:
        reason = Reason.LOAD_FAILED_ON_SOME_PODS if proven else Reason.LOAD_FAILED
        return _says(bool(proven), reason, f"{says}; pod {failed[0].name} says: {failed[0].load_failure.message}")
    if foreign := [p for p in pods if d.seen.held_digest(p) == ""]:
        root = (foreign[0].adapters or {}).get(d.seen.model_name)
        return _says(
            bool(proven),
            Reason.MODEL_NAME_TAKEN,
            f"{says}; pod {foreign[0].name} serves {d.seen.model_name!r} from {root}, which was not loaded for this "
            "release: unload it there, or choose another modelName",
        )
    if not pods:
        return _says(False, Reason.NO_READY_BASE_POD, f"base {d.seen.release.spec.base_ref.name} has no ready pod")
    if lacks_slot(d):
        return _says(
            bool(proven),
            Reason.NO_FREE_ADAPTER_SLOT,
            f"{says}; the others have no free slot: raise --max-cpu-loras of the base, or retire a release",
        )
    if d.step is Step.LOADING and d.is_late:
        return _says(bool(proven), Reason.LOAD_DEADLINE_EXCEEDED, f"{says}; still trying")
    return _says(True if proven else None, Reason.LOADING, says)


def _never_loaded(d: Draft) -> Report | None:
    """vLLM cannot serve what the spec asks for."""
    spec, adapter, pinned = d.seen.release.spec, d.status.adapter, pinned_revision(d)
    if pinned is not None and pinned.merge_only:
        return _says(False, Reason.MERGED_ONLY, "vLLM cannot serve the adapter of that revision: it is merged only")
    if spec.rollback is not None or adapter is None or not adapter.merge_only:
        return None
    if spec.stage is Stage.EXPERIMENTAL:
        return _says(False, Reason.NOT_SERVABLE_DYNAMICALLY, _not_servable(adapter.merge_only))
    return _says(False, Reason.MERGED_ONLY, f"{adapter.merge_only}: vLLM cannot serve this, so it is merged only")


def _not_servable(what: str) -> str:
    return f"{what}: vLLM cannot serve this dynamically; it can be merged: set stage: Stable"


_NOT_GAP_FREE = (
    "an update takes pods out of the route one after the other, and with one replica requests of some milliseconds get "
    "a 404; clients that keep a connection open may stay on a pod that has left the route"
)


def _gap_free(d: Draft) -> Report:
    """What an update of the adapter costs clients."""
    base = d.seen.base
    if base is None or not base.model:
        return _says(None, Reason.PENDING, "the base is not known yet")
    if not base.has_plugin:
        hint = f"add it: adapterrelease enable {base.name}"
        return _says(False, Reason.NO_ENGINE_PLUGIN, f"base {base.name} has no engine plugin: {_NOT_GAP_FREE}. {hint}")
    if base.max_cpu_loras < 2:
        hint = "both versions must be loaded at the same time: set --max-cpu-loras to 2 or more"
        return _says(False, Reason.ONE_ADAPTER_SLOT, f"a server of base {base.name} holds one adapter. {hint}")
    if old := [p.name for p in d.seen.base_pods if p.lacks_plugin]:
        return _says(False, Reason.NO_ENGINE_PLUGIN, f"pod {old[0]} started without the engine plugin: restart it")
    if mute := [p for p in usable_pods(d.seen) if p.plugin is None]:
        said = f"pod {mute[0].name} was not asked: {mute[0].ask_problem or 'no answer'}"
        return _says(None, Reason.ENGINE_PLUGIN_NOT_ASKED, said)
    if lacks_slot(d):
        message = "a server of the base has no free slot for the version that comes: raise --max-cpu-loras"
        return _says(False, Reason.NO_FREE_ADAPTER_SLOT, message)
    shipped, plugins = d.seen.plugin_version, {p.name: p.plugin for p in d.seen.base_pods if p.plugin}
    if other := [f"{name} has {x.version}" for name, x in plugins.items() if x.version != shipped]:
        message = f"updates are flips in each server. Pod {other[0]}, and this controller ships {shipped}"
        return _says(True, Reason.ENGINE_PLUGIN_DIFFERS, f"{message}: restart the base when it suits you")
    failed = [f"{name}: {x.restore_failure}" for name, x in plugins.items() if x.restore_failure]
    said = f"; not loaded again after a restart on pod {failed[0]}" if failed else ""
    return _says(True, Reason.ENGINE_PLUGIN, f"updates are flips in each server; nothing is lost{said}")


def _built(d: Draft) -> Report:
    artifact, base = d.status.artifact, d.seen.base
    if d.seen.release.spec.stage is Stage.EXPERIMENTAL:
        return _says(None, Reason.NOT_REQUESTED, "stage is Experimental: nothing is merged")
    if base is None or d.status.adapter is None:
        return _says(None, Reason.PENDING, "waits for the import")
    if artifact is not None and artifact.inputs == build_inputs(d.seen.release, base, d.status.adapter.digest):
        return _says(
            True,
            Reason.BUILT,
            f"{artifact.name} ({artifact.size_bytes} bytes)" + (", reused" if artifact.reused else ""),
        )
    attempt = build_attempt(d.seen.release, base, d.status.adapter.digest)
    if rejected := d.rejection(Step.BUILDING, attempt):
        return _rejected(rejected)
    if problem := unprovable(d):
        return _says(False, problem.reason, problem.message)
    if d.step is Step.BUILDING:
        return _says(None, Reason.BUILDING, _of_job(d, JobKind.BUILD, attempt, "the build job runs"))
    if imported_adapter(d) is None:
        return _says(None, Reason.PENDING, "the build has not begun")
    return _says(None, Reason.PENDING, "waits for the adapter to be loaded")


def _validated(d: Draft) -> Report:
    artifact = d.status.artifact
    if d.seen.release.spec.stage is Stage.EXPERIMENTAL:
        return _says(None, Reason.NOT_REQUESTED, "stage is Experimental: nothing is validated")
    if artifact is None:
        return _says(None, Reason.PENDING, "there is no artifact yet")
    if (rejected := d.backend_rejection(artifact.id)) and rejected.step in (Step.STARTING, Step.VALIDATING):
        return _rejected(rejected)
    current = artifact.validation_inputs == validate_inputs(d.seen.release, artifact)
    if artifact.verdict == "Pass" and (current or _serves_artifact(d)):
        scores = "; ".join(_score(s) for s in artifact.scores)
        speed = f"; speedup {artifact.speedup}" if artifact.speedup else ""
        return _says(True, Reason.PASSED, scores + speed)
    if problem := unprovable(d):
        return _says(False, problem.reason, problem.message)
    if d.step is Step.STARTING:
        merged = d.seen.merged_for(artifact.id)
        return _says(None, Reason.STARTING, (merged.trouble if merged else "") or "the candidate starts")
    if d.step is Step.VALIDATING:
        inputs = validate_inputs(d.seen.release, artifact)
        return _says(None, Reason.VALIDATING, _of_job(d, JobKind.VALIDATE, inputs, "the artifact is asked"))
    return _says(None, Reason.PENDING, "waits for the candidate")


def _score(score: SuiteScore) -> str:
    adapter = f"adapter {score.adapter}, " if score.adapter else ""
    return f"{score.name}: {adapter}artifact {score.artifact}"


def _serves_artifact(d: Draft) -> bool:
    return d.served is not None and d.status.artifact is not None and d.served.id == d.status.artifact.id


def _promoted(d: Draft) -> Report:
    if d.step is Step.OBSERVING:
        return _says(None, Reason.OBSERVING, "the merged model has the traffic and is watched")
    if refused := _refused_stage(d):
        return _rejected(refused)
    if d.seen.release.spec.rollback is not None or (
        d.seen.release.spec.stage is Stage.EXPERIMENTAL
        and any(h.backend.kind is BackendKind.ARTIFACT for h in d.status.history)
    ):
        return _says(False, Reason.ROLLED_BACK_BY_USER, "the spec asks for an earlier backend")
    if d.seen.release.spec.stage is Stage.EXPERIMENTAL:
        return _says(False, Reason.NOT_REQUESTED, "stage is Experimental: the adapter is served by the base's pods")
    if (failure := standing_rejection(d)) is not None and d.step is not Step.ROLLING_BACK:
        return _rejected(failure)
    if _current_artifact_serves(d) and d.step is not Step.ROLLING_BACK:
        if d.is_unobserved:
            return _says(None, Reason.OBSERVING, "the merged model has the traffic; watching it begins anew")
        return _says(True, Reason.PROMOTED, f"{d.status.artifact.name if d.status.artifact else ''} serves")
    return _says(False, Reason.PENDING, f"step {d.step}")


def _current_artifact_serves(d: Draft) -> bool:
    artifact, base = d.status.artifact, d.seen.base
    if not _serves_artifact(d) or artifact is None:
        return False
    if base is None or d.status.adapter is None:
        return True
    return artifact.inputs == build_inputs(d.seen.release, base, d.status.adapter.digest)


def standing_rejection(d: Draft) -> Rejected | None:
    """What stands between the spec as it is and its promotion."""
    base, adapter, artifact = d.seen.base, d.status.adapter, d.status.artifact
    if base is None:
        return None
    if rejected := d.rejection(Step.IMPORTING, import_inputs(d.seen.release, base)):
        return rejected
    if rejected := _refused_stage(d) or _rejected_wish(d):
        return rejected
    if adapter is None or d.seen.release.spec.stage is Stage.EXPERIMENTAL:
        return None
    if artifact is not None and artifact.inputs == build_inputs(d.seen.release, base, adapter.digest):
        return d.backend_rejection(artifact.id)
    if rejected := d.rejection(Step.BUILDING, build_attempt(d.seen.release, base, adapter.digest)):
        return rejected
    return _as_rejected(Step.BUILDING, unprovable(d))


def _refused_stage(d: Draft) -> Rejected | None:
    """The stage is Experimental, and vLLM cannot serve what was imported for this spec."""
    base, adapter, spec = d.seen.base, d.status.adapter, d.seen.release.spec
    if spec.stage is not Stage.EXPERIMENTAL or spec.rollback is not None or base is None or adapter is None:
        return None
    if not adapter.merge_only or adapter.inputs != import_inputs(d.seen.release, base):
        return None
    return _as_rejected(Step.LOADING, Problem(Reason.NOT_SERVABLE_DYNAMICALLY, _not_servable(adapter.merge_only)))


def _as_rejected(step: Step, problem: Problem | None) -> Rejected | None:
    """It follows from the spec, so there is nothing to remember."""
    return Rejected(inputs="", step=step, reason=problem.reason, message=problem.message) if problem else None


def _rejected_wish(d: Draft) -> Rejected | None:
    """The revision, or the version, that the spec asks for was tried and given up."""
    pinned = pinned_revision(d)
    asked = pinned.backend if pinned else imported_adapter(d)
    if asked is None or asked == d.served or not is_given_up(d, asked):
        return None
    return d.backend_rejection(asked.id)


def _progressing(d: Draft) -> Report:
    if d.step is Step.IDLE:
        return _says(False, Reason.IDLE, "nothing is under way")
    until = f", until {d.rollout.deadline:%Y-%m-%dT%H:%M:%SZ}" if d.rollout.deadline else ""
    return _says(True, str(d.step), (d.rollout.progress or f"step {d.step}") + until)


def _degraded(d: Draft, loaded: Report) -> Report:
    if d.step is Step.ROLLING_BACK:
        target = d.rollout.target
        if target is not None and not can_answer(d.seen, target):
            return _says(
                True,
                Reason.NO_BACKEND_TO_ROLL_BACK_TO,
                f"{d.rollout.reason}: going back, but {_name(target)} does not answer yet; the route stays where it is",
            )
        return _says(True, Reason.ROLLING_BACK, f"{d.rollout.reason}: going back{_gateway_problem(d)}")
    failure = standing_rejection(d)
    if failure and d.served is not None and failure.id == d.served.id:
        return _says(
            True,
            Reason.NO_BACKEND_TO_ROLL_BACK_TO,
            f"{failure.reason}: {failure.message}. Nothing else is known that could serve, so the route stays where it "
            "is. Give the adapter a new version; " + RETRY_HINT[0].lower() + RETRY_HINT[1:],
        )
    if failure:
        reason = (
            Reason.ROLLED_BACK
            if failure.step in (Step.OBSERVING, Step.SHIFTING, Step.SWITCHING, Step.IDLE)
            else failure.reason
        )
        return _says(
            True,
            reason,
            f"{failure.reason}: {failure.message}. What served before still serves. {RETRY_HINT}",
        )
    if late := _late_first_switch(d) or _late_revision(d):
        return late
    if d.served is not None and not can_answer(d.seen, d.served):
        return _says(True, Reason.NO_READY_BACKEND, f"no pod of {_name(d.served)} is ready")
    if d.served is not None and load_has_failed(d, loaded.reason):
        too_few = loaded.reason == Reason.LOAD_FAILED_ON_SOME_PODS
        return _says(True, Reason.LOAD_FAILED if too_few else loaded.reason, loaded.message)
    failed = [p for p in d.seen.base_pods if p.usable and p.load_failure is not None]
    wanted = wanted_digest(d)
    if failed and any(p.load_failure and p.load_failure.digest == wanted for p in failed):
        return _says(True, Reason.LOAD_FAILED_ON_SOME_PODS, f"the adapter does not load on pod {failed[0].name}")
    return _says(False, Reason.AS_EXPECTED, "")


def _gateway_problem(d: Draft) -> str:
    """Why the weights of a canary are not given back."""
    canary, seen = d.rollout.canary, d.seen.http_route
    if canary is None or (seen is not None and not seen.problem):
        return ""
    return f"; {seen.problem if seen is not None else f'HTTPRoute {canary.http_route} cannot be read'}"


def _late_first_switch(d: Draft) -> Report | None:
    """Nothing serves yet, so there is nothing better to do than to go on."""
    target, route = d.rollout.target, d.seen.route
    if target is None or not first_switch_is_late(d):
        return None
    if route is None or not route.endpoints:
        why = "no pod is behind it"
    else:
        why = route.answer_problem or f"{route.answered_root} answers"
    message = f"the route was not proven to reach {_name(target)} in time: {why}; still trying"
    return _says(True, Reason.SWITCH_NOT_PROVEN, message)


def _late_revision(d: Draft) -> Report | None:
    """The artifact that spec.rollback names does not start. It has served before, so it is not given up."""
    deadline, pinned = d.rollout.deadline, pinned_revision(d)
    if pinned is None or d.step is not Step.STARTING or deadline is None:
        return None
    merged = d.seen.merged_for(pinned.backend.id)
    if merged is not None and merged.refused is not None:
        return _says(True, merged.refused.reason, f"{merged.refused.message}; still trying")
    if d.now < deadline:
        return None
    trouble = f": {merged.trouble}" if merged and merged.trouble else ""
    limit = d.seen.release.spec.rollout.progress_deadline
    message = f"the merged model of the revision is not available since {limit}{trouble}; still trying"
    return _says(True, Reason.CANDIDATE_NOT_READY, message)


def _name(backend: Backend) -> str:
    return f"{backend.kind.lower()} {hex_of(backend.id)[:12]}"


def _has_arrived(d: Draft, served: Backend) -> bool:
    """Does what serves match the spec?"""
    spec, imported, base = d.seen.release.spec, d.status.adapter, d.seen.base
    if spec.rollback is not None:
        pinned = pinned_revision(d)
        return pinned is not None and served == pinned.backend
    if spec.stage is Stage.STABLE:
        return _current_artifact_serves(d)
    if imported is None or base is None or imported.inputs != import_inputs(d.seen.release, base):
        return False
    return served == imported_adapter(d)


def _ready(d: Draft, reports: dict[ConditionType, Report]) -> Report:
    """True: what the spec asks for is what answers."""
    problem = blocker(d)
    if problem is not None:
        return _says(False, problem.reason, problem.message)
    if d.served is None:
        imported, loaded = reports[ConditionType.ADAPTER_IMPORTED], reports[ConditionType.ADAPTER_LOADED]
        if imported.status == "False":
            return imported
        if loaded.status == "False" and loaded.reason != Reason.MERGED_ONLY and not load_may_succeed(d, loaded.reason):
            return loaded
        if (failure := standing_rejection(d)) is not None:
            return _rejected(failure)
        if late := _late_first_switch(d):
            return _says(False, late.reason, late.message)
        return _says(False, Reason.PENDING, f"nothing serves yet; step {d.step}")
    if not can_answer(d.seen, d.served):
        return _says(False, Reason.NO_READY_BACKEND, f"no pod of {_name(d.served)} is ready")
    degraded = reports[ConditionType.DEGRADED]
    if degraded.status == "True" and degraded.reason != Reason.LOAD_FAILED_ON_SOME_PODS:
        return _says(False, degraded.reason, degraded.message)
    if d.step is not Step.IDLE or not _has_arrived(d, d.served):
        return _says(False, Reason.PENDING, f"{_name(d.served)} serves; step {d.step} towards what the spec asks for")
    return _says(True, Reason.SERVING, f"{_name(d.served)} serves {d.seen.model_name!r}")


def _stalled(d: Draft, ready: Report) -> Report:
    """True: it is no use to wait."""
    if ready.status == "True" or not is_stalled(d, ready.reason, blocker(d) is not None):
        return _says(False, Reason.AS_EXPECTED, "")
    return _says(True, ready.reason, ready.message)
