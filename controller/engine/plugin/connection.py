"""The connection under an answer, as uvicorn keeps it. Must not know: models.

A client that has read an answer to its end may send its next request at once. A connection that is closed a moment
later loses that request; one that ends with the answer's last bytes does not, because both arrive together. uvicorn's
own way, `close`, is a turn of the event loop late, or many where the loop is busy.
"""

from __future__ import annotations

import socket
from typing import Any

from .asgi import Receive

_HOLD = getattr(socket, "TCP_CORK", None)


def under(receive: Receive) -> Any:
    """The transport of a request's connection. None: this one cannot be ended by its last bytes. It is another
    server's, or somebody has wrapped `receive`, or there is TLS."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    return transport if _HOLD is not None and transport is not None and transport.can_write_eof() else None


def may_end(transport: Any) -> bool:
    """Not where it ends already, nor before a request that was sent behind this one: that would lose its answer."""
    return not transport.is_closing() and not getattr(transport.get_protocol(), "pipeline", ())


def hold(transport: Any) -> None:
    """To be said before the last bytes are sent: the kernel keeps them for `end`, 200 ms at most."""
    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _HOLD, 1)


def end(transport: Any) -> None:
    """To be said when they are sent: they leave with the end as one segment. uvicorn closes what is left, 5 s later if
    the client does not."""
    if not transport.is_closing():  # by uvicorn, or by a client that left while they waited for it
        transport.write_eof()
