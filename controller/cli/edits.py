"""What promote, rollback and retry change in a release: merge patches, as a person would write them.

Pure: release -> Edit, or PermanentError with what to do instead. Only fields that the API has are written.
Must not know: how a patch is sent (steer.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from controller.api.reasons import Reason
from controller.api.status import Backend, BackendKind, ConditionType, HistoryEntry, Rejected, Serving, Step
from controller.api.v1alpha1 import RETRY_ANNOTATION, AdapterRelease, Stage
from controller.cli.keepers import is_synced
from controller.cli.standing import command, standing
from controller.cli.words import short
from controller.domain.inputs import spec_inputs
from controller.errors import PermanentError

Json = dict[str, Any]

ALL = 100


@dataclass(frozen=True)
class Edit:
    """An empty patch: nothing is to be done, and `will` says why."""

    will: str  # what happens once it is written
    patch: Json = field(default_factory=dict)


def refused(message: str, reason: str) -> PermanentError:
    return PermanentError(message, reason=reason)


def promote(release: AdapterRelease, full: bool) -> Edit:
    """Forward: to Stable; during a canary past the step that waits, or with `full` past all of them."""
    spec, name = release.spec, release.metadata.name
    lives(release)
    if spec.build is None or spec.validation is None:
        lacks = " and ".join(n for n, part in (("build", spec.build), ("validation", spec.validation)) if part is None)
        raise refused(
            f"spec of {name} has no {lacks}: nothing is promoted without a proof; add what is missing, as in "
            "manifests/samples/stable.yaml, and promote again",
            "NotPromotable",
        )
    if release.status.rollout.step is Step.SHIFTING and spec.rollback is None:
        return go_on(release, full)
    if (reason := _not_imported(release)) is not None:
        raise refused(f"the adapter was not imported, so nothing can be merged: {reason}", "Rejected")
    if rejected := _rejected_artifact(release):
        raise refused(
            f"artifact {short(rejected.id)} of this very spec was rejected: {rejected.reason}: {rejected.message}; "
            f"change the spec, or: {command('retry', release)}",
            "Rejected",
        )
    if spec.stage is Stage.STABLE and spec.rollback is None:
        return Edit(f"nothing to do: the stage is Stable already: {command('status', release)}")
    patch: Json = {}
    if spec.stage is not Stage.STABLE:
        patch["stage"] = Stage.STABLE.value
    if spec.rollback is not None:
        patch["rollback"] = None
    return Edit(_what_promotion_does(release), {"spec": patch})


def _what_promotion_does(release: AdapterRelease) -> str:
    canary = release.spec.rollout.canary
    freed = "; spec.rollback is removed" if release.spec.rollback is not None else ""
    how = f"gets the traffic of HTTPRoute {canary.http_route} in steps" if canary is not None else "is swapped in"
    return f"merged and validated, unless that was done; what has passed {how}, and nothing moves before{freed}"


def go_on(release: AdapterRelease, full: bool) -> Edit:
    memory, canary = release.status.rollout.canary, release.spec.rollout.canary
    if memory is None or canary is None:
        raise refused("the canary ends just now: look again with status", "NotPromotable")
    weight = ALL if full else memory.weight
    approved = canary.approved
    if approved is not None and approved.artifact == memory.artifact and approved.weight >= weight:
        return Edit(f"nothing to do: up to {approved.weight} % is approved; a check still has to pass at each step")
    patch = {"spec": {"rollout": {"canary": {"approved": {"artifact": memory.artifact, "weight": weight}}}}}
    if full:
        return Edit("no step of the canary waits any more; a check still has to pass at each", patch)
    return Edit(f"the canary goes on from {weight} % as soon as a check has passed there", patch)


def rollback(release: AdapterRelease, to: int | None) -> Edit:
    """Back: to a revision of the history, or to what served before."""
    lives(release)
    serving = serving_of(release)
    if to is not None:
        return pin(release, entry_of(release, to))
    before = _served_before(release, serving)
    if goes_by_stage(release, before.backend):
        return Edit(
            f"stage Experimental: the route goes back to adapter {before.version} on the base's pods; "
            f"forward again: {command('promote', release)}",
            {"spec": {"stage": Stage.EXPERIMENTAL.value, "rollback": None}},
        )
    return pin(release, before)


def _served_before(release: AdapterRelease, serving: Serving) -> HistoryEntry:
    """Where the traffic comes from that is on its way; else the newest entry of another backend than what serves."""
    rollout = release.status.rollout
    if rollout.step in (Step.SHIFTING, Step.SWITCHING) and rollout.reason != Reason.ROLLED_BACK_BY_USER:
        return entry_of(release, serving.revision)
    others = [h for h in release.status.history if h.backend != serving.backend]
    if not others:
        raise refused(
            f"{release.metadata.name} has served nothing else yet: there is nothing to go back to", "NoRevision"
        )
    return others[0]


def entry_of(release: AdapterRelease, revision: int) -> HistoryEntry:
    found = next((h for h in release.status.history if h.revision == revision), None)
    if found is None:
        known = ", ".join(str(h.revision) for h in release.status.history)
        message = f"revision {revision} is not in the history, which has {known}: {command('history', release)}"
        raise refused(message, "RevisionNotFound")
    return found


def pin(release: AdapterRelease, entry: HistoryEntry) -> Edit:
    rollback, serving = release.spec.rollback, release.status.serving
    if rollback is not None and rollback.revision == entry.revision:
        return Edit(f"nothing to do: spec.rollback names revision {entry.revision} already")
    if rejected := _rejection_of(release, entry.backend):
        raise refused(
            f"revision {entry.revision} was tried with this very spec and rejected: {rejected.reason}: "
            f"{rejected.message}; try it again first: {command('retry', release)}",
            "Rejected",
        )
    what = f"{entry.backend.kind.lower()} {entry.version}".rstrip()
    stays = serving is not None and serving.backend == entry.backend
    does = "goes on serving" if stays else "is brought up, proven and gets the traffic"
    return Edit(
        f"revision {entry.revision} ({what}) {does}, and nothing else is promoted until: {command('resume', release)}",
        {"spec": {"rollback": {"revision": entry.revision}}},
    )


def retry(release: AdapterRelease, now: datetime, anyway: bool) -> Edit:
    """Another try of the same spec."""
    lives(release)
    if not anyway and not standing(release, now).final and not _has_failed(release):
        raise refused(
            f"nothing of {release.metadata.name} has failed with this spec: a retry would import, build and validate "
            "all of it anew; --anyway does so, as after an artifact was deleted from the store",
            "NothingToRetry",
        )
    value = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Edit(
        "what failed for this spec is tried once more; what serves goes on serving",
        {"metadata": {"annotations": {RETRY_ANNOTATION: value}}},
    )


def _has_failed(release: AdapterRelease) -> bool:
    degraded = release.status.condition(ConditionType.DEGRADED)
    if degraded is not None and degraded.status == "True":
        return True
    return any(r.inputs == spec_inputs(release) for r in release.status.rollout.rejected)


def goes_by_stage(release: AdapterRelease, backend: Backend) -> bool:
    """Stage Experimental means this very backend, and nobody sets the stage back."""
    stable = release.spec.stage is Stage.STABLE
    return stable and _is_current_adapter(release, backend) and not is_synced(release.metadata)


def _is_current_adapter(release: AdapterRelease, backend: Backend) -> bool:
    """It is what was imported for this spec, and vLLM can serve it."""
    adapter = release.status.adapter
    if adapter is None or adapter.merge_only or adapter.version != release.spec.adapters[0].version:
        return False
    return backend.kind is BackendKind.ADAPTER and backend.id == adapter.digest


def _not_imported(release: AdapterRelease) -> str | None:
    """Why the adapter of this very spec was rejected."""
    found = release.status.condition(ConditionType.ADAPTER_IMPORTED)
    is_news = found is not None and found.observed_generation == release.metadata.generation
    return f"{found.reason}: {found.message}" if found is not None and is_news and found.status == "False" else None


def _rejected_artifact(release: AdapterRelease) -> Rejected | None:
    artifact, adapter = release.status.artifact, release.status.adapter
    if artifact is None or adapter is None or artifact.adapter_digest != adapter.digest:
        return None
    return _rejection_of(release, Backend(kind=BackendKind.ARTIFACT, id=artifact.id))


def _rejection_of(release: AdapterRelease, backend: Backend) -> Rejected | None:
    """The way back to an adapter is never closed while an artifact serves."""
    serving = release.status.serving
    if backend.kind is BackendKind.ADAPTER and (serving is None or serving.backend.kind is BackendKind.ARTIFACT):
        return None
    inputs = spec_inputs(release)
    return next((r for r in release.status.rollout.rejected if r.id == backend.id and r.inputs == inputs), None)


def lives(release: AdapterRelease) -> None:
    if release.metadata.deletion_timestamp:
        raise refused(f"{release.metadata.name} is being deleted", "Deleting")


def serving_of(release: AdapterRelease) -> Serving:
    if release.status.serving is None:
        name = release.metadata.name
        raise refused(f"nothing of {name} serves yet: see {command('status', release)}", "NothingServes")
    return release.status.serving
