"""Completion in shells, and for `kubectl adapterrelease`: commands and options by typer, names from the cluster.

A shell waits for it, so whatever goes wrong, or takes long, means no proposals and no message.
"""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from enum import StrEnum
from typing import Annotated

import typer

PROGRAM = "adapterrelease"
VARIABLE = "_ADAPTERRELEASE_COMPLETE"
_NO_FILES = ":4"  # kubectl's directive: propose no files beside these
_PATIENCE = 2.0  # seconds


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def register(app: typer.Typer) -> None:
    app.command()(completion)


def completion(shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print the script that completes `adapterrelease` in a shell: source it in the shell's start-up file."""
    from typer.completion import shell_complete
    from typer.main import get_command

    from controller.cli.main import app

    know_shells()
    shell_complete(get_command(app), {}, PROGRAM, VARIABLE, f"source_{shell.value}")


def know_shells() -> None:
    """typer does so only when it makes its own options for completion, which are not wanted here."""
    from typer.completion import get_completion_inspect_parameters

    get_completion_inspect_parameters()


def release_names(context: typer.Context, incomplete: str) -> list[str]:
    """Releases of the namespace that the line names."""
    given = {**context.find_root().params, **{key: value for key, value in context.params.items() if value}}
    with suppress(Exception):
        from controller.cli.cluster import client_for
        from controller.reconcile.caches import RELEASES

        client = client_for(given.get("kubeconfig"), given.get("context"))
        try:
            path = RELEASES.path(given.get("namespace") or client.namespace)
            items, _ = client.list(path, timeout=_PATIENCE)
        finally:
            client.close()
        return [name for r in items if (name := r["metadata"]["name"]).startswith(incomplete)]
    return []


def for_kubectl() -> None:
    """`kubectl_complete-adapterrelease`: proposals for the words in argv, one a line, then kubectl's directive."""
    from controller.cli.main import main

    words = sys.argv[1:] or [""]
    line = [PROGRAM, *words]
    os.environ |= {VARIABLE: "complete_bash", "COMP_WORDS": shlex.join(line), "COMP_CWORD": str(len(words))}
    with suppress(SystemExit):
        main()
    print(_NO_FILES)
