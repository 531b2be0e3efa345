"""One watch connection: a stream of JSON lines that another thread can end.

Keeps nothing, resumes nothing; the reflector does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import urllib3

from controller.errors import ConnectionLost
from controller.runtime.status import error_from_status

_CHUNK = 1 << 16


class Watch:
    """Iterate over it once for the events: dicts with `type` and `object`, BOOKMARK included.

    Ends without an error when the server ends it. An ERROR event, such as 410, is raised as its
    ApiError; a broken or silent connection as ConnectionLost.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, path: str) -> None:
        self._response = response
        self._path = path
        self._closed = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            for line in self._lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise error_from_status(event["object"])
                yield event
        finally:
            self._response.close()  # the rest of a watch is not worth reading to save a connection

    def close(self) -> None:
        """End the iteration, also when it waits for the next event; may be called from any thread."""
        self._closed = True
        with suppress(OSError, ValueError, RuntimeError):  # it may have ended already
            self._response.shutdown()

    def _lines(self) -> Iterator[bytes]:
        rest = b""
        while data := self._read():
            *lines, rest = (rest + data).split(b"\n")
            yield from (line for line in lines if line.strip())

    def _read(self) -> bytes:
        try:
            return b"" if self._closed else self._response.read1(_CHUNK)
        except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError) as error:
            if self._closed:  # a TLS socket that is shut down under a reader fails in several ways
                return b""
            if isinstance(error, urllib3.exceptions.TimeoutError):
                raise ConnectionLost(f"WATCH {self._path}: silent for too long", reason="Timeout") from error
            raise ConnectionLost(f"WATCH {self._path}: {error}") from error
