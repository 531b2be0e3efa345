"""A TCP proxy on loopback that fails on demand: puts the faults of a network before a real server."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress

_CHUNK = 1 << 16


class FaultyProxy:
    """Forwards to `target` (host, port); use it as a context manager.

    `freeze`: accept and keep every connection, and pass nothing on. `cut`: close every connection, old
    and new. `heal`: pass on again, also what was held back.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._peers: dict[socket.socket, socket.socket] = {}
        self._mode = "pass"
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> FaultyProxy:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._switch("stop")
        self._thread.join()
        for sock in (*self._peers, self._listener, self._wake, self._woken):
            sock.close()
        self._selector.close()

    def freeze(self) -> None:
        self._switch("freeze")

    def cut(self) -> None:
        self._switch("cut")

    def heal(self) -> None:
        self._switch("pass")

    def _switch(self, mode: str) -> None:
        self._mode = mode
        self._wake.send(b"x")

    def _run(self) -> None:
        while self._mode != "stop":
            for key, _ in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._woken:
                    self._woken.recv(_CHUNK)
                    self._change()
                elif sock is self._listener:
                    self._accept()
                elif sock in self._peers:
                    self._forward(sock)

    def _change(self) -> None:
        if self._mode == "cut":
            for sock in list(self._peers):
                self._drop(sock)
        for sock in self._peers:
            listening = sock in self._selector.get_map()
            if self._mode == "freeze" and listening:
                self._selector.unregister(sock)
            elif self._mode == "pass" and not listening:
                self._selector.register(sock, selectors.EVENT_READ)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._mode == "cut":
            client.close()
            return
        server = socket.create_connection(self._target)
        for sock, peer in ((client, server), (server, client)):
            self._peers[sock] = peer
            if self._mode == "pass":
                self._selector.register(sock, selectors.EVENT_READ)

    def _forward(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(_CHUNK)
            self._peers[sock].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(sock)

    def _drop(self, sock: socket.socket) -> None:
        peer = self._peers.pop(sock, None)
        if peer is None:
            return
        self._peers.pop(peer, None)
        for each in (sock, peer):
            with suppress(KeyError):
                self._selector.unregister(each)
            each.close()
