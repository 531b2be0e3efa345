"""Before the demo: a cluster, the models in its store, the controller, and a base that is Ready.

Without a context it makes the sandbox cluster. It talks to a cluster only through the kubeconfig that it was given,
so it cannot touch another one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from sandbox.demo.narrator import DemoFailed, Narrator

CHECKOUT = Path(__file__).resolve().parents[2]
SANDBOX = CHECKOUT / "sandbox"
HERE = Path(__file__).parent
NAMESPACE = "llm"
SYSTEM = "adapter-release-system"
CRD = "customresourcedefinition/adapterreleases.adapterrelease.dev"
CONTROLLER = "deployment/adapter-release-controller"
NEEDED = ("deployment/tiny-llama", "service/tiny-llama", "persistentvolumeclaim/store")
MADE = ("ar/support-bot", "pod/client", "pod/load", "configmap/client-scripts")  # by the demo, in NAMESPACE
WHAT_A_CLUSTER_NEEDS = 'Nothing was changed there. What it needs: sandbox/README.md, "A cluster of yours"'


def prepare(context: str) -> Narrator:
    narrator = use_context(context) if context else make_cluster()
    with narrator.farewell_if_cut_short():
        if context:
            install_if_missing(narrator)
        else:
            fill_sandbox(narrator)
        start_client(narrator)
        wait_for_base(narrator)
    return narrator


def install_if_missing(n: Narrator) -> None:
    if not existing(n, CRD):
        n.take_away.append("delete -f manifests/install.yaml   # with the CRD go all releases of the cluster")
        install(n)


def fill_sandbox(n: Narrator) -> None:
    store = Path(output_of("node/kube-up.sh", "store"))
    with n.step("Train the base model"):
        train(store, "base")
    install(n, SANDBOX / "manifests/store.yaml", SANDBOX / "manifests/base.yaml")
    with n.step("Train the adapter, while vLLM starts with the base"):
        train(store, "v1")


def make_cluster() -> Narrator:
    """The sandbox: made if it is not up; nothing outside of its own directories and namespaces is touched."""
    quiet = Narrator({}, ["kubectl"])
    with quiet.step("A cluster with one real node"):
        quiet.run("bash", str(SANDBOX / "node/kube-up.sh"), "up")
    kubeconfig = output_of("node/kube-up.sh", "kubeconfig")
    kubectl = Path(output_of("build-kube.sh")) / "kubectl"
    narrator = Narrator({"KUBECONFIG": kubeconfig}, [str(kubectl), "--kubeconfig", kubeconfig])
    narrator.times = quiet.times
    narrator.say(f"export KUBECONFIG={kubeconfig}")
    return narrator


def use_context(context: str) -> Narrator:
    """Their cluster, if it has what is needed and nothing that the demo would overwrite; only looks at it."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise DemoFailed("kubectl is not on PATH; a context of yours needs it")
    narrator = Narrator({}, [kubectl, "--context", context], context)
    narrator.kubectl("version", quiet=True)
    installed = existing(narrator, CRD)
    for name in NEEDED:
        if not existing(narrator, name):
            raise DemoFailed(f"{context} has no {name} in namespace {NAMESPACE}. {WHAT_A_CLUSTER_NEEDS}")
    if installed and not existing(narrator, CONTROLLER, namespace=SYSTEM):
        raise DemoFailed(f"{context} has the CRD, but no {CONTROLLER} in namespace {SYSTEM}. {WHAT_A_CLUSTER_NEEDS}")
    made = MADE if installed else MADE[1:]  # without the CRD kubectl does not know what `ar` is
    if taken := existing(narrator, *made):
        raise DemoFailed(
            f"{context} has {', '.join(taken)} in namespace {NAMESPACE}, which the demo would overwrite. Nothing was "
            f"changed there. If an earlier demo left that, remove it: kubectl --context {context} {_removal(made)}"
        )
    narrator.take_away = [_removal(MADE)]
    return narrator


def existing(n: Narrator, *names: str, namespace: str = NAMESPACE) -> list[str]:
    """Those of the objects that are there."""
    return n.kubectl("-n", namespace, "get", *names, "--ignore-not-found", "-o", "name", show=False).split()


def _removal(names: Iterable[str]) -> str:
    return f"-n {NAMESPACE} delete --ignore-not-found {' '.join(names)}"


def train(store: Path, part: str) -> None:
    """Train anew and put it into the store, unless this very cluster has it already."""
    there = {"base": "models/base", "v1": "incoming/support-bot/v1"}[part]
    fresh = [] if (store / there).exists() else ["--fresh"]
    python = Path(output_of("ml-env.sh")) / "bin/python"
    command = [str(python), "-m", "sandbox.models", str(store), "--only", part, *fresh]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    if subprocess.run(command, env=environment, cwd=CHECKOUT, check=False).returncode:
        raise DemoFailed("the models could not be made; see above")


def install(n: Narrator, *manifests: Path) -> None:
    with n.step("Install the controller; start the base"):
        n.kubectl("apply", "--server-side", "-f", str(CHECKOUT / "manifests/install.yaml"), quiet=True)
        for manifest in manifests:
            n.kubectl("apply", "-f", str(manifest), quiet=True)


def start_client(n: Narrator) -> None:
    with n.step("Start a pod to ask from"):
        scripts = [f"--from-file={path}" for path in sorted((HERE / "client").glob("*.py"))]
        text = n.kubectl(
            *("-n", NAMESPACE, "create", "configmap", "client-scripts", *scripts, "--dry-run=client", "-o", "yaml"),
            show=False,
        )
        subprocess.run([*n.kubectl_command, "apply", "-f", "-"], input=text, text=True, check=True, capture_output=True)
        n.kubectl("apply", "-f", str(HERE / "manifests/client.yaml"), quiet=True)


def wait_for_base(n: Narrator) -> None:
    with n.step("Wait for the controller and for vLLM"):
        n.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/tiny-llama", "--timeout=600s", quiet=True)
        n.kubectl("-n", SYSTEM, "rollout", "status", CONTROLLER, "--timeout=180s", quiet=True)
        n.kubectl("-n", NAMESPACE, "wait", "pod/client", "--for=condition=Ready", "--timeout=120s", quiet=True)


def output_of(script: str, *arguments: str) -> str:
    command = ["bash", str(SANDBOX / script), *arguments]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise DemoFailed(f"sandbox/{script} failed; see above")
    return result.stdout.strip().splitlines()[-1]
