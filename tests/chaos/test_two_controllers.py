"""Two operators: one leads. The leader dies, or falls asleep and wakes up after another has taken over."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.reconcile.caches import RELEASES
from controller.runtime.resources import CONFIGMAPS, DEPLOYMENTS, JOBS, LEASES, PODS, SERVICES
from controller.settings import Settings
from tests.chaos.operators import LEASE_NAMESPACE, OperatorProcess
from tests.e2e.cluster import Cluster, measured
from tests.e2e.release import ANSWER, Release, spec_of

pytestmark = pytest.mark.e2e

SHORT_LEASE: dict[str, Any] = {"lease_duration": 10.0, "lease_renew_deadline": 8.0, "lease_retry_period": 0.5}


class Pair:
    """Two operators that compete for one Lease."""

    def __init__(self, cluster: Cluster, logs: Path, lease: str, **settings: Any) -> None:
        self.cluster = cluster
        self.lease = lease
        one, two = (OperatorProcess(cluster.kubeconfig, logs / f"{n}.log", lease_name=lease, **settings) for n in "12")
        self.leader, self.other = one, two

    def start(self) -> None:
        """The second one begins when the first one leads."""
        self.leader.start()
        self.until_led_by(self.leader)
        self.other.start()

        def waits() -> bool:
            return ("lease seen", self.leader.identity) in [(x["msg"], x.get("holder")) for x in self.other.lines()]

        self.cluster.until("the other has seen the Lease", waits, 30)

    def until_led_by(self, operator: OperatorProcess) -> None:
        def leads() -> bool:
            return operator.identity != "" and self.holder() == operator.identity

        self.cluster.until(f"{operator.log.name} leads", leads, 60)

    def holder(self) -> str:
        lease = self.cluster.get(LEASES, self.lease, LEASE_NAMESPACE) or {"spec": {}}
        return str(lease["spec"].get("holderIdentity", ""))

    def end(self) -> None:
        for operator in (self.leader, self.other):
            operator.end()


@pytest.fixture
def pair(without_operator: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pair]:
    settings = getattr(request, "param", {})
    pair = Pair(without_operator, tmp_path, f"lease-{tmp_path.name[:20].replace('_', '-')}", **settings)
    try:
        pair.start()
        yield pair
    finally:
        pair.end()


def test_the_other_takes_over_when_the_leader_is_killed(pair: Pair) -> None:
    """With the timing that is installed."""
    release = Release(pair.cluster, "heir")
    release.set_spec(spec_of())
    release.until("Ready", "True", "Serving")
    assert pair.other.identity == ""

    began = time.monotonic()
    pair.leader.send(signal.SIGKILL)
    pair.until_led_by(pair.other)
    defaults = Settings()
    timing = (defaults.lease_duration, defaults.lease_renew_deadline, defaults.lease_retry_period)
    measured(f"seconds to take over with lease timing {timing}", round(time.monotonic() - began, 1))
    assert ANSWER in release.ask()
    release.set_spec(spec_of(source="support-bot/v2"))
    release.until("Ready", "True", "Serving")
    assert release.status["adapter"]["version"] == "v2"


@pytest.mark.parametrize("pair", [SHORT_LEASE], indirect=True)
def test_a_leader_that_slept_writes_nothing_when_it_wakes_up(pair: Pair) -> None:
    """It sleeps amid its work, and thinks that it knows what to do next."""
    release = Release(pair.cluster, "sleeper")
    release.set_spec(spec_of())
    pair.cluster.until("the import is under way", lambda: release.step == "Importing" and release.jobs("import"), 60)
    pair.leader.send(signal.SIGSTOP)
    began = time.monotonic()
    pair.until_led_by(pair.other)
    measured(f"seconds to take over with {SHORT_LEASE}", round(time.monotonic() - began, 1))
    release.until("Ready", "True", "Serving")
    release.until("AdapterLoaded", "True", "Loaded")
    pair.cluster.until("nothing is under way", lambda: release.step == "Idle", 30)

    before = versions(pair.cluster)
    pair.leader.send(signal.SIGCONT)
    assert pair.leader.wait(60) == 1
    assert versions(pair.cluster) == before
    assert pair.holder() == pair.other.identity
    assert any(line["msg"].startswith("leadership lost") for line in pair.leader.lines())
    assert ANSWER in release.ask()


def versions(cluster: Cluster) -> dict[str, Any]:
    """What an operator could write. Of pods only what it writes there: the rest changes by itself."""
    found: dict[str, Any] = {}
    for resource in (RELEASES, SERVICES, JOBS, CONFIGMAPS, DEPLOYMENTS):
        for obj in cluster.find(resource):
            found[f"{resource.plural}/{obj['metadata']['name']}"] = obj["metadata"]["resourceVersion"]
    for pod in cluster.find(PODS):
        meta = pod["metadata"]
        found[f"pods/{meta['name']}"] = (meta.get("labels"), meta.get("annotations"))
    return found
