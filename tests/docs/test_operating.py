"""docs/operating.md says what the code does: settings, deadlines, names."""

from __future__ import annotations

import re
from datetime import timedelta

from controller.api.status import Step
from controller.api.types import parse_duration
from controller.api.v1alpha1 import Build, Observe, Rollout, Validation
from controller.domain import draining, pipeline, plan, pod_steps, traffic
from controller.domain.snapshot import JobKind
from controller.reconcile.objects.metadata import (
    adapter_service_name,
    job_name,
    merged_name,
    preview_service_name,
)
from controller.settings import Settings
from tests.builders import A1, release
from tests.docs.pages import ROOT, rows, section

PAGE = ROOT / "docs" / "operating.md"
_UNITS = {"s": 1, "min": 60, "h": 3600}


def duration_in(text: str) -> timedelta:
    """The last duration in a cell, as in `build.deadline`, 2 h."""
    number, unit = re.findall(r"(\d+) (s|min|h)\b", text)[-1]
    return timedelta(seconds=int(number) * _UNITS[unit])


def default_of(model: type, field: str) -> timedelta:
    return parse_duration(model.model_fields[field].default)  # type: ignore[attr-defined]


def test_every_setting_is_listed_with_its_default() -> None:
    listed = {row[0].strip("`"): row[1].strip("`") for row in rows(section(PAGE, "Settings"))}
    fields = Settings.model_fields
    assert set(listed) == {f"ADAPTERRELEASE_{name.upper()}" for name in fields}
    for name, field in fields.items():
        default = "" if field.default in (None, ()) else field.default
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        assert listed[f"ADAPTERRELEASE_{name.upper()}"] == shown


def test_every_step_but_idle_is_listed_with_its_deadline() -> None:
    listed = {row[0].strip("`"): duration_in(row[1]) for row in rows(section(PAGE, "Deadlines")) if len(row) == 3}
    assert listed == {
        Step.IMPORTING: pipeline.IMPORT_DEADLINE,
        Step.LOADING: pipeline.LOAD_DEADLINE,
        Step.BUILDING: default_of(Build, "deadline"),
        Step.STARTING: default_of(Rollout, "progress_deadline"),
        Step.VALIDATING: default_of(Validation, "deadline"),
        Step.SHIFTING: default_of(Rollout, "progress_deadline"),
        Step.SWITCHING: traffic.SWITCH_DEADLINE,
        Step.OBSERVING: default_of(Observe, "duration"),
        Step.ROLLING_BACK: traffic.ROLLBACK_DEADLINE,
    }
    assert set(listed) == set(Step) - {Step.IDLE}


def test_the_delays_beside_the_steps_are_right() -> None:
    listed = [duration_in(row[1]) for row in rows(section(PAGE, "Deadlines")) if len(row) == 2]
    assert listed == [
        default_of(Rollout, "scale_down_delay"),
        pod_steps.UNROUTE_DELAY,
        draining.DRAIN_LIMIT,
        default_of(Rollout, "rollback_window"),
        traffic.UNAVAILABLE_GRACE,
        pod_steps.LOAD_RETRY,
        plan.FORGET_DEADLINE,
    ]


def test_the_names_of_what_the_controller_makes_are_right() -> None:
    text = section(PAGE, "What the controller makes").replace("NAME", "support-bot")
    made = release("support-bot").build()
    inputs = "0123456789abcdef" * 4
    assert f"`{adapter_service_name(made)}`, `{preview_service_name(made)}`" in text
    assert f"`{merged_name(made, A1).removesuffix('a' * 12)}` and 12 characters" in text
    for kind in JobKind:
        assert f"`{job_name(made, kind, inputs).removesuffix(inputs[:8])}`" in text
