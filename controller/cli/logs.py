"""`logs`: of the job that is under way, or of the last one. Must not know what jobs do."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.cluster import Cluster, Context, Kubeconfig, Namespace, checked, opened
from controller.cli.completion import release_names
from controller.cli.ending import note
from controller.errors import BadRequest, PermanentError, TransientError

if TYPE_CHECKING:
    from controller.cli.view import JobView

Json = dict[str, Any]

_FOLLOWED_FOR = 4 * 3600.0  # seconds of silence, after which the kubelet ends it, too: a stage may say nothing for long


class Kind(StrEnum):
    IMPORT = "import"
    BUILD = "build"
    VALIDATE = "validate"


def register(app: typer.Typer) -> None:
    app.command()(logs)


def logs(
    name: Annotated[str, typer.Argument(help="The release.", autocompletion=release_names)],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the pod ends.")] = False,
    kind: Annotated[Kind | None, typer.Option(help="import, build or validate; default: the newest job.")] = None,
    tail: Annotated[int | None, typer.Option(help="Only so many lines from the end.", min=0)] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print the log of the job that is under way, or of the last one."""
    with opened(namespace, kubeconfig, context) as cluster:
        job, pod = _find(cluster, name, kind)
        note(f"job {job}, pod {pod}")
        _print_log(cluster, pod, follow, tail)


def _find(cluster: Cluster, name: str, kind: Kind | None) -> tuple[str, str]:
    from controller.api.v1alpha1 import RELEASE_LABEL
    from controller.cli.view import job_views
    from controller.runtime.resources import JOBS, PODS

    mine = f"{RELEASE_LABEL}={checked(name)}"
    jobs, _ = cluster.client.list(JOBS.path(cluster.namespace), mine)
    pods, _ = cluster.client.list(PODS.path(cluster.namespace), mine)
    job = chosen([j for j in job_views(jobs, pods) if kind is None or j.kind == kind])
    if job is None:
        cluster.raw_release(name)  # says so where there is no such release
        which = f"no {kind} job" if kind is not None else "no job"
        raise PermanentError(f"{name} has {which} now: finished ones go after a day", reason="NoJob")
    if not job.pods:
        message = f"job {job.name} has no pod yet; kubectl -n {cluster.namespace} describe job {job.name} says why"
        raise TransientError(message, reason="NoPod")
    return job.name, job.pods[0].name


def chosen(jobs: Sequence[JobView]) -> JobView | None:
    """The one that runs, else the newest; `jobs` has the newest first."""
    return next((j for j in jobs if j.state == "Running"), next(iter(jobs), None))


def _print_log(cluster: Cluster, pod: str, follow: bool, tail: int | None) -> None:
    from controller.reconcile.objects.pod_template import JOB_CONTAINER
    from controller.runtime.resources import PODS

    query = {"container": JOB_CONTAINER} | ({"tailLines": str(tail)} if tail is not None else {})
    path = PODS.path(cluster.namespace, pod, "log")
    try:
        if not follow:
            print(cluster.client.get_text(path, query), end="")
            return
        for text in cluster.client.follow_text(path, {**query, "follow": "true"}, _FOLLOWED_FOR):
            print(text, end="", flush=True)
    except BadRequest as error:  # its container has not started
        raise TransientError(f"pod {pod}: {error.message}; look at it with status", reason=error.reason) from error
