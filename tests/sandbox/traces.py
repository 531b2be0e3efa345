"""A sandbox cluster of a test's own, and everything on this machine that could be left of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
KUBE_UP = CHECKOUT / "sandbox/node/kube-up.sh"


@dataclass(frozen=True)
class Cluster:
    """Addressed by its run directory; `network` keeps it apart from a demo that is up at the same time."""

    run_dir: Path
    network: int
    port: int

    @property
    def environment(self) -> dict[str, str]:
        ours = {"KUBE_RUN": str(self.run_dir), "KUBE_NETWORK": str(self.network), "KUBE_PORT": str(self.port)}
        return os.environ | ours

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """kube-up.sh, not waited for, as the leader of a process group (what Ctrl-C reaches)."""
        return subprocess.Popen(
            [KUBE_UP, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """kube-up.sh, to its end."""
        return subprocess.run(
            [KUBE_UP, *arguments], env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """What the sandbox's kubectl prints."""
        directory = subprocess.run([CHECKOUT / "sandbox/build-kube.sh"], capture_output=True, text=True, check=True)
        result = subprocess.run(
            [Path(directory.stdout.strip()) / "kubectl", "--kubeconfig", self.run_dir / "kubeconfig", *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def programs(self, name: str) -> list[int]:
        """Process ids of one of its programs: etcd, apiserver, kubelet, containerd, unshare, ..."""
        return [
            pid for pid in self.processes() if name in (part.rsplit("/", 1)[-1] for part in _words(pid, "cmdline")[:2])
        ]

    def processes(self) -> list[int]:
        """All that were started for it, by their environment or their arguments, dead ones not yet reaped left out."""
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._started(entry)]

    def _started(self, entry: Path) -> bool:
        mark = f"ADAPTERRELEASE_SANDBOX_RUN={self.run_dir}"
        pid = int(entry.name)
        return mark in _words(pid, "environ") or any(f"{self.run_dir}/" in word for word in _words(pid, "cmdline"))

    def traces(self) -> list[str]:
        """Everything of it that is on this machine, in words. Empty: nothing is."""
        return [
            *(f"process {pid}: {' '.join(_words(pid, 'cmdline'))[:120]}" for pid in self.processes()),
            *(f"mount: {line}" for line in _lines("/proc/self/mounts") if str(self.run_dir) in line),
            *(f"link: {link.name}" for link in Path("/sys/class/net").glob(f"adaptrel{self.network}")),
            *(f"route: {route}" for route in self._routes()),
            *(f"cgroup: {path}" for path in self._cgroups()),
            *(f"file: {path}" for path in self.run_dir.parent.glob(f"{self.run_dir.name}*")),
        ]

    def _routes(self) -> Iterator[str]:
        table = subprocess.run(["ip", "-4", "route"], capture_output=True, text=True, check=True).stdout
        ours = (f"10.200.{self.network}.", f"10.{96 + self.network}.0.0/16", f"10.244.{self.network}.0/24")
        return (line for line in table.splitlines() if line.startswith(ours))

    def _cgroups(self) -> Iterator[Path]:
        name = "adapterrelease-sandbox-" + hashlib.sha256(f"{self.run_dir}\n".encode()).hexdigest()[:8]
        return (Path(found) for found, _, _ in os.walk("/sys/fs/cgroup") if found.endswith(name))


def _words(pid: int, file: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # it ended while we looked
        return []


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
