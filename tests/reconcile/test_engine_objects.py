"""The engine plugin in pods: what ships it, and pod specs that carry it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.api.status import AdapterReleaseStatus, AdapterStatus, ArtifactStatus, HistoryEntry
from controller.domain.actions import EnsureMerged
from controller.engine.plugin.restore import declarations
from controller.errors import Conflict
from controller.reconcile.act_engine import EngineObjects
from controller.reconcile.engines import SECRETS
from controller.reconcile.objects.engine import (
    ENGINE_NAME,
    EngineNameTaken,
    Plugin,
    plugin_in,
    plugin_map,
    token_secret,
    with_plugin,
)
from controller.reconcile.plugin_bases import PluginBases, plugin_base
from controller.runtime import logs
from controller.runtime.resources import CONFIGMAPS, DEPLOYMENTS, Key
from tests.builders import A1, A2, D1, D2, T0, artifact, release
from tests.fakes import faults
from tests.fakes.connection import Connection
from tests.reconcile.cluster import NAMESPACE, Cluster, cluster
from tests.reconcile.deployments import KSERVE, PLUGIN, SHELL_FORM, SIDECAR, UNKNOWN, container, deployment
from tests.reconcile.test_objects import merged_of, seen

pytestmark = pytest.mark.slow

Json = dict[str, Any]

OURS = "--middleware=adapterrelease_engine.Middleware"
PLACE = "/opt/adapterrelease"
NEWER = Plugin({"__init__.py": "class Middleware: ...\n", "doors.py": ""}, "ba9876543210")


@pytest.fixture
def world() -> Iterator[Cluster]:
    with cluster() as made:
        made.add_base()
        made.apply(release().stable())
        yield made


def plugged(made: Json) -> Json:
    return with_plugin(deployment(made)["spec"]["template"]["spec"], made["name"])


def vllm_in(pod: Json) -> Json:
    found: Json = pod["containers"][0]
    return found


def line_of(pod: Json) -> list[str]:
    return [*vllm_in(pod).get("command", ()), *vllm_in(pod).get("args", ())]


# -- the plugin itself


def test_the_version_is_that_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "state.py").write_bytes(b"two")
    (tmp_path / "__init__.py").write_bytes(b"one")
    (tmp_path / "notes.txt").write_bytes(b"not shipped")
    expected = hashlib.sha256(b"__init__.py\0one\0state.py\0two\0").hexdigest()[:12]
    assert plugin_in(tmp_path) == Plugin({"__init__.py": "one", "state.py": "two"}, expected)


def test_an_installation_without_the_plugin_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no engine plugin: install the controller anew"):
        plugin_in(tmp_path)


def test_what_is_shipped_is_the_whole_plugin_and_fits_into_a_config_map() -> None:
    plugin = plugin_in()
    assert "class Middleware" in plugin.files["middleware.py"]
    assert "from .middleware import Middleware" in plugin.files["__init__.py"]
    assert sum(len(text.encode()) for text in plugin.files.values()) < 500_000  # a ConfigMap takes 1 MiB


# -- a pod spec that carries it


@pytest.mark.parametrize("made", [container(), KSERVE, SHELL_FORM, container(command=None, args=["--model", "/m"])])
def test_it_is_added_once_however_often_it_is_asked_for(made: Json) -> None:
    once = plugged(made)
    assert " ".join(line_of(once)).count(OURS) == 1
    assert with_plugin(once, made["name"]) == once


def test_vllm_finds_it_where_the_volume_is_mounted_and_reads_token_and_annotations_beside_it() -> None:
    pod = plugged(container())
    assert {"name": "PYTHONPATH", "value": PLACE} in vllm_in(pod)["env"]
    (mount,) = [m for m in vllm_in(pod)["volumeMounts"] if m["name"] == ENGINE_NAME]
    assert (mount["mountPath"], mount["readOnly"]) == (f"{PLACE}/adapterrelease_engine", True)
    (volume,) = [v for v in pod["volumes"] if v["name"] == ENGINE_NAME]
    files, token, notes = volume["projected"]["sources"]
    assert files == {"configMap": {"name": ENGINE_NAME}}
    assert token == {"secret": {"name": ENGINE_NAME, "optional": True}}
    (item,) = notes["downwardAPI"]["items"]
    assert (item["path"], item["fieldRef"]["fieldPath"]) == ("annotations", "metadata.annotations")


def test_other_containers_do_not_carry_it() -> None:
    pod = with_plugin(deployment(container(), SIDECAR)["spec"]["template"]["spec"], "vllm")
    assert pod["containers"][1] == SIDECAR


def test_it_is_the_last_middleware_and_so_the_outermost() -> None:
    given = ["--middleware", "adapterrelease_engine.Middleware", "--middleware=mine.Log", "--enforce-eager"]
    line = line_of(plugged(container(args=given)))
    assert line[3:] == ["--middleware=mine.Log", "--enforce-eager", OURS]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/lib", f"/lib:{PLACE}"),
        (f"/lib:{PLACE}:/more", f"/lib:{PLACE}:/more"),
        ("/lib:", f"/lib:{PLACE}"),
        ("", PLACE),
    ],
)
def test_directories_that_python_looks_into_already_come_first(given: str, expected: str) -> None:
    env = [{"name": "PYTHONPATH", "value": given}, {"name": "A", "value": "$(PYTHONPATH)"}]
    assert vllm_in(plugged(container(env=env)))["env"] == [{"name": "PYTHONPATH", "value": expected}, env[1]]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (UNKNOWN, r"containers\[engine\]\.command: vLLM's arguments do not stand there"),
        (
            container(env=[{"name": "PYTHONPATH", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}}]),
            r"containers\[vllm\]\.env\[PYTHONPATH\] has a valueFrom",
        ),
        (
            container(command=["sh", "-c"], args=["PYTHONPATH=/lib vllm serve /m"]),
            r"containers\[vllm\]: its script sets PYTHONPATH=/lib, .* write PYTHONPATH=/lib:\$PYTHONPATH",
        ),
    ],
)
def test_what_stands_in_the_way_is_named_by_its_field(made: Json, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        plugged(made)


def test_a_script_that_keeps_the_containers_directories_is_extended() -> None:
    script = 'export PYTHONPATH="/lib:${PYTHONPATH}"; vllm serve /m --enable-lora 2>&1 | tee /tmp/log'
    (*_, written) = line_of(plugged(container(command=["sh", "-c"], args=[script])))
    assert written == script.replace("--enable-lora", f"--enable-lora {OURS}")


# -- merged pods


def said_by(made: Json) -> Json:
    notes = made["spec"]["template"]["metadata"]["annotations"]
    said: Json = json.loads(notes["engine.adapterrelease.dev/support-bot"])
    return said


def test_a_merged_pod_says_whose_it_is_to_its_metrics() -> None:
    snapshot = seen(release().stable().spec(modelName="acme/support"))
    assert said_by(merged_of(snapshot)) == {
        "name": "acme/support",
        "target": None,
        "path": None,
        "release": "llm/support-bot",
        "version": "v1",
        "backend": f"artifact-{'a' * 12}",
    }


def test_the_plugin_understands_it_as_the_kubelet_writes_it(tmp_path: Path) -> None:
    notes = merged_of(seen(release().stable().spec(modelName="acme/support")))["spec"]["template"]["metadata"]
    lines = [f"{key}={json.dumps(value)}\n" for key, value in sorted(notes["annotations"].items())]
    (tmp_path / "annotations").write_text("".join(lines))
    (found,) = declarations(tmp_path / "annotations")
    assert (found.name, found.target, found.release) == ("acme/support", None, "llm/support-bot")
    assert (found.version, found.backend) == ("v1", f"artifact-{'a' * 12}")


def test_an_older_revision_says_the_version_that_it_was_made_of() -> None:
    older = HistoryEntry(revision=1, backend=artifact(A2), since=T0, reason="Promoted", version="v0", adapter_digest=D2)
    adapter = AdapterStatus(digest=D1, version="v1", inputs="i", path="/p")
    built = ArtifactStatus(id=A1, inputs="i", path="/p", adapter_digest=D1)
    snapshot = seen()
    status = AdapterReleaseStatus(adapter=adapter, artifact=built, history=[older])
    object.__setattr__(snapshot, "release", snapshot.release.model_copy(update={"status": status}))
    assert said_by(merged_of(snapshot, artifact_id=A2))["version"] == "v0"
    assert said_by(merged_of(snapshot, artifact_id=A1))["version"] == "v1"


def test_what_a_bases_pods_say_of_themselves_is_not_said_by_merged_ones() -> None:
    made = deployment()
    notes = {"engine.adapterrelease.dev/other-1": "{}", "unrouted.adapterrelease.dev/other": "x", "team": "ml"}
    made["spec"]["template"]["metadata"]["annotations"] = notes
    kept = merged_of(seen(made=made))["spec"]["template"]["metadata"]["annotations"]
    assert sorted(kept) == ["adapterrelease.dev/artifact-id", "engine.adapterrelease.dev/support-bot", "team"]


def test_a_merged_pod_of_a_base_that_carries_it_carries_it_once() -> None:
    made = deployment()
    made["spec"]["template"]["spec"] = plugged(container())
    pod = merged_of(seen(made=made))["spec"]["template"]["spec"]
    assert " ".join(line_of(pod)).count("--middleware") == 1
    assert [v["name"] for v in pod["volumes"]].count(ENGINE_NAME) == 1


# -- ConfigMap and Secret


def ensure(world: Cluster, plugin: Plugin = PLUGIN) -> None:
    EngineObjects(world.client, plugin).ensure(NAMESPACE)


def stored(world: Cluster) -> Json:
    return world.get(CONFIGMAPS, ENGINE_NAME)


def test_a_merged_deployment_finds_what_its_pods_mount(world: Cluster) -> None:
    world.actor(EnsureMerged("why", A1, f"/store/artifacts/{'a' * 64}"), world.turn())
    written = [r.path.rsplit("/", 1)[-1] for r in world.api.requests if r.method == "POST"]
    assert written.index("configmaps") < written.index("deployments")
    assert written.index("secrets") < written.index("deployments")
    assert len(world.names(DEPLOYMENTS)) == 2


def test_it_is_made_once_and_asked_for_cheaply(world: Cluster) -> None:
    ensure(world)
    assert stored(world)["data"] == PLUGIN.files
    assert stored(world)["metadata"]["labels"]["adapterrelease.dev/plugin-version"] == PLUGIN.version
    before = len(world.api.requests)
    ensure(world)
    assert [r.method for r in world.api.requests[before:]] == ["GET", "GET"]


def test_a_newer_controller_brings_its_plugin_and_takes_files_away_that_are_no_more(world: Cluster) -> None:
    ensure(world)
    ensure(world, NEWER)
    assert stored(world)["data"] == NEWER.files
    assert stored(world)["metadata"]["labels"]["adapterrelease.dev/plugin-version"] == NEWER.version


def test_files_that_somebody_edited_are_put_right(world: Cluster) -> None:
    ensure(world)
    world.api.patch(CONFIGMAPS.path(NAMESPACE, ENGINE_NAME), {"data": {"state.py": "broken ("}})
    ensure(world)
    assert stored(world)["data"] == PLUGIN.files


def test_an_update_does_not_undo_one_in_between(world: Cluster) -> None:
    ensure(world)
    path = CONFIGMAPS.path(NAMESPACE, ENGINE_NAME)

    def somebody_else_first(connection: Connection) -> None:
        world.api.patch(path, {"data": {"else.py": ""}})
        connection.answer_truly()

    world.api.inject(somebody_else_first, "PATCH", path)
    with pytest.raises(Conflict):
        ensure(world, NEWER)


def by_other_means(world: Cluster, **labels: str) -> None:
    made = plugin_map(NAMESPACE, PLUGIN)
    made["metadata"]["labels"] = labels
    world.api.create(CONFIGMAPS.path(NAMESPACE), made)


def test_a_plugin_that_somebody_keeps_there_by_other_means_is_left_alone(world: Cluster) -> None:
    by_other_means(world, **{"adapterrelease.dev/plugin-version": PLUGIN.version})
    ensure(world, NEWER)
    assert stored(world)["data"] == PLUGIN.files


def test_a_config_map_that_is_something_else_is_not_mounted(world: Cluster) -> None:
    by_other_means(world, app="game")
    with pytest.raises(EngineNameTaken, match="ConfigMap adapterrelease-engine in namespace llm is not the engine"):
        ensure(world)


def token_of(world: Cluster) -> str:
    return str(world.get(SECRETS, ENGINE_NAME)["data"]["token"])


def test_the_token_is_made_once_is_random_and_is_struck_out_of_the_log(world: Cluster) -> None:
    ensure(world)
    token = base64.b64decode(token_of(world)).decode()
    assert len(bytes.fromhex(token)) == 32
    assert token not in logs.redact(f"somebody says {token}")
    before = token_of(world)
    ensure(world)
    assert token_of(world) == before
    with cluster() as other:
        ensure(other)
        assert token_of(other) != before


def test_a_token_that_somebody_made_is_never_overwritten(world: Cluster) -> None:
    world.api.create(SECRETS.path(NAMESPACE), token_secret(NAMESPACE, "mine"))
    before = token_of(world)
    ensure(world)
    assert token_of(world) == before


def test_two_controllers_that_make_them_at_once_agree(world: Cluster) -> None:
    world.api.inject(faults.status(404, "NotFound"), "GET", "configmaps|secrets", times=4)
    ensure(world)
    before = (token_of(world), stored(world))
    ensure(world, NEWER)
    assert (token_of(world), stored(world)) == before


def test_a_base_with_the_plugin_gets_what_its_pods_wait_for_before_there_is_a_release() -> None:
    with cluster() as world:
        world.add_base(pods=0, plugin=True)
        found = world.get(DEPLOYMENTS, "tiny-llama")
        (key,) = plugin_base(found)
        assert PluginBases(world.listers, world.engine_objects)(key).requeue_after is not None
        assert ENGINE_NAME in world.names(CONFIGMAPS)
        assert ENGINE_NAME in world.names(SECRETS)


def test_a_base_without_the_plugin_gets_nothing() -> None:
    with cluster() as world:
        world.add_base(pods=0)
        assert list(plugin_base(world.get(DEPLOYMENTS, "tiny-llama"))) == []
        assert PluginBases(world.listers, world.engine_objects)(Key(NAMESPACE, "tiny-llama")).requeue_after is None
        assert world.names(CONFIGMAPS) == []
