"""The demo on a cluster of the reader's, which a fake kubectl plays: nothing of theirs is overwritten or removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.demo.narrator import DemoFailed
from sandbox.demo.prepare import CHECKOUT, prepare

NEEDED = ["deployment/tiny-llama", "service/tiny-llama", "persistentvolumeclaim/store"]
INSTALLED = [
    "customresourcedefinition/adapterreleases.adapterrelease.dev",
    "deployment/adapter-release-controller",
]
LEFT_BY_A_DEMO = [*INSTALLED, "ar/support-bot", "pod/client", "configmap/client-scripts"]
KUBECTL = """#!/bin/bash
here=$(dirname "$0")
echo "$*" >>"$here/calls"
[[ " $* " != *" get "* ]] || for word; do grep -xFe "$word" "$here/has" || true; done
[[ " $* " != *" ar/"* ]] || grep -q ^customresourcedefinition "$here/has" || { echo "no such type" >&2; exit 1; }
"""


class Theirs:
    """A cluster by the names of what is in it."""

    def __init__(self, directory: Path) -> None:
        self._has, self._calls = directory / "has", directory / "calls"
        self._calls.touch()
        program = directory / "kubectl"
        program.write_text(KUBECTL)
        program.chmod(0o755)

    def has(self, *names: str) -> None:
        self._has.write_text("".join(f"{name}\n" for name in names))

    def writes(self) -> list[str]:
        return [call for call in self._calls.read_text().splitlines() if "apply" in call.split()]


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Theirs:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return Theirs(tmp_path)


def refusal(theirs: Theirs) -> str:
    with pytest.raises(DemoFailed) as caught:
        prepare("theirs")
    assert theirs.writes() == []
    return str(caught.value)


@pytest.mark.parametrize("theirs_already", ["ar/support-bot", "pod/client", "pod/load", "configmap/client-scripts"])
def test_what_the_demo_would_overwrite_is_refused(theirs: Theirs, theirs_already: str) -> None:
    theirs.has(*NEEDED, *INSTALLED, theirs_already)
    assert theirs_already in refusal(theirs)


def test_without_the_crd_there_can_be_no_release_but_there_can_be_a_pod(theirs: Theirs) -> None:
    theirs.has(*NEEDED, "pod/client")
    assert "ar/support-bot" not in refusal(theirs)


@pytest.mark.parametrize("missing", [*NEEDED, "deployment/adapter-release-controller"])
def test_what_is_missing_is_named_before_anything_is_changed(theirs: Theirs, missing: str) -> None:
    theirs.has(*(name for name in (*NEEDED, *INSTALLED) if name != missing))
    assert missing in refusal(theirs)


def test_the_controller_is_installed_where_there_is_none(theirs: Theirs, capsys: pytest.CaptureFixture[str]) -> None:
    theirs.has(*NEEDED)
    prepare("theirs").farewell()
    assert any("install.yaml" in write for write in theirs.writes())
    assert "delete -f manifests/install.yaml" in capsys.readouterr().out


def test_their_installation_is_neither_changed_nor_to_be_deleted(
    theirs: Theirs, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the CRD go all their releases."""
    theirs.has(*NEEDED, *INSTALLED)
    prepare("theirs").farewell()
    assert [write for write in theirs.writes() if "client" not in write and "-f -" not in write] == []
    assert "install.yaml" not in capsys.readouterr().out


def test_a_second_demo_is_told_how_to_remove_what_the_first_left(theirs: Theirs) -> None:
    theirs.has(*NEEDED, *LEFT_BY_A_DEMO)
    remove = "kubectl --context theirs -n llm delete --ignore-not-found ar/support-bot pod/client pod/load"
    assert remove in refusal(theirs)
    theirs.has(*NEEDED, *INSTALLED)
    prepare("theirs")


def test_an_interrupted_demo_lets_its_program_clean_up(tmp_path: Path) -> None:
    """kube-up.sh takes down what it has begun, which takes seconds; it was killed after a quarter of one."""
    program = "trap 'sleep 1; touch cleaned; exit 1' INT; echo ready; while :; do sleep 0.1; done"
    demo = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from sandbox.demo.narrator import *; Narrator({{}}, []).run('bash', '-c', {program!r})",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout is not None
    assert demo.stdout.readline() == "ready\n"
    os.killpg(demo.pid, signal.SIGINT)
    _, said = demo.communicate(timeout=30)
    assert demo.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in said
    assert (tmp_path / "cleaned").exists()
