"""The commands against a real API server with the CRD: what a fake would let pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.cli.main import app
from tests.api.conftest import cluster, kubectl
from tests.api.kubectl import Kubectl
from tests.api.manifests import changed, stable
from tests.cli.place import release_of
from tests.cli.states import world_in
from tests.domain.world import ROUTE

__all__ = ["cluster", "kubectl"]
pytestmark = pytest.mark.apiserver


class Commands:
    def __init__(self, kubectl: Kubectl, kubeconfig: Path) -> None:
        self.kubectl = kubectl
        self._kubeconfig = kubeconfig

    def hold(self, name: str) -> None:
        """The release of that state, with its status."""
        made = release_of(world_in(name))
        meta = {"name": ROUTE, "namespace": "llm"}
        self.kubectl("apply", "--server-side", "-f", "-", manifest={**made, "metadata": meta, "status": {}})
        generation = self.kubectl.get(ROUTE)["metadata"]["generation"]
        self.kubectl.write_status(ROUTE, {**made["status"], "observedGeneration": generation})

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "-n", "llm", "--kubeconfig", str(self._kubeconfig)])

    def spec(self) -> Any:
        return self.kubectl.get(ROUTE)["spec"]


@pytest.fixture
def commands(kubectl: Kubectl, apiserver: Path) -> Commands:
    return Commands(kubectl, apiserver)


def test_looking(commands: Commands) -> None:
    commands.hold("promoted")
    assert "Promoted" in commands.run("get").stdout
    assert "Healthy, Promoted" in commands.run("status", ROUTE).stdout
    assert commands.run("status", ROUTE, "--timeout", "10s").exit_code == 0
    assert commands.run("history", ROUTE).stdout.count("\n") == 3
    assert commands.run("logs", ROUTE).exit_code == 2


def test_a_release_that_is_not_there(commands: Commands) -> None:
    done = commands.run("status", "nobody")
    assert done.exit_code == 2 and "namespace llm has no release nobody: it has none" in done.stderr


def test_back_and_forth(commands: Commands) -> None:
    commands.hold("promoted")
    assert commands.run("rollback", ROUTE, "--dry-run").exit_code == 0
    assert commands.spec()["stage"] == "Stable"
    assert commands.run("rollback", ROUTE).exit_code == 0
    assert commands.spec()["stage"] == "Experimental"
    assert commands.run("promote", ROUTE).exit_code == 0
    assert commands.spec()["stage"] == "Stable"
    assert commands.run("rollback", ROUTE, "--to", "1").exit_code == 0
    assert commands.spec()["rollback"] == {"revision": 1}
    assert commands.run("resume", ROUTE).exit_code == 0
    assert "rollback" not in commands.spec()


def test_a_canary_is_held_and_goes_on(commands: Commands) -> None:
    commands.hold("shifting")
    assert commands.run("pause", ROUTE).exit_code == 0
    assert commands.spec()["rollout"]["canary"]["steps"][0] == {"weight": 10}
    assert commands.run("promote", ROUTE, "--full").exit_code == 0
    assert commands.spec()["rollout"]["canary"]["approved"]["weight"] == 100


def test_what_it_writes_is_not_kubectl_s(commands: Commands) -> None:
    """Flux takes away what managers called kubectl... have written."""
    commands.hold("promoted")
    commands.run("rollback", ROUTE, "--to", "1")
    shown = yaml.safe_load(commands.kubectl("get", "ar", ROUTE, "-o", "yaml", "--show-managed-fields"))
    fields = {entry["manager"]: str(entry["fieldsV1"]) for entry in shown["metadata"]["managedFields"]}
    assert "f:rollback" in fields["adapterrelease"]


def test_validate_asks_it_and_writes_nothing(commands: Commands, tmp_path: Path) -> None:
    path = tmp_path / "release.yaml"
    path.write_text(yaml.safe_dump(stable()))
    done = commands.run("validate", "-f", str(path))
    assert done.exit_code == 0, done.output
    assert commands.kubectl.try_("get", "ar", ROUTE)[0] != 0


def test_validate_tries_the_file_without_the_fields_that_it_no_longer_has(commands: Commands, tmp_path: Path) -> None:
    """Tried by server-side apply, kubectl's fields would still be there, and AWQ's do not fit another method."""
    commands.kubectl("apply", "--server-side", "-f", "-", manifest=stable())
    assert "calibration" in commands.spec()["build"]["quantization"]
    path = tmp_path / "release.yaml"
    path.write_text(yaml.safe_dump(changed(stable(), "spec.build.quantization", {"method": "None"})))
    done = commands.run("validate", "-f", str(path))
    assert done.exit_code == 0, done.output
    assert "calibration" in commands.spec()["build"]["quantization"]


def test_validate_says_what_only_the_cluster_knows(commands: Commands, tmp_path: Path) -> None:
    commands.kubectl("apply", "-f", "-", manifest=stable())
    path = tmp_path / "release.yaml"
    path.write_text(yaml.safe_dump(changed(stable(), "spec.baseRef.name", "other")))
    done = commands.run("validate", "-f", str(path))
    assert done.exit_code == 2 and "baseRef is immutable" in done.stderr
