"""Operators as processes of this machine, against a real cluster: started, killed, stopped and continued by tests.

A fork server has the code imported already: a real process of its own is there in milliseconds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from controller.domain.actions import TellRouted
from controller.reconcile.turn import Turn
from controller.settings import Settings
from tests.chaos.crash import CrashPoint

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["controller.app"])

LEASE_NAMESPACE = "llm"


class OperatorProcess:
    """One process of the operator; `settings` are fields of Settings."""

    def __init__(self, kubeconfig: Path, log: Path, crash: dict[str, Any] | None = None, **settings: Any) -> None:
        self.log = log
        given = {"kubeconfig": str(kubeconfig), "lease_namespace": LEASE_NAMESPACE, "metrics_port": 0, **settings}
        self._process: ForkServerProcess = _CONTEXT.Process(target=_run, args=(given, str(log), crash), daemon=True)

    def start(self) -> OperatorProcess:
        self._process.start()
        return self

    def send(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, seconds: float) -> int | None:
        """Its exit code (minus the signal that killed it); None while it runs."""
        self._process.join(seconds)
        return self._process.exitcode

    def end(self) -> None:
        """Whatever it is doing."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join(10)

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        if not self.log.exists():
            return []
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    @property
    def identity(self) -> str:
        """As in the Lease; empty while it has not led."""
        return next((str(line["identity"]) for line in self.lines() if line.get("msg") == "leading"), "")


def _run(settings: dict[str, Any], log: str, crash: dict[str, Any] | None) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    from controller.app import run_operator  # imported already, by the fork server

    point = CrashPoint(**crash) if crash else None
    if point is not None:
        _also_in_a_switch(point)
    around = {"around": point} if point else {}
    sys.exit(run_operator(Settings(**settings), **around))


def _also_in_a_switch(point: CrashPoint) -> None:
    """A switch is two writes: servers are told, then the route moves."""
    from controller.reconcile.act_pods import PodActions

    tell = PodActions.tell_routed

    def told(pods: PodActions, action: TellRouted, turn: Turn) -> None:
        point(partial(tell, pods))(action, turn)

    setattr(PodActions, tell.__name__, told)
