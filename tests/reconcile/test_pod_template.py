"""What all jobs are given by the controller's setting, and what a build says over it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from controller.domain.snapshot import JobKind
from controller.reconcile.objects.jobs import job
from controller.reconcile.objects.pod_template import PodTemplate, pod_template
from controller.runtime.resources import DEPLOYMENTS, JOBS
from controller.settings import Settings
from tests.builders import BUILD, release
from tests.fakes.apiserver import ApiServer
from tests.reconcile.deployments import container, deployment
from tests.reconcile.test_objects import IMAGE, INPUTS, seen
from tests.reconcile.test_operator import apply, running, wait_for

Json = dict[str, Any]

QUEUE = "kueue.x-k8s.io/queue-name"
PLACE = "ADAPTERRELEASE_JOB_POD_TEMPLATE"
OF_ALL: Json = {
    "metadata": {"labels": {QUEUE: "small", "team": "ml", "app.kubernetes.io/managed-by": "me"}},
    "spec": {
        "nodeSelector": {"pool": "batch"},
        "tolerations": [{"key": "batch", "operator": "Exists"}],
        "hostNetwork": True,
        "containers": [
            {
                "name": "job",
                "image": "evil",
                "resources": {"limits": {"memory": "2Gi"}, "requests": {"cpu": "1"}},
                "env": [{"name": "HTTPS_PROXY", "value": "http://proxy"}, {"name": "A", "value": "all"}],
            }
        ],
    },
}
OF_BUILD: Json = {
    "metadata": {"labels": {QUEUE: "gpu"}},
    "spec": {
        "nodeSelector": {"gpu": "h100"},
        "containers": [
            {
                "name": "job",
                "resources": {"limits": {"memory": "96Gi", "nvidia.com/gpu": 1}},
                "env": [{"name": "A", "value": "build"}],
            }
        ],
    },
}


def of_all() -> PodTemplate:
    return pod_template(OF_ALL, PLACE)


def made(kind: JobKind, of_all_jobs: PodTemplate | None, build: Json | None = None) -> Json:
    builder = release().stable().spec(build=copy.deepcopy(BUILD) | ({"podTemplate": build} if build else {}))
    snapshot = seen(builder)
    assert snapshot.base is not None
    return job(kind, INPUTS, snapshot, snapshot.base, IMAGE, "", of_all_jobs)


def pod_of(made: Json) -> Json:
    pod: Json = made["spec"]["template"]
    return pod


def env_of(made: Json) -> dict[str, str]:
    return {e["name"]: e["value"] for e in pod_of(made)["spec"]["containers"][0]["env"]}


@pytest.mark.parametrize("kind", list(JobKind))
def test_every_job_has_it_and_where_queues_look_too(kind: JobKind) -> None:
    found = made(kind, of_all())
    for labels in (found["metadata"]["labels"], pod_of(found)["metadata"]["labels"]):
        assert (labels[QUEUE], labels["team"]) == ("small", "ml")
        assert labels["app.kubernetes.io/managed-by"] == "adapter-release-controller"
    spec = pod_of(found)["spec"]
    assert spec["nodeSelector"] == {"pool": "batch"}
    assert spec["tolerations"] == OF_ALL["spec"]["tolerations"]
    assert env_of(found)["HTTPS_PROXY"] == "http://proxy"
    assert spec["containers"][0]["resources"] == {"limits": {"memory": "2Gi"}, "requests": {"cpu": "1"}}
    assert ("hostNetwork" in spec, spec["containers"][0]["image"]) == (False, IMAGE)


def test_a_build_s_own_wins_and_leaves_the_rest() -> None:
    found = made(JobKind.BUILD, of_all(), OF_BUILD)
    spec = pod_of(found)["spec"]
    for labels in (found["metadata"]["labels"], pod_of(found)["metadata"]["labels"]):
        assert (labels[QUEUE], labels["team"]) == ("gpu", "ml")
    assert (spec["nodeSelector"], spec["tolerations"]) == ({"gpu": "h100"}, OF_ALL["spec"]["tolerations"])
    assert (env_of(found)["A"], env_of(found)["HTTPS_PROXY"]) == ("build", "http://proxy")
    resources = spec["containers"][0]["resources"]
    assert resources == {"limits": {"memory": "96Gi", "nvidia.com/gpu": 1}, "requests": {"cpu": "1"}}


def test_the_job_is_the_same_one_with_and_without_it() -> None:
    """A changed setting builds nothing again."""
    names = {made(JobKind.BUILD, template)["metadata"]["name"] for template in (None, of_all())}
    assert len(names) == 1


@pytest.mark.parametrize("kind", list(JobKind))
def test_a_job_pulls_with_the_secrets_of_its_base(kind: JobKind) -> None:
    snapshot = seen(made=deployment(container(), imagePullSecrets=[{"name": "registry"}]))
    assert snapshot.base is not None
    plain = job(kind, INPUTS, snapshot, snapshot.base, IMAGE)
    assert pod_of(plain)["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    other = pod_template({"spec": {"imagePullSecrets": [{"name": "mine"}]}}, PLACE)
    wished = job(kind, INPUTS, snapshot, snapshot.base, IMAGE, "", other)
    assert pod_of(wished)["spec"]["imagePullSecrets"] == [{"name": "mine"}]
    assert "imagePullSecrets" not in pod_of(made(kind, None))["spec"]


def test_the_setting_reaches_the_jobs_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLACE, json.dumps(OF_ALL))
    with ApiServer() as api:
        api.create(DEPLOYMENTS.path("llm"), deployment())
        with running(api) as process:
            apply(api)
            wait_for(api, "jobs", "llm")
            assert process.stop()
        (found,) = [obj for place, obj in api.etcd.objects.items() if place.plural == JOBS.plural]
    assert found["metadata"]["labels"][QUEUE] == "small"


def test_a_wrong_setting_ends_the_process_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLACE, '{"spec": {"containers": [{"image": "x"}]}}')
    with (
        ApiServer() as api,
        pytest.raises(ValueError, match=f"{PLACE}.spec.containers must be a list of objects with a name"),
        running(api),
    ):
        pytest.fail("it runs")


@pytest.mark.parametrize("text", ["gpu", "[1]", '"a"'])
def test_a_setting_that_is_no_object_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(PLACE, text)
    with pytest.raises(ValueError, match="job_pod_template"):
        Settings()
