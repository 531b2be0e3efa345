"""A real vLLM with the plugin on one port and without it on another, and clients on raw sockets."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.vllm_server import CHECKOUT, ml_env, served

SECONDS = 60.0  # for one answer, on a machine that does other things too
PLUGIN = CHECKOUT / "controller" / "engine" / "plugin"
FLAGS = ("--served-model-name=tiny", "--enable-lora", "--max-loras=4", "--max-cpu-loras=8", "--max-lora-rank=16")
MIDDLEWARE = "--middleware=tests.engine.plugin.two_ports.TwoPorts"
_MADE_UP = re.compile(rb'"(id|request_id)":"[a-z]+[-_][0-9a-f-]+"|"(created|created_at)":\d+')


@dataclass(frozen=True)
class Said:
    """An answer: first line, headers in lower case, body without its chunks."""

    line: bytes
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.line.split()[1])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def comparable(self, port: int) -> tuple[bytes, dict[bytes, bytes], bytes]:
        """Without what differs from answer to answer."""
        headers = {key: value for key, value in self.headers.items() if key != b"date"}
        if b"location" in headers:
            headers[b"location"] = headers[b"location"].replace(b"%d" % port, b"PORT")
        return self.line, headers, _MADE_UP.sub(b"", self.body)


class Connection:
    """One socket; reads answers as HTTP/1.1 frames them."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self) -> Said:
        line = self.file.readline().rstrip()
        headers: dict[bytes, bytes] = {}
        while row := self.file.readline().rstrip():
            key, _, value = row.partition(b":")
            headers[key.lower()] = value.strip()
        return Said(line, headers, b"")

    def chunk(self) -> bytes:
        """The next chunk; the last one is empty."""
        size = int(self.file.readline(), 16)
        data = self.file.read(size)
        self.file.readline()
        return data

    def answer(self, to_head: bool = False) -> Said:
        said = self.head()
        if said.headers.get(b"transfer-encoding") == b"chunked":
            body = b"".join(iter(self.chunk, b""))
        elif b"content-length" in said.headers and not to_head:
            body = self.file.read(int(said.headers[b"content-length"]))
        else:
            body = b""
        return Said(said.line, said.headers, body)

    def is_over(self) -> bool:
        """The server has closed it; waits for that."""
        return self.file.read(1) == b""


def request(
    method: str,
    path: str,
    body: bytes | None = None,
    *headers: str,
    kind: str = "application/json",
    version: str = "1.1",
) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *headers]
    if body is not None:
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def asked(port: int, data: bytes, to_head: bool = False) -> Said:
    with Connection(port) as connection:
        connection.send(data)
        return connection.answer(to_head)


def generation(model: str, *, stream: bool = False, tokens: int = 8, **more: Any) -> bytes:
    document = {"model": model, "prompt": "where is my bill", "max_tokens": tokens, "temperature": 0, "stream": stream}
    return request("POST", "/v1/completions", json.dumps({**document, "ignore_eos": True, **more}).encode())


class Server:
    """`port` has the plugin, `bare` passes it by. `mount` is the plugin's directory, as the kubelet makes it."""

    def __init__(self, port: int, bare: int, mount: Path, store: Path) -> None:
        self.port, self.bare, self.mount = port, bare, mount
        self.v1, self.v2 = (str(store / "incoming/support-bot" / version) for version in ("v1", "v2"))
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=SECONDS)

    def admin(self, method: str, path: str, document: object = None, token: str = "secret") -> httpx.Response:
        headers = {"X-Adapterrelease-Token": token}
        return self._http.request(method, path, json=document, headers=headers)

    def close(self) -> None:
        self._http.close()

    @property
    def state(self) -> Any:
        return self.admin("GET", "/adapterrelease/v1/state").json()

    def declare(self, name: str, target: str, path: str, version: str) -> None:
        """Loads it, if it is not loaded yet."""
        loaded = self.admin("POST", "/v1/load_lora_adapter", {"lora_name": target, "lora_path": path})
        assert loaded.status_code == 200 or "already been loaded" in loaded.text, loaded.text
        document = {"target": target, "path": path, "release": name, "version": version, "backend": "adapter"}
        said = self.admin("PUT", f"/adapterrelease/v1/models/{name}", document)
        assert said.status_code == 200, said.text

    def route(self, name: str, routed: bool) -> None:
        said = self.admin("PUT", f"/adapterrelease/v1/models/{name}/routed", {"routed": routed})
        assert said.status_code == 200, said.text

    def metrics(self) -> dict[str, float]:
        """The plugin's samples, by name and labels as they are written."""
        lines = self._http.get("/metrics").text.splitlines()
        found = [line.rpartition(" ") for line in lines if line.startswith("adapterrelease_")]
        return {name: float(value) for name, _, value in found}


def mounted(directory: Path, files: Mapping[str, bytes]) -> None:
    """As the kubelet does it: links to `..data/FILE`, `..data` a link that is swapped in one rename."""
    data = directory / f"..{len(list(directory.glob('..*')))}"
    data.mkdir(parents=True)
    for name, content in files.items():
        (data / name).write_bytes(content)
    fresh = directory / "..fresh"
    fresh.symlink_to(data.name)
    fresh.rename(directory / "..data")
    for name in files:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")


def plugin_files(token: str, *annotations: Mapping[str, Any]) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in PLUGIN.glob("*.py")}
    lines = [
        f"engine.adapterrelease.dev/{number}={json.dumps(json.dumps(it))}\n" for number, it in enumerate(annotations)
    ]
    return {**files, "token": token.encode(), "annotations": "".join(lines).encode()}


@contextmanager
def real_server(directory: Path) -> Iterator[Server]:
    """With `bot` restored from its annotation, and `broken`, which cannot be."""
    environment, store = ml_env(), directory / "store"
    variables = {"PYTHONPATH": str(CHECKOUT)}
    for part in ("base", "adapters"):
        command = [environment / "bin/python", "-m", "sandbox.models", store, "--only", part]
        done = subprocess.run(command, env=os.environ | variables, cwd=CHECKOUT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    mount = directory / "mount" / "adapterrelease_engine"
    bot = {"name": "bot", "target": "bot@111111111111", "path": str(store / "incoming/support-bot/v1")}
    broken = {"name": "broken", "target": "broken@222222222222", "path": str(store / "nowhere")}
    labels = {"release": "bot", "version": "v1", "backend": "adapter"}
    mounted(mount, plugin_files("secret", {**broken, **labels}, {**bot, **labels}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bare = probe.getsockname()[1]
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.chdir(CHECKOUT)  # `tests` is importable from there
        patch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "True")
        patch.setenv("PLUGIN_MOUNT", str(mount.parent))
        patch.setenv("BARE_PORT", str(bare))
        flags = (*FLAGS, MIDDLEWARE)
        url = stack.enter_context(served(environment, store / "models/base", directory / "vllm.log", *flags))
        yield stack.enter_context(closing(Server(int(url.rpartition(":")[2]), bare, mount, store)))
