"""Carrying out a plan: one method for each action, found by the action's type."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.domain import actions
from controller.domain.actions import Action
from controller.engine.errors import LoadRejected, NameTaken
from controller.errors import AdapterReleaseError, LeadershipLost, NotFound, PermanentError
from controller.reconcile.act_objects import ObjectActions
from controller.reconcile.act_pods import PodActions
from controller.reconcile.turn import StaleRelease, Turn

log = logging.getLogger(__name__)

Act = Callable[[Action, Turn], None]

# Nothing tells the controller that these are done: it has to look again by itself, and soon. Not after a weight: it is
# set again until a gateway accepts it, which may take hours.
_UNSEEN = (
    *(actions.LoadAdapter, actions.StageAdapter, actions.ReplaceAdapter, actions.UnloadAdapter),
    *(actions.FlipAlias, actions.ClearAlias, actions.TellRouted, actions.EnsurePluginObjects),
)

# What is gone the next look shows, and what vLLM says to a load is in the conditions.
_SHOWN = (NotFound, LoadRejected, NameTaken)


@dataclass(frozen=True)
class Outcome:
    """`refused`: what a person has to mend. `unseen`: something was done of which no event will come."""

    errors: tuple[AdapterReleaseError, ...] = ()
    refused: tuple[str, ...] = ()
    unseen: bool = False


class Actor:
    """`actor(action, turn)` carries out one action. Raises errors of the project's tree."""

    def __init__(self, objects: ObjectActions, pods: PodActions) -> None:
        self._objects, self._pods = objects, pods
        self._methods: Mapping[type[Action], Callable[[Any, Turn], None]] = {
            actions.AddFinalizer: objects.add_finalizer,
            actions.RemoveFinalizer: objects.remove_finalizer,
            actions.EnsureJob: objects.ensure_job,
            actions.EndJob: objects.end_job,
            actions.EnsureMerged: objects.ensure_merged,
            actions.DeleteMerged: objects.delete_merged,
            actions.SwitchRoute: self._switch_route,
            actions.PointPreview: objects.point_preview,
            actions.ScaleMerged: objects.capacity.scale_merged,
            actions.ScaleBase: objects.capacity.scale_base,
            actions.SetWeight: objects.set_weight,
            actions.LoadAdapter: pods.load,
            actions.StageAdapter: pods.stage,
            actions.ReplaceAdapter: pods.replace,
            actions.FlipAlias: pods.flip,
            actions.ClearAlias: pods.clear_alias,
            actions.TellRouted: pods.tell_routed,
            actions.EnsurePluginObjects: objects.ensure_plugin_objects,
            actions.ProbeAndLabel: pods.probe_and_label,
            actions.RemoveLabel: pods.remove_label,
            actions.UnloadAdapter: pods.unload,
        }

    def __call__(self, action: Action, turn: Turn) -> None:
        try:
            self._methods[type(action)](action, turn)
        except ValueError as error:  # the builders': what the user gave makes no object
            raise PermanentError(str(error), reason="InvalidObject") from error

    def _switch_route(self, action: actions.SwitchRoute, turn: Turn) -> None:
        """Told first, in the same action: a controller that dies then leaves nobody on a kept connection. Who gives no
        answer is told by a later pass."""
        self._pods.tell_leaving(action, turn)
        self._objects.switch_route(action, turn)


def carry_out(plan_actions: Sequence[Action], turn: Turn, act: Act, news: Container[str] | None = None) -> Outcome:
    """All of them in order, each whatever became of the others. StaleRelease and LeadershipLost end it at once.

    `news`: the reasons of actions that were not told yet; None: all. What is tried again is told at DEBUG.
    """
    errors: list[AdapterReleaseError] = []
    refused: list[str] = []
    unseen = False
    for action in plan_actions:
        kind = type(action).__name__
        try:
            level = logging.INFO if news is None or action.why in news else logging.DEBUG
            log.log(level, "%s", action.why, extra={"action": kind})
            act(action, turn)
            unseen = unseen or isinstance(action, _UNSEEN)
        except (StaleRelease, LeadershipLost):
            raise
        except Exception as raised:
            error = _known(raised, kind)
            log.warning("%s failed: %s", kind, error.message, extra={"action": kind, "reason": error.reason})
            errors.append(error)
            if isinstance(error, PermanentError) and not isinstance(error, _SHOWN):
                refused.append(f"{action.why}: {error.message}")
    return Outcome(tuple(errors), tuple(refused), unseen)


def _known(raised: Exception, kind: str) -> AdapterReleaseError:
    if isinstance(raised, AdapterReleaseError):
        return raised
    log.error("%s failed by a fault of the controller", kind, exc_info=raised)
    return PermanentError(f"unexpected {type(raised).__name__}; see the controller's log", reason="Unexpected")
