"""docs/cli.md: every command with its arguments and options, from typer's own help; and what holds for all of them.

Must not know what a command does.
"""

# ruff: noqa: E501 - a paragraph of the page is one line
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
_OF_THE_CLUSTER = ("namespace", "context", "kubeconfig")

_INTRO = """<!-- Generated from controller/cli by `make generate`; edit the help texts there, not this file. -->
# Commands

`adapterrelease` and `kubectl adapterrelease` are one program: kubectl finds a plugin by the name of the file, `kubectl-adapterrelease`, in `PATH`; `pip install` puts both there.

- **Look:** [get](#get), [status](#status), [watch](#watch), [history](#history), [logs](#logs), [advise](#advise)
- **Steer:** [promote](#promote), [rollback](#rollback), [retry](#retry), [abort](#abort), [pause](#pause), [resume](#resume), [enable](#enable)
- **Before anything is applied:** [validate](#validate), [check](#check)
- **Without a cluster:** [build](#build), [merge](#merge), [quantize](#quantize), [evaluate](#evaluate), [verify](#verify), [sign](#sign), [card](#card)

```console
kubectl adapterrelease get -A
kubectl adapterrelease status support-bot -n llm -w
kubectl adapterrelease promote support-bot -n llm
kubectl adapterrelease status support-bot -n llm --timeout 3h && echo it serves
kubectl adapterrelease rollback support-bot -n llm
```

## Exit codes

| code | means |
|---|---|
| 0 | done; `status --timeout`: the release is where its spec wants it |
| 1 | failed, and another try may help: no answer, a conflict. `status --timeout`: it will not get there by itself (rejected, rolled back: its condition `Stalled` is True), or it was deleted |
| 2 | rejected: the input, a command that cannot work now, no such release, a missing right. stderr says what to do instead |
| 3 | no verdict; `status --timeout`: the time was over |
| 130 | ended by Ctrl-C |

Results go to stdout, everything else to stderr. An error is one line: what, where, what to do. Colours and a picture that moves are for terminals; `NO_COLOR=1` turns colours off.

## The cluster

Every command that speaks to a cluster has `-n`/`--namespace` (default: the context's), `--context` and `--kubeconfig` (default: `KUBECONFIG`, then `~/.kube/config`; in a pod that has neither its service account). They stand in front of the command's name or behind it: `kubectl adapterrelease -n llm get`. kubectl does not hand its own options on to plugins: `kubectl -n llm adapterrelease` is refused by kubectl.

What you need is what `kubectl` would need for the same: to look, `get` and `list` of AdapterReleases (with `watch`, `-w` sees a change at once instead of within three seconds), Deployments, Pods, Jobs, Services and EndpointSlices (`status` shows the rest where one of these is missing); to steer, `patch` of AdapterReleases; for `validate`, `create` and `update` of them; for `logs`, `get` of `pods/log`.

## What the steering commands write

Each is one merge patch of the release, sent for the version that was read, and the same as a person could write with `kubectl patch`. If somebody else has edited it meanwhile, nothing is written (exit code 1); a status that has moved is no edit. `--dry-run` shows the patch and has the API server check it. Where Helm, Argo CD or Flux keeps the release, they say so: make the change there, too.

| command | in this state | writes |
|---|---|---|
| `promote` | stage Experimental | `stage: Stable`; takes `rollback` out |
| | a canary is under way | `rollout.canary.approved` for its artifact and this weight; `--full`: 100 |
| `rollback` | a canary or a switch forward is under way | what keeps the traffic where it comes from: `stage: Experimental`, or `rollback` to the revision that serves |
| | Stable, the artifact of the imported adapter serves | `stage: Experimental` |
| | anything else, or `--to N` | `rollback: {revision: N}` |
| `retry` | something failed for this spec | the annotation `adapterrelease.dev/retry`, the time |
| `abort` | Stable, on the way from the adapter to its artifact | `stage: Experimental`: the job or candidate goes, a canary's weight goes back to 0 |
| | another way, as with a new version | `rollback` to the revision that serves |
| | Observing | as `rollback`: the switch is undone |
| | nothing serves yet, nothing is under way, or it is going back | refused |
| `pause` | a canary is under way | takes `pause` out of its step, so that it waits for a person; until the step's deadline, which stays |
| | anything else | `rollback` to the revision that serves: nothing else is promoted |
| `resume` | `rollback` is set | takes it out |
| | a canary waits for a person | as `promote` |

## Completion

```console
source <(adapterrelease completion bash)
adapterrelease completion fish > ~/.config/fish/completions/adapterrelease.fish
```

Names of releases come from the cluster. For `kubectl adapterrelease` kubectl asks the program `kubectl_complete-adapterrelease`, which `pip install` puts beside the others; nothing else is needed where kubectl's own completion is set up.
"""


def write(app: typer.Typer, check: bool, page: Path = PAGE) -> int:
    """With `check` only says whether the page is out of date, and returns 1 if it is."""
    text = reference(app)
    if page.is_file() and page.read_text() == text:
        return 0
    if check:
        sys.stderr.write(f"docs/{page.name} is out of date: run `make generate` and commit it\n")
        return 1
    page.write_text(text)
    sys.stderr.write(f"docs/{page.name} written\n")
    return 0


def reference(app: typer.Typer) -> str:
    group: Any = get_command(app)
    sections = [line for name, command in group.commands.items() for line in _section(name, command)]
    return "\n".join([_INTRO, *sections]) + "\n"


def _section(name: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name not in _OF_THE_CLUSTER]
    of_cluster = any(p.name in _OF_THE_CLUSTER and p.name != "namespace" for p in command.params)
    line = " ".join(["adapterrelease", name, *map(_argument, arguments), *(["[OPTIONS]"] if options else [])])
    yield from (f"## {name}", "", f"`{line}`", "", _paragraphs(command.help), "")
    if arguments or options:
        yield from ("| | | default |", "|---|---|---|")
        yield from (_row(p) for p in (*arguments, *options))
        yield ""
    if of_cluster:
        yield from ("And the options of [the cluster](#the-cluster).", "")


def _argument(parameter: Any) -> str:
    name = parameter.name.upper()
    text = f"{name}..." if parameter.nargs == -1 else name
    return text if parameter.required else f"[{text}]"


def _row(parameter: Any) -> str:
    is_option = parameter.param_type_name == "option"
    names = ", ".join(f"`{n}`" for n in parameter.opts) if is_option else f"`{parameter.name.upper()}`"
    default = parameter.default
    said = "" if default in (None, False, ()) or callable(default) else f"`{getattr(default, 'value', default)}`"
    needed = "needed" if parameter.required and is_option else said
    return f"| {names} | {(parameter.help or '').replace('|', '/')} | {needed} |"


def _paragraphs(text: str | None) -> str:
    blocks = (text or "").strip().split("\n\n")
    return "\n\n".join(" ".join(block.split()) for block in blocks)
