"""What tests of every part may ask for: a real API server, without a node."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
KUBE_UP = CHECKOUT / "sandbox" / "node" / "kube-up.sh"


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Kubeconfig (admin) of a real API server with etcd, controllers and scheduler, but no node.

    One for the whole run, so tests use names or namespaces of their own. TEST_KUBECONFIG names one that
    is up already and may be written to; it is left as it is.
    """
    if given := os.environ.get("TEST_KUBECONFIG"):
        yield Path(given)
        return
    run = tmp_path_factory.mktemp("apiserver") / "run"
    environment = os.environ | {
        "KUBE_BIN": str(_kube_binary()),
        "KUBE_RUN": str(run),
        "KUBE_PORT": str(_free_port()),
    }
    # Waits for the end of its input and then stops everything: also when this process is killed.
    undertaker = subprocess.Popen(
        ["bash", "-c", 'cat; exec "$0" down', KUBE_UP],
        stdin=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    assert undertaker.stdin is not None
    try:
        up = subprocess.run([KUBE_UP, "up", "--no-node"], env=environment, capture_output=True, text=True, check=False)
        if up.returncode != 0:
            pytest.fail(f"the API server did not start:\n{up.stdout}{up.stderr}")
        yield run / "kubeconfig"
    finally:
        undertaker.stdin.close()
        undertaker.wait(timeout=60)


@pytest.fixture(scope="session")
def kubectl_program() -> str:
    """The sandbox's kubectl; where that is not built, the one on the PATH."""
    beside = [directory / "kubectl" for directory in _built()]
    found = next((str(path) for path in beside if path.exists()), None) or shutil.which("kubectl")
    if found is None:
        pytest.fail("there is no kubectl: run `make sandbox`")
    return found


def _kube_binary() -> Path:
    """KUBE_BIN, or the newest that was built."""
    if given := os.environ.get("KUBE_BIN"):
        return Path(given)
    if not (built := _built()):
        pytest.fail("no API server was built: run `make sandbox`")
    return built[0] / "kube"


def _built() -> list[Path]:
    """Directories with a finished build, newest first."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    cache = Path(os.environ.get("ADAPTERRELEASE_CACHE", home / "adapter-release-controller"))
    built = [path.parent for path in cache.glob("kube-*/kube") if "." not in path.parent.name]
    return sorted(built, key=lambda path: path.stat().st_mtime, reverse=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
