"""What the reader of the demo sees: each command as it is run, and how long each step took."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class DemoFailed(Exception):  # noqa: N818 - reads as what happened
    """A step did not end as it must; the message says which and what to look at."""


class Narrator:
    def __init__(self, environment: dict[str, str], kubectl: list[str], context: str = "") -> None:
        """`context`: the cluster is the reader's own, and this is what they call it; `take_away` then says with which
        arguments of kubectl they remove what was made there."""
        self.environment = {**os.environ, **environment}
        self.kubectl_command = kubectl
        self._shown = ["kubectl", *(("--context", context) if context else ())]
        self.is_sandbox = not context
        self.take_away: list[str] = []
        self.times: list[tuple[str, float]] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        print(f"\n\033[1m== {title}\033[0m" if sys.stdout.isatty() else f"\n== {title}", flush=True)
        began = time.monotonic()
        yield
        self.times.append((title, time.monotonic() - began))
        print(f"   {self.times[-1][1]:.1f} s", flush=True)

    def say(self, text: str) -> None:
        print(f"   {text}", flush=True)

    def run(self, *command: str, check: bool = True) -> str:
        """Run a program of ours; its output goes to the reader."""
        process = subprocess.Popen(command, env=self.environment)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()  # it was interrupted, too, and clears away what it began; `subprocess.run` would kill it
            raise
        if check and code:
            raise DemoFailed(f"{shlex.join(command)} ended with {code}")
        return ""

    def kubectl(self, *arguments: str, show: bool = True, quiet: bool = False, check: bool = True) -> str:
        """Run kubectl as the reader would, print the command and what it says."""
        if show:
            print(f"   $ {shlex.join([*self._shown, *arguments])}", flush=True)
        result = subprocess.run(
            [*self.kubectl_command, *arguments], env=self.environment, text=True, capture_output=True, check=False
        )
        if check and result.returncode:
            raise DemoFailed(f"{shlex.join([*self._shown, *arguments])}: {result.stderr.strip()}")
        text = result.stdout if not result.returncode else result.stdout + result.stderr
        if show and not quiet and text.strip():
            print("\n".join("     " + line for line in text.rstrip().splitlines()), flush=True)
        return text

    def until(
        self, what: str, done: Callable[[], object], limit: float, show: Callable[[], str] | None = None
    ) -> float:
        """Wait for something, showing progress when it changes; seconds it took."""
        began, last = time.monotonic(), ""
        while not done():
            waited = time.monotonic() - began
            if waited > limit:
                raise DemoFailed(f"gave up after {limit:.0f} s: {what}")
            now = show() if show else ""
            if now and now != last:
                print(f"     {waited:5.1f} s  {now}", flush=True)
                last = now
            time.sleep(0.2)
        return time.monotonic() - began

    @contextmanager
    def farewell_if_cut_short(self) -> Iterator[None]:
        """By a failure or by Ctrl-C: the reader hears that everything stays up, and how to stop it."""
        try:
            yield
        except BaseException:
            self.farewell()
            raise

    def farewell(self) -> None:
        kubectl = shlex.join(self._shown)
        print("\nEverything stays up. To look around:")
        if self.is_sandbox:
            print(f"   export KUBECONFIG={self.environment['KUBECONFIG']}")
        print(f"   {kubectl} -n llm get ar,pods,services")
        print(f"   {kubectl} -n llm describe ar support-bot")
        if self.is_sandbox:
            print("To stop it and leave nothing behind: make down", flush=True)
        else:
            print("To take it away again; what was there before, and what lies in the store, stay:")
            for arguments in self.take_away:
                print(f"   {kubectl} {arguments}", flush=True)

    def table(self, rows: list[tuple[str, ...]]) -> None:
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            print("   " + "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)), flush=True)
