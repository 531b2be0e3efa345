"""Where it is played: a cluster with the models in its store and a base, and the programs that are typed.

Must not know: what is played.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.recording.player import RecordingFailed
from bench.recording.story import NAMESPACE, RELEASE, SYSTEM
from sandbox.demo.narrator import Narrator
from sandbox.demo.prepare import CHECKOUT, CONTROLLER, CRD, SANDBOX, existing, make_cluster, output_of

_BASE = "deployment/tiny-llama"


def stage(kubeconfig: Path | None, take_over: bool) -> Narrator:
    """The cluster, made if none is named. RecordingFailed where something stands in the way; then nothing was changed.

    A cluster that is named has its store in the directory `store` beside its kubeconfig, as the sandbox's have.
    """
    n = make_cluster() if kubeconfig is None else _of(kubeconfig.resolve())
    if existing(n, CRD) and existing(n, f"ar/{RELEASE}"):
        raise RecordingFailed(f"release {RELEASE} is there: kubectl -n {NAMESPACE} delete ar {RELEASE}")
    if existing(n, CONTROLLER, namespace=SYSTEM) and not take_over:
        raise RecordingFailed(
            "the controller is installed: take the cluster down first (make down), or give --take-over, by which Helm "
            "takes over what is there"
        )
    store = kubeconfig.resolve().parent / "store" if kubeconfig else output_of("node/kube-up.sh", "store")
    for part in ("base", "v1"):  # trained once, and kept in the cache
        n.run("bash", str(SANDBOX / "store.sh"), str(store), "--only", part)
    n.kubectl("apply", "-f", str(SANDBOX / "manifests/store.yaml"), quiet=True)
    if not existing(n, _BASE):
        n.kubectl("apply", "-f", str(SANDBOX / "manifests/base.yaml"), quiet=True)
    return n


def _of(kubeconfig: Path) -> Narrator:
    kubectl = Path(output_of("build-kube.sh")) / "kubectl"
    return Narrator({"KUBECONFIG": str(kubeconfig)}, [str(kubectl), "--kubeconfig", str(kubeconfig)])


def until_base_serves(n: Narrator) -> None:
    """Its pods wait for the engine plugin, which the controller brings."""
    n.kubectl("-n", NAMESPACE, "rollout", "status", _BASE, "--timeout=600s", quiet=True)


@contextmanager
def programs(kubeconfig: Path, kubectl: Path, helm: Path) -> Iterator[dict[str, str]]:
    """The environment in which `kubectl`, its plugin and `helm` are found, and write nothing into the user's home."""
    with TemporaryDirectory() as directory:
        here = Path(directory)
        (here / "kubectl").symlink_to(kubectl)
        (here / "helm").symlink_to(helm)
        plugin = here / "kubectl-adapterrelease"
        plugin.write_text(f'#!/bin/sh\nPYTHONPATH={CHECKOUT} exec {sys.executable} -m controller "$@"\n')
        plugin.chmod(0o755)
        homes = {f"HELM_{kind}_HOME": str(here / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        yield (
            kept
            | homes
            | {
                "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
                "KUBECONFIG": str(kubeconfig),
                "HOME": str(here),
                "TERM": "xterm-256color",
                "LC_ALL": "C.UTF-8",
            }
        )
