"""What pause, resume and abort change in a release: merge patches, as a person would write them.

The API has no field that says "paused". What there is: spec.rollback, which holds a revision whatever else the spec
says, the pauses of a canary's steps, and its approval. Pure. Must not know: how a patch is sent (steer.py).
"""

from __future__ import annotations

from typing import Any

from controller.api.status import Step
from controller.api.v1alpha1 import AdapterRelease, CanaryStep, Stage
from controller.cli.edits import Edit, entry_of, go_on, goes_by_stage, lives, pin, refused, rollback, serving_of
from controller.cli.standing import command

Json = dict[str, Any]

_ENDS = {
    Step.IMPORTING: "nothing becomes of the import",
    Step.LOADING: "the load ends",
    Step.BUILDING: "the build's job is deleted; a later one goes on after its last finished stage",
    Step.STARTING: "the candidate is deleted",
    Step.VALIDATING: "the validation's job and the candidate are deleted",
    Step.SHIFTING: "the canary ends, and its weight goes back to 0",
    Step.SWITCHING: "the switch is undone",
    Step.OBSERVING: "the switch is undone",
}


def pause(release: AdapterRelease) -> Edit:
    """Hold: a canary at its weight, anything else where it is."""
    lives(release)
    serving_of(release)
    if release.status.rollout.step is Step.SHIFTING and release.spec.rollback is None:
        return _hold_canary(release)
    serving = release.status.serving
    assert serving is not None  # noqa: S101 - serving_of
    return pin(release, entry_of(release, serving.revision))


def _hold_canary(release: AdapterRelease) -> Edit:
    step, rollout, canary = _canary_step(release), release.status.rollout, release.spec.rollout.canary
    if step is None or canary is None:
        raise refused("its step is not in the spec any more: it cannot be held there; abort it instead", "NotPausable")
    if _is_held(release):
        return Edit(f"nothing to do: the canary waits for a person at {step.weight} % already")
    steps = [s.to_wire() for s in canary.steps]
    for wire in steps:
        if wire["weight"] == step.weight:
            wire.pop("pause", None)
    change: Json = {"steps": steps}
    if canary.approved is not None and canary.approved.weight >= step.weight:
        change["approved"] = None
    until = f" until {rollout.deadline:%Y-%m-%d %H:%M:%S} UTC, and goes back then" if rollout.deadline else ""
    return Edit(
        f"the canary stays at {step.weight} %{until}, unless: {command('resume', release)}. Its step has no pause "
        "any more, in later canaries too: give it one again when you like",
        {"spec": {"rollout": {"canary": change}}},
    )


def _canary_step(release: AdapterRelease) -> CanaryStep | None:
    """The step of the canary under way, as the spec has it now."""
    canary, memory = release.spec.rollout.canary, release.status.rollout.canary
    if canary is None or memory is None or release.status.rollout.step is not Step.SHIFTING:
        return None
    return next((s for s in canary.steps if s.weight == memory.weight), None)


def _is_held(release: AdapterRelease) -> bool:
    """By the spec: status.rollout.paused follows when the controller has looked."""
    step, memory, canary = _canary_step(release), release.status.rollout.canary, release.spec.rollout.canary
    if step is None or memory is None or canary is None or step.pause is not None:
        return False
    approved = canary.approved
    return approved is None or approved.artifact != memory.artifact or approved.weight < step.weight


def resume(release: AdapterRelease) -> Edit:
    """On again towards what the spec asks for."""
    lives(release)
    if release.spec.rollback is not None:
        towards = "Stable: its artifact" if release.spec.stage is Stage.STABLE else "Experimental: its adapter"
        return Edit(
            f"spec.rollback is removed: the release goes on towards stage {towards}", {"spec": {"rollback": None}}
        )
    if _is_held(release):
        return go_on(release, full=False)
    return Edit("nothing to do: it is neither held by spec.rollback, nor does a canary wait for a person")


def abort(release: AdapterRelease) -> Edit:
    """Stop what is under way, and stay with, or go back to, what served before it."""
    lives(release)
    rollout, serving = release.status.rollout, release.status.serving
    if rollout.step is Step.IDLE:
        raise refused(f"nothing of {release.metadata.name} is under way", "NothingToAbort")
    if rollout.step is Step.ROLLING_BACK:
        raise refused("it is going back already: wait for that", "NothingToAbort")
    if serving is None:
        return _abort_first(release)
    if rollout.step is Step.OBSERVING:
        return _prefixed(_ENDS[rollout.step], rollback(release, None))
    if goes_by_stage(release, serving.backend):
        will = f"{_ENDS[rollout.step]}; stage Experimental: the adapter serves on; forward again: "
        patch: Json = {"spec": {"stage": Stage.EXPERIMENTAL.value, "rollback": None}}
        return Edit(will + command("promote", release), patch)
    return _prefixed(_ENDS[rollout.step], pin(release, entry_of(release, serving.revision)))


def _abort_first(release: AdapterRelease) -> Edit:
    adapter = release.status.adapter
    if release.spec.stage is Stage.STABLE and adapter is not None and adapter.merge_only:
        will = "stage Experimental: its build ends; nothing serves, since vLLM cannot serve this adapter dynamically"
        return Edit(will, {"spec": {"stage": Stage.EXPERIMENTAL.value}})
    name, namespace = release.metadata.name, release.metadata.namespace
    raise refused(
        f"nothing of {name} serves yet, so there is nothing to stay with: change the spec, or "
        f"kubectl -n {namespace} delete ar {name}",
        "NothingToAbort",
    )


def _prefixed(says: str, edit: Edit) -> Edit:
    return Edit(f"{says}; {edit.will}", edit.patch) if edit.patch else edit
