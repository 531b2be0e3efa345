"""Making the sandbox cluster for the tests, filling its store, and taking it down whatever happens.

TEST_NODE_KUBECONFIG (and TEST_STORE, default: `store` beside it) name one that is up: it is used and left as it is.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.cluster import NAMESPACE, SYSTEM, Cluster

CHECKOUT = Path(__file__).resolve().parents[2]
SANDBOX = CHECKOUT / "sandbox"
KUBE_UP = SANDBOX / "node" / "kube-up.sh"
SCRIPTS = SANDBOX / "demo" / "client"
FAULTS = CHECKOUT / "tests" / "e2e" / "faults"
SHORT_SUITE = 40  # examples; the whole one has 200
MAX_CPU_LORAS = 4  # few, so that a server is full soon
_UP, _FAILED = "the cluster is up", "the cluster is not up"

Json = dict[str, Any]


class SandboxFailed(Exception):
    """The message has what the scripts said."""


@cache
def shared_cluster() -> Cluster:
    """The one cluster of this run: there is room for one. It ends with `end_shared_cluster`, or with this process."""
    if given := os.environ.get("TEST_NODE_KUBECONFIG"):
        kubeconfig = Path(given)
        store = Path(os.environ.get("TEST_STORE") or kubeconfig.parent / "store")
    else:
        kubeconfig = _start()
        store = kubeconfig.parent / "store"
    fill(store)
    cluster = Cluster(kubeconfig, _kubectl(), store)
    install(cluster)
    return cluster


def end_shared_cluster() -> None:
    """Safe when there is none, and twice."""
    if shared_cluster.cache_info().currsize:
        shared_cluster().close()
    while _keepers:
        _keepers.pop().communicate(timeout=120)


_keepers: list[subprocess.Popen[str]] = []


def _start() -> Path:
    """The keeper stops everything when its input ends: also when this process is killed, and never amid `up`."""
    run = Path(tempfile.mkdtemp(prefix="e2e-")) / "run"  # short: etcd listens on a socket in it
    script = f'"$0" up && echo "{_UP}" || echo "{_FAILED}"; cat; "$0" down; rmdir "$(dirname "$KUBE_RUN")"'
    environment = {name: value for name, value in os.environ.items() if name != "KUBE_STORE"}  # a store of its own
    keeper = subprocess.Popen(
        ["bash", "-c", script, KUBE_UP],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment | {"KUBE_RUN": str(run)},
        start_new_session=True,
    )
    _keepers.append(keeper)
    atexit.register(end_shared_cluster)
    assert keeper.stdout is not None
    said = []
    for line in keeper.stdout:
        said.append(line.rstrip("\n"))
        if said[-1] in (_UP, _FAILED):
            break
    if said[-1:] != [_UP]:
        raise SandboxFailed("the cluster did not start:\n" + "\n".join(said))
    return run / "kubeconfig"


def _kubectl() -> str:
    return str(Path(_output(SANDBOX / "build-kube.sh")) / "kubectl")


def _output(script: Path) -> str:
    result = subprocess.run(["bash", script], text=True, capture_output=True, check=False)
    if result.returncode:
        raise SandboxFailed(f"{script}:\n{result.stderr}")
    return result.stdout.strip().splitlines()[-1]


def fill(store: Path) -> None:
    """Models, adapters good and bad, and data; trained once and kept in the cache."""
    ml_env = Path(_output(SANDBOX / "ml-env.sh"))
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    command = [str(ml_env / "bin" / "python"), "-m", "sandbox.models", str(store)]
    result = subprocess.run(command, text=True, capture_output=True, cwd=CHECKOUT, env=environment, check=False)
    if result.returncode:
        raise SandboxFailed(f"the store could not be filled:\n{result.stdout}\n{result.stderr}")
    whole = (store / "suites" / "support.jsonl").read_text().splitlines(keepends=True)
    (store / "suites" / "short.jsonl").write_text("".join(whole[:SHORT_SUITE]))
    shutil.copytree(FAULTS, store / FAULTS.name, dirs_exist_ok=True)


def install(cluster: Cluster) -> None:
    """The controller, as a user installs it, and a base with two replicas."""
    cluster.kubectl("apply", "--server-side", "-f", CHECKOUT / "manifests" / "install.yaml")
    cluster.kubectl("apply", "-f", SANDBOX / "manifests" / "store.yaml")
    scripts = {path.name: path.read_text() for path in sorted(SCRIPTS.glob("*.py"))}
    meta = {"name": "client-scripts", "namespace": NAMESPACE}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": scripts})
    for document in yaml.safe_load_all((SANDBOX / "manifests" / "base.yaml").read_text()):
        cluster.apply(_for_two(document) if document["kind"] == "Deployment" else document)
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/tiny-llama", "--timeout=600s")
    cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment/adapter-release-controller", "--timeout=180s")


def _for_two(deployment: Json) -> Json:
    """Two servers on a machine of two cores that also tests: patience with probes, few slots to fill, and faults that
    tests can switch on in what is made of it."""
    deployment["spec"]["replicas"] = 2
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    kept = [a for a in container["args"] if not a.startswith("--max-cpu-loras")]
    container["args"] = [*kept, f"--max-cpu-loras={MAX_CPU_LORAS}", "--middleware=engine_faults.Nothing"]
    (path,) = (e for e in container["env"] if e["name"] == "PYTHONPATH")
    path["value"] += f":/store/{FAULTS.name}"
    container["readinessProbe"] |= {"timeoutSeconds": 10, "failureThreshold": 5}
    container["startupProbe"] |= {"failureThreshold": 600}
    return deployment
