"""What the node needs is looked for by program: whoever has it from somewhere else keeps it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "sandbox" / "host-packages.sh"
PROGRAMS = ["containerd", "runc", "iptables", "nft", "conntrack", "socat", "ip", "openssl", "unshare", "ldconfig"]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The whole PATH of a machine: all programs, of which dpkg knows no package, and a user who may not install."""
    for name in (*PROGRAMS, "apt-get"):
        write(tmp_path / name, "exit 99")
    write(tmp_path / "id", "echo 1000")
    write(tmp_path / "dpkg-query", "exit 1")
    return tmp_path


def write(program: Path, body: str) -> None:
    program.write_text(f"#!/bin/bash\n{body}\n")
    program.chmod(0o755)


def said(programs: Path, *more: str) -> str:
    command = ["/bin/bash", SCRIPT, *more]
    result = subprocess.run(
        command, env={"PATH": str(programs)}, capture_output=True, text=True, timeout=30, check=False
    )
    return result.stderr


def test_docker_s_containerd_is_not_replaced_by_debian_s(programs: Path) -> None:
    """Its package containerd.io conflicts with containerd and runc: apt would remove Docker."""
    assert " containerd " not in f"{said(programs)} "
    assert " runc" not in said(programs)


def test_a_program_that_is_missing_is_named_by_its_package(programs: Path) -> None:
    (programs / "socat").unlink()
    assert "apt-get install --no-remove" in said(programs)
    assert " socat" in said(programs)


def test_what_only_tests_need_is_asked_for_by_them_alone(programs: Path) -> None:
    (programs / "socat").unlink()
    assert "chromium" not in said(programs)
    assert " socat chromium" in said(programs, "chromium:chromium")
    write(programs / "chromium", "exit 99")
    assert "chromium" not in said(programs, "chromium:chromium")


def test_a_file_that_is_no_program_is_looked_for_by_its_path(programs: Path) -> None:
    (programs / "socat").unlink()
    assert " a-font" in said(programs, f"{programs}/font.ttf:a-font")
    (programs / "font.ttf").touch()
    assert "a-font" not in said(programs, f"{programs}/font.ttf:a-font")
