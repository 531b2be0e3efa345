"""What each condition and reason means and what to do: the text of docs/reasons.md.

Must not know: when a condition gets which reason; that is decided in the domain.
"""

from __future__ import annotations

from collections.abc import Mapping

from controller.api.job_failures import JOB_FAILURES
from controller.api.reasons import Reason
from controller.api.sentences import events_reference
from controller.api.status import ConditionType

CONDITIONS: Mapping[ConditionType, str] = {
    ConditionType.READY: "The summary: what the spec asks for is what answers.",
    ConditionType.ADAPTER_IMPORTED: "The adapter of the spec was fetched, checked and copied into the store.",
    ConditionType.ADAPTER_LOADED: "The adapter answers on ready pods of the base.",
    ConditionType.ARTIFACT_BUILT: "The artifact for this spec is in the store.",
    ConditionType.VALIDATED: "The artifact was compared with the live adapter, or scored alone, and passed.",
    ConditionType.PROMOTED: "The artifact for this spec has the traffic, was watched, and stays.",
    ConditionType.GAP_FREE: "Updates and switches cost no client a request; where not, the message says why.",
    ConditionType.PROGRESSING: "A step is under way; the message says until when. False is the usual end.",
    ConditionType.DEGRADED: "Something failed. What served before still serves.",
    ConditionType.STALLED: "Nothing goes on by itself: the spec, the base, or whatever the message names has to be "
    "changed first. By this kstatus, Flux and scripts that wait know that it is no use to wait.",
}

_RETRY = "Repair what the message says, then change the spec or set the annotation adapterrelease.dev/retry."

# Section -> reason -> (meaning, what to do).
REASONS: Mapping[str, Mapping[Reason, tuple[str, str]]] = {
    "The release and its base": {
        Reason.SERVING: ("The backend that the spec asks for answers through the route.", ""),
        Reason.PENDING: ("An earlier step has to end first; the message names it.", "Wait."),
        Reason.IDLE: ("Nothing is under way.", ""),
        Reason.AS_EXPECTED: ("Nothing is wrong; of Stalled: or what is wrong is tried again.", ""),
        Reason.NO_READY_BACKEND: (
            "No pod of the backend that the route points at is ready.",
            "Look at its pods: `kubectl get pods -l adapterrelease.dev/release=NAME`, or the base's.",
        ),
        Reason.BASE_NOT_FOUND: (
            "The Deployment in baseRef does not exist in the release's namespace.",
            "Create it. baseRef cannot be changed: for another base make another release.",
        ),
        Reason.NO_VLLM_CONTAINER: (
            "No container of the base looks like vLLM, so its model and port are not known.",
            "Start it by `vllm serve MODEL`, or name its container in the annotation `adapterrelease.dev/container`.",
        ),
        Reason.LORA_NOT_ENABLED: (
            "The base runs without `--enable-lora`.",
            "Add `--enable-lora --max-loras N --max-lora-rank R` to its arguments.",
        ),
        Reason.RUNTIME_UPDATING_NOT_ALLOWED: (
            "vLLM refuses to load adapters while it runs.",
            "Set the base's environment variable `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True`.",
        ),
        Reason.STORE_NOT_MOUNTED: (
            "The base mounts no claim that could be the store.",
            "Mount the claim that jobs and the base share into the vLLM container.",
        ),
        Reason.SEVERAL_STORES: (
            "The base mounts several claims, and any could be the store.",
            "Name the volume in the Deployment's annotation `adapterrelease.dev/store-volume`.",
        ),
        Reason.API_KEY_NOT_READABLE: (
            "The base's API key is in a Secret that the controller may not read, or that lacks the key.",
            "Allow it this one Secret by a Role: [the security model](operating.md#security-model).",
        ),
        Reason.SERVICE_NAME_TAKEN: (
            "A Service of the release's name exists and belongs to somebody else. It is not touched.",
            "Rename the release, or remove the Service.",
        ),
        Reason.MODEL_NAME_TAKEN: (
            "Another release, or the base itself, already serves this model name on this base.",
            "Make the release anew with another modelName.",
        ),
        Reason.REVISION_NOT_FOUND: (
            "spec.rollback names a revision that is not in status.history.",
            "Choose one of `kubectl get ar NAME -o jsonpath='{.status.history[*].revision}'`.",
        ),
        Reason.ACTION_REFUSED: (
            "Only in events: an object could not be made or changed, or a server did not do what it was asked. "
            "The message says what was to be done, and the words of who refused it: a quota, an admission webhook, "
            "a missing right, a field of the spec or of the base that makes no object, a CRD that is older than the "
            "controller.",
            "Mend what the message says. The controller goes on trying, and does the rest meanwhile.",
        ),
        Reason.DELETING: ("The release is being deleted: its adapter is unloaded after its route is gone.", "Wait."),
    },
    "Import": {
        Reason.IMPORTING: ("The import job fetches and checks the adapter.", "Wait."),
        Reason.IMPORTED: ("The adapter is in the store, under its digest.", ""),
        Reason.IMPORT_FAILED: ("The import job failed without saying why.", "Read the job's log. " + _RETRY),
        Reason.IMPORT_DEADLINE_EXCEEDED: (
            "The import did not end in time.",
            "Look at the job's pod: is it scheduled, does the source answer? " + _RETRY,
        ),
    },
    "Load": {
        Reason.LOADING: ("The adapter is being loaded on the base's pods, one after the other.", "Wait."),
        Reason.LOADED: ("Every ready pod of the base has proven by an answer that it holds the adapter.", ""),
        Reason.NO_READY_BASE_POD: ("The base has no ready pod.", "Look at the base's pods."),
        Reason.NO_FREE_ADAPTER_SLOT: (
            "vLLM would accept the adapter and silently evict another, so it was not asked.",
            "Raise the base's `--max-cpu-loras`, or remove a release.",
        ),
        Reason.LOAD_FAILED: (
            "vLLM refused the adapter on every pod, or on too many for a switch; the message has its words.",
            "Repair the adapter and give it a new version and source; or read the log of the pod that is named.",
        ),
        Reason.LOAD_FAILED_ON_SOME_PODS: (
            "Some pods refused the adapter. They get no traffic of this release; the others serve.",
            "Delete the pod that the message names, or read its log.",
        ),
        Reason.LOAD_DEADLINE_EXCEEDED: (
            "The adapter was not loaded everywhere in time; the controller goes on trying.",
            "Read the logs of the base's pods.",
        ),
        Reason.UNLOADED: (
            "rollout.rollbackWindow is over: the merged model serves, the adapter is no longer loaded.",
            "Nothing. A rollback still works; it loads the adapter first.",
        ),
        Reason.NOT_SERVABLE_DYNAMICALLY: (
            "vLLM cannot serve this adapter dynamically: it has DoRA, biases, saved modules, embeddings or trained "
            "tokens, which only a merge takes in. The stage is Experimental, so what served before still serves.",
            "Set stage: Stable, and minScore in each suite: "
            "[straight to Stable](operating.md#straight-to-stable). Or train without them.",
        ),
        Reason.MERGED_ONLY: (
            "vLLM cannot serve this adapter dynamically, and the stage is Stable: it is merged, and never loaded.",
            "Nothing.",
        ),
    },
    "What an update costs": {
        Reason.ENGINE_PLUGIN: (
            "Every server of the base has the engine plugin: a version is loaded beside the old one, then one flip.",
            "Where the message names a version that was not loaded again after a restart: see the pod's log.",
        ),
        Reason.ENGINE_PLUGIN_DIFFERS: (
            "As EnginePlugin, but a pod started with another version of the plugin than this controller ships.",
            "`kubectl rollout restart` the base when it suits you.",
        ),
        Reason.ENGINE_PLUGIN_NOT_ASKED: (
            "A server of the base did not answer the controller; the message says why.",
            "Often Secret `adapterrelease-engine` was changed a moment ago: pods see that after up to a minute.",
        ),
        Reason.NO_ENGINE_PLUGIN: (
            "Updates take pods out of the route one after the other; with one replica there is a short gap. "
            "Keep-alive clients may stay on a pod that has left the route.",
            "`adapterrelease enable BASE`, or restart the pod that is named: [the engine plugin](engine-plugin.md).",
        ),
        Reason.ONE_ADAPTER_SLOT: (
            "The base's servers hold one adapter at a time, so that two versions cannot be there together.",
            "Set `--max-cpu-loras` of the base to 2 or more, one for each release and one for an update.",
        ),
    },
    "Build": {
        Reason.NOT_REQUESTED: ("spec.stage is Experimental: nothing is merged.", "Set it to Stable to promote."),
        Reason.BUILDING: ("The build job merges and quantizes; the message has its progress.", "Wait."),
        Reason.BUILT: ("The artifact is in the store. `reused`: the same inputs had been built before.", ""),
        Reason.BUILD_FAILED: ("The build job failed without saying why.", "Read the job's log. " + _RETRY),
        Reason.API_KEY_IN_PLAIN_TEXT: (
            "The base's API key stands in its pod template. Adapters are served, but a validation, which asks vLLM as "
            "well, gets a key from a Secret only; so nothing is built.",
            "Put the key into a Secret, refer to it by secretKeyRef in the base's `VLLM_API_KEY`, and allow the "
            "controller to read it: [the security model](operating.md#security-model). Then set the annotation "
            "adapterrelease.dev/retry.",
        ),
        Reason.NOTHING_TO_COMPARE_WITH: (
            "vLLM cannot serve this adapter, so there is no live adapter that its artifact could be compared with, and "
            "the validation asks for a comparison. Nothing is built, since nothing could be proven.",
            "Set minScore over 0 in each suite, and take benchmark.minSpeedup out.",
        ),
        Reason.BUILD_DEADLINE_EXCEEDED: (
            "The build did not end within build.deadline.",
            "Is its pod scheduled? Else raise build.deadline; what was finished is not done again.",
        ),
    },
    "Validation": {
        Reason.STARTING: ("The candidate Deployment starts; it has no traffic yet.", "Wait."),
        Reason.CANDIDATE_NOT_READY: (
            "The candidate was not available within rollout.progressDeadline, and is rejected.",
            "Read the log of its pods; the message has what Kubernetes says. " + _RETRY,
        ),
        Reason.VALIDATING: ("Adapter and artifact answer the suites and the benchmark.", "Wait."),
        Reason.PASSED: (
            "The artifact is as good as its adapter, by the suites of the spec; where vLLM cannot serve the adapter, "
            "it reaches every minScore.",
            "",
        ),
        Reason.VALIDATION_FAILED: (
            "The artifact was judged worse than allowed, and is rejected. The message has the scores.",
            "Use a larger scheme, better calibration data, or method: None; or allow a larger drop.",
        ),
        Reason.VALIDATION_INCONCLUSIVE: (
            "There is no verdict, and no verdict is no pass: an error, an empty suite, requests without answers.",
            _RETRY,
        ),
        Reason.VALIDATION_DEADLINE_EXCEEDED: (
            "There was no verdict within validation.deadline.",
            "Raise the deadline, or lower the size of suites and benchmark.",
        ),
    },
    "Traffic": {
        Reason.FIRST_LOAD: ("The adapter's first traffic.", ""),
        Reason.ADAPTER_UPDATED: ("A new version of the adapter has the traffic.", ""),
        Reason.SHIFTING: (
            "A canary: the artifact gets some of the traffic, by the weights of an HTTPRoute, and is watched.",
            "Wait; a step without a pause waits for a person, and the message says what to write.",
        ),
        Reason.NOT_APPROVED: (
            "A step of the canary waited for a person longer than canary.approvalDeadline; its weight went back to 0.",
            "Set canary.approved in time, or give the step a pause. " + _RETRY,
        ),
        Reason.SWITCHING: ("The route points at the new backend, which has to prove that it answers.", "Wait."),
        Reason.SWITCH_NOT_PROVEN: (
            "The new backend did not answer through the route in time; the route went back. "
            "At a first load there is nowhere to go back to: the controller goes on trying.",
            "Read the log of its pods; see whether the controller can reach the Service. " + _RETRY,
        ),
        Reason.OBSERVING: ("The artifact has the traffic and is watched for observe.duration.", "Wait."),
        Reason.PROMOTED: ("The artifact has the traffic, and behaved while it was watched.", ""),
        Reason.CHECKS_FAILED: (
            "More samples than observe.failureLimit failed; the route went back. The message has the numbers.",
            _RETRY,
        ),
        Reason.NO_DATA: (
            "The observation ended without data, and observe.onMissingData is RollBack.",
            "Send traffic, or set onMissingData: Keep. " + _RETRY,
        ),
        Reason.BACKEND_UNAVAILABLE: (
            "The artifact's pods were gone; the route went back.",
            "Read their log and events: `kubectl get events`. " + _RETRY,
        ),
        Reason.ROLLING_BACK: ("The route goes back to the last backend that was proven to answer.", "Wait."),
        Reason.ROLLED_BACK: ("The route went back by itself. The artifact is remembered and not tried again.", _RETRY),
        Reason.ROLLED_BACK_BY_USER: (
            "The spec asks for an earlier backend, and it serves.",
            "Set stage: Stable, or remove spec.rollback, to go forward again.",
        ),
        Reason.NO_BACKEND_TO_ROLL_BACK_TO: (
            "The new backend fails, and the old one does not answer either, or there is none: the first artifact of an "
            "adapter that vLLM cannot serve. The route stays where it is.",
            "Bring the base's pods up; the controller goes on by itself. Where there is none, give the adapter a new "
            "version.",
        ),
    },
}

_INTRO = """<!-- Generated from controller/api by `make generate`; edit the texts there, not this file. -->
# Conditions and reasons

`kubectl describe ar NAME` shows the conditions of a release and its events; both carry one of these reasons.
A message says what is the case, and what to do. Wait for one with `kubectl wait ar/NAME --for=condition=Ready`.
"""


def reasons_reference() -> str:
    """docs/reasons.md."""
    lines = [_INTRO, "## Conditions", "", "| condition | True means |", "|---|---|"]
    lines += [f"| `{condition}` | {meaning} |" for condition, meaning in CONDITIONS.items()]
    for section, reasons in REASONS.items():
        lines += _table(section, reasons)
    lines += _table("Why a job failed", JOB_FAILURES)
    lines += ["A transient failure is retried by itself, with a limit; any other is final until the spec changes."]
    lines += events_reference()
    return "\n".join(lines) + "\n"


def _table(title: str, reasons: Mapping[Reason, tuple[str, str]] | Mapping[str, tuple[str, str]]) -> list[str]:
    rows = [f"| `{reason}` | {meaning} | {remedy} |" for reason, (meaning, remedy) in reasons.items()]
    return ["", f"## {title}", "", "| reason | meaning | what to do |", "|---|---|---|", *rows, ""]
