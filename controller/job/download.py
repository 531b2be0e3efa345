"""Fetches one file by https from a server that is not trusted: bounded, and never into the node or the pod itself.

The standard library's client, because the address that was checked must be the address that is connected to
(a name may resolve differently the second time). Proxies of the environment are not used. Must not know what
the file is.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from controller.errors import PermanentError, TransientError
from controller.job.reasons import Reason

MAX_REDIRECTS = 5
BLOCK = 1 << 20
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_is_allowed(address: Address) -> bool:
    """Private networks are (an object store in the cluster), the pod itself and cloud metadata are not."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return address_is_allowed(inner)
    return not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified)


@dataclass(frozen=True)
class Downloader:
    """How files are fetched. `credentials` is a mounted Secret: `token`, or `username` and `password`; `ca.crt`."""

    credentials: Path | None = None
    timeout: float = 60.0
    is_allowed: Callable[[Address], bool] = address_is_allowed

    def download(self, url: str, target: Path, max_bytes: int, advance: Callable[[int], None]) -> int:
        """Fetches `url` into `target`; the number of bytes. TransientError where another try may help."""
        origin, authorization = _origin(parsed(url)), self._authorization()
        for _ in range(MAX_REDIRECTS + 1):
            parts = parsed(url)
            if parts.scheme != "https" or not parts.hostname or parts.username or parts.password:
                raise PermanentError(
                    f"{shown(url)}: only https without credentials in it", reason=Reason.SOURCE_FORBIDDEN
                )
            # Credentials never follow a redirect to another server.
            headers = {"Authorization": authorization} if authorization and _origin(parts) == origin else {}
            connection = _CheckedConnection(
                parts.hostname, parts.port or 443, self.timeout, self._tls(), self.is_allowed
            )
            try:
                connection.request(
                    "GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), headers=headers
                )
                answer = connection.getresponse()
                if answer.status in (301, 302, 303, 307, 308):
                    url = urljoin(url, answer.getheader("Location") or "")
                    continue
                _check_status(url, answer.status)
                return _save(url, answer, target, max_bytes, advance)
            except (OSError, http.client.HTTPException) as e:
                raise TransientError(f"{shown(url)}: {e or type(e).__name__}", reason=Reason.SOURCE_UNAVAILABLE) from e
            except ValueError as e:  # a host or path that no request can have, here or where it redirects to
                raise _no_address(url) from e
            finally:
                connection.close()
        raise PermanentError(f"{shown(url)}: more than {MAX_REDIRECTS} redirects", reason=Reason.SOURCE_INVALID)

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self.credentials is not None and (self.credentials / "ca.crt").is_file():
            context.load_verify_locations(self.credentials / "ca.crt")
        return context

    def _authorization(self) -> str | None:
        if self.credentials is None:
            return None
        token = _secret(self.credentials / "token")
        if token:
            return f"Bearer {token}"
        user, password = _secret(self.credentials / "username"), _secret(self.credentials / "password")
        if user and password:
            return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        return None


class _CheckedConnection(http.client.HTTPSConnection):
    def __init__(
        self, host: str, port: int, timeout: float, tls: ssl.SSLContext, is_allowed: Callable[[Address], bool]
    ) -> None:
        super().__init__(host, port, timeout=timeout, context=tls)
        self._tls, self._is_allowed = tls, is_allowed

    def connect(self) -> None:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        error: OSError | None = None
        for *_, address in found:
            if not self._is_allowed(ipaddress.ip_address(str(address[0]).split("%")[0])):
                raise PermanentError(
                    f"{self.host} is {address[0]}: the node and the pod itself are no source",
                    reason=Reason.SOURCE_FORBIDDEN,
                )
        for family, kind, protocol, _, address in found:
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(self.timeout)
            try:
                connection.connect(address)
                self.sock = self._tls.wrap_socket(connection, server_hostname=self.host)
                return
            except OSError as e:
                connection.close()
                error = e
        raise error or OSError(f"{self.host} has no address")


def parsed(url: str) -> SplitResult:
    """Raises PermanentError for what is no address."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as e:
        raise _no_address(url) from e
    return parts


def _no_address(url: str) -> PermanentError:
    """Says as much of `url` as `shown`, which cannot read it, and nothing of the error, which may quote all of it."""
    said = re.split(r"[?#]", url)[0].rpartition("@")[2]
    return PermanentError(
        f"{said} is no address, or redirects to none: look at its host, port and path", reason=Reason.SOURCE_INVALID
    )


def _origin(parts: SplitResult) -> tuple[str | None, int]:
    return parts.hostname, parts.port or 443


def shown(url: str) -> str:
    """`url` for messages: without its query, which may hold a signature, and without credentials."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query="", fragment="", netloc=parts.netloc.rpartition("@")[2]))


def _secret(path: Path) -> str | None:
    return path.read_text().strip() if path.is_file() else None


def _check_status(url: str, status: int) -> None:
    if status == 200:
        return
    if status in (408, 425, 429) or status >= 500:
        raise TransientError(f"{shown(url)}: the server answered {status}", reason=Reason.SOURCE_UNAVAILABLE)
    reason = {
        401: Reason.SOURCE_FORBIDDEN,
        403: Reason.SOURCE_FORBIDDEN,
        404: Reason.SOURCE_NOT_FOUND,
        410: Reason.SOURCE_NOT_FOUND,
    }
    raise PermanentError(
        f"{shown(url)}: the server answered {status}", reason=reason.get(status, Reason.SOURCE_INVALID)
    )


def _save(
    url: str, answer: http.client.HTTPResponse, target: Path, max_bytes: int, advance: Callable[[int], None]
) -> int:
    size = 0
    expected = answer.length
    with target.open("wb") as f:
        while block := answer.read(BLOCK):
            size += len(block)
            if size > max_bytes:
                raise PermanentError(f"{shown(url)}: larger than {max_bytes} bytes", reason=Reason.SOURCE_TOO_LARGE)
            f.write(block)
            advance(len(block))
    if expected is not None and size != expected:
        raise TransientError(
            f"{shown(url)}: cut off after {size} of {expected} bytes", reason=Reason.SOURCE_UNAVAILABLE
        )
    return size
