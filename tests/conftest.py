"""What tests of every part may ask for: a real API server, without a node."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

import pytest

from tests import tools

CHECKOUT = Path(__file__).resolve().parents[1]
KUBE_UP = CHECKOUT / "sandbox" / "node" / "kube-up.sh"
_UP, _FAILED = "the API server is up", "the API server is not up"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test does not pay for the cluster's start, or for a build: these take minutes, and may queue."""
    for item in items:
        slow_to_make = item.get_closest_marker("apiserver") or item.get_closest_marker("prometheus")
        if slow_to_make and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(120, func_only=True))


@pytest.fixture(scope="session")
def apiserver() -> Iterator[Path]:
    """Kubeconfig (admin) of a real API server with etcd, controllers and scheduler, but no node.

    One for the whole run, so tests use names or namespaces of their own. TEST_KUBECONFIG names one that
    is up already and may be written to; it is left as it is.
    """
    if given := os.environ.get("TEST_KUBECONFIG"):
        yield Path(given)
        return
    if not _built():
        pytest.fail("no API server was built: run `make sandbox`")
    # Not pytest's own directory: etcd listens on a socket in it, and a socket's path has at most 107 characters.
    run = Path(tempfile.mkdtemp(prefix="apiserver-")) / "run"
    environment = os.environ | {"KUBE_RUN": str(run), "KUBE_PORT": str(_free_port())}
    # Stops everything when its input ends: also when this process is killed, and never in the midst of `up`.
    keeper = subprocess.Popen(
        [
            "bash",
            "-c",
            f'"$0" up --no-node && echo "{_UP}" || echo "{_FAILED}"; cat; "$0" down; rmdir "$(dirname "$KUBE_RUN")"',
            KUBE_UP,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        assert keeper.stdout is not None
        said = list(_until(keeper.stdout, (_UP, _FAILED)))
        if said[-1:] != [_UP]:
            pytest.fail("the API server did not start:\n" + "\n".join(said))
        yield run / "kubeconfig"
    finally:
        keeper.communicate(timeout=90)


def _until(lines: Iterable[str], last: Container[str]) -> Iterator[str]:
    for line in lines:
        yield line.rstrip("\n")
        if line.rstrip("\n") in last:
            return


@pytest.fixture(scope="session")
def kubectl_program() -> str:
    """The sandbox's kubectl; where that is not built, the one on the PATH."""
    beside = [directory / "kubectl" for directory in _built()]
    found = next((str(path) for path in beside if path.exists()), None) or shutil.which("kubectl")
    if found is None:
        pytest.fail("there is no kubectl: run `make sandbox`")
    return found


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus's own checker of rules and of what metrics are called."""
    return tools.promtool()


@pytest.fixture(scope="session")
def prometheus_program() -> Path:
    return tools.prometheus()


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
