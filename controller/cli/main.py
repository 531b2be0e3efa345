"""The one entry point: every command by name. What a command needs is imported when it runs.

So the controller starts without numpy, and a job without the Kubernetes client. Must not know how anything is done.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from controller import __version__
from controller.cli import (
    advise,
    artifacts,
    build,
    completion,
    enable,
    get,
    history,
    logs,
    offline,
    report,
    status,
    steer,
    validate,
)
from controller.cli.cluster import Context, Kubeconfig, Namespace

TERMINATION_LOG = Path("/dev/termination-log")

app = typer.Typer(
    name="adapterrelease",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"adapterrelease {__version__}")
        raise typer.Exit


@app.callback()
def in_front(
    called: typer.Context,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """From a LoRA adapter to a merged, quantized and proven model on vLLM.

    The options of the cluster may stand here or behind the command's name.
    """
    options = {"namespace": namespace, "context": context, "kubeconfig": kubeconfig}
    stated = {name: value for name, value in options.items() if value}
    called.default_map = {str(called.invoked_subcommand): stated}


COMMANDS = (get, status, steer, history, logs, report, validate, advise, enable, offline, build, artifacts, completion)
for commands in COMMANDS:
    commands.register(app)


@app.command()
def operator() -> None:
    """Run the controller. Its settings are environment variables: see docs."""
    from controller.app import run_operator

    raise typer.Exit(run_operator() or 0)


@app.command()
def crd(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; 1 if a file is out of date.")] = False,
) -> None:
    """Generate the manifests and the references in docs from the code."""
    from controller.api import crd as generator
    from controller.cli import help_page
    from controller.cli.metrics_reference import metrics_reference

    stale = [
        generator.main(check=check, more={"docs/metrics.md": metrics_reference()}),
        help_page.write(app, check=check),
    ]
    raise typer.Exit(max(stale))


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


def main() -> None:
    """The console scripts `adapterrelease` and `kubectl-adapterrelease`."""
    if completion.VARIABLE in os.environ:
        completion.know_shells()
    app(prog_name=completion.PROGRAM if completion.VARIABLE in os.environ else None)
