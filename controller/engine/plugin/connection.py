"""The connection under an answer, as uvicorn keeps it. Must not know: models.

A client that has read an answer to its end may send its next request at once. A connection that is closed a moment
later loses that request; one that is closed with the answer's last bytes does not, because both arrive together.
"""

from __future__ import annotations

import socket
from typing import Any

from .asgi import Receive

_HOLD = getattr(socket, "TCP_CORK", None)


def under(receive: Receive) -> Any:
    """uvicorn's cycle of one request and its answer. None: another server's, or somebody has wrapped `receive`."""
    cycle = getattr(receive, "__self__", None)
    return cycle if _HOLD is not None and hasattr(cycle, "keep_alive") and hasattr(cycle, "transport") else None


def close_with_the_end(cycle: Any) -> None:
    """To be said before the last bytes are sent. The kernel holds them until the connection is closed, 200 ms at most;
    data and FIN go out as one segment."""
    if cycle.transport.is_closing():
        return
    cycle.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _HOLD, 1)
    cycle.keep_alive = False
