"""The dashboard of one release: what merging brought, before and after in one picture, and where it stands."""

from __future__ import annotations

from dashboards.board import Board
from dashboards.panels import (
    BAD,
    GOOD,
    IDLE,
    QUARTER,
    THIRD,
    WARN,
    bars,
    lines,
    number,
    rows,
)
from dashboards.queries import RATE, RELEASE, SERVERS, TRAFFIC, Query, numbered, of_release, quantiles, rate, share

UID = "adapterrelease-release"
NAME = "{{backend}} {{version}}"
_REQUESTS = "adapterrelease_requests_total"
_SERVES = "adapterrelease_serving_info"
_SERVING = f"max by (backend, version, artifact) ({_SERVES}{{{RELEASE}}})"
_A_MINUTE_AGO = f"max by (backend, version, artifact) ({_SERVES}{{{RELEASE}}} offset 1m)"
# Another backend than a minute ago, and something served a minute ago: a controller that comes back is no swap.
SWAPS = f"{_SERVING} unless ({_A_MINUTE_AGO}) and on () count({_A_MINUTE_AGO})"

STEPS = ("Idle", "Importing", "Loading", "Building", "Starting", "Validating", "Shifting", "Switching", "Observing")
_STEP = {step: index for index, step in enumerate((*STEPS, "RollingBack"))}
_BACKENDS = {"Adapter": 20, "Artifact": 21}
_STATUS = {"True": 30, "False": 31, "Unknown": 32}
STATES = {
    **{index: (step, "blue") for step, index in _STEP.items()},
    _STEP["Idle"]: ("Idle", IDLE),
    _STEP["Observing"]: ("Observing", "purple"),
    _STEP["RollingBack"]: ("RollingBack", BAD),
    _BACKENDS["Adapter"]: ("adapter", "blue"),
    _BACKENDS["Artifact"]: ("artifact", GOOD),
    _STATUS["True"]: ("True", GOOD),
    _STATUS["False"]: ("False", WARN),
    _STATUS["Unknown"]: ("Unknown", IDLE),
}
_HOLDING = f"max by (namespace, pod) (adapterrelease_adapter_loaded{{{RELEASE}}}) == 1"
_MERGED = 'backend=~"artifact-.+"'
# price of an hour / tokens of an hour in millions
_COST_ARTIFACT = (
    f"$price * $gpus * count by (backend) (adapterrelease_requests_in_flight{{{TRAFFIC}, {_MERGED}}})"
    f" / (0.0036 * {rate('adapterrelease_generation_tokens_total', 'backend', _MERGED)} > 0)"
)
_COST_ADAPTER = (
    f"$price * $gpus * count({_HOLDING}) / (0.0036 * sum("
    f'rate(vllm:generation_tokens_total{{namespace="$namespace"}}[{RATE}]) * on (namespace, pod) group_left () '
    f"({_HOLDING})) > 0)"
)
# Of what serves: one of the two.
_COST_NOW = (
    f'sum(label_replace({_COST_ARTIFACT}, "artifact", "$1", "backend", "artifact-(.+)")'
    f" and on (artifact) {_SERVES}{{{RELEASE}}})"
    f' or {_COST_ADAPTER} and on () max({_SERVES}{{{RELEASE}, backend="Adapter"}})'
)


def board() -> Board:
    made = Board(UID, "Adapter release", "One release: traffic by backend, proof, and where it stands.", hours=6)
    made.choice("namespace", "Namespace", "label_values(adapterrelease_info, namespace)")
    made.choice("release", "Release", 'label_values(adapterrelease_info{namespace="$namespace"}, name)')
    made.field("price", "Price per GPU hour", "2.50", "In any currency; the costs are in the same.")
    made.field("gpus", "GPUs per pod", "1", "Of the base and of the merged model: both have the same.")
    made.annotate("What serves", SWAPS, "{{backend}} {{version}} serves", "backend,version,artifact", "purple")
    _now(made)
    _traffic(made)
    _proof(made)
    _way(made)
    _servers(made)
    return made


def _now(made: Board) -> None:
    ready = "adapterrelease_status_condition"
    is_ready = of_release(ready, "reason", 'condition="Ready", status="True"')
    is_not = of_release(ready, "reason", 'condition="Ready", status!="True"')
    made.row(
        "Now",
        number(
            "Serves",
            "What the route was last proven to reach, and the version of the adapter in it.",
            "none",
            Query(of_release("adapterrelease_serving_info", "backend, version"), NAME),
            name=True,
        ),
        number(
            "Ready",
            "Reason of the condition Ready. Green: what the spec asks for is what answers.",
            "none",
            Query(f"{is_ready} or 0 * {is_not}", "{{reason}}"),
            name=True,
            steps=((None, WARN), (1, GOOD)),
            runbooks=["AdapterReleaseNotServing"],
        ),
        number(
            "Step",
            "What is being done for the release.",
            "none",
            Query(of_release("adapterrelease_rollout_step", "step"), "{{step}}"),
            name=True,
        ),
        number(
            "Speedup, measured",
            "Output tokens a second of the artifact over the adapter's, under the same load, in the validation.",
            "suffix:x",
            Query(of_release("adapterrelease_artifact_speedup_ratio", "name"), "speedup"),
            decimals=2,
            steps=((None, WARN), (1, GOOD)),
        ),
        number(
            "A million tokens cost",
            "Of what serves: price per GPU hour, by GPUs, over the tokens that they generate. It falls with the load.",
            "none",
            Query(_COST_NOW, "cost"),
            decimals=2,
        ),
        number(
            "Waits for people",
            "What only a person can do before it goes on: approve, decide after a rejection, mend something outside.",
            "none",
            Query(of_release("adapterrelease_waiting_for_people", "what"), "{{what}}"),
            name=True,
            steps=((None, WARN),),
            runbooks=["AdapterReleaseWaitingForPeople"],
        ),
    )


def _traffic(made: Board) -> None:
    failed, all_of = rate(_REQUESTS, selector='code=~"5.."'), rate(_REQUESTS)
    made.row(
        "Before and after",
        lines(
            "Requests",
            "Answered requests by backend. A swap is marked: requests move from the adapter to the artifact.",
            "reqps",
            Query(all_of, NAME),
        ),
        lines(
            "Generated tokens",
            "Tokens a second of finished requests, by backend.",
            "suffix: tok/s",
            Query(rate("adapterrelease_generation_tokens_total"), NAME),
        ),
        lines(
            "Time to first token",
            "Streams only: from the request to the first event. Median and 95th percentile.",
            "s",
            *quantiles("adapterrelease_time_to_first_token_seconds", TRAFFIC, "backend, version", NAME, 0.5, 0.95),
        ),
        lines(
            "Time per token",
            "Streams only: from token to token, mean of each request. Median and 95th percentile.",
            "s",
            *quantiles("adapterrelease_time_per_output_token_seconds", TRAFFIC, "backend, version", NAME, 0.5, 0.95),
        ),
        lines(
            "Latency of requests",
            "To the end of the answer. Median, 95th and 99th percentile.",
            "s",
            *quantiles("adapterrelease_request_duration_seconds", TRAFFIC, "backend, version", NAME, 0.5, 0.95, 0.99),
        ),
        lines(
            "Cost of a million generated tokens",
            "Price per GPU hour, by GPUs and pods, over the tokens that these pods generate. Pods of the base are "
            "shared by all that they serve, and so is their cost. One that traffic has just left costs ever more.",
            "none",
            Query(_COST_ARTIFACT, "{{backend}}"),
            Query(_COST_ADAPTER, "adapter (pods of the base)"),
            powers=True,
        ),
        lines(
            "Errors",
            "Share of requests answered with 5xx.",
            "percentunit",
            Query(share(failed, all_of), NAME),
            width=THIRD,
            runbooks=["AdapterReleaseServingErrors"],
        ),
        lines(
            "Answers by code",
            "HTTP status of answers; 499: the client left.",
            "reqps",
            Query(f"{rate(_REQUESTS, 'code')} > 0", "{{code}}"),  # a stacked 0 would draw its line over the others
            width=THIRD,
            stacked=True,
        ),
        lines(
            "In flight",
            "Requests that are not answered yet, by backend.",
            "short",
            Query(f"sum by (backend, version) (adapterrelease_requests_in_flight{{{TRAFFIC}}})", NAME),
            width=THIRD,
            runbooks=["AdapterReleaseCandidateIdle"],
        ),
    )


def _proof(made: Board) -> None:
    made.row(
        "Proof",
        bars(
            "Scores by suite",
            "Share of right answers in the validation: the adapter's and the artifact's.",
            "percentunit",
            Query(of_release("adapterrelease_suite_score_ratio", "suite, of"), "{{suite}}: {{of}}"),
            maximum=1,
            decimals=1,
            runbooks=["AdapterReleaseValidationFailed"],
        ),
        bars(
            "Seconds by stage of the build",
            "Of the artifact that was built last.",
            "s",
            Query(of_release("adapterrelease_build_stage_duration_seconds", "stage"), "{{stage}}"),
            width=QUARTER,
        ),
        number(
            "Size of the artifact",
            "Of the files in the store.",
            "bytes",
            Query(of_release("adapterrelease_artifact_size_bytes", "name"), "size"),
            width=QUARTER,
            runbooks=["AdapterReleaseNextArtifactDoesNotFit"],
        ).height(8),
    )


def _way(made: Board) -> None:
    condition = f'max (adapterrelease_status_condition{{{RELEASE}, condition="%s", status="%%s"}})'
    done, total = (of_release(f"adapterrelease_build_stage_{part}", "stage") for part in ("done", "expected"))
    made.row(
        "The way",
        rows(
            "Steps",
            "What was done when, what served, and whether it was what the spec asks for.",
            STATES,
            Query(numbered(f'max (adapterrelease_rollout_step{{{RELEASE}, step="%s"}})', _STEP), "Step"),
            Query(numbered(f'max (adapterrelease_serving_info{{{RELEASE}, backend="%s"}})', _BACKENDS), "Serves"),
            Query(numbered(condition % "Ready", _STATUS), "Ready"),
            Query(numbered(condition % "Promoted", _STATUS), "Promoted"),
            width=24,
            runbooks=["AdapterReleaseRolledBack"],
        ),
        lines(
            "Progress of the build",
            "Share of the stage's units that are done, while a job runs.",
            "percentunit",
            Query(f"{done} / ({total} > 0)", "{{stage}}"),
            width=THIRD,
            maximum=1,
            runbooks=["AdapterReleaseBuildStuck", "AdapterReleaseBuildFailed"],
        ),
        rows(
            "Adapter by pod",
            "Whether each ready pod of the base holds the adapter, while it should.",
            {1: ("loaded", GOOD), 0: ("not loaded", WARN)},
            Query(of_release("adapterrelease_adapter_loaded", "pod"), "{{pod}}"),
            width=THIRD,
            runbooks=["AdapterReleaseAdapterMissing"],
        ),
        bars(
            "Switches of the route",
            "To which backend and why, in the time that is shown.",
            "short",
            Query(
                f"round(sum by (to, cause) (increase(adapterrelease_switches_total{{{RELEASE}}}[$__range]))) > 0",
                "to {{to}}: {{cause}}",
            ),
            width=THIRD,
            runbooks=["AdapterReleaseRolledBack"],
        ),
    )


def _servers(made: Board) -> None:
    of_namespace = '{namespace="$namespace"}'
    hits, asked = (
        f"sum by (pod) (rate(vllm:prefix_cache_{what}_total{of_namespace}[{RATE}]) * {SERVERS})"
        for what in ("hits", "queries")
    )
    made.row(
        "Servers",
        lines(
            "Key-value cache",
            "Share of vLLM's key-value cache in use, by pod. Near 100 % requests wait.",
            "percentunit",
            Query(f"max by (pod) (vllm:kv_cache_usage_perc{of_namespace} * {SERVERS})", "{{pod}}"),
            width=THIRD,
            maximum=1,
        ),
        lines(
            "Requests in vLLM",
            "Running in a batch, by pod, and waiting for one, on all of them.",
            "short",
            Query(f"sum by (pod) (vllm:num_requests_running{of_namespace} * {SERVERS})", "{{pod}}"),
            Query(f"sum(vllm:num_requests_waiting{of_namespace} * {SERVERS})", "waiting"),
            width=THIRD,
        ),
        lines(
            "Prefix cache",
            "Share of prompt tokens that vLLM found in its prefix cache.",
            "percentunit",
            Query(f"{hits} / ({asked} > 0)", "{{pod}}"),
            width=THIRD,
            maximum=1,
        ),
    )
