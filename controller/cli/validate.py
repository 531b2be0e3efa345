"""`validate`: what would become of a release, before it is applied. Offline, or asked of the cluster.

Must not know the rules (admission.py) or the checks (local_check.py).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.cluster import Cluster, Context, Kubeconfig, Namespace, knows_the_kind, opened
from controller.cli.ending import DONE, REJECTED, note, told
from controller.errors import NotFound, PermanentError
from controller.job.reasons import Reason

if TYPE_CHECKING:
    from controller.cli.local_check import Found

Json = dict[str, Any]
Finding = tuple[str, str]  # reason and message; without a reason it is a note


def register(app: typer.Typer) -> None:
    app.command()(validate)


def validate(
    filename: Annotated[str, typer.Option("-f", "--filename", help="Releases as YAML or JSON; - is stdin.")],
    base: Annotated[
        Path | None, typer.Option(help="Directory of the base model: check offline.", exists=True, file_okay=False)
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no cluster, without --base too.")] = False,
    volume: Annotated[
        list[str] | None, typer.Option(help="With --base: CLAIM=DIR for pvc:// sources. May be repeated.")
    ] = None,
    max_lora_rank: Annotated[int | None, typer.Option(help="With --base: the server's --max-lora-rank.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Say everything that is wrong with a release in a file: nothing is written.

    Offline, with --base, it checks the adapter, the build and the suites as the jobs would. Else the API server checks
    it (a dry run), and the base's Deployment is looked at. Exit code 0: good; 2: not.
    """
    if base is not None or offline:
        with told(as_json):
            documents = _read(filename)
            found = [(d, [*_admission(d), *_local(d, base, volume or [], max_lora_rank)]) for d in documents]
    else:
        with opened(namespace, kubeconfig, context, as_json=as_json) as cluster:
            documents = _read(filename)
            found = [(d, _admission(d) or _in_the_cluster(cluster, d, namespace)) for d in documents]
    raise typer.Exit(_tell(found, as_json))


def _read(filename: str) -> list[Json]:
    """Other objects in the file are passed over. PermanentError where there is no release."""
    import yaml

    from controller.api.v1alpha1 import KIND

    try:
        text = sys.stdin.read() if filename == "-" else Path(filename).read_text(encoding="utf-8")
        documents = [d for d in yaml.safe_load_all(text) if isinstance(d, dict)]
    except UnicodeDecodeError as error:
        message = f"{filename} is not written in UTF-8 (PowerShell's > writes UTF-16): {error}"
        raise PermanentError(message, reason=Reason.INVALID_RELEASE) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: what looks like a date, and is none
        raise PermanentError(f"{filename} is no YAML: {error}", reason=Reason.INVALID_RELEASE) from error
    items = [i for d in documents for i in (d.get("items") or () if d.get("kind") == "List" else (d,))]
    releases = [d for d in items if isinstance(d, dict) and d.get("kind") == KIND]
    if not releases:
        raise PermanentError(f"{filename} has no {KIND} in it", reason=Reason.INVALID_RELEASE)
    return releases


def _admission(document: Json) -> list[Finding]:
    from controller.cli.admission import problems_of

    return [("Invalid", f"{p.field}: {p.message}" if p.field else p.message) for p in problems_of(document)]


def _local(document: Json, base: Path | None, volumes: list[str], max_lora_rank: int | None) -> list[Finding]:
    if base is None or _admission(document):
        return []
    from controller.api.v1alpha1 import AdapterRelease
    from controller.cli.local_build import pairs
    from controller.cli.local_check import check_release

    release = AdapterRelease.model_validate(document)
    return [_as_finding(f) for f in check_release(release, base, pairs(volumes), max_lora_rank)]


def _as_finding(found: Found) -> Finding:
    return found.reason, found.message


def _in_the_cluster(cluster: Cluster, document: Json, namespace: str | None) -> list[Finding]:
    meta = document["metadata"]
    where = namespace or meta.get("namespace") or cluster.namespace
    wanted = {**document, "metadata": {**meta, "namespace": where}}
    wanted.pop("status", None)
    try:
        _try_on(cluster, wanted)
    except PermanentError as error:
        if isinstance(error, NotFound):
            raise
        return [(error.reason, error.message)]
    return _of_the_base(cluster, where, document["spec"]["baseRef"]["name"])


def _try_on(cluster: Cluster, wanted: Json) -> None:
    """As a whole in place of what is there: applied, it would be tried together with every field that the file no
    longer has and that another manager of fields, such as kubectl, has written."""
    from controller.reconcile.caches import RELEASES

    meta = wanted["metadata"]
    path = RELEASES.path(meta["namespace"], meta["name"])
    try:
        known = cluster.client.get(path)["metadata"]
    except NotFound as error:
        if not knows_the_kind(error):
            raise
        cluster.client.create(RELEASES.path(meta["namespace"]), wanted, dry_run=True)
        return
    there = {"resourceVersion": known["resourceVersion"]}
    cluster.client.replace(path, {**wanted, "metadata": meta | there}, dry_run=True)


def _of_the_base(cluster: Cluster, namespace: str, name: str) -> list[Finding]:
    from controller.reconcile.base import base_facts
    from controller.runtime.resources import DEPLOYMENTS

    try:
        deployment = cluster.client.get(DEPLOYMENTS.path(namespace, name))
    except NotFound:
        return [
            ("", f"there is no Deployment {name} in namespace {namespace} yet: nothing is served before it is there")
        ]
    facts = base_facts(deployment)
    if facts.problems:
        return [(str(p.reason), p.message) for p in facts.problems]
    return [] if facts.has_plugin else [("", f"base {name} has no engine plugin: adapterrelease enable {name}")]


def _name_of(document: Json) -> Any:
    meta = document.get("metadata")
    return meta.get("name") if isinstance(meta, dict) else None


def _tell(found: list[tuple[Json, list[Finding]]], as_json: bool) -> int:
    bad = any(reason for _, findings in found for reason, _ in findings)
    if as_json:
        releases = [
            {
                "name": _name_of(document),
                "findings": [{"reason": r, "message": m} for r, m in findings if r],
                "notes": [m for r, m in findings if not r],
            }
            for document, findings in found
        ]
        print(json.dumps({"ok": not bad, "releases": releases}))
        return REJECTED if bad else DONE
    for document, findings in found:
        name = _name_of(document) or "?"
        for reason, message in findings:
            note(f"{name}: {reason}: {message}" if reason else f"{name}: note: {message}")
        if not any(reason for reason, _ in findings):
            print(f"{name}: good")
    return REJECTED if bad else DONE
