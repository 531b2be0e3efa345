"""A release as a person reads it: where it stands, what is to be done, and a tree of its parts.

Pure: View and time -> lines. Must not know: how the view was read, or what the terminal is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from rich.text import Text

from controller.api.status import Step
from controller.cli.layout import Glyphs, Node, labelled, tree
from controller.cli.parts import adapter, artifact, build, canary, history, merged, observation, refusals, route
from controller.cli.standing import Health, Standing, serves_what, standing
from controller.cli.view import View
from controller.cli.words import age, ago, plain, sentence

_COLOURS = {
    Health.HEALTHY: "green",
    Health.PROGRESSING: "yellow",
    Health.SUSPENDED: "magenta",
    Health.DEGRADED: "red",
}
_PARTS: tuple[Callable[[View, datetime, Glyphs], list[Node]], ...] = (
    adapter,
    build,
    artifact,
    merged,
    canary,
    observation,
    route,
    refusals,
    history,
)


def shown(view: View, now: datetime, glyphs: Glyphs, width: int) -> list[Text]:
    """All of it. No line is longer than `width`, unless that is under 40."""
    found = standing(view.release, now)
    lines = labelled(_head(view, found, now, glyphs), width)
    parts = [node for part in _PARTS for node in part(view, now, glyphs)]
    if parts:
        lines += [Text(), Text(view.release.metadata.name, "bold"), *tree(parts, width, glyphs)]
    if view.unread:
        notes = [("not shown", Text(plain(text))) for text in view.unread]
        lines += [Text(), *labelled(notes, width)]
    return lines


def _head(view: View, found: Standing, now: datetime, glyphs: Glyphs) -> list[tuple[str, Text]]:
    release = view.release
    marks = {Health.HEALTHY: glyphs.ok, Health.PROGRESSING: glyphs.busy, Health.SUSPENDED: glyphs.person}
    mark = marks.get(found.health, glyphs.bad)
    colour = _COLOURS[found.health]
    state = f"{found.health}, {found.word}" if found.word != found.health else found.word
    return [
        ("release", Text(f"{release.metadata.name} in namespace {release.metadata.namespace}")),
        ("state", Text(f"{mark} {state}", colour)),
        ("message", Text(plain(found.message))),
        ("to do", Text(plain(sentence(found.todo)), "bold")),
        *(("", Text(plain(line), "bold")) for line in found.commands),
        ("stage", Text(_stage(view))),
        ("base", Text(plain(release.spec.base_ref.name))),
        ("model", Text(f"{plain(release.model_name)}, at http://{release.metadata.name}.{release.metadata.namespace}")),
        ("serving", Text(_serving(view, now))),
        ("step", Text(_step(view, now))),
    ]


def _stage(view: View) -> str:
    pin = view.release.spec.rollback
    pinned = f", held at revision {pin.revision} by spec.rollback" if pin is not None else ""
    return f"{view.release.spec.stage}{pinned}"


def _serving(view: View, now: datetime) -> str:
    serving = view.release.status.serving
    if serving is None:
        return "nothing yet"
    missing = f"; without a ready pod for {ago(serving.unavailable_since, now)}" if serving.unavailable_since else ""
    what = plain(serves_what(view.release))
    return f"{what}, revision {serving.revision}, for {ago(serving.since, now)}{missing}"


def _step(view: View, now: datetime) -> str:
    rollout = view.release.status.rollout
    if rollout.step is Step.IDLE:
        return ""
    text = f"{rollout.step} for {ago(rollout.started_at, now)}" if rollout.started_at else str(rollout.step)
    if rollout.deadline is None:
        return text
    left = rollout.deadline - now
    return f"{text}, {age(left)} left" if left.total_seconds() > 0 else f"{text}, {age(-left)} over its deadline"


def one_line(view: View, now: datetime) -> str:
    """For logs of a pipeline: what a person would look at first."""
    found = standing(view.release, now)
    progress = view.release.status.rollout.progress
    more = f" ({progress})" if progress and progress not in found.message else ""
    return plain(f"{found.health}, {found.word}: {found.message}{more}".replace("\n", " "))
