"""How events begin: one sentence for each change of a condition that is told. docs/reasons.md lists them.

What follows after a colon is the condition's own message. Must not know: when a condition changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from controller.api.status import ConditionType, Step

# Condition and status -> how its event begins. A change that is not here is not told.
OPENINGS: Mapping[tuple[str, str], str] = {
    (ConditionType.ADAPTER_IMPORTED, "True"): "The adapter is imported",
    (ConditionType.ADAPTER_IMPORTED, "False"): "The adapter was not imported",
    (ConditionType.ADAPTER_LOADED, "True"): "The adapter answers",
    (ConditionType.ADAPTER_LOADED, "False"): "The adapter is not loaded",
    (ConditionType.ARTIFACT_BUILT, "True"): "The artifact is built",
    (ConditionType.ARTIFACT_BUILT, "False"): "The artifact was not built",
    (ConditionType.VALIDATED, "True"): "The artifact passed its validation",
    (ConditionType.VALIDATED, "False"): "The artifact did not pass its validation",
    (ConditionType.PROMOTED, "True"): "The release is promoted",
    (ConditionType.PROMOTED, "False"): "The release is not promoted",
    (ConditionType.GAP_FREE, "False"): "An update of the adapter would not be free of gaps",
    (ConditionType.DEGRADED, "True"): "The release is degraded",
    (ConditionType.READY, "True"): "The release is ready",
}
# Progressing names the step; its event has the step's deadline.
BEGINNINGS: Mapping[str, str] = {
    Step.IMPORTING: "The adapter is being imported",
    Step.LOADING: "The adapter is being loaded on the base's pods",
    Step.BUILDING: "The artifact is being built",
    Step.STARTING: "The merged model is starting",
    Step.VALIDATING: "The artifact is being validated",
    Step.SHIFTING: "A part of the traffic moves to the candidate",
    Step.SWITCHING: "The route moves to its new backend",
    Step.OBSERVING: "The artifact has the traffic and is being watched",
    Step.ROLLING_BACK: "The route goes back",
}
REFUSED = "An action was refused"
AWAITING_APPROVAL = "The canary waits"

_INTRO = (
    "An event tells of a condition that changed, or of a step that has begun; its reason is the condition's. Warnings "
    "are what failed. The same event counts up. Within 10 minutes messages that only differ in numbers are one event, "
    "which has the newest, and after 10 different ones of one reason the next are combined into one."
)


def events_reference() -> list[str]:
    """Lines of docs/reasons.md."""
    rows = [
        *((f"`{condition}` becomes {status}", text) for (condition, status), text in OPENINGS.items()),
        *((f"the step `{step}` begins", text) for step, text in BEGINNINGS.items()),
        ("`ActionRefused`, again every 10 minutes", REFUSED),
        ("a step of a canary waits for `canary.approved`, again every 10 minutes", AWAITING_APPROVAL),
    ]
    table = ["| when | it begins with |", "|---|---|", *(f"| {when} | {text} |" for when, text in rows)]
    return ["", "## Events", "", _INTRO, "", *table]
