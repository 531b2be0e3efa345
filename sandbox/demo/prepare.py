"""Before the demo: a cluster, the models in its store, the controller, and a base that is Ready.

Without a context it makes the sandbox cluster. It talks to a cluster only through the kubeconfig that it was given,
so it cannot touch another one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from sandbox.demo.narrator import DemoFailed, Narrator

CHECKOUT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
NAMESPACE = "llm"
STORE_OWNER = 1000  # the user of jobs and servers


def prepare(context: str, *, fresh: bool) -> Narrator:
    narrator = use_context(context) if context else make_cluster()
    if not context:
        store = Path(_output("sandbox/node/kube-up.sh", "store"))
        with narrator.step("Train the base model"):
            train(store, "--only=base", fresh=fresh)
        install(narrator)
        with narrator.step("Train the adapters, while vLLM starts with the base"):
            train(store, "--only=adapters", fresh=fresh)
    else:
        install(narrator)
    wait_for_base(narrator)
    return narrator


def make_cluster() -> Narrator:
    """The sandbox: made if it is not up; nothing outside of its own directories and namespaces is touched."""
    quiet = Narrator({}, ["kubectl"])
    with quiet.step("Programs: Kubernetes from source, Python environments (cached outside the checkout)"):
        quiet.run("bash", str(CHECKOUT / "sandbox/host-packages.sh"))
        quiet.run("bash", str(CHECKOUT / "sandbox/programs.sh"))
    with quiet.step("A cluster with one real node"):
        quiet.run("bash", str(CHECKOUT / "sandbox/node/kube-up.sh"), "up")
    kubeconfig = _output("sandbox/node/kube-up.sh", "kubeconfig")
    narrator = Narrator({"KUBECONFIG": kubeconfig}, [_kubectl(), "--kubeconfig", kubeconfig])
    narrator.times = quiet.times
    narrator.say(f"export KUBECONFIG={kubeconfig}")
    return narrator


def use_context(context: str) -> Narrator:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise DemoFailed("kubectl is not on PATH; a context of yours needs it")
    narrator = Narrator({}, [kubectl, "--context", context])
    narrator.kubectl("version", quiet=True)
    return narrator


def train(store: Path, *options: str, fresh: bool) -> None:
    """Fill the store. Its files belong to the user that servers and jobs run as."""
    python = Path(_output("sandbox/ml-env.sh")) / "bin/python"
    command = [str(python), "-m", "sandbox.models", str(store), *options, *(["--fresh"] if fresh else [])]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    if subprocess.run(command, env=environment, cwd=CHECKOUT, check=False).returncode:
        raise DemoFailed("the models could not be made; see above")
    for place in [store, *store.rglob("*")]:
        os.chown(place, STORE_OWNER, STORE_OWNER)


def install(n: Narrator) -> None:
    with n.step("Install the controller; start the base"):
        n.kubectl("apply", "--server-side", "-f", str(CHECKOUT / "manifests/crd.yaml"), quiet=True)
        n.kubectl("apply", "-f", str(CHECKOUT / "manifests/install.yaml"), quiet=True)
        n.kubectl("apply", "-f", str(HERE / "manifests/base.yaml"), quiet=True)
        n.kubectl("apply", "-f", str(HERE / "manifests/store.yaml"), quiet=True)
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
        n.kubectl(
            *("-n", "adapter-release-system", "rollout", "status", "deployment/adapter-release-controller"),
            "--timeout=180s",
            quiet=True,
        )
        n.kubectl("-n", NAMESPACE, "wait", "pod/client", "--for=condition=Ready", "--timeout=120s", quiet=True)


def _kubectl() -> str:
    programs = Path(_output("sandbox/build-kube.sh"))
    return str(programs / "kubectl")


def _output(script: str, *arguments: str) -> str:
    result = subprocess.run(
        ["bash", str(CHECKOUT / script), *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if result.returncode:
        raise DemoFailed(f"{script} failed; see above")
    return result.stdout.strip().splitlines()[-1]
