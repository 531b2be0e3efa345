"""A canary by a real implementation of the Gateway API: each backend gets its share, and the way back loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.errors import Conflict
from controller.reconcile.objects.httproute import HTTP_ROUTES, Backends, sight, weight_patch
from tests.e2e.cluster import NAMESPACE, Cluster, measured
from tests.e2e.load import Load
from tests.e2e.release import Json, Release, cheaply, spec_of
from tests.e2e.test_watched import Fault

pytestmark = pytest.mark.e2e

CHECKOUT = Path(__file__).resolve().parents[2]
GATEWAY = "http://traefik.gateway"
REQUESTS = 2000  # for each share that is measured
MOST_POINTS_OFF = 2.0

# Asks a server what it serves, half of the time on a connection of its own, and counts the answers by `root`. Says when
# a quarter is done: what is changed then is changed under load.
ASKING = """
import collections, http.client, json, sys, threading
host, model, requests, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), 8
roots, lock = collections.Counter(), threading.Lock()

def ask(connection, close):
    try:
        connection.request("GET", "/v1/models", headers={"connection": "close"} if close else {})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            return f"failed: {response.status} {body[:80]!r}"
        return next(card["root"] for card in json.loads(body)["data"] if card["id"] == model)
    except Exception as error:
        connection.close()
        return f"failed: {error!r}"

def work(number):
    connection = http.client.HTTPConnection(host, timeout=60)
    for _ in range(requests // threads):
        root = ask(connection, number % 2)
        with lock:
            roots[root] += 1
            if sum(roots.values()) == requests // 4:
                print("a quarter is done", flush=True)

workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
[w.start() for w in workers]
[w.join() for w in workers]
print(json.dumps(roots))
"""

SERVING = """
import http.server, json, sys
class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: else each answer waits 40 ms for an acknowledgement
    def do_GET(self):
        body = json.dumps({"data": [{"id": "shares", "root": sys.argv[1]}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
class Many(http.server.ThreadingHTTPServer):
    request_queue_size = 256
Many(("", 8000), Server).serve_forever()
"""


def pod(name: str, *command: str) -> Json:
    """One that may run in a restricted namespace, with the host's Python."""
    container = {
        "name": "python",
        "image": "local/app:1",
        "command": ["python3", *command],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    identity = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "securityContext": identity, "containers": [container]},
    }


def http_route(name: str, host: str = "") -> Json:
    """As a user writes it: all requests of a host name go to the Service of the same name as the route."""
    return {
        "apiVersion": HTTP_ROUTES.api_version,
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"name": "gateway"}],
            **({"hostnames": [host]} if host else {}),
            "rules": [{"backendRefs": [{"name": name, "port": 80}]}],
        },
    }


@dataclass
class Shares:
    """What was answered, by root."""

    counted: dict[str, int]

    @property
    def failed(self) -> list[str]:
        return [root for root in self.counted if root.startswith("failed")]

    def percent(self, part: str) -> float:
        """Of the answers whose root has `part` in it."""
        found = sum(n for root, n in self.counted.items() if part in root)
        return 100 * found / sum(self.counted.values())


class Asker:
    """A pod that asks through the Gateway."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def __enter__(self) -> Asker:
        self._cluster.apply(pod("asker", "-c", "import signal; signal.pause()"))
        wait_for(self._cluster, "asker")
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.kubectl("-n", NAMESPACE, "delete", "pod", "asker", "--grace-period=1")

    def ask(self, model: str, requests: int) -> Shares:
        with self.asking(model, requests) as asking:
            return asking.result()

    @contextmanager
    def asking(self, model: str, requests: int) -> Iterator[Asking]:
        where = ("-n", NAMESPACE, "exec", "asker", "--")
        command = [*self._cluster.kubectl_command, *where, "python3", "-c", ASKING, _HOST, model, str(requests)]
        with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as process:
            try:
                yield Asking(process)
            finally:
                process.kill()


_HOST = GATEWAY.removeprefix("http://")


class Asking:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def until_a_quarter_is_done(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "a quarter is done\n"

    def result(self) -> Shares:
        out, _ = self._process.communicate()
        return Shares(json.loads(out.splitlines()[-1]))


@pytest.fixture(scope="module")
def gateway(cluster: Cluster) -> Cluster:
    """Traefik and a Gateway in the cluster; built if nobody has yet."""
    environment = os.environ | {"KUBE_RUN": str(cluster.kubeconfig.parent)}
    command = ["bash", CHECKOUT / "sandbox" / "gateway" / "install.sh"]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return cluster


@pytest.fixture(scope="module")
def asker(gateway: Cluster) -> Iterator[Asker]:
    with Asker(gateway) as asker:
        yield asker


def wait_for(cluster: Cluster, *pods: str) -> None:
    names = [f"pod/{name}" for name in pods]
    cluster.kubectl("-n", NAMESPACE, "wait", *names, "--for=condition=Ready", "--timeout=120s")


# -- the weights, with backends that are quick
BACKENDS = Backends("shares", "shares-preview")


@pytest.fixture
def shares(gateway: Cluster) -> Iterator[Cluster]:
    """Two servers, which say who they are, and an HTTPRoute to the first. It matches all requests, as that of the
    tests with vLLM does: only one of the two may be there."""
    made: list[Json] = []
    for name in (BACKENDS.stable, BACKENDS.preview):
        ports = [{"port": 80, "targetPort": 8000}]
        meta = {"name": name, "namespace": NAMESPACE}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": meta}
        made += [pod(name, "-c", SERVING, name), {**service, "spec": {"selector": {"app": name}, "ports": ports}}]
    made.append(http_route("shares"))
    for manifest in made:
        gateway.apply(manifest)
    wait_for(gateway, BACKENDS.stable, BACKENDS.preview)
    yield gateway
    for manifest in made:
        gateway.kubectl("-n", NAMESPACE, "delete", manifest["kind"], manifest["metadata"]["name"])


def set_weight(cluster: Cluster, percent: int) -> None:
    """As the controller does it, and until the Gateway has accepted it."""
    path = HTTP_ROUTES.path(NAMESPACE, "shares")

    def in_effect() -> bool:
        found = cluster.client.get(path)
        if patch := weight_patch(found, BACKENDS, percent, manager="tests"):
            try:
                cluster.client.merge_patch(path, patch)
            except Conflict:  # the gateway has just written its status
                return False
        sighting = sight(found, "shares", BACKENDS)
        return sighting.weight == percent and (percent > 0 or sighting.clean)

    cluster.until(f"the Gateway gives the preview {percent} %", in_effect, 60)


def until_about(cluster: Cluster, asker: Asker, model: str, part: str, percent: int) -> None:
    """A Gateway says that it has accepted a moment before it does it."""

    def about() -> bool:
        return abs(asker.ask(model, 160).percent(part) - percent) < 5

    cluster.until(f"the Gateway sends about {percent} % to {part}", about, 30)


def assert_share(asker: Asker, model: str, part: str, percent: int) -> None:
    answers = asker.ask(model, REQUESTS)
    share = answers.percent(part)
    measured(f"percent of {REQUESTS} requests to {model} at weight {percent}", f"{share:.2f}")
    assert not answers.failed, answers.counted
    assert sum(answers.counted.values()) == REQUESTS
    assert abs(share - percent) <= MOST_POINTS_OFF


@pytest.mark.parametrize("percent", [10, 50, 100])
def test_each_backend_gets_its_share_and_the_way_back_loses_no_request(
    shares: Cluster, asker: Asker, percent: int
) -> None:
    path = HTTP_ROUTES.path(NAMESPACE, "shares")
    before = shares.client.get(path)["spec"]
    set_weight(shares, percent)
    until_about(shares, asker, "shares", "preview", percent)
    assert_share(asker, "shares", "preview", percent)
    with asker.asking("shares", REQUESTS) as asking:
        asking.until_a_quarter_is_done()
        set_weight(shares, 0)
        answers = asking.result()
    assert not answers.failed, answers.counted
    assert answers.percent("preview") > 0, "the way back began when the preview had requests"
    until_about(shares, asker, "shares", "preview", 0)
    assert asker.ask("shares", 400).counted == {"shares": 400}
    assert shares.client.get(path)["spec"] == before


# -- the controller, with vLLM
class GatewayLoad(Load):
    """The demo's load, through the Gateway."""

    def __init__(self, cluster: Cluster, model: str, rate: int) -> None:
        super().__init__(cluster, model, rate)
        command = self._manifest["spec"]["containers"][0]["command"]
        command[command.index(f"http://{model}")] = GATEWAY


def canary(*steps: Json, **more: Any) -> Json:
    spec = cheaply(spec_of("Stable"))
    spec["rollout"] |= {"strategy": "Canary", "canary": {"httpRoute": "support-bot", "steps": list(steps), **more}}
    spec["rollout"]["observe"] |= {"interval": "2s", "maxLatencyRatio": "0"}
    return spec


@pytest.fixture
def routed(experimental: Release, gateway: Cluster) -> Iterator[Release]:
    """The adapter serves, and the Gateway sends all requests to it."""
    apply_as_owner(gateway, http_route(experimental.name))
    yield experimental
    gateway.kubectl("-n", NAMESPACE, "delete", "httproute", experimental.name)


def apply_as_owner(cluster: Cluster, manifest: Json) -> None:
    cluster.kubectl("apply", "--server-side", "--field-manager=owner", "-f", "-", stdin=yaml.safe_dump(manifest))


def weight_of(release: Release) -> int | None:
    """Percent for the candidate, as the Gateway has accepted it."""
    found = release.cluster.client.get(HTTP_ROUTES.path(NAMESPACE, release.name))
    return sight(found, release.name, Backends(release.name, f"{release.name}-preview")).weight


def until_weight(release: Release, percent: int, seconds: float = 120) -> None:
    release.cluster.until(f"{percent} % to the candidate", lambda: weight_of(release) == percent, seconds)


def approve(release: Release, weight: int) -> None:
    approved = {"artifact": release.status["artifact"]["id"], "weight": weight}
    release.patch({"spec": {"rollout": {"canary": {"approved": approved}}}})


def assert_as_its_owner_wrote_it(release: Release) -> None:
    """An apply by its owner meets no conflict, and changes nothing."""
    path = HTTP_ROUTES.path(NAMESPACE, release.name)

    def given_back() -> bool:
        refs = release.cluster.client.get(path)["spec"]["rules"][0]["backendRefs"]
        return [(ref["name"], ref["weight"]) for ref in refs] == [(release.name, 1)]

    release.cluster.until("the HTTPRoute is its owner's again", given_back, 60)
    before = release.cluster.client.get(path)["spec"]
    apply_as_owner(release.cluster, http_route(release.name))
    assert release.cluster.client.get(path)["spec"] == before


def test_a_canary_goes_through_its_steps_and_a_person_is_waited_for(routed: Release, asker: Asker) -> None:
    steps = ({"weight": 10}, {"weight": 50}, {"weight": 100, "pause": "4s"})
    with GatewayLoad(routed.cluster, routed.name, rate=5) as load:
        routed.set_spec(canary(*steps))
        for percent in (10, 50):
            until_weight(routed, percent, 600)
            until_about(routed.cluster, asker, routed.name, "/artifacts/", percent)
            assert_share(asker, routed.name, "/artifacts/", percent)
            assert routed.serving["kind"] == "Adapter"
            approve(routed, percent)
        routed.until_serving("Artifact", 300)
        routed.until("Promoted", "True", seconds=300)
        load.assert_nothing_failed()
    assert_as_its_owner_wrote_it(routed)
    assert asker.ask(routed.name, 400).percent("/artifacts/") == 100


@pytest.mark.parametrize("weight", [10, 50, 100])
def test_a_canary_that_a_person_ends_goes_back_at_once_and_loses_no_request(
    routed: Release, asker: Asker, weight: int
) -> None:
    with GatewayLoad(routed.cluster, routed.name, rate=5) as load:
        routed.set_spec(canary({"weight": weight}))
        until_weight(routed, weight, 600)
        until_about(routed.cluster, asker, routed.name, "/artifacts/", weight)
        routed.patch({"spec": {"stage": "Experimental"}})
        until_weight(routed, 0, 30)
        until_about(routed.cluster, asker, routed.name, "/artifacts/", 0)
        load.assert_nothing_failed()
    assert_as_its_owner_wrote_it(routed)
    assert routed.serving["kind"] == "Adapter"


def test_a_candidate_that_fails_in_its_share_loses_it(routed: Release, asker: Asker) -> None:
    fault = Fault(routed)
    with GatewayLoad(routed.cluster, routed.name, rate=10) as load:
        routed.set_spec(canary({"weight": 50}, approvalDeadline="1h"))
        until_weight(routed, 50, 600)
        until_about(routed.cluster, asker, routed.name, "/artifacts/", 50)
        try:
            fault.begin(fails=True)
            until_weight(routed, 0, 60)
            until_about(routed.cluster, asker, routed.name, "/artifacts/", 0)
        finally:
            fault.end()
        assert routed.until("Promoted", "False")["reason"] == "ChecksFailed"
        result = load.stop()
    assert result["failed"] > 0
    assert all(cause.startswith("500") for cause in result["causes"])
    assert_as_its_owner_wrote_it(routed)
    assert routed.serving["kind"] == "Adapter"


def test_a_candidate_that_dies_loses_its_share(routed: Release, asker: Asker) -> None:
    routed.set_spec(canary({"weight": 50}, approvalDeadline="2h"))
    until_weight(routed, 50, 600)
    routed.cluster.kill_container(routed.artifact_pod())
    until_weight(routed, 0, 60)
    until_about(routed.cluster, asker, routed.name, "/artifacts/", 0)
    assert routed.serving["kind"] == "Adapter"
    assert_as_its_owner_wrote_it(routed)
