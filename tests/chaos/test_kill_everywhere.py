"""One life in which the operator is killed before and after every single write, and started again.

The end is that of an undisturbed life: nothing is built twice, no request is lost.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.api.v1alpha1 import RELEASE_LABEL
from controller.reconcile.jobs import JOB_NAME_LABEL
from controller.runtime.resources import CONFIGMAPS, JOBS, PODS, SERVICES
from tests.chaos.crash import AFTER, BEFORE, Death
from tests.chaos.operators import OperatorProcess
from tests.e2e.cluster import NAMESPACE, Cluster, measured
from tests.e2e.load import Load
from tests.e2e.release import ANSWER, Release, cheaply, spec_of

pytestmark = pytest.mark.e2e

# A killed leader gives its Lease not back; the next one waits for so long.
SHORT_LEASE: dict[str, Any] = {"lease_duration": 1.5, "lease_renew_deadline": 1.2, "lease_retry_period": 0.1}
KILLED = -9
# Every sort of write in this life. "Status" stands for all decisions and observations that are written down.
WRITES = {
    "AddFinalizer",
    "EnsureJob import",
    "StageAdapter",
    "FlipAlias",
    "ProbeAndLabel",
    "SwitchRoute",
    "TellRouted",
    "EnsureJob build",
    "EnsureMerged",
    "EnsureJob validate",
    "RemoveLabel",
    "ClearAlias",
    "UnloadAdapter",
    "DeleteMerged",
    "Status",
}


class Killer:
    """Starts an operator that dies before its first write; then one that dies after it; and so on.

    Only where the first write is the same again, at the second: a process that never gets further than to repeat
    itself ends no life. Each dies earlier at a sort of write that nobody died before, or after, yet.
    """

    def __init__(self, cluster: Cluster, logs: Path) -> None:
        self._cluster = cluster
        self._logs = logs
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer")
        self._trouble: Exception | None = None
        self.deaths: list[Death] = []
        self.others: list[int] = []  # exit codes of those that ended in another way

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)
        if self._trouble is not None:
            raise self._trouble

    def _run(self) -> None:
        try:
            self._supervise()
        except Exception as error:  # raised again where somebody sees it
            self._trouble = error

    def _supervise(self) -> None:
        number = 0
        while not self._stopping.is_set():
            number += 1
            mode = AFTER if len(self.deaths) % 2 else BEFORE
            at = self._next(mode)
            log = self._logs / f"{number:03}-{mode}-{at}.log"
            note = log.with_suffix(".death")
            crash = {"mode": mode, "at": at, "unkilled": self.unkilled(), "note": note}
            operator = OperatorProcess(self._cluster.kubeconfig, log, crash, lease_name="chaos", **SHORT_LEASE)
            operator.start()
            try:
                self._note(operator, note)
            finally:
                operator.end()

    def _next(self, mode: str) -> int:
        """The first write; a later one where the last two died at the same: some plans begin with a repetition."""
        last = [d for d in self.deaths if d.mode == mode][-2:]
        return last[-1].at + 1 if len(last) == 2 and last[0].write == last[1].write != "Status" else 1

    def unkilled(self) -> dict[str, frozenset[str]]:
        """By mode: the sorts of writes that nobody died at yet."""
        died = {(d.mode, d.write) for d in self.deaths}
        return {mode: frozenset(w for w in WRITES if (mode, w) not in died) for mode in (BEFORE, AFTER)}

    def _note(self, operator: OperatorProcess, note: Path) -> None:
        while (code := operator.wait(0.5)) is None:
            if self._stopping.is_set():
                return
        if code == KILLED and note.exists():
            self.deaths.append(Death.read(note))
        else:
            self.others.append(code)


@contextmanager
def every_job(cluster: Cluster, release: str, out: Path) -> Iterator[None]:
    """Writes name and uid of each job that ever was, to `out`."""
    line = '{.object.metadata.name} {.object.metadata.uid}{"\\n"}'
    command = ["-n", NAMESPACE, "get", "jobs", "-l", f"{RELEASE_LABEL}={release}", "--watch", "--output-watch-events"]
    with out.open("w") as file:
        watch = subprocess.Popen([*cluster.kubectl_command, *command, "-o", f"jsonpath={line}"], stdout=file)
        try:
            yield
        finally:
            watch.terminate()
            watch.wait(10)


def test_a_life_survives_a_kill_before_and_after_every_write(without_operator: Cluster, tmp_path: Path) -> None:
    cluster, release = without_operator, Release(without_operator, "survivor")
    with every_job(cluster, release.name, tmp_path / "jobs"):
        with Killer(cluster, tmp_path) as killer:
            load = live(release)
        load.assert_nothing_failed()
    measured("kills in one life", len(killer.deaths))
    measured("operators that ended otherwise", killer.others)

    assert killer.unkilled() == {BEFORE: frozenset(), AFTER: frozenset()}
    jobs = set((tmp_path / "jobs").read_text().splitlines())
    assert sorted(job.split()[0].rsplit("-", 1)[0] for job in jobs) == [
        "survivor-build",
        "survivor-import",
        "survivor-validate",
    ]
    assert_each_object_is_there_once(release)
    assert [(h["revision"], h["reason"]) for h in release.status["history"]] == [
        (3, "RolledBackByUser"),
        (2, "Promoted"),
        (1, "FirstLoad"),
    ]


def live(release: Release) -> Load:
    """Apply, promote, settle, roll back; under load from the first answer on."""
    spec = cheaply(spec_of("Stable", rollbackWindow="1s", scaleDownDelay="1s"))
    spec["rollout"]["observe"] |= {"duration": "6s", "interval": "2s"}
    release.set_spec(spec)
    release.until_answered(ANSWER, seconds=300)
    with Load(release.cluster, release.name, rate=5) as load:
        release.until("Promoted", "True", seconds=900)
        assert ANSWER in release.ask()
        release.until("AdapterLoaded", "False", "Unloaded")
        release.cluster.until("the adapter is on no base pod", lambda: not holders(release), 120)
        release.patch({"spec": {"stage": "Experimental"}})
        release.until_serving("Adapter", seconds=300)
        release.until("Ready", "True", "Serving", seconds=300)
        release.cluster.until("the merged Deployment is gone", lambda: not release.merged(), 120)
        assert ANSWER in release.ask()
        load.stop()
    return load


def holders(release: Release) -> list[str]:
    pods = release.cluster.base_pods()
    return [p["metadata"]["name"] for p in pods if release.name in release.cluster.models_in(p)]


def assert_each_object_is_there_once(release: Release) -> None:
    cluster, mine = release.cluster, f"{RELEASE_LABEL}={release.name}"
    services = sorted(s["metadata"]["name"] for s in cluster.find(SERVICES, mine))
    assert services == ["survivor", "survivor-adapter", "survivor-preview"]
    assert len(cluster.find(JOBS, mine)) == len(cluster.find(CONFIGMAPS, mine)) == 3
    for job in cluster.find(JOBS, mine):
        assert len(cluster.find(PODS, f"{JOB_NAME_LABEL}={job['metadata']['name']}")) == 1
    artifacts = [p for p in (cluster.store / "artifacts").iterdir() if p.name in release.status["artifact"]["path"]]
    assert len(artifacts) == 1
