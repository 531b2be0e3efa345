"""The one entry point: every command by name. What a command needs is imported when it runs.

So the controller starts without numpy, and a job without the Kubernetes client. Must not know how anything is done.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from controller.cli import artifacts, build, enable, offline, report

TERMINATION_LOG = Path("/dev/termination-log")

app = typer.Typer(
    name="adapterrelease",
    help="From a LoRA adapter to a merged, quantized and proven model on vLLM.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def operator() -> None:
    """Run the controller. Its settings are environment variables: see docs."""
    from controller.app import run_operator

    raise typer.Exit(run_operator() or 0)


@app.command()
def crd(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; 1 if a file is out of date.")] = False,
) -> None:
    """Generate the manifests and the API reference from the API's models."""
    from controller.api import crd as generator

    raise typer.Exit(generator.main(check=check))


@app.command()
def job(
    contract: Annotated[Path, typer.Option(help="What to do, as JSON.")],
    termination_log: Annotated[Path, typer.Option(help="Where the summary goes.")] = TERMINATION_LOG,
    progress_port: Annotated[int | None, typer.Option(help="Serve /progress and /metrics here.")] = None,
) -> None:
    """Do what a Job does: import, build or evaluate."""
    from controller.job import run

    code = run.main(contract, termination_log, progress_port)
    sys.stdout.flush()
    sys.stderr.flush()
    # All is said and on the disk. Threads of a job that was stopped may wait for ever: for an answer, or for a lock of
    # logging's that the signal came between taking and giving back.
    os._exit(code)


for commands in (offline, build, artifacts, report, enable):
    commands.register(app)
