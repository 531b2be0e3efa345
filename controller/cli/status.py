"""`status` and `watch`: one release as a tree, once, as it changes, or until it is where its spec wants it.

Must not know: how the tree is made, or what counts as done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.cluster import Context, Kubeconfig, Namespace, opened
from controller.cli.completion import release_names
from controller.cli.ending import DONE, FAILED, NO_VERDICT, note
from controller.cli.history import Format, FormatOption, written

if TYPE_CHECKING:
    from controller.cli.following import Look
    from controller.cli.terminal import Screen, Terminal
    from controller.cli.view import View

Name = Annotated[str, typer.Argument(help="The release.", autocompletion=release_names)]
Timeout = Annotated[
    str | None,
    typer.Option(help="Wait until it is where its spec wants it, at most so long, as in 10m. Exit code 0, 1 or 3."),
]


def register(app: typer.Typer) -> None:
    for command in (status, watch):
        app.command()(command)


def status(
    name: Name,
    watching: Annotated[bool, typer.Option("-w", "--watch", help="Go on showing it as it changes.")] = False,
    timeout: Timeout = None,
    output: FormatOption = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show where a release stands, and what is to be done: adapter by pod, build, proof, candidate, route, history.

    With --timeout it waits. Exit code 0: it is where its spec wants it; 1: it will not get there by itself;
    3: the time was over.
    """
    seconds = _seconds(timeout)
    with opened(namespace, kubeconfig, context) as cluster:
        from controller.cli.following import looks
        from controller.cli.terminal import Terminal

        seen, terminal = looks(cluster, name, 0 if not watching and seconds is None else seconds), Terminal()
        if seconds is None:
            code = _watch(seen, terminal, output) if watching else _once(seen, terminal, output)
        else:
            code = _wait(seen, terminal, output)
    raise typer.Exit(code)


def watch(
    name: Name,
    timeout: Timeout = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """The same as `status -w`."""
    status(name, True, timeout, None, namespace, context, kubeconfig)


def _seconds(timeout: str | None) -> float | None:
    from controller.api.types import parse_duration

    try:
        return None if timeout is None else parse_duration(timeout).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--timeout") from error


def _once(seen: Iterable[Look], terminal: Terminal, output: Format | None) -> int:
    for look in seen:
        _print(look.view, terminal, output)
    return DONE


def _watch(seen: Iterable[Look], terminal: Terminal, output: Format | None) -> int:
    if output is not None:
        mark = "---\n" if output is Format.YAML else ""
        _each_change(seen, lambda view: print(mark + document(view, output), end="", flush=True))
        return DONE
    with terminal.following(result_follows=False) as screen:
        for look in seen:
            _show(look, terminal, screen)
    return DONE


def _each_change(seen: Iterable[Look], show: Callable[[View], None]) -> None:
    last = None
    for look in seen:
        version = look.view.release.metadata.resource_version
        if version != last:
            show(look.view)
        last = version


def _wait(seen: Iterable[Look], terminal: Terminal, output: Format | None) -> int:
    from controller.cli.standing import Outcome, outcome

    with terminal.following(result_follows=True) as screen:
        for look in seen:
            _show(look, terminal, screen)
            result, found = outcome(look.view.release, datetime.now(UTC))
            if result is not Outcome.WAITING:
                break
    _print(look.view, terminal, output)
    if result is Outcome.WAITING:
        note(f"the time is over, and it is not there: {found.word}: {look.problem or found.message}")
        return NO_VERDICT
    return DONE if result is Outcome.DONE else FAILED


def _show(look: Look, terminal: Terminal, screen: Screen) -> None:
    from rich.text import Text

    from controller.cli.tree import one_line, shown

    now = datetime.now(UTC)
    lines = shown(look.view, now, terminal.glyphs, terminal.width)
    problem = f"{look.problem}; trying again" if look.problem else ""
    screen.show([*lines, Text(problem, "red")] if problem else lines, problem or one_line(look.view, now))


def _print(view: View, terminal: Terminal, output: Format | None) -> None:
    from controller.cli.tree import shown

    if output is not None:
        print(document(view, output), end="")
    else:
        terminal.print(shown(view, datetime.now(UTC), terminal.glyphs, terminal.width))


def document(view: View, output: Format) -> str:
    """What the tree says, for scripts."""
    from dataclasses import asdict

    from controller.cli.standing import outcome

    release = view.release
    result, found = outcome(release, datetime.now(UTC))
    said: dict[str, Any] = {
        "name": release.metadata.name,
        "namespace": release.metadata.namespace,
        "generation": release.metadata.generation,
        "outcome": result.value,
        **{key: value for key, value in asdict(found).items() if key != "commands"},
        "commands": list(found.commands),
        "stage": release.spec.stage.value,
        "status": release.status.to_wire(),
    }
    return written(said, output)
