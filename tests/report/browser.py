"""A real browser: Chromium without a window, spoken to by the DevTools protocol over two pipes.

What the page's policy forbids to the page, DevTools may do: so scripts that ask the page for its sizes run although
none of the page's own would.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Json = dict[str, Any]
PATIENCE = 60.0  # seconds for one answer: a browser on a busy machine
_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, until the end of the block."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("there is no chromium: run `make test`, or `sandbox/host-packages.sh chromium:chromium`")
    profile = tempfile.mkdtemp(prefix="chromium-")
    (commands, write), (read, answers) = os.pipe(), os.pipe()
    inherited = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (commands, answers)]  # out of the way of 3 and 4
    command = [program, *_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={profile}"]
    # It reads commands from 3 and writes answers to 4.
    shell = f'exec "$@" 3<&{inherited[0]} 4>&{inherited[1]}'
    process = subprocess.Popen(
        ["bash", "-c", shell, "chromium", *command, "about:blank"],
        pass_fds=inherited,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": profile, "XDG_CONFIG_HOME": profile, "XDG_CACHE_HOME": profile},
    )
    for end in (commands, answers, *inherited):
        os.close(end)
    try:
        yield Browser(write, read)
    finally:
        os.close(write)  # it ends when its commands do
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(read)
        shutil.rmtree(profile, ignore_errors=True)


class Browser:
    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._unread = b""
        self._number = 0
        self._events: list[Json] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Json:
        """The answer to one command; what happens meanwhile is kept for `events`."""
        self._number += 1
        message: Json = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                found: Json = answer["result"]
                return found
            self._events.append(answer)

    def until(self, method: str) -> None:
        """Waits for an event, and forgets it."""
        while not any(e.get("method") == method for e in self._events):
            self._events.append(self._next())
        self._events = [e for e in self._events if e.get("method") != method]

    def events(self, *methods: str) -> list[Json]:
        return [e["params"] for e in self._events if e.get("method") in methods]

    def forget(self) -> None:
        self._events = []

    def _next(self) -> Json:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            block = os.read(self._read, 1 << 20) if ready else b""
            if not block:
                pytest.fail("chromium does not answer" if not ready else "chromium has ended")
            self._unread += block
        text, _, self._unread = self._unread.partition(b"\0")
        found: Json = json.loads(text)
        return found


class Tab:
    """One page at a time, of a width, in a theme."""

    def __init__(self, chromium: Browser) -> None:
        self._browser = chromium
        target = chromium.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = chromium.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Json:
        return self._browser.call(method, self._session, **parameters)

    def open(self, page: Path, width: int = 1280, theme: str = "light", media: str = "screen") -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=2 if width < 600 else 1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self._browser.forget()
        self.call("Page.navigate", url=page.as_uri())
        self._browser.until("Page.loadEventFired")

    def ask(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """Everything that the console shows: errors, violations of the policy, exceptions."""
        logged = [f"{e['entry']['level']}: {e['entry']['text']}" for e in self._browser.events("Log.entryAdded")]
        said = [str(e["args"]) for e in self._browser.events("Runtime.consoleAPICalled")]
        thrown = [str(e["exceptionDetails"]) for e in self._browser.events("Runtime.exceptionThrown")]
        return [*logged, *said, *thrown]

    def requests(self) -> list[str]:
        """Every address that was asked for."""
        return [e["request"]["url"] for e in self._browser.events("Network.requestWillBeSent")]

    def dialogs(self) -> list[str]:
        return [e["message"] for e in self._browser.events("Page.javascriptDialogOpening")]

    def picture(self, path: Path, top: float = 0, bottom: float | None = None) -> None:
        """All of the page, however long, or the part between two heights of it."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        height = (size["height"] if bottom is None else bottom) - top
        clip = {"x": 0, "y": top, "width": size["width"], "height": height, "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def paper(self) -> bytes:
        """As a PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])
