"""`kube-up.sh down` leaves nothing behind, whatever happened before; and the host stays as it was."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.traces import Cluster

NETWORK = 77
POD = """
apiVersion: v1
kind: Pod
metadata: {name: sleeper}
spec:
  terminationGracePeriodSeconds: 300
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: app
    image: local/app:1
    command: [sh, -c, "trap '' TERM; sleep infinity"]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Not up yet. A short path: programs put sockets below it."""
    parent = Path(tempfile.mkdtemp(prefix="arsb-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    cluster = Cluster(parent / "run", NETWORK, port)
    yield cluster
    cluster.call("down")
    shutil.rmtree(parent)


def ends_of_the_host() -> list[str]:
    """What a node must not change: the sysctls that a kubelet likes to set, and the user's own kubeconfig."""
    sysctls = ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"]
    config = Path.home() / ".kube/config"
    return [Path("/proc/sys", name).read_text() for name in sysctls] + [config.read_text() if config.exists() else ""]


@pytest.mark.apiserver
@pytest.mark.timeout(600)
def test_a_cluster_without_node_leaves_nothing(cluster: Cluster) -> None:
    assert cluster.call("up", "--no-node").returncode == 0
    assert cluster.traces(), "a check that sees nothing proves nothing"

    assert cluster.call("down").returncode == 0

    assert cluster.traces() == []


@pytest.mark.apiserver
@pytest.mark.timeout(600)
def test_a_second_up_keeps_the_cluster_and_brings_back_a_killed_api_server(cluster: Cluster) -> None:
    cluster.call("up", "--no-node")
    cluster.kubectl("create", "namespace", "kept")

    os.kill(cluster.programs("apiserver")[-1], signal.SIGKILL)
    cluster.call("up", "--no-node")

    assert cluster.kubectl("get", "namespace", "kept", "-o", "name") == "namespace/kept\n"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["up", "--no-node"], id="no node", marks=pytest.mark.apiserver),
        pytest.param(["up"], id="node", marks=pytest.mark.e2e),
    ],
)
@pytest.mark.timeout(600)
def test_an_interrupted_up_leaves_nothing(cluster: Cluster, arguments: list[str]) -> None:
    up = cluster.start(*arguments)
    assert up.stderr is not None
    assert any("API server answer" in line for line in up.stderr)

    os.killpg(up.pid, signal.SIGINT)
    assert any("taking it down" in line for line in up.stderr)
    os.killpg(up.pid, signal.SIGINT)  # whoever waits presses Ctrl-C again
    up.communicate(timeout=60)

    assert up.returncode != 0
    assert cluster.traces() == []


@pytest.mark.apiserver
@pytest.mark.timeout(600)
def test_after_a_killed_up_the_next_one_starts_anew(cluster: Cluster) -> None:
    up = cluster.start("up", "--no-node")
    assert up.stderr is not None
    assert any("API server answer" in line for line in up.stderr)
    up.kill()
    up.communicate(timeout=60)

    assert cluster.call("up", "--no-node").returncode == 0

    assert len(cluster.programs("etcd")) == 1


@pytest.mark.apiserver
def test_a_directory_of_somebody_else_is_left_alone(cluster: Cluster) -> None:
    cluster.run_dir.mkdir()
    (cluster.run_dir / "precious").write_text("data")

    result = cluster.call("down")

    assert result.returncode != 0
    assert "was not made by the sandbox" in result.stderr
    assert (cluster.run_dir / "precious").read_text() == "data"
    shutil.rmtree(cluster.run_dir)


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_a_node_with_a_pod_that_will_not_stop_leaves_nothing(cluster: Cluster) -> None:
    host_before = ends_of_the_host()
    up = cluster.call("up")
    assert up.returncode == 0, up.stderr
    cluster.kubectl("apply", "-f", "-", given=POD)
    cluster.kubectl("wait", "pod/sleeper", "--for=condition=Ready", "--timeout=60s")
    assert "node1" in cluster.call("enter", "hostname").stdout

    assert cluster.call("down").returncode == 0

    assert cluster.traces() == []
    assert ends_of_the_host() == host_before


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_a_killed_node_ends_with_all_its_containers_and_down_clears_the_rest(cluster: Cluster) -> None:
    assert cluster.call("up").returncode == 0
    cluster.kubectl("apply", "-f", "-", given=POD)
    cluster.kubectl("wait", "pod/sleeper", "--for=condition=Ready", "--timeout=60s")

    outer = int((cluster.run_dir / "outer.pid").read_text())
    os.kill(outer, signal.SIGKILL)
    down = cluster.call("down")

    assert down.returncode == 0
    assert down.stderr == ""
    assert cluster.traces() == []


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_killed_parts_come_back(cluster: Cluster) -> None:
    cluster.call("up")
    api_server = cluster.programs("apiserver")

    for part in ("containerd", "kubelet", "etcd", "apiserver"):
        os.kill(cluster.programs(part)[-1], signal.SIGKILL)
    assert cluster.call("up").returncode == 0

    cluster.kubectl("apply", "-f", "-", given=POD)
    cluster.kubectl("wait", "pod/sleeper", "--for=condition=Ready", "--timeout=60s")
    assert cluster.programs("apiserver") != api_server, "another process, in the same cluster"
    assert "keeping it" in cluster.call("up").stderr


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_addresses_that_are_in_use_are_refused(cluster: Cluster) -> None:
    subprocess.run(["ip", "link", "add", "foreign77", "type", "veth", "peer", "name", "foreign78"], check=True)
    try:
        subprocess.run(["ip", "link", "set", "foreign77", "up"], check=True)
        subprocess.run(["ip", "route", "add", f"10.244.{NETWORK}.0/25", "dev", "foreign77"], check=True)
        result = cluster.call("up")
    finally:
        subprocess.run(["ip", "link", "delete", "foreign77"], check=True)

    assert result.returncode != 0
    assert "is in use on this machine" in result.stderr
    assert cluster.traces() == []
