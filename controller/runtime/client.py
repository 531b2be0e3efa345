"""KubeClient: the verbs of the Kubernetes API on raw JSON, one request each, never retried here.

Paths come from `runtime.resources`. Retrying is the work queue's, the reflector's or the elector's
task; a client that retries by itself hides load from those who count it.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import urllib3

from controller.errors import ConnectionLost, Gone, LeadershipLost, TransientError
from controller.runtime.transport import Transport, load_configuration
from controller.runtime.watch import Watch

TIMEOUT = 10.0
LIST_TIMEOUT = 30.0
_APPLY = "application/apply-patch+yaml"
_MERGE_PATCH = "application/merge-patch+json"
_DRY_RUN = {"dryRun": "All", "fieldValidation": "Strict"}
_CHUNK = 1 << 16

Json = dict[str, Any]
Items = list[Json]


class KubeClient:
    """Reads and writes objects of one cluster; safe to use from many threads.

    Every method raises an `ApiError` of `controller.errors`; a timeout is a `ConnectionLost`. A write
    that ended in ConnectionLost may have happened: writes have to be repeatable.
    """

    def __init__(
        self,
        transport: Transport,
        namespace: str = "default",
        remaining: Callable[[], float] | None = None,
    ) -> None:
        self._transport = transport
        self._remaining = remaining
        self.namespace = namespace
        """The namespace of the kubeconfig's context, or the pod's own."""

    @classmethod
    def from_config(
        cls,
        kubeconfig: str | None = None,
        context: str | None = None,
        user_agent: str = "adapter-release-controller",
    ) -> KubeClient:
        """A named kubeconfig or context; else the pod's service account; else kubectl's default."""
        configuration, namespace = load_configuration(kubeconfig, context)
        return cls(Transport(configuration, user_agent), namespace)

    def fenced(self, remaining: Callable[[], float]) -> KubeClient:
        """The same client for a leader: no write starts, or waits longer, than its lease lasts.

        `remaining` gives the seconds of leadership that are left, as `Elector.remaining` does. At 0
        writes raise LeadershipLost; reads go on.
        """
        return KubeClient(self._transport, self.namespace, remaining)

    @property
    def host(self) -> str:
        return self._transport.host

    def close(self) -> None:
        self._transport.close()

    def get(self, path: str, timeout: float = TIMEOUT) -> Json:
        return self._json("GET", path, timeout=timeout)

    def get_text(self, path: str, query: Mapping[str, str] | None = None, timeout: float = TIMEOUT) -> str:
        """An answer that is no JSON, such as the `log` subresource of a pod."""
        return self._transport.request("GET", path, query=query, timeout=timeout).decode("utf-8", "replace")

    def follow_text(self, path: str, query: Mapping[str, str], read_timeout: float) -> Iterator[str]:
        """The same as it comes, until the server ends it; ConnectionLost after a silence of `read_timeout` seconds."""
        response = self._transport.stream(path, query=query, read_timeout=read_timeout, verb="GET")
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        try:
            while chunk := response.read1(_CHUNK):
                yield decode(chunk)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ConnectionLost(f"GET {path}: {error}") from error
        finally:
            response.close()

    def list(
        self,
        path: str,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = 500,
        timeout: float = LIST_TIMEOUT,
    ) -> tuple[Items, str]:
        """All objects of a collection, read in pages of `limit`, and the resourceVersion to watch from.

        The items have `kind` and `apiVersion`, which the API server leaves out of lists.
        """
        query = _selectors(label_selector, field_selector)
        try:
            return self._pages(path, {**query, "limit": str(limit)}, timeout)
        except Gone:  # the token for the next page has expired: once more, in one piece
            return self._pages(path, query, timeout)

    def create(self, path: str, obj: Mapping[str, Any], timeout: float = TIMEOUT, dry_run: bool = False) -> Json:
        """`path` is the collection. AlreadyExists when there is one of that name.

        `dry_run`, here and below: everything is checked, unknown fields too, and nothing is written.
        """
        return self._write("POST", path, obj, _DRY_RUN if dry_run else None, timeout=timeout)

    def apply(
        self,
        path: str,
        obj: Mapping[str, Any],
        field_manager: str,
        force: bool = True,
        timeout: float = TIMEOUT,
    ) -> Json:
        """Server-side apply: creates or updates; owns exactly the fields in `obj`."""
        query = {"fieldManager": field_manager, "force": "true" if force else "false"}
        return self._write("PATCH", path, obj, query, _APPLY, timeout)

    def merge_patch(self, path: str, patch: Mapping[str, Any], timeout: float = TIMEOUT) -> Json:
        """Null deletes a field. With metadata.resourceVersion inside, Conflict if the object has changed."""
        return self._write("PATCH", path, patch, content_type=_MERGE_PATCH, timeout=timeout)

    def replace(self, path: str, obj: Mapping[str, Any], timeout: float = TIMEOUT, dry_run: bool = False) -> Json:
        """Conflict when the object is not at its metadata.resourceVersion any more."""
        return self._write("PUT", path, obj, _DRY_RUN if dry_run else None, timeout=timeout)

    def delete(
        self,
        path: str,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str = "Background",
        timeout: float = TIMEOUT,
    ) -> Json:
        """NotFound when it is gone, Conflict when it is not the one with this uid and resourceVersion."""
        wanted = {"uid": uid, "resourceVersion": resource_version}
        preconditions = {name: value for name, value in wanted.items() if value is not None}
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if preconditions:
            options["preconditions"] = preconditions
        return self._write("DELETE", path, options, timeout=timeout)

    def watch(
        self,
        path: str,
        resource_version: str,
        timeout_seconds: int,
        label_selector: str | None = None,
        field_selector: str | None = None,
        read_timeout: float | None = None,
    ) -> Watch:
        """Events after `resource_version`, with bookmarks, until the server ends it after `timeout_seconds`.

        Silence longer than `read_timeout` (default: 15 s more than the server's own timeout) is taken
        for a half-open connection and raises ConnectionLost.
        """
        query = {
            **_selectors(label_selector, field_selector),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        }
        wait = timeout_seconds + 15.0 if read_timeout is None else read_timeout
        return Watch(self._transport.stream(path, query=query, read_timeout=wait), path)

    def _pages(self, path: str, query: Mapping[str, str], timeout: float) -> tuple[Items, str]:
        items: Items = []
        page = self._json("GET", path, query, timeout=timeout)
        while True:
            kind, api_version = page.get("kind", "").removesuffix("List"), page.get("apiVersion", "")
            items += ({"apiVersion": api_version, "kind": kind, **item} for item in page.get("items") or ())
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return items, metadata.get("resourceVersion", "")
            page = self._json("GET", path, {**query, "continue": metadata["continue"]}, timeout=timeout)

    def _write(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout: float = TIMEOUT,
    ) -> Json:
        if self._remaining is not None:
            timeout = min(timeout, self._remaining())
            if timeout <= 0:
                raise LeadershipLost(f"{method} {path} not sent: this process does not lead any more")
        return self._json(method, path, query, body, content_type, timeout)

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        timeout: float = TIMEOUT,
    ) -> Json:
        data = self._transport.request(method, path, query=query, body=body, content_type=content_type, timeout=timeout)
        try:
            answer: Json = json.loads(data)
        except ValueError as error:
            message = f"the answer to {method} {path} is no JSON: is {self.host} an API server, or a page to log in at?"
            raise TransientError(message, reason="NoApiServer") from error
        return answer


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in selectors.items() if value}
