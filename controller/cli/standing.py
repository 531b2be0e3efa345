"""Where a release stands, in one word, and whether somebody has to do something. Pure: release -> Standing.

The same rules are written for Argo CD (docs/health/argocd.lua), and kstatus finds them in conditions; a test compares.
Must not know: how a release is read or shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from controller.api.explanations import REASONS
from controller.api.job_failures import JOB_FAILURES
from controller.api.reasons import Reason
from controller.api.status import BackendKind, Condition, ConditionType, Step
from controller.api.v1alpha1 import RETRY_ANNOTATION, AdapterRelease, Stage
from controller.cli.words import flat, moment
from controller.domain.conditions import RETRY_HINT
from controller.domain.stalled import WAITS

COMMAND = "kubectl adapterrelease"


class Health(StrEnum):
    """Argo CD's words."""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    SUSPENDED = "Suspended"
    DEGRADED = "Degraded"


@dataclass(frozen=True)
class Standing:
    health: Health
    word: str  # for a column of a table
    message: str
    todo: str = ""  # what a person has to do; empty: nothing
    commands: tuple[str, ...] = ()  # that do it
    final: bool = False  # nothing more happens by itself


def standing(release: AdapterRelease, now: datetime) -> Standing:
    ready = release.status.condition(ConditionType.READY)
    if release.metadata.deletion_timestamp:
        return Standing(Health.PROGRESSING, "Deleting", "the release is being deleted")
    if ready is None or release.status.observed_generation != release.metadata.generation:
        return _not_seen(release, now)
    if release.status.observed_retry not in (None, release.metadata.annotations.get(RETRY_ANNOTATION, "")):
        return Standing(Health.PROGRESSING, "Retrying", "the controller has not begun the new try yet")
    if ready.status == "True":
        return _ready(release, ready)
    if waits_for_person(release):
        return _waits_for_person(release)
    return _not_ready(release, ready)


def _not_seen(release: AdapterRelease, now: datetime) -> Standing:
    message = f"the controller has not looked at generation {release.metadata.generation} yet"
    created = moment(release.metadata.creation_timestamp)
    old = not release.status.conditions and created is not None and now - created > timedelta(minutes=1)
    todo = "Is the controller up, and does it lead? Troubleshooting: docs/operating.md#troubleshooting." if old else ""
    return Standing(Health.PROGRESSING, "NotSeen", message, todo)


def waits_for_person(release: AdapterRelease) -> bool:
    """The canary has its weight, the step goes on when somebody says so, and nothing is wrong."""
    ready = release.status.condition(ConditionType.READY)
    return release.status.rollout.paused and ready is not None and ready.reason == Reason.PENDING


def _waits_for_person(release: AdapterRelease) -> Standing:
    rollout = release.status.rollout
    weight = rollout.canary.weight if rollout.canary else 0
    until = f" by {rollout.deadline:%Y-%m-%d %H:%M:%S} UTC, else it goes back" if rollout.deadline else ""
    more = "; a check has to pass, too" if "check" in rollout.progress else ""
    message = f"the canary has {weight} % of the traffic and waits for a person{more}"
    commands = (command("promote", release), command("abort", release))
    return Standing(Health.SUSPENDED, "WaitsForPerson", message, f"Go on or stop it{until}:", commands)


def command(verb: str, release: AdapterRelease) -> str:
    """As it can be copied, whatever the context's namespace is."""
    return f"{COMMAND} {verb} {release.metadata.name} -n {release.metadata.namespace}"


def _ready(release: AdapterRelease, ready: Condition) -> Standing:
    spec, degraded = release.spec, release.status.condition(ConditionType.DEGRADED)
    promoted = release.status.condition(ConditionType.PROMOTED)
    if spec.stage is Stage.STABLE and spec.rollback is None and promoted is not None and promoted.status != "True":
        return Standing(Health.PROGRESSING, promoted.reason, promoted.message)
    word = "Promoted" if spec.stage is Stage.STABLE else "Serving"
    if spec.rollback is not None:
        word = "Pinned"
    if degraded is not None and degraded.status == "True":
        todo, commands = remedy(degraded.reason, release)
        return Standing(Health.HEALTHY, word, f"{ready.message}; {degraded.message}", todo, commands)
    return Standing(Health.HEALTHY, word, ready.message)


def _not_ready(release: AdapterRelease, ready: Condition) -> Standing:
    step, stalled = release.status.rollout.step, release.status.condition(ConditionType.STALLED)
    todo, commands = remedy(ready.reason, release)
    message = ready.message.replace(RETRY_HINT, "").strip()
    if ready.reason in WAITS or ready.reason == Reason.ROLLING_BACK:
        word = str(step) if ready.reason == Reason.PENDING and step is not Step.IDLE else ready.reason
        return Standing(Health.PROGRESSING, word, _doing(release, ready), todo, commands)
    final = stalled is not None and stalled.status == "True"
    return Standing(Health.DEGRADED, ready.reason, message, todo, commands, final)


def _doing(release: AdapterRelease, ready: Condition) -> str:
    """What the step is at: the condition that is about it, or what is missing."""
    kind = _ABOUT.get(release.status.rollout.step)
    about = release.status.condition(kind) if kind is not None and ready.reason == Reason.PENDING else None
    return about.message if about is not None and about.message else ready.message


_ABOUT = {
    Step.IMPORTING: ConditionType.ADAPTER_IMPORTED,
    Step.LOADING: ConditionType.ADAPTER_LOADED,
    Step.BUILDING: ConditionType.ARTIFACT_BUILT,
    Step.STARTING: ConditionType.VALIDATED,
    Step.VALIDATING: ConditionType.VALIDATED,
    Step.SHIFTING: ConditionType.PROGRESSING,
    Step.OBSERVING: ConditionType.PROMOTED,
}


def remedy(reason: str, release: AdapterRelease) -> tuple[str, tuple[str, ...]]:
    """What to do, in the words of docs/reasons.md, and the command that does it; empty where there is nothing."""
    text = flat(_remedies().get(reason, ""))
    if text in ("", "Wait.", "Nothing."):
        return "", ()
    name = release.metadata.name
    text = text.replace("get ar NAME", f"get ar {name}").replace("release=NAME", f"release={name}")
    text = text.replace("enable BASE", f"enable {release.spec.base_ref.name}")
    commands = (command("retry", release),) if RETRY_ANNOTATION in text else ()
    return text.replace(f"set the annotation {RETRY_ANNOTATION}", "retry"), commands


def _remedies() -> dict[str, str]:
    known = {str(reason): texts[1] for section in REASONS.values() for reason, texts in section.items()}
    return {reason: texts[1] for reason, texts in JOB_FAILURES.items()} | known


class Outcome(StrEnum):
    """What a script that waits wants to know."""

    DONE = "Done"
    FAILED = "Failed"
    WAITING = "Waiting"


def outcome(release: AdapterRelease, now: datetime) -> tuple[Outcome, Standing]:
    """Done: what this generation's spec asks for is there. Failed: it will not be, until somebody does something."""
    found = standing(release, now)
    if found.health is Health.HEALTHY:
        return Outcome.DONE, found
    return (Outcome.FAILED if found.final else Outcome.WAITING), found


def serves_what(release: AdapterRelease) -> str:
    """`Adapter v1`, `Artifact v1`, or `-`."""
    serving = release.status.serving
    if serving is None:
        return "-"
    entry = next((h for h in release.status.history if h.revision == serving.revision), None)
    version = entry.version if entry is not None else ""
    kind = "Artifact" if serving.backend.kind is BackendKind.ARTIFACT else "Adapter"
    return f"{kind} {version}".strip()
