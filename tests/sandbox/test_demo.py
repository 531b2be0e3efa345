"""The demo on a cluster that a fake kubectl plays: nothing of the reader's is overwritten or removed, and whoever
interrupts it is left with no load.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.demo.life import Life
from sandbox.demo.narrator import DemoFailed, Narrator
from sandbox.demo.prepare import CHECKOUT, prepare

pytestmark = pytest.mark.slow

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
[[ " $* " != *" /client/ask.py "* ]] || echo "queue=billing urgency=high"
[[ " $* " != *" /client/score.py "* ]] || echo '{"score": 0.9}'
[ ! -e "$here/at" ] || [[ " $* " != *" $(head -n 1 "$here/at") "* ]] || . "$here/then"
"""


class Theirs:
    """A cluster by the names of what is in it."""

    def __init__(self, directory: Path) -> None:
        self._has, self._calls = directory / "has", directory / "calls"
        self._at, self._then = directory / "at", directory / "then"
        self._calls.touch()
        program = directory / "kubectl"
        program.write_text(KUBECTL)
        program.chmod(0o755)

    def has(self, *names: str) -> None:
        self._has.write_text("".join(f"{name}\n" for name in names))

    def at(self, words: str, then: str) -> None:
        """What a command with these words does."""
        self._at.write_text(words)
        self._then.write_text(then)

    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines()

    def writes(self) -> list[str]:
        return [call for call in self.calls() if "apply" in call.split()]


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


DELETE_LOAD = "-n llm delete pod load --ignore-not-found"


def start_demo() -> subprocess.Popen[str]:
    """On the cluster `theirs`, as the leader of a process group (what Ctrl-C reaches)."""
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox.demo", "--context", "theirs"],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def interrupted_at(words: str, theirs: Theirs, tmp_path: Path) -> tuple[int, str, str]:
    """Ctrl-C while kubectl waits there: the demo's exit code, what it said, what it complained."""
    os.mkfifo(tmp_path / "waits")
    theirs.at(words, 'echo yes >"$here/waits"; exec sleep 300')
    demo = start_demo()
    assert (tmp_path / "waits").read_text() == "yes\n"
    os.killpg(demo.pid, signal.SIGINT)
    said, complained = demo.communicate(timeout=30)
    return demo.returncode, said, complained


def test_a_demo_that_fails_under_load_takes_the_load_away_and_says_what_stays(theirs: Theirs) -> None:
    """It went on asking ten times a second for two hours."""
    theirs.has(*NEEDED, *INSTALLED)
    theirs.at("wait pod/load", "echo timed out >&2; exit 1")
    demo = start_demo()
    said, complained = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert theirs.calls()[-1] == f"--context theirs {DELETE_LOAD}"
    assert "To take it away again" in said
    assert "timed out" in complained


def test_a_demo_that_is_interrupted_under_load_takes_the_load_away_and_says_what_stays(
    theirs: Theirs, tmp_path: Path
) -> None:
    theirs.has(*NEEDED, *INSTALLED)
    code, said, complained = interrupted_at("wait pod/load", theirs, tmp_path)
    assert code == 128 + signal.SIGINT
    assert theirs.calls()[-1] == f"--context theirs {DELETE_LOAD}"
    assert "To take it away again" in said
    assert complained == "\ndemo: interrupted\n"


def test_a_demo_that_is_interrupted_while_it_prepares_says_what_stays(theirs: Theirs, tmp_path: Path) -> None:
    theirs.has(*NEEDED, *INSTALLED)
    code, said, complained = interrupted_at("wait pod/client", theirs, tmp_path)
    assert code == 128 + signal.SIGINT
    assert "To take it away again" in said
    assert complained == "\ndemo: interrupted\n"


def test_in_the_sandbox_a_load_that_a_killed_demo_left_makes_way_for_a_new_one(theirs: Theirs) -> None:
    """If it had ended, applying it again started nothing, and the demo waited for it in vain."""
    Life(Narrator({}, ["kubectl"])).start_load()
    deleted, applied, *_ = theirs.calls()
    assert deleted == DELETE_LOAD
    assert applied.startswith("apply -f ")


def test_on_a_cluster_of_the_reader_s_no_load_is_deleted_that_the_demo_has_not_started(theirs: Theirs) -> None:
    Life(Narrator({}, ["kubectl"], "theirs")).start_load()
    assert not any("delete" in call for call in theirs.calls())


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
