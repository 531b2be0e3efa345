"""The commands that speak to a cluster, as a user calls them: what they print, write, and end with."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from controller import __version__
from controller.cli import following
from controller.cli.main import app
from controller.reconcile.caches import RELEASES
from tests.cli.place import RELEASE, Place, kubeconfig
from tests.cli.states import world_in
from tests.domain.lives import M1
from tests.domain.world import ROUTE
from tests.fakes import faults
from tests.fakes.connection import Connection

pytestmark = pytest.mark.slow

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]


def holding(place: Place, name: str) -> Place:
    return place.hold(world_in(name))


def becomes(place: Place, name: str) -> Callable[[Connection], None]:
    """A fault that answers truly, after the release has come into another state."""

    def fault(connection: Connection) -> None:
        world = world_in(name)
        with place.api.etcd.changed:
            meta = place.release()["metadata"]
            meta["generation"] = world.generation
        place.api.update(RELEASE, lambda old: {**old, "spec": world.release().to_wire()["spec"]})
        place.api.update(f"{RELEASE}/status", lambda old: {**old, "status": world.status.to_wire()})
        with place.api.etcd.changed:
            place.release()["metadata"]["generation"] = world.generation
        connection.answer_truly()

    return fault


# -- get
def test_get_shows_where_each_release_stands(place: Place) -> None:
    holding(place, "promoted")
    done = place.run("get")
    head, row = done.stdout.splitlines()
    assert head.split() == ["NAME", "STAGE", "SERVING", "STATE", "SPEEDUP", "AGE"]
    assert row.split()[:-1] == [ROUTE, "Stable", "Artifact", "v1", "Promoted", "1.50x"]
    assert done.exit_code == 0 and done.stderr == ""


def test_get_wide_has_the_base_and_the_message_and_no_line_ends_in_spaces(place: Place) -> None:
    done = holding(place, "rolled-back").run("get", "-o", "wide")
    assert "tiny-llama" in done.stdout and "ChecksFailed: error rate" in done.stdout
    assert not [line for line in done.stdout.splitlines() if line != line.rstrip()]


def test_get_of_all_namespaces_names_them(place: Place) -> None:
    holding(place, "serving")
    other = copy.deepcopy(place.release())
    other["metadata"] = {"name": "other"}
    place.api.create(RELEASES.path("elsewhere", "other"), other)
    rows = place.run("get", "-A").stdout.splitlines()
    assert [row.split()[:2] for row in rows] == [["NAMESPACE", "NAME"], ["elsewhere", "other"], ["llm", ROUTE]]
    assert len(place.run("get").stdout.splitlines()) == 2


def test_get_as_json_and_yaml_is_what_the_api_server_has(place: Place) -> None:
    holding(place, "serving")
    assert json.loads(place.run("get", ROUTE, "-o", "json").stdout) == place.release()
    assert yaml.safe_load(place.run("get", "-o", "yaml").stdout)["items"] == [place.release()]
    assert place.run("get", "-o", "name").stdout == f"adapterrelease.adapterrelease.dev/{ROUTE}\n"


def test_a_release_that_cannot_be_read_does_not_hide_the_others(place: Place) -> None:
    holding(place, "serving")
    other = copy.deepcopy(place.release())
    other["metadata"] = {"name": "newer"}
    other["status"]["rollout"]["step"] = "Dancing"
    place.api.create(RELEASES.path("llm", "newer"), other)
    done = place.run("get", "-o", "wide")
    rows = [row.split()[:4] for row in done.stdout.splitlines()]
    assert rows[1:] == [["newer", "-", "-", "VersionSkew"], [ROUTE, "Experimental", "Adapter", "v1"]]
    assert done.exit_code == 2 and "release newer cannot be read: status.rollout.step" in done.stderr


# -- options in front of the command's name, as people know it from other plugins
def test_the_cluster_s_options_may_stand_in_front(place: Place) -> None:
    holding(place, "serving")
    config = str(place.kubeconfig)
    for words in (["-n", "elsewhere", "get", "-n", "llm"], ["-n", "llm", "get"], ["--context", "fake", "get", ROUTE]):
        done = CliRunner().invoke(app, ["--kubeconfig", config, *words])
        assert done.exit_code == 0 and ROUTE in done.stdout, (words, done.output)
    done = CliRunner().invoke(app, ["--kubeconfig", config, "-n", "elsewhere", "get"])
    assert done.stdout == "" and "no releases in namespace elsewhere" in done.stderr


@pytest.mark.parametrize("words", [["-h"], ["status", "-h"], ["get", "--help"]])
def test_help_by_the_short_option_too(words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "Usage: " in done.stdout


def test_what_people_do_every_day_stands_first_in_the_help() -> None:
    text = CliRunner().invoke(app, ["-h"]).stdout
    assert text.index("  get ") < text.index("  promote ") < text.index("  operator ")


def test_the_version() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"adapterrelease {__version__}\n")


def test_get_in_an_empty_namespace_says_so_and_prints_nothing(place: Place) -> None:
    done = place.run("get", "-n", "nowhere")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no releases in namespace nowhere" in done.stderr


# -- errors: one line, what, where, what to do
def lines_of(done: Any) -> list[str]:
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return [line for line in done.stderr.splitlines() if line]


def test_a_release_that_is_not_there_names_those_that_are(place: Place) -> None:
    done = holding(place, "serving").run("status", "nobody")
    assert done.exit_code == 2
    assert lines_of(done) == [f"adapterrelease: NotFound: namespace llm has no release nobody: there are {ROUTE}"]


def test_a_release_that_is_not_there_for_who_may_not_list(place: Place) -> None:
    place.api.inject(faults.status(403, "Forbidden", "cannot list"), path="adapterreleases$")
    (line,) = lines_of(place.run("status", "nobody"))
    assert line == "adapterrelease: NotFound: namespace llm has no release nobody"


@pytest.mark.parametrize("name", ["", "..", "ar/support-bot", "a b", "a,b=c", "UPPER", "x" + "\x1b[2J"])
@pytest.mark.parametrize("command", ["status", "promote", "logs", "history", "advise", "report"])
def test_a_name_that_is_none_is_refused_and_nothing_is_asked(place: Place, command: str, name: str) -> None:
    if command == "report" and "/" in name:
        return  # a directory
    done = place.run(command, name)
    (line,) = lines_of(done)
    assert done.exit_code == 2 and "is no name of a release" in line and "\x1b" not in line
    assert place.api.requests == []


def test_a_namespace_that_is_none_is_refused(place: Place) -> None:
    (line,) = lines_of(place.run("get", "-n", "../default"))
    assert "'../default' is no name of a namespace" in line


def test_no_cluster(place: Place) -> None:
    place.api.kill()
    done = place.run("get")
    (line,) = lines_of(done)
    assert done.exit_code == 1
    assert "no answer from the API server at 127.0.0.1" in line and "kubectl config current-context" in line
    place.api.revive()


def test_a_missing_right(place: Place) -> None:
    message = 'adapterreleases.adapterrelease.dev is forbidden: User "eve" cannot list resource in the namespace "llm"'
    place.api.inject(faults.status(403, "Forbidden", message))
    (line,) = lines_of(place.run("get"))
    assert message in line and "ask for the right" in line


def test_expired_credentials(place: Place) -> None:
    place.api.inject(faults.status(401, "Unauthorized", "Unauthorized"))
    done = place.run("get")
    (line,) = lines_of(done)
    assert done.exit_code == 1 and "does not take the credentials; log in again" in line


@pytest.mark.parametrize("command", [("report", ROUTE), ("enable", "tiny-llama")])
def test_no_cluster_for_those_that_do_more_than_look(place: Place, command: tuple[str, ...]) -> None:
    place.api.kill()
    done = place.run(*command)
    (line,) = lines_of(done)
    assert done.exit_code == 1 and "is the cluster up" in line
    place.api.revive()


@pytest.mark.parametrize(
    "command", [("get",), ("status", ROUTE), ("promote", ROUTE), ("logs", ROUTE), ("report", ROUTE)]
)
def test_a_cluster_without_the_crd(place: Place, command: tuple[str, ...]) -> None:
    place.api.inject(faults.plain(404, "404 page not found"), path="adapterreleases")
    done = place.run(*command)
    (line,) = lines_of(done)
    assert done.exit_code == 2 and "does not know AdapterReleases: install the controller first" in line


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["get", "--kubeconfig", str(tmp_path / "none")])
    (line,) = lines_of(done)
    assert done.exit_code == 2 and "no usable cluster configuration" in line and "set KUBECONFIG" in line


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "no kubeconfig",
        "",
        "clusters: [{name: c, cluster: {server: 'https://x', certificate-authority-data: 'a'}}]\n"
        "users: [{name: u, user: {}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x",
    ],
)
def test_a_kubeconfig_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    done = CliRunner().invoke(app, ["get", "--kubeconfig", str(path)])
    (line,) = lines_of(done)
    assert done.exit_code == 2 and "no usable cluster configuration" in line


def test_in_a_pod_kubeconfig_is_used_and_not_the_pod_s_account(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner of CI is somebody else than the cluster that it looks after."""
    monkeypatch.setattr("controller.runtime.transport._in_cluster", lambda: True)
    done = CliRunner().invoke(app, ["get"], env={"KUBECONFIG": str(place.kubeconfig)})
    assert done.exit_code == 0 and place.api.requests, done.output


def test_what_answers_and_is_no_api_server_is_named(place: Place) -> None:
    place.api.inject(faults.plain(200, "<html>log in</html>"))
    done = place.run("get")
    (line,) = lines_of(done)
    assert done.exit_code == 1 and "is no JSON" in line


def test_a_context_that_is_not_there(place: Place) -> None:
    done = place.run("get", "--context", "elsewhere")
    (line,) = lines_of(done)
    assert done.exit_code == 2 and "elsewhere" in line


def test_a_release_of_another_version_of_the_api(place: Place) -> None:
    holding(place, "serving")
    place.api.patch(f"{RELEASE}/status", {"status": {"rollout": {"step": "Dancing"}}})
    for command in ("status", "report", "promote"):
        (line,) = lines_of(done := place.run(command, ROUTE))
        assert (
            done.exit_code == 2 and "status.rollout.step" in line and "use the version that the controller has" in line
        )


def process(place: Place, *arguments: str, **how: Any) -> subprocess.Popen[bytes]:
    """In a process of its own, for what is the interpreter's."""
    command = [sys.executable, "-m", "controller", *arguments, "--kubeconfig", str(place.kubeconfig)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, **how)


def test_ctrl_c_ends_it_without_a_word(place: Place) -> None:
    holding(place, "serving")
    with process(place, "status", ROUTE, "--timeout", "1h", "-o", "json") as running:
        place.api.patch(RELEASE, {"spec": {"rollback": {"revision": 9}}})
        place.api.wait_for_requests(1, watch=True)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=20)
    assert (running.returncode, out) == (130, b"")
    assert err.startswith(b"Progressing") and b"Traceback" not in err and b"Abort" not in err


def test_a_reader_that_has_gone_is_no_fault(place: Place) -> None:
    holding(place, "promoted")
    with process(place, "get", "-o", "json") as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        err = running.stderr.read()
    assert err == b"", err


# -- status
def test_status_prints_the_tree_without_colours_where_there_is_no_terminal(place: Place) -> None:
    done = holding(place, "waits-for-person").run("status", ROUTE)
    assert done.exit_code == 0
    assert done.stdout.startswith(f"release  {ROUTE} in namespace llm\nstate    ! Suspended, WaitsForPerson\n")
    assert "\x1b" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_status_in_colours_only_on_request(place: Place) -> None:
    holding(place, "serving")
    assert "\x1b[" in place.run("status", ROUTE, env={"FORCE_COLOR": "1", "TERM": "xterm"}).stdout
    assert "\x1b[3" not in place.run("status", ROUTE, env={"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm"}).stdout


def test_status_in_an_old_locale_is_ascii(place: Place) -> None:
    holding(place, "promoted")
    with process(place, "status", ROUTE, env={"PYTHONIOENCODING": "ascii"}) as running:
        out, _ = running.communicate(timeout=20)
    assert running.returncode == 0 and out.isascii()
    assert b"|- + 2  artifact v1" in out


def test_text_from_others_cannot_steer_the_terminal(place: Place) -> None:
    holding(place, "serving")
    evil = "\x1b]0;owned\x07\x1b[2J\u202eevil"
    place.api.patch(RELEASE, {"spec": {"baseRef": {"name": evil}, "adapters": None}})
    world = world_in("serving")
    place.api.patch(RELEASE, {"spec": {"adapters": world.release().to_wire()["spec"]["adapters"]}})
    with place.api.etcd.changed:
        place.release()["metadata"]["generation"] = 1
    for command in (("status", ROUTE), ("get", "-o", "wide")):
        out = place.run(*command).stdout
        assert "\x1b" not in out and "\u202e" not in out and "\x07" not in out


def test_status_shows_the_rest_where_something_may_not_be_read(place: Place) -> None:
    holding(place, "promoted")
    place.api.inject(faults.status(403, "Forbidden", "pods is forbidden"), path="/pods$")
    done = place.run("status", ROUTE)
    assert done.exit_code == 0
    assert "not shown  pods is forbidden" in done.stdout
    assert "serves support-bot-merged-" in done.stdout


def test_a_service_of_somebody_else_is_not_shown_as_the_route(place: Place) -> None:
    holding(place, "serving")
    service = place.api.get("/api/v1/namespaces/llm/services/support-bot")
    service["metadata"]["labels"] = {}
    assert "there is no such Service of this release yet" in place.run("status", ROUTE).stdout


@pytest.mark.parametrize(("output", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_status_for_scripts_says_what_the_tree_says(place: Place, output: str, read: Callable[[str], Json]) -> None:
    said = read(holding(place, "rolled-back").run("status", ROUTE, "-o", output).stdout)
    assert (said["outcome"], said["health"], said["word"]) == ("Failed", "Degraded", "RolledBack")
    assert said["commands"] == [f"kubectl adapterrelease retry {ROUTE} -n llm"]
    assert said["status"] == world_in("rolled-back").status.to_wire()


# -- status --timeout
@pytest.mark.parametrize(
    ("name", "code"), [("serving", 0), ("promoted", 0), ("pinned", 0), ("rolled-back", 1), ("load-failed", 1)]
)
def test_waiting_ends_at_once_where_it_is_decided(place: Place, name: str, code: int) -> None:
    assert holding(place, name).run("status", ROUTE, "--timeout", "1h").exit_code == code


@pytest.mark.parametrize("name", ["building", "waits-for-person", "base-not-found", "edited", "outage"])
def test_when_the_time_is_over_it_says_where_it_stands(place: Place, name: str) -> None:
    done = holding(place, name).run("status", ROUTE, "--timeout", "0s")
    assert done.exit_code == 3
    assert "the time is over, and it is not there: " in done.stderr


def test_waiting_goes_on_until_the_release_is_there(place: Place) -> None:
    holding(place, "building")
    place.api.inject(becomes(place, "promoted"), "GET", watch=True, times=1)
    done = place.run("status", ROUTE, "--timeout", "1h")
    assert done.exit_code == 0, done.output
    assert "Progressing, Building: quantize 40 %" in done.stderr and "Healthy, Promoted" in done.stderr
    assert "Healthy, Promoted" in done.stdout and "Building" not in done.stdout


def test_waiting_ends_when_the_release_is_rejected(place: Place) -> None:
    holding(place, "validating")
    place.api.inject(becomes(place, "validation-failed"), "GET", watch=True, times=1)
    assert place.run("status", ROUTE, "--timeout", "1h").exit_code == 1


def test_waiting_ends_when_the_release_is_deleted(place: Place) -> None:
    holding(place, "building")

    def deleted(connection: Connection) -> None:
        place.api.update(RELEASE, lambda old: {**old, "metadata": {**old["metadata"], "finalizers": []}})
        place.api.delete(RELEASE)
        connection.answer_truly()

    place.api.inject(deleted, "GET", watch=True, times=1)
    done = place.run("status", ROUTE, "--timeout", "1h")
    assert done.exit_code == 1 and "was deleted" in done.stderr


def test_waiting_needs_no_right_to_watch(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_LOOK_EVERY", 0.01)
    holding(place, "building")
    place.api.inject(becomes(place, "promoted"), "GET", f"adapterreleases/{ROUTE}$", watch=False, times=1, skip=1)
    place.api.inject(faults.status(403, "Forbidden", "cannot watch"), watch=True)
    done = place.run("status", ROUTE, "--timeout", "1h")
    assert done.exit_code == 0, done.output
    assert "cannot watch" not in done.output


def test_waiting_for_a_release_that_has_rested_for_long(place: Place) -> None:
    """The API server has forgotten the version that it is at, as after five minutes, or a restart of its own."""
    holding(place, "building")
    place.api.etcd.compact()
    place.api.inject(becomes(place, "promoted"), "GET", watch=True, times=1)
    done = place.run("status", ROUTE, "--timeout", "1h")
    assert done.exit_code == 0, done.output
    assert "too old" not in done.output


def test_a_change_between_two_looks_is_seen_at_once(place: Place) -> None:
    """The watch begins with what is there, and that is news by then."""
    holding(place, "building")
    place.api.inject(becomes(place, "promoted"), "GET", "/pods$", times=1)
    assert place.run("status", ROUTE, "--timeout", "1h").exit_code == 0
    assert place.api.count("GET", watch=True) == 1


def test_what_is_followed_as_yaml_is_a_stream_of_documents(place: Place) -> None:
    holding(place, "building")
    place.api.inject(becomes(place, "promoted"), "GET", watch=True, times=2)
    place.api.inject(faults.status(404, "NotFound"), "GET", f"adapterreleases/{ROUTE}$", watch=False, times=1, skip=2)
    done = place.run("status", ROUTE, "-w", "-o", "yaml")
    assert [d["word"] for d in yaml.safe_load_all(done.stdout)] == ["Building", "Promoted"]


def test_waiting_outlives_an_api_server_that_does_not_answer(place: Place) -> None:
    holding(place, "building")
    place.api.inject(becomes(place, "promoted"), "GET", watch=True, times=1)
    place.api.inject(
        faults.status(503, "ServiceUnavailable"), "GET", f"adapterreleases/{ROUTE}$", watch=False, times=1, skip=1
    )
    done = place.run("status", ROUTE, "--timeout", "1h")
    assert done.exit_code == 0, done.output
    assert "trying again" in done.stderr


def test_a_timeout_that_is_none_is_refused(place: Place) -> None:
    done = place.run("status", ROUTE, "--timeout", "ten")
    assert done.exit_code == 2 and "1h30m" in done.stderr


# -- steering
def test_promote_says_what_happens_and_writes_one_patch_of_the_version_that_was_read(place: Place) -> None:
    holding(place, "stage-set-back")
    before = place.release()["metadata"]
    done = place.run("promote", ROUTE)
    assert done.exit_code == 0, done.output
    checked = {"uid": before["uid"], "resourceVersion": before["resourceVersion"]}
    assert place.writes() == [{"spec": {"stage": "Stable"}, "metadata": checked}]
    assert "nothing moves before" in done.stderr and f"status {ROUTE} -n llm -w" in done.stderr
    assert done.stdout == f"{ROUTE} patched, generation {before['generation'] + 1}\n"


def test_a_dry_run_shows_the_patch_and_changes_nothing(place: Place) -> None:
    holding(place, "promoted")
    before = copy.deepcopy(place.release())
    done = place.run("rollback", ROUTE, "--dry-run")
    assert yaml.safe_load(done.stdout) == {"spec": {"stage": "Experimental", "rollback": None}}
    assert (done.exit_code, place.release()) == (0, before)


def test_rollback_ends_a_canary_that_is_under_way(place: Place) -> None:
    holding(place, "waits-for-person")
    assert place.run("rollback", ROUTE).exit_code == 0
    assert place.writes()[0]["spec"] == {"stage": "Experimental", "rollback": None}


def test_a_dry_run_asks_the_api_server(place: Place) -> None:
    holding(place, "promoted")
    place.api.inject(faults.status(422, "Invalid", "a policy does not let you"), "PATCH")
    done = place.run("rollback", ROUTE, "--dry-run")
    assert done.exit_code == 2 and "a policy does not let you" in done.stderr


def test_what_cannot_work_is_refused_before_anything_is_written(place: Place) -> None:
    done = holding(place, "serving").run("promote", ROUTE)
    assert (done.exit_code, place.writes()) == (2, [])
    assert len(lines_of(done)) == 1


def test_what_is_there_already_is_no_fault(place: Place) -> None:
    done = holding(place, "promoted").run("promote", ROUTE)
    assert (done.exit_code, done.stdout, place.writes()) == (0, "", [])
    assert "nothing to do" in done.stderr


def test_a_status_that_changes_meanwhile_is_no_reason_to_stop(place: Place) -> None:
    holding(place, "promoted")

    def somebody_first(connection: Connection) -> None:
        place.api.patch(f"{RELEASE}/status", {"status": {"rollout": {"progress": "new"}}})
        connection.answer_truly()

    place.api.inject(somebody_first, "PATCH", times=1)
    assert place.run("rollback", ROUTE).exit_code == 0
    assert place.release()["spec"]["stage"] == "Experimental"


def test_a_release_that_somebody_steered_meanwhile_is_not_overwritten(place: Place) -> None:
    holding(place, "promoted")

    def somebody_first(connection: Connection) -> None:
        place.api.patch(RELEASE, {"spec": {"adapters": [{**place.release()["spec"]["adapters"][0], "version": "v9"}]}})
        connection.answer_truly()

    place.api.inject(somebody_first, "PATCH", times=1)
    done = place.run("rollback", ROUTE)
    assert done.exit_code == 1 and "has changed since it was read" in done.stderr
    assert place.release()["spec"]["stage"] == "Stable"


def test_a_pin_that_somebody_moved_meanwhile_stays(place: Place) -> None:
    """The same patch, `rollback: null`, would take another pin away than the one that was looked at."""
    holding(place, "promoted")
    with place.api.etcd.changed:
        place.release()["spec"]["rollback"] = {"revision": 1}

    def somebody_first(connection: Connection) -> None:
        place.api.patch(RELEASE, {"spec": {"rollback": {"revision": 2}}})
        connection.answer_truly()

    place.api.inject(somebody_first, "PATCH", times=1)
    done = place.run("resume", ROUTE)
    assert done.exit_code == 1 and "has changed since it was read" in done.stderr
    assert place.release()["spec"]["rollback"] == {"revision": 2}


def test_another_release_of_the_same_name_is_not_steered(place: Place) -> None:
    holding(place, "promoted")

    def made_anew(connection: Connection) -> None:
        with place.api.etcd.changed:
            place.release()["metadata"]["uid"] = "another"
        connection.answer_truly()

    place.api.inject(made_anew, "PATCH", times=1)
    assert place.run("rollback", ROUTE).exit_code == 1
    assert place.release()["spec"]["stage"] == "Stable"


def test_a_release_that_git_keeps_says_so(place: Place) -> None:
    holding(place, "promoted")
    with place.api.etcd.changed:
        place.release()["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/name": "models"}
    done = place.run("rollback", ROUTE)
    assert "kustomize.toolkit.fluxcd.io/name: models keeps this release" in done.stderr
    assert place.release()["spec"]["rollback"] == {"revision": 1}


def test_one_that_an_older_argo_cd_keeps_is_known_by_who_wrote_it(place: Place) -> None:
    """Before 3.0 it marks by app.kubernetes.io/instance alone, and sets the stage back."""
    holding(place, "promoted")
    with place.api.etcd.changed:
        place.release()["metadata"]["managedFields"] = [{"manager": "argocd-controller", "operation": "Update"}]
    done = place.run("rollback", ROUTE)
    assert "field manager: argocd-controller keeps this release" in done.stderr
    assert place.release()["spec"]["rollback"] == {"revision": 1}


def test_retry_writes_the_annotation_and_waiting_does_not_end_with_the_failure_before(place: Place) -> None:
    holding(place, "rolled-back")
    assert place.run("retry", ROUTE).exit_code == 0
    assert place.writes()[0]["metadata"]["annotations"].keys() == {"adapterrelease.dev/retry"}
    assert place.run("status", ROUTE, "--timeout", "0s").exit_code == 3


# -- history
def test_history_has_the_revisions_that_rollback_takes(place: Place) -> None:
    rows = holding(place, "rolled-back").run("history", ROUTE).stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["REVISION", "3", "2", "1"]
    assert rows[1].endswith("serves") and rows[2].endswith("rejected")
    assert M1.removeprefix("sha256:")[:12] in rows[2]


def test_history_as_json(place: Place) -> None:
    entries = json.loads(holding(place, "promoted").run("history", ROUTE, "-o", "json").stdout)
    assert [e["revision"] for e in entries] == [2, 1]


# -- logs
def log(text: str) -> Callable[[Connection], None]:
    return lambda connection: connection.send_body(200, text.encode(), "text/plain")


def test_logs_are_of_the_job_under_way(place: Place) -> None:
    holding(place, "building")
    place.api.inject(log("stage merge: 40 of 100 bytes\n"), path="/log$")
    done = place.run("logs", ROUTE)
    assert (done.exit_code, done.stdout) == (0, "stage merge: 40 of 100 bytes\n")
    assert f"job {ROUTE}-build-" in done.stderr
    assert place.api.requests[-1].query == {"container": "job"}


def test_logs_of_a_kind_of_job(place: Place) -> None:
    holding(place, "building")
    place.api.inject(log("fetched\n"), path="/log$")
    done = place.run("logs", ROUTE, "--kind", "import", "--tail", "5")
    assert f"job {ROUTE}-import-" in done.stderr
    assert place.api.requests[-1].query == {"container": "job", "tailLines": "5"}


def test_logs_that_are_followed_come_in_pieces_even_of_one_character(place: Place) -> None:
    def pieces(connection: Connection) -> None:
        connection.begin_stream()
        for byte in "häppchen\n".encode():
            connection.send_chunk(bytes([byte]))
        connection.end_stream()

    holding(place, "building")
    place.api.inject(pieces, path="/log$")
    done = place.run("logs", ROUTE, "-f")
    assert done.stdout == "häppchen\n"
    assert place.api.requests[-1].query["follow"] == "true"


def test_logs_without_a_job_say_so(place: Place) -> None:
    done = holding(place, "not-seen").run("logs", ROUTE)
    assert done.exit_code == 2 and "finished ones go after a day" in done.stderr


def test_logs_of_a_container_that_has_not_started(place: Place) -> None:
    holding(place, "building")
    place.api.inject(faults.status(400, "BadRequest", 'container "job" is waiting to start'), path="/log$")
    done = place.run("logs", ROUTE)
    assert done.exit_code == 1 and "is waiting to start" in done.stderr


# -- what none of them does
def test_help_is_quick_to_import() -> None:
    """A merged pod verifies with this program, and a shell asks it for completions."""
    heavy = ["numpy", "kubernetes", "torch", "httpx", "yaml", "rich.console", "controller.domain", "pydantic_settings"]
    code = f"import sys, controller.cli.main; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_kubeconfig_is_not_written(place: Place) -> None:
    holding(place, "serving").run("get")
    assert yaml.safe_load(place.kubeconfig.read_text()) == kubeconfig(place.api.url)
