"""The chart rendered with values, as objects. Needs Helm and no cluster."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "adapter-release-controller"
NAME = "adapter-release-controller"
NAMESPACE = "adapter-release-system"

Json = dict[str, Any]


class Chart:
    """`home` keeps what Helm would write into the home directory; `path` is the chart's, or that of a changed copy."""

    def __init__(self, helm: str, home: Path, path: Path = CHART) -> None:
        self._helm = helm
        self._home = home
        self.path = path

    def at(self, path: Path) -> Chart:
        return Chart(self._helm, self._home, path)

    def helm(self, *arguments: str | Path, values: Json | None = None) -> tuple[int, str]:
        """Exit status and everything that was printed; `values` go in as a file does."""
        command = [self._helm, *map(str, arguments), *(["--values", "-"] if values else [])]
        homes = {f"HELM_{kind}_HOME": str(self._home / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        ended = subprocess.run(
            command, input=json.dumps(values), text=True, capture_output=True, env=os.environ | homes, check=False
        )
        return ended.returncode, ended.stdout + ended.stderr

    def render(
        self, values: Json | None = None, *flags: str, name: str = NAME, namespace: str = NAMESPACE
    ) -> list[Json]:
        status, output = self.helm("template", name, self.path, "--namespace", namespace, *flags, values=values)
        assert status == 0, output
        documents = yaml.load_all(output, Loader=yaml.CSafeLoader)  # ten times as fast: the CRD is long
        return [document for document in documents if document]

    def refusal(self, values: Json, *flags: str) -> str:
        """Why Helm does not render these values."""
        status, output = self.helm("template", NAME, self.path, "--namespace", NAMESPACE, *flags, values=values)
        assert status != 0, f"these values are taken: {values}"
        return output


def of_kind(objects: list[Json], kind: str) -> list[Json]:
    return [o for o in objects if o["kind"] == kind]


def one(objects: list[Json], kind: str, name: str = "") -> Json:
    found = [o for o in of_kind(objects, kind) if name in ("", o["metadata"]["name"])]
    assert len(found) == 1, [o["metadata"]["name"] for o in of_kind(objects, kind)]
    return found[0]


def identity(made: Json) -> tuple[str, str, str]:
    metadata = made["metadata"]
    return made["kind"], metadata.get("namespace", ""), metadata["name"]


def container_of(objects: list[Json]) -> Json:
    (container,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    found: Json = container
    return found


def environment(objects: list[Json]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container_of(objects)["env"]}


def pods(objects: list[Json]) -> list[Json]:
    """Every pod that comes of them, with metadata and spec."""
    return [*of_kind(objects, "Pod"), *(d["spec"]["template"] for d in of_kind(objects, "Deployment"))]
