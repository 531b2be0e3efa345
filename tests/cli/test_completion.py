"""Completion, as shells and kubectl ask for it; and the page of commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from controller.cli import help_page
from controller.cli.main import app
from tests.cli.place import Place
from tests.cli.states import world_in
from tests.docs.pages import ROOT
from tests.domain.world import ROUTE

pytestmark = pytest.mark.slow

KUBECTL = "from controller.cli.completion import for_kubectl; for_kubectl()"
PROGRAM = "from controller.cli.main import main; main()"


def proposals(place: Place, *words: str) -> list[str]:
    """As kubectl asks: the words behind `kubectl adapterrelease`, the last one not finished."""
    environment = os.environ | {"KUBECONFIG": str(place.kubeconfig)}
    done = subprocess.run(
        [sys.executable, "-c", KUBECTL, *words], capture_output=True, text=True, env=environment, cwd=ROOT, check=True
    )
    assert done.stderr == ""
    *found, directive = done.stdout.split()
    assert directive == ":4"
    return found


def test_kubectl_completes_commands(place: Place) -> None:
    assert proposals(place, "ro") == ["rollback"]
    assert {"get", "status", "promote"} <= set(proposals(place, ""))


def test_kubectl_completes_releases_of_the_namespace_that_is_named(place: Place) -> None:
    place.hold(world_in("serving"))
    assert proposals(place, "status", "") == [ROUTE]
    assert proposals(place, "status", "x") == []
    assert proposals(place, "status", "-n", "elsewhere", "") == []


def test_kubectl_completes_options(place: Place) -> None:
    assert proposals(place, "status", "x", "--tim") == ["--timeout"]


def test_without_a_cluster_there_are_no_proposals_and_no_words(place: Place) -> None:
    place.api.kill()
    assert proposals(place, "status", "") == []
    place.api.revive()


def test_bash_asks_by_its_environment(place: Place) -> None:
    words = {"_ADAPTERRELEASE_COMPLETE": "complete_bash", "COMP_WORDS": "adapterrelease abo", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=os.environ | words, cwd=ROOT, check=True
    )
    assert done.stdout.split() == ["abort"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_by_the_same_variable(shell: str) -> None:
    done = CliRunner().invoke(app, ["completion", shell])
    assert done.exit_code == 0
    assert "_ADAPTERRELEASE_COMPLETE" in done.stdout and "adapterrelease" in done.stdout


def test_the_console_scripts_are_declared() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for line in (
        'kubectl-adapterrelease = "controller.cli.main:main"',
        'kubectl_complete-adapterrelease = "controller.cli.completion:for_kubectl"',
    ):
        assert line in text


# -- docs/cli.md
def test_the_page_of_commands_is_up_to_date() -> None:
    assert help_page.write(app, check=True) == 0


def test_a_page_that_is_out_of_date_is_said_and_written_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "cli.md"
    page.write_text("old")
    assert help_page.write(app, check=True, page=page) == 1
    assert "docs/cli.md is out of date" in capsys.readouterr().err
    assert page.read_text() == "old"
    assert help_page.write(app, check=False, page=page) == 0
    assert help_page.write(app, check=True, page=page) == 0


def test_each_command_and_option_is_on_the_page() -> None:
    text = help_page.PAGE.read_text()
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            shown = parameter.name in ("namespace", "context", "kubeconfig") or all(
                f"`{o}`" in section for o in parameter.opts
            )
            assert shown or parameter.param_type_name == "argument", (name, parameter.name)
