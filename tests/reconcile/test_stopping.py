"""How merged pods stop: preStop, --shutdown-timeout and the grace period fit together, whatever the base has."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reconcile.objects.stopping import stopping
from tests.builders import release
from tests.reconcile.deployments import SIDECAR, container, deployment
from tests.reconcile.test_objects import line_of, merged_of, seen

Json = dict[str, Any]

EXEC = {"exec": {"command": ["/drain.sh"]}}


def pod_of(made: Json, **rollout: str) -> Json:
    found: Json = merged_of(seen(release().stable().spec(rollout=rollout), made))["spec"]["template"]["spec"]
    return found


def times_of(pod: Json) -> tuple[Json, int, int]:
    line = line_of({"spec": {"template": {"spec": pod}}})
    hook = pod["containers"][0]["lifecycle"]["preStop"]
    return hook, int(line[line.index("--shutdown-timeout") + 1]), pod["terminationGracePeriodSeconds"]


def test_a_request_that_comes_at_the_last_moment_has_all_of_the_drain_timeout() -> None:
    assert times_of(pod_of(deployment())) == ({"sleep": {"seconds": 10}}, 60, 85)
    assert times_of(pod_of(deployment(), drainTimeout="10m")) == ({"sleep": {"seconds": 10}}, 600, 625)


def test_no_time_at_all_is_a_second() -> None:
    """0 means for vLLM: cut everything off at once."""
    assert stopping(timedelta(0), deployment()["spec"]["template"]["spec"], "vllm").shutdown_timeout == 1


@pytest.mark.parametrize(("own", "slept"), [(5, 10), (30, 30)])
def test_a_base_that_sleeps_itself_sleeps_long_enough(own: int, slept: int) -> None:
    hook = {"preStop": {"sleep": {"seconds": own}}, "postStart": EXEC}
    pod = pod_of(deployment(container(lifecycle=hook)))
    assert times_of(pod) == ({"sleep": {"seconds": slept}}, 60, slept + 75)
    assert pod["containers"][0]["lifecycle"]["postStart"] == EXEC


def test_a_base_with_a_hook_of_its_own_keeps_it_and_gets_the_time() -> None:
    made = deployment(container(lifecycle={"preStop": EXEC}), terminationGracePeriodSeconds=90)
    assert times_of(pod_of(made)) == (EXEC, 60, 90 + 60 + 15)


def test_a_sidecars_hook_is_not_taken_for_vllms() -> None:
    made = deployment(container(), SIDECAR | {"lifecycle": {"preStop": EXEC}})
    assert times_of(pod_of(made)) == ({"sleep": {"seconds": 10}}, 60, 85)


def test_a_longer_grace_period_of_the_base_stays() -> None:
    assert times_of(pod_of(deployment(terminationGracePeriodSeconds=3600)))[2] == 3600


HOOKS = st.sampled_from([None, EXEC, {"httpGet": {"port": 1}}]) | st.builds(
    lambda s: {"sleep": {"seconds": s}}, st.integers(0, 300)
)


@given(st.integers(0, 10_000), st.none() | st.integers(0, 600), HOOKS)
def test_the_kubelet_never_kills_a_pod_that_still_drains(drain: int, period: int | None, hook: Json | None) -> None:
    own = {"name": "vllm"} | ({"lifecycle": {"preStop": hook}} if hook else {})
    spec = {"containers": [own]} | ({} if period is None else {"terminationGracePeriodSeconds": period})
    found = stopping(timedelta(seconds=drain), spec, "vllm")
    if "sleep" in found.pre_stop:
        longest_hook = found.pre_stop["sleep"]["seconds"]
        assert longest_hook >= 10
    else:
        longest_hook = 30 if period is None else period  # Kubernetes' own default
    assert found.shutdown_timeout >= drain
    assert found.grace_period >= longest_hook + found.shutdown_timeout + 10
