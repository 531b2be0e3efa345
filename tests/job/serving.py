"""Loopback servers for tests: one with files over https, one that speaks OpenAI's chat completions."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def serve(answer: Callable[[BaseHTTPRequestHandler, bytes], Answer], tls: Path | None = None) -> Iterator[int]:
    """Serves on a free port of 127.0.0.1 until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, content = answer(self, body)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _serve  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def certificate(directory: Path) -> Path:
    """Key and self-signed certificate of 127.0.0.1 and localhost, in one file; the certificate also in `ca.crt`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "ca.crt").write_bytes(public)
    path = directory / "server.pem"
    path.write_bytes(private + public)
    return path


class FakeModel:
    """A chat model: `answers` maps the last message to the answer, or to an HTTP status."""

    def __init__(self, model: str, answers: Callable[[str], str | int], tokens: int = 4, root: str = "/m") -> None:
        self.model, self.answers, self.tokens, self.root = model, answers, tokens, root
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self._lock = threading.Lock()
        self.running = 0
        self.most = 0

    def __call__(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        self.keys.add(request.headers.get("Authorization"))
        if request.path == "/v1/models":
            return 200, {}, json.dumps({"data": [{"id": self.model, "root": self.root}]}).encode()
        document = json.loads(body)
        with self._lock:
            self.requests.append(document)
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            said = self.answers(document["messages"][-1]["content"])
        finally:
            with self._lock:
                self.running -= 1
        if isinstance(said, int):
            return said, {}, b"no"
        message = {"role": "assistant", "content": said}
        return (
            200,
            {},
            json.dumps({"choices": [{"message": message}], "usage": {"completion_tokens": self.tokens}}).encode(),
        )
