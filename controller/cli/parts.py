"""The parts of a release's tree: adapter, build, artifact, merged Deployments, canary, route, history.

Pure: each function gives the nodes of one part, none where there is nothing to say. Must not know the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from controller.api.status import ArtifactStatus, Backend, BackendKind, HistoryEntry, Step, SuiteScore
from controller.cli.layout import Glyphs, Node
from controller.cli.standing import waits_for_person
from controller.cli.view import JobView, MergedView, PodView, View
from controller.cli.words import ago, bytes_of, plain, short

_JOB_OF = {Step.IMPORTING: "import", Step.BUILDING: "build", Step.VALIDATING: "validate"}
_GOOD, _BAD, _BUSY = "green", "red", "yellow"
_MANY = 12  # pods, of which more say nothing more


def adapter(view: View, now: datetime, glyphs: Glyphs) -> list[Node]:
    """What was imported, pod by pod."""
    found, job = view.release.status.adapter, _job_node(view, Step.IMPORTING, now, glyphs)
    if found is None:
        wanted = view.release.spec.adapters[0]
        return [Node(Text(plain(f"adapter {wanted.version}, not imported yet")), job)]
    facts = [f"rank {found.rank}" if found.rank else "", bytes_of(found.size_bytes) if found.size_bytes else ""]
    facts += [found.training_run, "merged only" if found.merge_only else ""]
    text = ", ".join(f for f in facts if f)
    head = Text(plain(f"adapter {found.version}  {short(found.digest)}" + (f"  {text}" if text else "")))
    coming = view.release.spec.adapters[0].version
    if coming != found.version:
        head.append(plain(f", {coming} comes"))
    pods = _few([(p.state == "Loaded", _adapter_pod(p.name, p.state, p.message, glyphs)) for p in found.pods])
    return [Node(head, [*job, *pods])]


def _few(many: Sequence[tuple[bool, Node]]) -> list[Node]:
    """Nodes, each with whether it is as it should be; of very many the first, beginning with those that are not."""
    shown = many if len(many) <= _MANY else sorted(many, key=lambda one: one[0])[:_MANY]
    rest = len(many) - len(shown)
    return [node for _, node in shown] + ([Node(Text(f"and {rest} others"))] if rest else [])


def _adapter_pod(name: str, state: str, message: str, glyphs: Glyphs) -> Node:
    mark, style = {"Loaded": (glyphs.ok, _GOOD), "Failed": (glyphs.bad, _BAD)}.get(state, (glyphs.busy, _BUSY))
    return Node(_marked(mark, style, f"pod {name}  {state}" + (f": {message}" if message else "")))


def build(view: View, now: datetime, glyphs: Glyphs) -> list[Node]:
    """Only while one is under way: what came of it is the artifact."""
    if view.release.status.rollout.step is not Step.BUILDING:
        return []
    return [Node(Text("build"), _job_node(view, Step.BUILDING, now, glyphs))]


def _job_node(view: View, step: Step, now: datetime, glyphs: Glyphs) -> list[Node]:
    """The job of the step under way, how far it is, and its pod."""
    rollout = view.release.status.rollout
    if rollout.step is not step:
        return []
    job = next((j for j in view.jobs if j.kind == _JOB_OF[step] and j.state in ("Running", "Suspended")), None)
    far = progress_text(rollout.progress)
    if job is None:
        return [
            Node(_marked(glyphs.busy, _BUSY, far or "its job is not made yet; if it cannot be, the events say why"))
        ]
    running = f"  {ago(job.created, now)}" if job.created else ""
    return [Node(_marked(glyphs.busy, _BUSY, f"job {job.name}{running}"), [*_far(far), *_job_pods(job, now, glyphs)])]


def _far(far: str) -> list[Node]:
    return [Node(Text(plain(far)))] if far else []


def _job_pods(job: JobView, now: datetime, glyphs: Glyphs) -> list[Node]:
    return [Node(_pod(p, now, glyphs)) for p in job.pods[:3]]


def progress_text(progress: str) -> str:
    """`merge 40 %, 3m left` -> with a bar; other text as it is."""
    found = re.match(r"(\S+) (\d{1,3}) %(.*)$", progress)
    if found is None:
        return progress
    stage, percent, rest = found[1], min(100, int(found[2])), found[3]
    return f"{stage} [{'#' * (percent // 5):<20}] {percent} %{rest}"


def artifact(view: View, now: datetime, glyphs: Glyphs) -> list[Node]:
    found = view.release.status.artifact
    if found is None:
        return []
    facts = [bytes_of(found.size_bytes) if found.size_bytes else "", "quantized" if found.quantized else ""]
    facts += ["reused" if found.reused else ""]
    text = ", ".join(f for f in facts if f)
    head = Text(plain(f"artifact {found.name}  {short(found.id)}" + (f"  {text}" if text else "")))
    return [Node(head, [*_job_node(view, Step.VALIDATING, now, glyphs), *_proof(found, glyphs)])]


def _proof(found: ArtifactStatus, glyphs: Glyphs) -> list[Node]:
    """Verdict, scores by suite, speed."""
    if not found.verdict:
        return [Node(Text("not validated yet"))]
    mark, style = (glyphs.ok, _GOOD) if found.verdict == "Pass" else (glyphs.bad, _BAD)
    nodes = [Node(_marked(mark, style, f"verdict {found.verdict}"))]
    nodes += [Node(Text(plain(_score(s, glyphs)))) for s in found.scores]
    if found.speedup:
        rates = (found.adapter_tokens_per_second, found.artifact_tokens_per_second)
        each = f": {rates[0]} {glyphs.arrow} {rates[1]} tokens/s" if all(rates) else ""
        nodes.append(Node(Text(f"speedup {found.speedup}{each}")))
    return nodes


def _score(score: SuiteScore, glyphs: Glyphs) -> str:
    before = f"{score.adapter} {glyphs.arrow} " if score.adapter else ""
    agree = f", agreement {score.agreement}" if score.agreement else ""
    return f"suite {score.name}  {before}{score.artifact} of {score.samples} examples{agree}"


def merged(view: View, now: datetime, glyphs: Glyphs) -> list[Node]:
    """Deployments that serve artifacts: what serves, the candidate, those that drain."""
    return [
        Node(_merged_head(view, one, glyphs), _few([(p.ready, Node(_pod(p, now, glyphs))) for p in one.pods]))
        for one in view.merged
    ]


def _merged_head(view: View, one: MergedView, glyphs: Glyphs) -> Text:
    enough = one.available >= max(1, one.wanted)
    mark, style = (glyphs.ok, _GOOD) if enough else (glyphs.busy, _BUSY)
    return _marked(mark, style, f"{_role(view, one)} {one.name}  {one.available}/{one.wanted} available")


def _role(view: View, one: MergedView) -> str:
    status = view.release.status
    if status.serving is not None and _is(status.serving.backend, one.artifact):
        return "serves"
    if any(_is(d.backend, one.artifact) for d in status.rollout.draining):
        return "drains"
    return "candidate" if status.artifact is not None and short(status.artifact.id) == one.artifact else "older"


def _is(backend: Backend, label: str) -> bool:
    return backend.kind is BackendKind.ARTIFACT and short(backend.id) == label


def _pod(pod: PodView, now: datetime, glyphs: Glyphs) -> Text:
    mark, style = (glyphs.ok, _GOOD) if pod.ready else (glyphs.busy, _BUSY)
    restarts = f", {pod.restarts} restarts" if pod.restarts else ""
    return _marked(mark, style, f"pod {pod.name}  {pod.state}, {ago(pod.since, now)}{restarts}".replace(", ,", ","))


def canary(view: View, now: datetime, glyphs: Glyphs) -> list[Node]:
    """The steps, and how far it is in them."""
    memory, spec = view.release.status.rollout.canary, view.release.spec.rollout.canary
    if memory is None:
        return []
    if not memory.weight:
        return [Node(Text(plain(f"canary by HTTPRoute {memory.http_route}: being given back")))]
    since = f" for {ago(memory.since, now)}" if memory.since else ", not in effect yet"
    head = _marked(*_canary_mark(view, glyphs), f"canary by HTTPRoute {memory.http_route}: {memory.weight} %{since}")
    steps = spec.steps if spec is not None else []
    return [Node(head, [Node(_canary_step(s.weight, s.pause, memory.weight, glyphs)) for s in steps])]


def _canary_mark(view: View, glyphs: Glyphs) -> tuple[str, str]:
    return (glyphs.person, "magenta") if waits_for_person(view.release) else (glyphs.busy, _BUSY)


def _canary_step(weight: int, pause: str | None, now_at: int, glyphs: Glyphs) -> Text:
    until = f"for {pause} and a good check" if pause else "until a person goes on"
    if weight < now_at:
        return _marked(glyphs.ok, _GOOD, f"{weight} %")
    if weight == now_at:
        return _marked(glyphs.busy, _BUSY, f"{weight} % {until}")
    return Text(f"  {weight} % {until}")


def observation(view: View, now: datetime, glyphs: Glyphs) -> list[Node]:
    """The samples of the step that watches."""
    rollout = view.release.status.rollout
    if rollout.step not in (Step.OBSERVING, Step.SHIFTING):
        return []
    head = Text(f"watched: {rollout.measured} samples with data, {rollout.failures} failed")
    nodes = []
    for sample in rollout.samples[-3:]:
        good = sample.verdict == "Pass"
        mark, style = (glyphs.ok, _GOOD) if good else (glyphs.bad, _BAD) if sample.verdict == "Fail" else ("-", "dim")
        facts = [f"{sample.requests} requests"]
        facts += [f"errors {sample.error_rate}"] if sample.error_rate else []
        facts += [f"{sample.latency_seconds} s"] if sample.latency_seconds else []
        facts += [sample.message] if sample.message else []
        nodes.append(Node(_marked(mark, style, f"{ago(sample.at, now)} ago: {', '.join(facts)}")))
    return [Node(head, nodes)]


def route(view: View, now: datetime, glyphs: Glyphs) -> list[Node]:
    """The Service, and what it reaches."""
    found, name = view.route, view.release.metadata.name
    if found is None:
        return [Node(_marked(glyphs.busy, _BUSY, f"route {name}: there is no such Service of this release yet"))]
    to = f"of artifact {found.selects}" if found.selects else "with the adapter"
    mark, style = (glyphs.ok, _GOOD) if found.ready else (glyphs.bad, _BAD)
    head = _marked(mark, style, f"route {name} {glyphs.arrow} {_pods(len(found.ready))} {to}")
    ready = [(True, Node(_marked(glyphs.ok, _GOOD, f"pod {p}"))) for p in found.ready]
    others = [(False, Node(_marked(glyphs.busy, _BUSY, f"pod {p}  not ready"))) for p in found.not_ready]
    return [Node(head, _few(ready + others))]


def _pods(count: int) -> str:
    return {0: "no pod", 1: "1 pod"}.get(count, f"{count} pods")


def refusals(view: View, now: datetime, glyphs: Glyphs) -> list[Node]:
    """What is remembered as failed; the newest first."""
    rejected = view.release.status.rollout.rejected
    if not rejected:
        return []
    nodes = []
    for one in list(reversed(rejected))[:3]:
        what = f"{short(one.id)} " if one.id else ""
        nodes.append(Node(_marked(glyphs.bad, _BAD, f"{what}at {one.step}: {one.reason}: {one.message}")))
    return [Node(Text("rejected, and not tried again by itself"), nodes)]


def history(view: View, now: datetime, glyphs: Glyphs) -> list[Node]:
    entries = view.release.status.history
    if not entries:
        return []
    return [Node(Text("history"), [Node(_entry(view, h, now, glyphs)) for h in entries])]


def _entry(view: View, entry: HistoryEntry, now: datetime, glyphs: Glyphs) -> Text:
    serving = view.release.status.serving
    serves = serving is not None and serving.revision == entry.revision
    kind = entry.backend.kind.lower()
    what = f"{entry.revision}  {kind} {entry.version}".rstrip()
    text = f"{what}  {short(entry.backend.id)}  {entry.reason}, {ago(entry.since, now)} ago"
    return _marked(glyphs.ok, _GOOD, f"{text}, serves") if serves else Text(plain(f"  {text}"))


def _marked(mark: str, style: str, text: str) -> Text:
    return Text.assemble((mark, style), " ", plain(text))
