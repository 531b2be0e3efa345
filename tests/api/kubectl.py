"""kubectl, as a test calls it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Kubectl:
    """kubectl with one kubeconfig; manifests go in as JSON."""

    def __init__(self, program: str, kubeconfig: Path) -> None:
        self._program = program
        cache = str(kubeconfig.parent / "cache")  # not in the home directory
        self._environment = os.environ | {"KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": cache}

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self._program, *arguments],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def try_(self, *arguments: str | Path, manifest: Mapping[str, Any] | None = None) -> tuple[int, str]:
        """Exit status and everything that was printed."""
        process = self.start(*arguments)
        out, err = process.communicate(json.dumps(manifest) if manifest else None)
        return process.returncode, out + err

    def __call__(self, *arguments: str | Path, manifest: Mapping[str, Any] | None = None) -> str:
        status, output = self.try_(*arguments, manifest=manifest)
        assert status == 0, output
        return output

    def get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("get", "ar", name, "-o", "json"))
        return found

    def write_status(self, name: str, status: Mapping[str, Any]) -> None:
        patch = json.dumps({"status": status})
        self("patch", "ar", name, "--subresource=status", "--type=merge", "--patch", patch)
