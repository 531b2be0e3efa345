"""`advise`: gathers what speaks for merging a release, or against, and says so. Must not know how it is weighed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.cluster import Cluster, Context, Kubeconfig, Namespace, as_release, opened
from controller.cli.completion import release_names
from controller.cli.history import FormatOption, written
from controller.errors import Forbidden, NotFound, TransientError

if TYPE_CHECKING:
    from controller.api.status import HistoryEntry
    from controller.api.v1alpha1 import AdapterRelease
    from controller.cli.advice import Advice, Facts

Json = dict[str, Any]

_TIMEOUT = 10.0
_WEEK = timedelta(days=7)


def register(app: typer.Typer) -> None:
    app.command()(advise)


def advise(
    name: Annotated[str, typer.Argument(help="The release.", autocompletion=release_names)],
    prometheus: Annotated[str | None, typer.Option(help="URL of Prometheus, for the request rate.")] = None,
    output: FormatOption = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Merge it, or keep serving it dynamically? Says which, and why."""
    from controller.cli.advice import advice

    with opened(namespace, kubeconfig, context) as cluster:
        raw = cluster.raw_release(name)
        release = as_release(raw)
        facts = _facts(cluster, release, _rate(prometheus, release) if prometheus else None)
    result = advice(facts)
    if output is not None:
        document = {"name": name, "points": result.points, **asdict(result), "verdict": result.verdict.value}
        print(written(document | {"reasons": [asdict(r) for r in result.reasons]}, output), end="")
    else:
        print(told_of(release, result))


def told_of(release: AdapterRelease, result: Advice) -> str:
    from controller.cli.advice import Verdict
    from controller.cli.standing import command
    from controller.cli.words import plain

    stable = release.spec.stage.value == "Stable"
    lacks = release.spec.build is None or release.spec.validation is None
    first = "add build and validation to its spec, as in manifests/samples/stable.yaml, then " if lacks else ""
    says = {
        Verdict.MERGE: "it is at stage Stable already" if stable else first + command("promote", release),
        Verdict.KEEP: command("rollback", release) if stable else "leave it at stage Experimental",
        Verdict.EITHER: "neither is clearly better: leave it as it is",
    }
    lines = [f"{result.verdict}: {says[result.verdict]}", ""]
    lines += [f"{r.points:+d}  {r.text}" if r.points else f"    {r.text}" for r in result.reasons]
    lines += [f" ?  not known: {text}" for text in result.unknown]
    return plain("\n".join(lines))


def _facts(cluster: Cluster, release: AdapterRelease, rate: float | None) -> Facts:
    from controller.cli.advice import Facts

    status, base = release.status, release.spec.base_ref.name
    others = [r for r in cluster.raw_releases() if r["spec"].get("baseRef", {}).get("name") == base]
    gpus, replicas = _of_base(cluster, base)
    now = datetime.now(UTC)
    return Facts(
        variants=max(1, len(others)),
        age=_age(status.history, now),
        updates_per_week=_updates(status.history, now),
        requests_per_second=rate,
        speedup=float(status.artifact.speedup) if status.artifact is not None and status.artifact.speedup else None,
        gpus=gpus,
        replicas=replicas,
        adapter_bytes=status.adapter.size_bytes if status.adapter else 0,
        artifact_bytes=status.artifact.size_bytes if status.artifact else 0,
        merge_only=bool(status.adapter and status.adapter.merge_only),
    )


def _age(history: Sequence[HistoryEntry], now: datetime) -> timedelta | None:
    """Of the version that serves, be it as adapter or merged."""
    if not history:
        return None
    return now - min(h.since for h in history if h.adapter_digest == history[0].adapter_digest)


def _updates(history: Sequence[HistoryEntry], now: datetime) -> float | None:
    """Versions after the first, over the time that the history covers; None where that is less than a day."""
    span = now - min((h.since for h in history), default=now)
    if span < timedelta(days=1):
        return None
    return (len({h.adapter_digest for h in history}) - 1) / (span / _WEEK)


def _of_base(cluster: Cluster, name: str) -> tuple[int, int | None]:
    """GPUs of all replicas together, and the replicas; None: there is no such base, or not for who asks."""
    from controller.runtime.resources import DEPLOYMENTS

    try:
        spec = cluster.client.get(DEPLOYMENTS.path(cluster.namespace, name))["spec"]
    except (NotFound, Forbidden):
        return 0, None
    replicas = int(spec.get("replicas", 1))
    limits = [(c.get("resources") or {}).get("limits") or {} for c in spec["template"]["spec"]["containers"]]
    each = sum(int(count) for one in limits for what, count in one.items() if what.endswith("/gpu"))
    return each * replicas, replicas


def _rate(url: str, release: AdapterRelease) -> float | None:
    """Requests a second over the last hour, as the engine plugin counted them; None where it has no such series."""
    import httpx

    meta = release.metadata
    query = f'sum(rate(adapterrelease_requests_total{{release="{meta.namespace}/{meta.name}"}}[1h]))'
    try:
        answer = httpx.get(f"{url.rstrip('/')}/api/v1/query", params={"query": query}, timeout=_TIMEOUT)
        answer.raise_for_status()
        found = answer.json()["data"]["result"]
        return float(found[0]["value"][1]) if found else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, IndexError) as error:
        said = (str(error).splitlines() or [""])[0]
        message = f"--prometheus {url}: {type(error).__name__}: {said}: is it the root of a Prometheus?"
        raise TransientError(message, reason="PrometheusUnavailable") from error
