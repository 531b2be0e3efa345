"""How many replicas: of a candidate before the switch, and of a base that nobody needs for now. Pure.

A candidate may be judged with few replicas, and gets all of them before it gets traffic. A base behind releases that
have all settled may be scaled to zero; the release that did it remembers how many there were, and brings them back
as soon as anybody needs the base again. A number that a person sets meanwhile is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from controller.api.status import AdapterReleaseStatus, BackendKind, ScaledBase, Step
from controller.api.v1alpha1 import AdapterRelease, Rollout, Stage
from controller.domain.actions import ScaleBase, ScaleMerged
from controller.domain.draft import Draft
from controller.domain.snapshot import Snapshot
from controller.domain.traffic import UNAVAILABLE_GRACE

_PASS = "Pass"  # noqa: S105 - a verdict


# -- candidates


def replicas_of_base(seen: Snapshot) -> int:
    """What the base has when it is up: who scaled it to zero remembers that."""
    if seen.base is None:
        return 1
    memories = [r.status.base for r in (seen.release, *seen.base_users)]
    return seen.base.replicas or max((m.replicas for m in memories if m is not None), default=0)


def full_replicas(rollout: Rollout, base_replicas: int) -> int:
    """Of a merged Deployment that has traffic, or is about to."""
    return rollout.replicas or max(1, base_replicas)


def first_replicas(release: AdapterRelease, base_replicas: int, artifact_id: str) -> int:
    """Of a merged Deployment that is being made: the preview's where there is no verdict yet."""
    rollout, full = release.spec.rollout, full_replicas(release.spec.rollout, base_replicas)
    preview = rollout.preview_replicas
    return full if preview is None or not _awaits_verdict(release.status, artifact_id) else min(preview, full)


def replicas_wanted(release: AdapterRelease, base_replicas: int, artifact_id: str, replicas: int) -> int | None:
    """To what a merged Deployment of so many replicas is scaled before the route points at it; None: it is left.

    Once only: what has served, or was made larger by anybody, belongs to people and autoscalers.
    """
    rollout = release.spec.rollout
    full = full_replicas(rollout, base_replicas)
    if rollout.preview_replicas is None or _has_served(release.status, artifact_id):
        return None
    return full if replicas <= rollout.preview_replicas and replicas < full else None


def has_all_replicas(d: Draft, artifact_id: str) -> bool:
    """Of a candidate that has its verdict; else they are asked for."""
    merged = d.seen.merged_for(artifact_id)
    if merged is None:
        return False
    wanted = replicas_wanted(d.seen.release, replicas_of_base(d.seen), artifact_id, merged.replicas)
    if wanted is not None:
        why = f"{wanted} replicas instead of {merged.replicas} before the route points at {merged.name}"
        d.do(ScaleMerged(why, merged.name, merged.uid, wanted))
    return wanted is None


def _awaits_verdict(status: AdapterReleaseStatus, artifact_id: str) -> bool:
    artifact = status.artifact
    waits = artifact is not None and artifact.id == artifact_id and artifact.verdict != _PASS
    return waits and not _has_served(status, artifact_id)


def _has_served(status: AdapterReleaseStatus, artifact_id: str) -> bool:
    known = [h.backend.id for h in status.history]
    return artifact_id in known or (status.serving is not None and status.serving.backend.id == artifact_id)


# -- the base


class BaseState(StrEnum):
    """What a release has done to its base. Without a state: nothing."""

    SCALING_DOWN = "ScalingDown"
    SCALED_DOWN = "ScaledDown"
    SCALING_UP = "ScalingUp"
    OVERRULED = "Overruled"  # somebody has scaled it up again


@dataclass(frozen=True)
class BaseScale:
    """The memory of a base that was scaled down. `replicas`: what it had; `revision`: what served then, or when
    somebody scaled it up again."""

    state: BaseState
    replicas: int
    revision: int


@dataclass(frozen=True)
class BaseUse:
    """`replicas`: of its Deployment's spec. `needed`: why it has to be up; empty: it need not. `revision`: of what
    the release serves."""

    replicas: int
    needed: str
    revision: int


def next_base_scale(memory: BaseScale | None, use: BaseUse) -> BaseScale | None:
    """What to remember next. It is written down before anything is done; see `base_replicas_wanted`."""
    up = use.replicas > 0
    if memory is None:
        return None if use.needed or not up else BaseScale(BaseState.SCALING_DOWN, use.replicas, use.revision)
    match memory.state:
        case BaseState.SCALING_DOWN if not up:
            return _in(memory, BaseState.SCALED_DOWN)
        case BaseState.SCALING_DOWN if use.needed:  # a request to scale it down may still be on its way
            return _in(memory, BaseState.SCALING_UP)
        case BaseState.SCALING_DOWN if use.replicas != memory.replicas:  # an autoscaler's: remember that one
            return None
        case BaseState.SCALED_DOWN if up and use.needed:  # who needs it has brought it back
            return None
        case BaseState.SCALED_DOWN if up:
            return BaseScale(BaseState.OVERRULED, memory.replicas, use.revision)
        case BaseState.SCALED_DOWN if use.needed:
            return _in(memory, BaseState.SCALING_UP)
        case BaseState.SCALING_UP if up:
            return None
        case BaseState.SCALING_UP if not use.needed:
            return _in(memory, BaseState.SCALED_DOWN)
        case BaseState.OVERRULED if memory.revision != use.revision:
            return None
    return memory


def base_replicas_wanted(memory: BaseScale | None, use: BaseUse) -> int | None:
    """To what the base is scaled now; None: it is left. Only for a memory that is written down already."""
    if memory is None:
        return None
    if memory.state is BaseState.SCALING_DOWN and use.replicas == memory.replicas and not use.needed:
        return 0
    return memory.replicas if memory.state is BaseState.SCALING_UP and use.replicas == 0 else None


def scale_base(d: Draft, memory: BaseScale | None, use: BaseUse) -> BaseScale | None:
    """What to remember next. Where that is what is remembered already, it is carried out."""
    after = next_base_scale(memory, use)
    wanted = base_replicas_wanted(memory, use) if after == memory else None
    if wanted is not None and d.seen.base is not None:
        why = f"bring the base back: {use.needed}" if wanted else "nobody needs the base"
        d.do(ScaleBase(why, d.seen.base.name, use.replicas, wanted))
    return after


def keep_base(d: Draft) -> None:
    """Take the base away where nobody needs it, and bring it back where somebody does."""
    memory, serving = _remembered(d.status.base), d.status.serving
    if d.seen.base is None or (memory is None and d.seen.release.spec.rollout.settle.scale_base_to is None):
        return
    if serving is not None and serving.settle_at is not None:
        d.wake_at(serving.settle_at)
    generation = d.seen.release.metadata.generation  # this plan looks at it
    status = d.status.model_copy(update={"observed_generation": generation})
    users = [d.seen.release.model_copy(update={"status": status}), *d.seen.base_users]
    needed = who_needs_base(users, d.seen.base_services, d.now)
    if d.seen.base.replicas and (memory is None or memory.state is BaseState.SCALING_DOWN):
        needed = needed or overruled_at(d.seen.base_users)
    use = BaseUse(d.seen.base.replicas, needed, serving.revision if serving is not None else 0)
    after = scale_base(d, memory, use)
    if after != memory:
        d.update(base=_written(after))


def give_base_back(d: Draft) -> bool:
    """The release is being deleted: is there anything that it took from its base?"""
    replicas = d.seen.base.replicas if d.seen.base is not None else 1
    wanted = base_replicas_at_the_end(_remembered(d.status.base), replicas)
    if wanted is not None and d.seen.base is not None:
        d.do(ScaleBase("the release is deleted: its base gets back what it had", d.seen.base.name, 0, wanted))
    return wanted is not None


def _remembered(status: ScaledBase | None) -> BaseScale | None:
    return None if status is None else BaseScale(BaseState(status.state), status.replicas, status.revision)


def _written(memory: BaseScale | None) -> ScaledBase | None:
    return None if memory is None else ScaledBase(**vars(memory))


def base_replicas_at_the_end(memory: BaseScale | None, replicas: int) -> int | None:
    """To what the base is scaled when the release is deleted: what it had, if this release took it away."""
    taken = memory is not None and memory.state is not BaseState.OVERRULED and replicas == 0
    return memory.replicas if memory is not None and taken else None


def who_needs_base(releases: Iterable[AdapterRelease], services: Iterable[str], now: datetime) -> str:
    """The first reason to keep the base up; empty: there is none. `releases`: all that name it; `services`: those
    that select its pods (`selecting`)."""
    reasons = [f"release {r.metadata.name}: {why}" for r in releases if (why := needs_base(r, now))]
    reasons += [f"Service {name} selects its pods" for name in sorted(services)]
    return next(iter(reasons), "")


def needs_base(release: AdapterRelease, now: datetime) -> str:
    """Why this release needs its base; empty: it does not, and says that it may be scaled to zero."""
    spec, status = release.spec, release.status
    serving = status.serving
    if release.metadata.deletion_timestamp:
        return "" if serving is not None and serving.backend.kind is BackendKind.ARTIFACT else "it is being deleted"
    if spec.rollout.settle.scale_base_to is None:
        return "rollout.settle.scaleBaseTo is not set"
    if spec.stage is not Stage.STABLE or spec.rollback is not None:
        return f"stage {spec.stage}" if spec.rollback is None else "spec.rollback is set"
    if status.observed_generation != release.metadata.generation:
        return "its spec has changed"
    if serving is None or serving.backend.kind is BackendKind.ADAPTER:
        return "its adapter serves, or nothing yet"
    if status.rollout.step is not Step.IDLE:
        return f"step {status.rollout.step}"
    if serving.settle_at is None or now < serving.settle_at:
        return "its rollbackWindow is not over"
    if serving.unavailable_since is not None and now >= serving.unavailable_since + UNAVAILABLE_GRACE:
        return "its merged model does not answer"
    if any(x.backend.kind is BackendKind.ADAPTER for x in status.rollout.draining):  # it may still have requests
        return "its adapter is being drained"
    return ""


def overruled_at(others: Iterable[AdapterRelease]) -> str:
    """Why a base that is up stays so, though nobody needs it: another release has had it at zero, and somebody has
    scaled it up again."""
    taken = (BaseState.SCALED_DOWN, BaseState.OVERRULED)
    known = [r.metadata.name for r in others if r.status.base is not None and r.status.base.state in taken]
    return f"release {known[0]} had it at zero, and somebody has scaled it up again" if known else ""


def selecting(services: Iterable[tuple[str, Mapping[str, str]]], pods: Iterable[Mapping[str, str]]) -> list[str]:
    """Names of the Services, given with their selectors, that select a pod with one of these sets of labels. `pods`:
    the labels of the pod template, and those of the pods there are."""
    known = list(pods)
    return [
        name for name, selector in services if selector and any(selector.items() <= labels.items() for labels in known)
    ]


def _in(memory: BaseScale, state: BaseState) -> BaseScale:
    return BaseScale(state, memory.replicas, memory.revision)
