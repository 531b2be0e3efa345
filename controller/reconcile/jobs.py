"""What a job came to: the Job object, the termination message of its newest pod, its progress."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from controller.domain import snapshot as domain
from controller.domain.snapshot import JobFacts, JobKind, JobState, Problem, StageFacts
from controller.job import summary as outcome
from controller.reconcile.measured import measured
from controller.reconcile.objects.jobs import PROGRESS_PORT
from controller.reconcile.objects.metadata import INPUTS_ANNOTATION, JOB_KIND_LABEL, MADE_OF_ANNOTATION
from controller.reconcile.objects.pod_template import JOB_CONTAINER
from controller.reconcile.pods import condition, condition_of, container_status, is_running, trouble_of

Json = Mapping[str, Any]

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
_ASK_EVERY = 10.0  # seconds
_ASK_TIMEOUT = 1.0
_REMEMBERED = 1000


@dataclass(frozen=True)
class Message:
    """The last words of one pod of a job; summary is None when there are none that can be read."""

    pod: str
    summary: outcome.Summary | None


def job_facts(job: Json, pods: Sequence[Json], progress: str = "", stage: StageFacts | None = None) -> JobFacts | None:
    """The facts; None for a job that succeeded and whose pods are gone, with the result: it has to run again."""
    meta = job["metadata"]
    kind, name, inputs = JobKind(meta["labels"][JOB_KIND_LABEL]), meta["name"], meta["annotations"][INPUTS_ANNOTATION]
    if condition(job, "Complete") == "True":
        message = last_message([p for p in pods if _ended(p).get("exitCode") == 0])
        if message is None:
            return None
        if message.summary is None or message.summary.result is None:
            problem = Problem("ResultMissing", f"job {name} ended well but pod {message.pod} left no result")
            return JobFacts(kind, name, inputs, JobState.FAILED, failure=problem)
        return JobFacts(kind, name, inputs, JobState.SUCCEEDED, result=_result(message.summary.result))
    if condition(job, "Failed") == "True":
        message = last_message(pods)
        return JobFacts(
            kind, name, inputs, JobState.FAILED, failure=_failure(job, pods, message.summary if message else None)
        )
    made_of = meta["annotations"].get(MADE_OF_ANNOTATION, "")
    return JobFacts(kind, name, inputs, JobState.ACTIVE, progress=progress, made_of=made_of, stage=stage)


def is_active(job: Json) -> bool:
    return condition(job, "Complete") != "True" and condition(job, "Failed") != "True"


def has_begun(pods: Sequence[Json]) -> bool:
    """A container of the job runs or has run: all that it mounts was there."""
    return any(is_running(p, JOB_CONTAINER) or _ended(p) for p in pods)


def last_message(pods: Sequence[Json]) -> Message | None:
    """Of the newest pod that has ended and said something; else of the newest that has ended."""
    ended = [p for p in pods if _ended(p)]
    ended.sort(key=lambda p: str(_ended(p).get("finishedAt", "")), reverse=True)
    messages = [Message(p["metadata"]["name"], _summary(_ended(p).get("message", ""))) for p in ended]
    return next((m for m in messages if m.summary is not None), messages[0] if messages else None)


def waiting_text(job: Json, pods: Sequence[Json]) -> str:
    """Progress of a job that does not run: why not. Empty while it runs."""
    if condition(job, "Suspended") == "True":
        return "suspended: it waits for a queue"
    active = [p for p in pods if not _ended(p)]
    if any(is_running(p, JOB_CONTAINER) for p in active):
        return ""
    if not active and any(_ended(p).get("exitCode") == 0 for p in pods):
        return "its pod has ended"
    return next((text for p in active if (text := trouble_of(p))), "waiting for its pod")


@dataclass(frozen=True)
class _Heard:
    """The last answer of a job that said how far it is."""

    asked_at: float
    text: str = ""
    stage: StageFacts | None = None


class Progress:
    """Asks running jobs how far they are, each at most every 10 s."""

    def __init__(self, http: httpx.Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._http = http
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Heard] = OrderedDict()

    def of(self, job: Json, pods: Sequence[Json]) -> str:
        """As in `merge 40 %, about 3m left`; what was heard last while it does not answer."""
        uid = job["metadata"]["uid"]
        if waiting := waiting_text(job, pods):
            return waiting
        with self._lock:
            last = self._known.get(uid, _Heard(float("-inf")))
        if self._clock() < last.asked_at + _ASK_EVERY:
            return last.text
        running = [p for p in pods if is_running(p, JOB_CONTAINER)]
        answer = self._ask(running[0]["status"].get("podIP", ""))
        heard = _Heard(self._clock(), _progress_text(answer) or last.text, _stage(answer) or last.stage)
        with self._lock:
            self._known[uid] = heard
            self._known.move_to_end(uid)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return heard.text

    def stage_of(self, job: Json, pods: Sequence[Json]) -> StageFacts | None:
        """What `of` heard last, in numbers; None while the job does not run."""
        if waiting_text(job, pods):
            return None
        with self._lock:
            heard = self._known.get(job["metadata"]["uid"])
        return heard.stage if heard is not None else None

    def _ask(self, ip: str) -> Any:
        host = f"[{ip}]" if ":" in ip else ip
        try:
            response = self._http.get(f"http://{host}:{PROGRESS_PORT}/progress", timeout=_ASK_TIMEOUT)
            return response.json() if response.status_code == 200 else None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return None


def _progress_text(answer: Any) -> str:
    stage = _stage(answer)
    if stage is None or stage.total <= 0:
        return stage.name if stage else ""
    left = _left(answer.get("secondsLeft"))
    return f"{stage.name} {min(100, round(100 * stage.done / stage.total))} %{left}"


def _stage(answer: Any) -> StageFacts | None:
    """None: that is no answer of a job."""
    if not isinstance(answer, dict) or not answer.get("stage"):
        return None
    done, total, read = (_number(answer.get(name)) for name in ("done", "total", "bytes"))
    return StageFacts(str(answer["stage"])[:40], done, total, read)


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and 0 <= value < 2**63 else 0.0


def _left(seconds: Any) -> str:
    """Rounded up, so that it does not pretend; nothing where the job does not know."""
    if not isinstance(seconds, int | float) or not 0 <= seconds < 1e7:
        return ""
    if seconds < 60:
        return f", about {10 * math.ceil(seconds / 10) or 10}s left"
    minutes = math.ceil(seconds / 60)
    return f", about {minutes}m left" if minutes < 60 else f", about {minutes // 60}h{minutes % 60}m left"


def _ended(pod: Json) -> Json:
    ended: Json = (container_status(pod, JOB_CONTAINER).get("state") or {}).get("terminated") or {}
    return ended


def _summary(text: str) -> outcome.Summary | None:
    try:
        return outcome.parse_summary(text)
    except ValueError:
        return None


def _failure(job: Json, pods: Sequence[Json], summary: outcome.Summary | None) -> Problem:
    """The job's own words; else the kubelet's about the pod, such as OOMKilled; else the Job's condition."""
    if summary is not None and summary.failure is not None:
        return Problem(summary.failure.reason, summary.failure.message)
    said = condition_of(job, "Failed") or {}
    name = job["metadata"]["name"]
    killed = next((e for p in reversed(pods) if (e := _ended(p)) and e.get("exitCode")), None)
    if killed is not None and said.get("reason") != "DeadlineExceeded":
        text = f"job {name}: {killed.get('reason', 'Error')}, exit code {killed['exitCode']}"
        return Problem(str(killed.get("reason", "JobFailed")), f"{text}; see its log{_advice(killed)}")
    return Problem(str(said.get("reason", "JobFailed")), f"job {name}: {said.get('message', 'it failed')}")


def _advice(killed: Json) -> str:
    return ", and give it more memory" if killed.get("reason") == "OOMKilled" else ""


def _result(
    result: outcome.ImportResult | outcome.BuildResult | outcome.EvaluateResult,
) -> domain.ImportResult | domain.BuildResult | domain.EvaluateResult:
    if isinstance(result, outcome.ImportResult):
        return domain.ImportResult(
            result.digest, result.path, result.rank, result.size_bytes, "; ".join(result.merge_only)
        )
    if isinstance(result, outcome.BuildResult):
        return domain.BuildResult(
            artifact_id=result.artifact_id,
            path=result.path,
            name=result.name,
            digest=result.digest,
            size_bytes=result.size_bytes,
            reused=result.reused,
            provenance=_provenance(result.provenance),
            seconds=result.seconds,
        )
    return measured(result)


def _provenance(made: outcome.Provenance) -> dict[str, str]:
    """Flat and short, for status; artifact.json in the store has all of it."""
    found = {
        "base": made.base_name,
        "baseRevision": made.base_revision,
        "baseDigest": made.base_digest,
        "dtype": made.dtype,
        "quantization": made.quantization,
        "calibrationDigest": made.calibration_digest,
    }
    for adapter in made.adapters:
        found[f"adapter.{adapter.name}"] = f"{adapter.version} {adapter.digest}"
        found[f"trainingRun.{adapter.name}"] = adapter.training_run
    found |= {f"tool.{name}": version for name, version in made.tools.items()}
    return {key: value for key, value in found.items() if value}
