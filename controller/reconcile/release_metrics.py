"""The metrics of releases: name, meaning and labels of each. docs/metrics.md is generated from here.

`namespace` and `name` are the release's. No label holds a message, an id or a digest, but `artifact`: 12 characters
of the id of the one that is there now. Must not know: where the numbers come from.
"""

from __future__ import annotations

from dataclasses import dataclass

_RELEASE = ("namespace", "name")


@dataclass(frozen=True)
class Family:
    """`kind` is gauge or counter."""

    name: str
    text: str
    labels: tuple[str, ...]
    kind: str = "gauge"


Sample = tuple[Family, tuple[str, ...], float]
"""Values of the family's labels in their order, and the number."""

INFO = Family(
    "adapterrelease_info",
    "1 for each release: its base, its stage (Experimental or Stable) and the model name that clients send",
    (*_RELEASE, "base", "stage", "model"),
)
CONDITION = Family(
    "adapterrelease_status_condition",
    "1 for each condition of the release, with its present status and reason",
    (*_RELEASE, "condition", "status", "reason"),
)
SERVING = Family(
    "adapterrelease_serving_info",
    "1 for what the route was last proven to reach: backend Adapter or Artifact, the adapter's version, the artifact",
    (*_RELEASE, "backend", "version", "artifact"),
)
STEP = Family(
    "adapterrelease_rollout_step",
    "1 for the step that the release is in; Idle: nothing is under way",
    (*_RELEASE, "step"),
)
STEP_STARTED = Family(
    "adapterrelease_rollout_step_started_timestamp_seconds",
    "When the step under way began, in Unix time",
    (*_RELEASE, "step"),
)
DEADLINE = Family(
    "adapterrelease_rollout_deadline_timestamp_seconds",
    "When the step under way ends with its default outcome, in Unix time",
    _RELEASE,
)
WAITING = Family(
    "adapterrelease_waiting_for_people",
    "1 while the release waits for a person: Approval of a canary's step, a Decision after a rejection (another spec, "
    "or the retry annotation), Mending of what a condition or an event names",
    (*_RELEASE, "what"),
)
WAITED = Family(
    "adapterrelease_waited_for_people_seconds_total",
    "Seconds that the release has waited for people since this process leads",
    _RELEASE,
    "counter",
)
STAGE_DONE = Family(
    "adapterrelease_build_stage_done",
    "Units (bytes or layers) that the stage of the running build has done",
    (*_RELEASE, "stage"),
)
STAGE_EXPECTED = Family(
    "adapterrelease_build_stage_expected",
    "Units that the stage of the running build has to do; absent while that is not known",
    (*_RELEASE, "stage"),
)
STAGE_BYTES = Family(
    "adapterrelease_build_stage_bytes",
    "Bytes that the stage of the running build has read or written",
    (*_RELEASE, "stage"),
)
STAGE_DURATION = Family(
    "adapterrelease_build_stage_duration_seconds",
    "How long each stage took in the build of the artifact that was built last",
    (*_RELEASE, "stage"),
)
SIZE = Family(
    "adapterrelease_artifact_size_bytes",
    "Size of the artifact that was built last",
    (*_RELEASE, "artifact"),
)
SPEEDUP = Family(
    "adapterrelease_artifact_speedup_ratio",
    "Output tokens per second of that artifact over those of its adapter, under the same load",
    (*_RELEASE, "artifact"),
)
SCORE = Family(
    "adapterrelease_suite_score_ratio",
    "Score in a suite of the validation, of the adapter and of the artifact, from 0 to 1",
    (*_RELEASE, "suite", "of"),
)
SWITCHES = Family(
    "adapterrelease_switches_total",
    "Switches of the route that were proven since this process leads: to Adapter or Artifact, and the reason",
    (*_RELEASE, "to", "cause"),
    "counter",
)
LOADED = Family(
    "adapterrelease_adapter_loaded",
    "1 for each ready pod of the base that holds the adapter and may get its requests, 0 for one that should and does "
    "not",
    (*_RELEASE, "pod"),
)
SYNCED = Family(
    "adapterrelease_last_successful_sync_timestamp_seconds",
    "When the release was last reconciled without an error, in Unix time",
    _RELEASE,
)
SLOTS = Family(
    "adapterrelease_base_slots",
    "Places for adapters (--max-cpu-loras) in the base's servers that answer, by state: used, or total",
    ("namespace", "base", "state"),
)
BASE_INFO = Family(
    "adapterrelease_base_info",
    "1 for each base of a release: the claim that is its store, and whether its pods start with the engine plugin",
    ("namespace", "base", "persistentvolumeclaim", "plugin"),
)
TOKEN_CREATED = Family(
    "adapterrelease_engine_token_created_timestamp_seconds",
    "When the token of the namespace's engine plugins was last changed, in Unix time",
    ("namespace",),
)

FAMILIES = (
    *(INFO, CONDITION, SERVING, STEP, STEP_STARTED, DEADLINE, WAITING, WAITED),
    *(STAGE_DONE, STAGE_EXPECTED, STAGE_BYTES, STAGE_DURATION, SIZE, SPEEDUP, SCORE),
    *(SWITCHES, LOADED, SYNCED, SLOTS, BASE_INFO, TOKEN_CREATED),
)

STEP_DURATION = "adapterrelease_step_duration_seconds"
STEP_DURATION_TEXT = "How long the steps of all releases took that have ended since this process leads"
STEP_BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
