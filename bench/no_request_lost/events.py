"""What happens while clients ask. An event is made to happen in turns until every client has asked often enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.no_request_lost.records import REPORTED
from bench.no_request_lost.scene import Scene, spec
from controller.runtime.resources import PODS
from tests.e2e.cluster import NAMESPACE
from tests.e2e.release import Release

CALM = 6.0  # seconds between two turns; longer than the time in which kept connections have to move
LONG_CALM = 15.0  # after what is over in a moment, so that streams are in it as well
KILL_AFTER = (0.2, 0.6, 1.2, 2.0, 3.0, 4.5)  # seconds from the change until its controller is killed, turn by turn
FAILING_CHECK = "rollback by a failing check"
BOT, NEWCOMER, OTHER = "support-bot", "newcomer", "second-bot"


@dataclass(frozen=True)
class Event:
    """`rows`: what `Scene.begin` is told, for one row each of the table."""

    name: str
    rows: tuple[str, ...]
    prepare: Callable[[Scene], None]
    turn: Callable[[Scene, int], None]
    model: str = BOT
    starts_by_itself: bool = False
    """The first turn makes that which the clients ask; they begin when it is reported."""
    turns: int | None = None
    """None: as many as it takes until every client has asked often enough."""


def _adapter(scene: Scene) -> None:
    """v1 serves as an adapter on two pods that were never restarted."""
    scene.release.set_spec(spec("v1"))
    scene.renew_servers()
    scene.cluster.scale_base(2)
    scene.cluster.until_base_has(2)
    scene.until_version("v1")
    scene.until_all_pods_serve()


def _proven(scene: Scene) -> None:
    """As `_adapter`, and there is an artifact that was promoted before: its swap needs no build."""
    _adapter(scene)
    scene.release.set_spec(spec("v1", "Stable"))
    scene.release.until("Promoted", "True", seconds=900)
    scene.release.until("Ready", "True", "Serving")
    scene.versions.learn_merged("v1", scene.release.name)
    _stage(scene, "Experimental")


def _stage(scene: Scene, stage: str) -> None:
    scene.release.patch({"spec": {"stage": stage}})
    scene.release.until_serving("Artifact" if stage == "Stable" else "Adapter")
    scene.release.until("Promoted", "True" if stage == "Stable" else "False")


def _nothing(scene: Scene) -> None:
    scene.release.delete()


def _first_load(scene: Scene, turn: int) -> None:
    if turn == 0:
        scene.begin("first load")
        scene.release.set_spec(spec("v1"))
        assert scene.watcher is not None
        watcher = scene.watcher
        scene.cluster.until("it serves", lambda: any(m.kind == REPORTED for m in watcher.marks()), 180)
    else:
        scene.steady(CALM)


def _load(scene: Scene, turn: int) -> None:
    other = Release(scene.cluster, OTHER)
    scene.begin("another adapter is loaded and deleted")
    other.set_spec(spec("v2"))
    other.until("AdapterLoaded", "True", "Loaded")
    scene.steady(CALM)
    other.delete()
    scene.steady(CALM)


def _update(scene: Scene, turn: int) -> None:
    version = ("v2", "v1")[turn % 2]
    scene.begin("update")
    scene.release.set_spec(spec(version))
    scene.until_version(version)
    scene.steady(CALM)


def _swap(scene: Scene, turn: int) -> None:
    for row, stage, calm in (("swap", "Stable", CALM), ("rollback by hand", "Experimental", LONG_CALM)):
        scene.begin(row)
        _stage(scene, stage)
        scene.steady(calm)


def _crash(scene: Scene, turn: int) -> None:
    scene.begin("container crash of one of two pods")
    _kill_and_wait(scene, turn)
    scene.until_all_pods_serve()
    scene.steady(CALM)


def _kill_and_wait(scene: Scene, turn: int) -> None:
    pod = scene.cluster.base_pods()[turn % 2]
    name, before = pod["metadata"]["name"], pod["status"]["containerStatuses"][0]["restartCount"]
    scene.kill_server(pod)

    def back() -> bool:
        found = scene.cluster.get(PODS, name)
        status = found["status"]["containerStatuses"][0] if found else {}
        return bool(status.get("restartCount", 0) > before and status.get("ready"))

    scene.cluster.until(f"the server in {name} is back", back, 300)


def _delete_pod(scene: Scene, turn: int) -> None:
    scene.begin("pod deleted")
    name = scene.cluster.base_pods()[turn % 2]["metadata"]["name"]
    scene.cluster.kubectl("-n", NAMESPACE, "delete", "pod", name, "--wait=false")
    scene.cluster.until(f"{name} is gone", lambda: scene.cluster.get(PODS, name) is None, 120)
    scene.cluster.until_base_has(2)
    scene.until_all_pods_serve()
    scene.steady(CALM)


def _killed_in_update(scene: Scene, turn: int) -> None:
    version = ("v2", "v1")[turn % 2]
    scene.begin("controller killed in an update")
    scene.release.set_spec(spec(version))
    scene.steady(KILL_AFTER[turn % len(KILL_AFTER)])
    scene.kill_controller()
    scene.until_version(version)
    scene.renew_controllers()
    scene.steady(CALM)


def _killed_in_swap(scene: Scene, turn: int) -> None:
    stage = ("Stable", "Experimental")[turn % 2]
    scene.begin("controller killed in a swap")
    scene.release.patch({"spec": {"stage": stage}})
    scene.steady(KILL_AFTER[turn % len(KILL_AFTER)])
    scene.kill_controller()
    scene.release.until_serving("Artifact" if stage == "Stable" else "Adapter")
    scene.renew_controllers()
    scene.steady(CALM)


def _failing_check(scene: Scene, turn: int) -> None:
    """The merged model's engine fails once it has the traffic: clients get its 500 until the route is back. Another
    duration is another spec, and so another try for an artifact that was rejected."""
    wanted = spec("v1", "Stable")
    observe = {"duration": f"{11 + turn}m", "interval": "2s", "maxLatencyRatio": "50", "failureLimit": 0}
    wanted["rollout"]["observe"] |= observe
    scene.release.set_spec(wanted)
    scene.cluster.until("the artifact is watched", lambda: scene.release.step == "Observing", 600)
    scene.steady(CALM)
    fault = scene.cluster.store / "faults" / "fault.json"
    try:
        scene.begin(FAILING_CHECK)
        fault.write_text('{"fails": true}')
        scene.release.until_serving("Adapter")
    finally:
        fault.unlink(missing_ok=True)
    scene.steady(CALM)


def _crash_without_controller(scene: Scene, turn: int) -> None:
    scene.begin("controller down and container crash")
    scene.scale_controller(0)
    try:
        _kill_and_wait(scene, turn)
        scene.steady(CALM)
    finally:
        scene.scale_controller(2)
    scene.until_loaded()
    scene.until_all_pods_serve()
    scene.steady(CALM)


EVENTS = {
    e.name: e
    for e in (
        Event("first-load", ("first load",), _nothing, _first_load, NEWCOMER, starts_by_itself=True),
        Event("load", ("another adapter is loaded and deleted",), _adapter, _load),
        Event("update", ("update",), _adapter, _update),
        Event("killed-in-update", ("controller killed in an update",), _adapter, _killed_in_update),
        Event("crash", ("container crash of one of two pods",), _adapter, _crash),
        Event(
            "crash-without-controller", ("controller down and container crash",), _adapter, _crash_without_controller
        ),
        Event("pod-deleted", ("pod deleted",), _adapter, _delete_pod),
        Event("swap", ("swap", "rollback by hand"), _proven, _swap),
        Event("killed-in-swap", ("controller killed in a swap",), _proven, _killed_in_swap),
        Event("failing-check", (FAILING_CHECK,), _proven, _failing_check, turns=3),
    )
}
