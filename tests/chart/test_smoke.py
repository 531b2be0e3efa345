"""What `helm test` runs says what is wrong, and is content with nothing less than all."""

from __future__ import annotations

import json
import runpy
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import CHART

RESOURCES = ["adapterreleases", "adapterreleases/status"]


class Cluster:
    """The controller's Service, and the API server, on one port."""

    def __init__(self) -> None:
        self.ready = 200
        self.resources = list(RESOURCES)
        self.tokens: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = self.path == "/apis/adapterrelease.dev/v1alpha1" and bool(outer.resources)
                status = outer.ready if self.path.startswith("/readyz") else 200 if found else 404
                outer.tokens.append(self.headers.get("Authorization", ""))
                body = json.dumps({"resources": [{"name": name} for name in outer.resources]}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def smoke(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The program, without patience, and with http where the pod has https: whom it trusts is tested in a cluster."""
    port = cluster.server.server_address[1]
    monkeypatch.setenv("CONTROLLER", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT_HTTPS", str(port))
    (tmp_path / "token").write_text("t0ken")
    source = (CHART / "files" / "smoke.py").read_text()
    assert source.count("https://") == 1
    plain = source.replace("https://", "http://").replace("context=context", "")
    plain = plain.replace('context = ssl.create_default_context(cafile=ACCOUNT / "ca.crt")', "")
    plain = plain.replace("/var/run/secrets/kubernetes.io/serviceaccount", str(tmp_path))
    (tmp_path / "smoke.py").write_text(plain.replace("PATIENCE = 60.0", "PATIENCE = -1.0"))
    main: Callable[[], int] = runpy.run_path(str(tmp_path / "smoke.py"))["main"]
    return main


def test_a_good_installation_passes(smoke: Callable[[], int], cluster: Cluster) -> None:
    assert smoke() == 0
    assert cluster.tokens[-1] == "Bearer t0ken"


def test_a_controller_that_is_not_ready_does_not(
    smoke: Callable[[], int], cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.ready = 500
    assert smoke() == 1
    assert "not so: the controller is ready: HTTP Error 500" in capsys.readouterr().err


@pytest.mark.parametrize("resources", [[], ["adapterreleases"]])
def test_a_crd_that_is_not_there_or_not_whole_does_not(
    smoke: Callable[[], int], cluster: Cluster, resources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.resources = resources
    assert smoke() == 1
    assert "not so: adapterrelease.dev/v1alpha1 is served" in capsys.readouterr().err


def test_a_service_that_nobody_answers_does_not(
    smoke: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONTROLLER", "http://127.0.0.1:1")
    assert smoke() == 1
    assert "refused" in capsys.readouterr().err
