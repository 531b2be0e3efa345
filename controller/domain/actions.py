"""What the controller can do: data, one idempotent call each, carried out by `reconcile/act.py`.

`why` is one sentence; it becomes the log line. Must not know: how any of it is done.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.api.status import Backend
from controller.domain.snapshot import JobKind as JobKind


@dataclass(frozen=True)
class Action:
    why: str


@dataclass(frozen=True)
class AddFinalizer(Action):
    pass


@dataclass(frozen=True)
class RemoveFinalizer(Action):
    pass


@dataclass(frozen=True)
class EnsureJob(Action):
    """Create Job and ConfigMap (its contract) if they are not there; never change them.

    For a validation the Services NAME-adapter and NAME-preview are pointed at what it asks, first.
    """

    kind: JobKind
    inputs: str


@dataclass(frozen=True)
class EndJob(Action):
    """Delete a job that is still active, and its pods with it; what it has published stays."""

    job: str


@dataclass(frozen=True)
class LoadAdapter(Action):
    """Load `path` under `engine_name` on the pod, if there is a free slot and the name is not listed."""

    pod: str
    engine_name: str
    digest: str
    path: str


@dataclass(frozen=True)
class StageAdapter(Action):
    """Load `path` under a staging name beside what serves, and probe it; unload it again when the probe fails."""

    pod: str
    engine_name: str
    digest: str
    path: str


@dataclass(frozen=True)
class ReplaceAdapter(Action):
    """On a base's only pod: unload, load the staged version under the client name, probe, label, drop the staging
    name; load the old path again if that fails. Not gap-free: a request in between gets a 404."""

    pod: str
    engine_name: str
    digest: str
    path: str
    old_path: str
    staging_name: str
    label: str


@dataclass(frozen=True)
class FlipAlias(Action):
    """From the next request on clients of the model name get `engine_name`, which was proven on the pod; what runs
    ends on what it began with. The pod's annotation, from which the plugin restores, and its label follow."""

    pod: str
    engine_name: str
    digest: str
    path: str
    label: str
    version: str  # of the adapter, as people call it


@dataclass(frozen=True)
class ClearAlias(Action):
    """The server knows the model name no more; what is loaded stays. Refused while the pod may get requests."""

    pod: str


@dataclass(frozen=True)
class TellRouted(Action):
    """Tell the plugin in a pod of the base or of a merged Deployment whether the route points there: where not, its
    answers ask keep-alive clients to connect anew."""

    pod: str
    routed: bool


@dataclass(frozen=True)
class EnsurePluginObjects(Action):
    """The plugin's ConfigMap, as this controller ships it, and the Secret with its token, in the namespace."""


@dataclass(frozen=True)
class ProbeAndLabel(Action):
    """Confirm id and root by /v1/models and one completion, then label the pod."""

    pod: str
    engine_name: str
    digest: str
    path: str
    label: str  # value of the loaded label
    version: str = ""  # of the adapter, as people call it


@dataclass(frozen=True)
class RemoveLabel(Action):
    """Take the pod out of the route and write down when."""

    pod: str


@dataclass(frozen=True)
class UnloadAdapter(Action):
    """Unload `engine_name`; refused by `act` while the pod carries the loaded label for what it serves."""

    pod: str
    engine_name: str


@dataclass(frozen=True)
class EnsureMerged(Action):
    """The Deployment of an artifact, and the Service NAME-preview, unless an HTTPRoute may still send it requests for
    another one."""

    artifact_id: str
    path: str


@dataclass(frozen=True)
class DeleteMerged(Action):
    """Delete a merged Deployment; refused by `act` while the route selects it."""

    artifact_id: str
    deployment: str
    uid: str


@dataclass(frozen=True)
class PointPreview(Action):
    """The Service NAME-preview leads to the artifact, of which an HTTPRoute gets, or is about to get, a weight."""

    artifact_id: str


@dataclass(frozen=True)
class SetWeight(Action):
    """Give the candidate so many percent in the user's HTTPRoute; 0 gives the HTTPRoute back to its owner."""

    http_route: str
    weight: int


@dataclass(frozen=True)
class SwitchRoute(Action):
    """Point the Service named after the release at the backend.

    `leaving`: the pods that lose it. They are told first: a controller that dies in between must not leave clients on
    kept connections there until the next one leads.
    """

    backend: Backend
    leaving: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScaleMerged(Action):
    """Scale a merged Deployment up; never down."""

    deployment: str
    uid: str
    replicas: int


@dataclass(frozen=True)
class ScaleBase(Action):
    """Scale the base Deployment to zero, or from zero, if it still has as many as were `seen`. To zero only if `act`
    finds no Service that selects its pods, and no release that needs it, at the API server."""

    deployment: str
    seen: int
    replicas: int
