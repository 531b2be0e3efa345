"""Is there anything left that goes on by itself? Else it is no use to wait: somebody has to change something.

Must not know: what a condition says, but for the reason of Ready.
"""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.api.status import Step
from controller.domain.draft import Draft
from controller.domain.loading import load_is_stuck

# Ready is False, and that is the usual way: a step is under way, or what is missing may be on its way, too.
WAITS = frozenset({Reason.PENDING, Reason.DELETING, Reason.BASE_NOT_FOUND, Reason.NO_READY_BASE_POD, Reason.LOADING})
# Something is wrong, and the controller goes on trying; so it does in these steps, whatever is wrong.
_TRIES = frozenset({Reason.NO_READY_BACKEND, Reason.LOAD_DEADLINE_EXCEEDED})
_TRYING_STEPS = frozenset({Step.STARTING, Step.SWITCHING, Step.ROLLING_BACK})
# Of a load: what one pod says, while others may still take the adapter.
_OF_PODS = frozenset({Reason.LOAD_FAILED, Reason.MODEL_NAME_TAKEN, Reason.NO_FREE_ADAPTER_SLOT})


def is_stalled(d: Draft, ready: Reason | str, is_blocked: bool) -> bool:
    """`ready`: the reason for which Ready is not True; `is_blocked`: work on the release cannot even begin."""
    if ready in WAITS or ready in _TRIES or d.step in _TRYING_STEPS:
        return False
    return is_blocked or ready not in _OF_PODS or load_is_stuck(d)


def load_may_succeed(d: Draft, loaded: Reason | str) -> bool:
    """`loaded`: the reason for which AdapterLoaded is not True. One pod has said no; others still have time."""
    return loaded in _OF_PODS and not d.is_late and not load_is_stuck(d)


def load_has_failed(d: Draft, loaded: Reason | str) -> bool:
    """No pod will take the version any more, or too few have in time."""
    return d.step is Step.LOADING and loaded not in WAITS and (d.is_late or load_is_stuck(d))
