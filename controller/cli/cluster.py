"""The cluster that a command speaks to: its options, the client, and errors as one line with what to do.

Must not know: what a command does with a release.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.ending import FAILED, told
from controller.errors import (
    ApiError,
    ConnectionLost,
    Forbidden,
    NotFound,
    PermanentError,
    TransientError,
    Unauthorized,
)

if TYPE_CHECKING:
    from controller.api.v1alpha1 import AdapterRelease
    from controller.runtime.client import KubeClient

Json = dict[str, Any]

INTERRUPTED = 130
# What the API server notes as the manager of fields. Flux takes away whatever a manager called kubectl.. has written.
MANAGER = "adapterrelease"
_INSTALL = "install the controller first: docs/operating.md#install"

Namespace = Annotated[str | None, typer.Option("-n", "--namespace", help="Default: the context's.")]
Kubeconfig = Annotated[str | None, typer.Option(help="Default: as kubectl finds it.")]
Context = Annotated[str | None, typer.Option(help="Of the kubeconfig; default: its current one.")]


@dataclass(frozen=True)
class Cluster:
    client: KubeClient
    namespace: str

    def release(self, name: str) -> AdapterRelease:
        """PermanentError when there is none of that name."""
        return as_release(self.raw_release(name))

    def raw_release(self, name: str) -> Json:
        from controller.reconcile.caches import RELEASES

        try:
            return self.client.get(RELEASES.path(self.namespace, checked(name)))
        except NotFound as error:
            raise self._no_such(name) if knows_the_kind(error) else error from error

    def raw_releases(self, everywhere: bool = False, selector: str | None = None) -> list[Json]:
        from controller.reconcile.caches import RELEASES

        return self.client.list(RELEASES.path(None if everywhere else self.namespace), selector)[0]

    def _no_such(self, name: str) -> PermanentError:
        try:
            names = [r["metadata"]["name"] for r in self.raw_releases()]
        except Forbidden:
            return PermanentError(f"namespace {self.namespace} has no release {name}", reason="NotFound")
        there = f"there are {', '.join(names[:5])}{' and others' if len(names) > 5 else ''}" if names else "it has none"
        hint = "" if names else "; -n names another namespace, and `get -A` shows all"
        message = f"namespace {self.namespace} has no release {name}: {there}{hint}"
        return PermanentError(message, reason="NotFound")


def checked(name: str, what: str = "a release") -> str:
    """The API server would take a part of a path for something else."""
    from controller.api.types import DNS_SUBDOMAIN_PATTERN

    if re.fullmatch(DNS_SUBDOMAIN_PATTERN, name) is None:
        message = f"{name!r} is no name of {what}: it has small letters, digits and hyphens, and no kind in front"
        raise PermanentError(message, reason="InvalidArgument")
    return name


def as_release(raw: Json) -> AdapterRelease:
    from pydantic import ValidationError

    from controller.api.v1alpha1 import AdapterRelease

    try:
        return AdapterRelease.model_validate(raw)
    except ValidationError as error:
        name, first = raw["metadata"]["name"], error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise PermanentError(
            f"release {name} cannot be read: {field}: {first['msg']}; this command and the cluster's CRD differ: "
            "use the version that the controller has",
            reason="VersionSkew",
        ) from error


@contextmanager
def opened(
    namespace: str | None, kubeconfig: str | None, context: str | None, *, as_json: bool = False, failed: int = FAILED
) -> Iterator[Cluster]:
    """A client for the block; errors end the command with one line, and Ctrl-C with nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale that lacks a character is no reason to fail
    with quiet_end(), told(as_json, failed), explained():
        client = client_for(kubeconfig, context)
        try:
            with explained(client.host):
                yield Cluster(client, checked(namespace or client.namespace, "a namespace"))
        finally:
            client.close()


def client_for(kubeconfig: str | None, context: str | None) -> KubeClient:
    """As kubectl finds the cluster: $KUBECONFIG, then ~/.kube/config, in a pod, too. Only without either its service
    account is meant, which is whoever started the pod and not who types in it. To be closed by the caller."""
    from controller.runtime.client import KubeClient

    default = Path("~/.kube/config").expanduser()
    found = kubeconfig or os.environ.get("KUBECONFIG") or (str(default) if default.is_file() else None)
    return KubeClient.from_config(found, context, user_agent=MANAGER)


@contextmanager
def quiet_end() -> Iterator[None]:
    """Ctrl-C, and a reader of the output that has gone (`| head`), are no faults."""
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        raise typer.Exit(INTERRUPTED) from error
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it ends
        raise typer.Exit(FAILED) from error


@contextmanager
def explained(host: str = "") -> Iterator[None]:
    """What the API server answered, with where and what to do."""
    at = f" at {host}" if host else ""
    try:
        yield
    except ConnectionLost as error:
        hint = "is the cluster up, and is it the right context (kubectl config current-context)?"
        raise TransientError(
            f"no answer from the API server{at}: {_short(error)}; {hint}", reason=error.reason
        ) from error
    except Unauthorized as error:
        hint = "log in again, or name another context"
        raise TransientError(
            f"the API server{at} does not take the credentials; {hint}", reason=error.reason
        ) from error
    except Forbidden as error:
        hint = "ask for the right, or name another namespace (-n) or context"
        raise PermanentError(f"{error.message}: {hint}", reason=error.reason) from error
    except NotFound as error:
        if knows_the_kind(error):
            raise
        message = f"the cluster{at} does not know AdapterReleases: {_INSTALL}"
        raise PermanentError(message, reason="NotInstalled") from error
    except ApiError as error:
        if isinstance(error, PermanentError):
            raise
        raise TransientError(f"the API server{at} answered: {error.message}; try again", reason=error.reason) from error


def knows_the_kind(error: NotFound) -> bool:
    """An object is missing, and not the whole kind: only then the answer names one."""
    return bool(error.details.get("name"))


def _short(error: ConnectionLost) -> str:
    """urllib3's words without its object."""
    return error.message.rpartition(">: ")[2] or error.message
