"""How many replicas a candidate and a base have: properties of pure decisions, with crashes and people in between."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.api.status import (
    AdapterReleaseStatus,
    ArtifactStatus,
    Draining,
    HistoryEntry,
    RolloutStatus,
    ScaledBase,
    Serving,
    Step,
)
from controller.api.v1alpha1 import AdapterRelease
from controller.domain.actions import ScaleBase, ScaleMerged
from controller.domain.capacity import (
    BaseScale,
    BaseState,
    BaseUse,
    base_replicas_at_the_end,
    base_replicas_wanted,
    first_replicas,
    has_all_replicas,
    keep_base,
    needs_base,
    next_base_scale,
    overruled_at,
    replicas_of_base,
    replicas_wanted,
    scale_base,
    selecting,
    who_needs_base,
)
from controller.domain.draft import Draft
from controller.domain.plan import plan
from controller.domain.snapshot import MergedFacts, Snapshot
from tests.builders import A1, A2, D1, T0, ReleaseBuilder, adapter, artifact, base, release

SETTLE = {"settle": {"scaleBaseTo": 0}}
HOUR = timedelta(hours=1)


# -- candidates


def candidate(verdict: str = "", served: bool = False, **rollout: Any) -> AdapterRelease:
    built = ArtifactStatus(id=A1, inputs="i", path="/p", adapter_digest=D1, verdict=verdict)
    history = [HistoryEntry(revision=1, backend=artifact(A1), since=T0, reason="Promoted")] if served else []
    return release().stable().spec(rollout=rollout).status(artifact=built, history=history).build()


def test_without_a_preview_a_candidate_has_all_replicas_from_the_start() -> None:
    assert first_replicas(candidate(), 3, A1) == 3
    assert first_replicas(candidate(replicas=5), 3, A1) == 5
    assert first_replicas(candidate(), 0, A1) == 1
    assert replicas_wanted(candidate(), 3, A1, 1) is None


def test_a_candidate_is_judged_with_the_previews_replicas_and_gets_all_before_the_switch() -> None:
    seen = candidate(previewReplicas=1)
    assert first_replicas(seen, 3, A1) == 1
    assert replicas_wanted(seen, 3, A1, 1) == 3
    assert replicas_wanted(seen, 3, A1, 3) is None


def test_a_preview_is_never_larger_than_what_it_previews() -> None:
    assert first_replicas(candidate(previewReplicas=4), 2, A1) == 2


def test_what_has_its_verdict_already_needs_no_preview() -> None:
    assert first_replicas(candidate("Pass", previewReplicas=1), 3, A1) == 3
    assert first_replicas(candidate("Fail", served=True, previewReplicas=1), 3, A1) == 3
    assert first_replicas(candidate(previewReplicas=1), 3, A2) == 3  # an older revision


SIZES = st.integers(1, 6)


@given(SIZES, st.none() | SIZES, SIZES, SIZES, st.booleans())
def test_it_is_scaled_up_once_and_never_against_a_person(
    preview: int, replicas: int | None, base: int, has: int, served: bool
) -> None:
    more = {} if replicas is None else {"replicas": replicas}
    seen = candidate("Pass", served=served, previewReplicas=preview, **more)
    full = replicas or base
    wanted = replicas_wanted(seen, base, A1, has)
    if wanted is None:
        assert served or has > preview or has >= full
    else:
        assert wanted == full > has and not served
        assert replicas_wanted(seen, base, A1, wanted) is None
        assert all(replicas_wanted(seen, base, A1, n) is None for n in range(preview + 1, wanted))


def drafted(seen: AdapterRelease, replicas: int, base_replicas: int = 3) -> Draft:
    merged = MergedFacts("support-bot-merged", "uid", A1, replicas, "/p", 8000)
    return Draft(Snapshot(seen, base(replicas=base_replicas), merged=(merged,)), T0, seen.status)


def test_what_is_missing_of_a_candidate_is_asked_for() -> None:
    small, large = drafted(candidate("Pass", previewReplicas=1), 1), drafted(candidate("Pass", previewReplicas=1), 3)
    assert not has_all_replicas(small, A1)
    (action,) = small.actions
    assert isinstance(action, ScaleMerged) and (action.uid, action.replicas) == ("uid", 3)
    assert has_all_replicas(large, A1) and large.actions == []
    assert not has_all_replicas(large, A2) and large.actions == []  # it has no Deployment


# -- who needs the base


def settled(name: str = "support-bot") -> ReleaseBuilder:
    serving = Serving(backend=artifact(A1), revision=3, since=T0, settle_at=T0 + HOUR)
    return release(name).stable().spec(rollout=SETTLE).status(serving=serving, observed_generation=1)


def serving(builder: ReleaseBuilder, **changes: Any) -> ReleaseBuilder:
    assert builder.memory.serving is not None
    return builder.status(serving=builder.memory.serving.model_copy(update=changes))


def test_a_release_that_has_settled_and_says_so_does_not_need_it() -> None:
    assert needs_base(settled().build(), T0 + HOUR) == ""


UNSETTLED: list[tuple[ReleaseBuilder, str]] = [
    (settled().spec(rollout={}), "scaleBaseTo is not set"),
    (settled().spec(stage="Experimental"), "stage Experimental"),
    (settled().spec(rollback={"revision": 1}), "spec.rollback is set"),
    (settled().metadata(generation=2), "its spec has changed"),
    (settled().status(serving=None), "its adapter serves, or nothing yet"),
    (serving(settled(), backend=adapter(D1)), "its adapter serves, or nothing yet"),
    (settled().status(rollout=RolloutStatus(step=Step.VALIDATING)), "step Validating"),
    (serving(settled(), settle_at=T0 + 2 * HOUR), "its rollbackWindow is not over"),
    (serving(settled(), settle_at=None), "its rollbackWindow is not over"),
    (serving(settled(), unavailable_since=T0 + HOUR - timedelta(seconds=30)), "its merged model does not answer"),
    (  # a request of before runs on
        settled().status(rollout=RolloutStatus(draining=[Draining(backend=adapter(D1), until=T0)])),
        "its adapter is being drained",
    ),
    (serving(settled(), backend=adapter(D1)).metadata(deletionTimestamp="2026-01-01T00:00:00Z"), "being deleted"),
]


@pytest.mark.parametrize(("builder", "why"), UNSETTLED, ids=[why for _, why in UNSETTLED])
def test_a_release_that_may_use_it_needs_it(builder: ReleaseBuilder, why: str) -> None:
    assert why in needs_base(builder.build(), T0 + HOUR)


def test_a_short_absence_of_the_merged_model_is_no_reason_to_start_the_base() -> None:
    away = serving(settled(), unavailable_since=T0 + HOUR - timedelta(seconds=29))
    assert needs_base(away.build(), T0 + HOUR) == ""


def test_one_release_that_needs_it_is_enough_and_is_named() -> None:
    other = release("other").build()
    assert who_needs_base([settled().build(), other], [], T0 + HOUR).startswith("release other: ")
    assert who_needs_base([settled().build()], ["web", "api"], T0 + HOUR) == "Service api selects its pods"
    assert who_needs_base([settled().build(), settled("two").build()], [], T0 + HOUR) == ""


def test_a_service_counts_when_it_selects_the_template_or_one_pod() -> None:
    services = [
        ("direct", {"app": "base"}),
        ("narrow", {"app": "base", "canary": "yes"}),
        ("other", {"app": "else"}),
        ("by-hand", {}),
    ]
    assert selecting(services, [{"app": "base", "team": "ml"}]) == ["direct"]
    assert selecting(services, [{"app": "base"}, {"app": "base", "canary": "yes"}]) == ["direct", "narrow"]


# -- the memory of a base that was scaled


class Base(RuleBasedStateMachine):
    """One release's memory and its base, while needs come and go, people scale, and controllers die between writes."""

    def __init__(self) -> None:
        super().__init__()
        self.replicas = 3
        self.needed = False
        self.revision = 1
        self.memory: BaseScale | None = None
        self.by_us_from: int | None = None  # what the base had when we took it away
        self.persons_up = False  # somebody has scaled it up after we had taken it away

    def use(self) -> BaseUse:
        return BaseUse(self.replicas, "somebody" if self.needed else "", self.revision)

    def plan(self) -> int | None:
        """As plan() does: a changed memory is written, and nothing else is done."""
        after = next_base_scale(self.memory, self.use())
        if after != self.memory:
            self.memory = after
            return None
        return base_replicas_wanted(self.memory, self.use())

    def act(self, wanted: int | None) -> None:
        """As scale_base does, which asks again."""
        if wanted is None:
            return
        if wanted == 0:
            if self.needed:
                return
            assert not self.persons_up, "somebody's own number was overruled"
            self.by_us_from = self.replicas
        else:
            assert wanted == self.by_us_from
        self.replicas = wanted

    @rule()
    def reconcile(self) -> None:
        self.act(self.plan())

    @rule()
    def die_after_the_status_write(self) -> None:
        self.plan()

    @rule()
    def need_comes_or_goes(self) -> None:
        """A base that is up and needed when the controller looks was brought back for that need, as far as anybody can
        tell: that a person had done so a moment before the need came is not known."""
        self.needed = not self.needed
        if self.needed and self._is_known_to_be_down():
            self.persons_up = False

    @rule(replicas=st.integers(1, 5))
    def a_person_or_an_autoscaler_scales_it(self, replicas: int) -> None:
        """Against what was done: once that is known to be done. Before, nobody can tell it from a step of ours."""
        if self.replicas == 0 and self._is_known_to_be_down() and not self.needed:
            self.persons_up = True
        self.replicas = replicas

    def _is_known_to_be_down(self) -> bool:
        return self.memory is not None and self.memory.state is BaseState.SCALED_DOWN

    @rule()
    def something_else_serves(self) -> None:
        self.revision += 1
        self.persons_up = False

    @precondition(lambda self: self.needed)
    @rule()
    def a_need_is_met(self) -> None:
        self.reconcile_all()
        assert self.replicas > 0

    @precondition(lambda self: not self.needed and not self.persons_up)
    @rule()
    def without_a_need_it_goes_to_zero(self) -> None:
        self.reconcile_all()
        assert self.replicas == 0 or (self.memory is not None and self.memory.state is BaseState.OVERRULED)

    def reconcile_all(self) -> None:
        for _ in range(5):
            self.reconcile()

    @invariant()
    def it_is_never_forgotten_what_the_base_had(self) -> None:
        if self.replicas == 0:
            assert self.memory is not None and self.memory.replicas == self.by_us_from
            assert base_replicas_at_the_end(self.memory, 0) == self.by_us_from

    @invariant()
    def a_base_that_is_up_is_left_so_at_the_end(self) -> None:
        assert base_replicas_at_the_end(self.memory, max(1, self.replicas)) is None


Base.TestCase.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
TestBase = Base.TestCase


def test_what_is_not_written_down_yet_is_not_done() -> None:
    d, use = drafted(settled().build(), 2), BaseUse(3, "", 1)
    memory = scale_base(d, None, use)
    assert memory == BaseScale(BaseState.SCALING_DOWN, 3, 1) and d.actions == []
    assert scale_base(d, memory, use) == memory
    assert d.actions == [ScaleBase("nobody needs the base", "tiny-llama", 3, 0)]


def test_somebody_s_number_stands_until_something_else_serves_than_when_it_was_set() -> None:
    """Not than when the base was taken away: that may be long ago, and two rollbacks back."""
    taken = BaseScale(BaseState.SCALED_DOWN, 3, 1)
    overruled = next_base_scale(taken, BaseUse(1, "", 2))
    assert overruled is not None and overruled.state is BaseState.OVERRULED
    assert next_base_scale(overruled, BaseUse(1, "", 2)) == overruled
    assert next_base_scale(overruled, BaseUse(1, "", 3)) is None


def test_who_needs_it_is_the_reason_to_bring_it_back() -> None:
    d = drafted(settled().build(), 2)
    scale_base(d, BaseScale(BaseState.SCALING_UP, 3, 1), BaseUse(0, "release other: step Loading", 1))
    assert d.actions == [ScaleBase("bring the base back: release other: step Loading", "tiny-llama", 0, 3)]


def test_a_base_that_a_person_scaled_to_zero_is_the_persons() -> None:
    use = BaseUse(0, "somebody", 1)
    assert next_base_scale(None, use) is None
    assert base_replicas_wanted(None, use) is None
    overruled = BaseScale(BaseState.OVERRULED, 3, 1)
    assert next_base_scale(overruled, use) == overruled
    assert base_replicas_wanted(overruled, use) is None
    assert base_replicas_at_the_end(overruled, 0) is None


def test_a_base_that_was_brought_back_for_another_release_is_not_the_persons() -> None:
    """Else it would not go again when that one has settled."""
    assert next_base_scale(BaseScale(BaseState.SCALED_DOWN, 3, 1), BaseUse(3, "release other: step Loading", 1)) is None


@pytest.mark.parametrize("state", ["ScaledDown", "Overruled"])
def test_what_a_person_scaled_up_stays_up_for_every_release_on_the_base(state: str) -> None:
    """One of the two had taken it away; the other has nothing to remember."""
    memory = ScaledBase(state=state, replicas=3, revision=3)
    other = settled("other").status(base=memory).build()
    going = settled().status(base=ScaledBase(state="ScalingDown", replicas=1, revision=3)).build()
    assert kept(settled().build()).status.base == going.status.base
    assert kept(settled().build(), other).status.base is None
    assert kept(going, other).status.base != going.status.base and kept(going, other).actions == []


def kept(release: AdapterRelease, *others: AdapterRelease) -> Draft:
    """With a base that has one replica."""
    d = Draft(Snapshot(release, base=base(replicas=1), base_users=others), T0 + HOUR, release.status)
    keep_base(d)
    return d


@pytest.mark.parametrize("state", [None, "ScalingDown", "ScalingUp"])
def test_a_release_that_has_not_had_it_at_zero_keeps_it_up_for_nobody(state: str | None) -> None:
    memory = ScaledBase(state=state, replicas=3, revision=3) if state else None
    assert overruled_at([settled("other").status(base=memory).build()]) == ""


def test_a_request_that_is_still_on_its_way_is_undone_when_the_need_comes_first() -> None:
    """The decision to scale down was acted on by a controller that died before it could say so."""
    memory = next_base_scale(BaseScale(BaseState.SCALING_DOWN, 3, 1), BaseUse(3, "somebody", 1))
    assert memory == BaseScale(BaseState.SCALING_UP, 3, 1)
    assert base_replicas_wanted(memory, BaseUse(0, "somebody", 1)) == 3


STATES = st.none() | st.builds(BaseScale, st.sampled_from(list(BaseState)), st.integers(1, 5), st.integers(1, 2))
USES = st.builds(BaseUse, st.integers(0, 5), st.sampled_from(["", "somebody"]), st.integers(1, 2))


@given(STATES, USES)
def test_nothing_is_done_before_it_is_written_down(memory: BaseScale | None, use: BaseUse) -> None:
    """Whatever a fresh decision would do, the memory that it is done from says it, too."""
    wanted = base_replicas_wanted(memory, use)
    if wanted == 0:
        assert memory is not None and memory.state is BaseState.SCALING_DOWN and not use.needed
    elif wanted is not None:
        assert memory is not None and wanted == memory.replicas and use.replicas == 0
    assert wanted is None or (wanted > 0) != (use.replicas > 0)


@given(STATES, USES)
def test_looking_again_at_the_same_comes_to_rest(memory: BaseScale | None, use: BaseUse) -> None:
    for _ in range(3):
        memory = next_base_scale(memory, use)
    assert next_base_scale(memory, use) == memory


def test_a_merged_model_that_is_made_while_the_base_is_at_zero_gets_what_the_base_had() -> None:
    memory = AdapterReleaseStatus(base=ScaledBase(state="ScaledDown", replicas=4, revision=2))
    asleep = Snapshot(release().build().model_copy(update={"status": memory}), base=base(replicas=0))
    assert replicas_of_base(asleep) == 4
    other = Snapshot(release().build(), base=base(replicas=0), base_users=(asleep.release,))
    assert replicas_of_base(other) == 4
    assert replicas_of_base(replace(asleep, base=base(replicas=2))) == 2


def test_a_release_that_is_deleted_while_the_controller_was_away_gives_its_base_back() -> None:
    memory = AdapterReleaseStatus(base=ScaledBase(state="ScaledDown", replicas=2, revision=2))
    gone = release().metadata(deletionTimestamp="2026-01-01T00:00:00Z").build().model_copy(update={"status": memory})
    made = plan(Snapshot(gone, base=base(replicas=0)), T0 + timedelta(hours=1))
    assert [type(a).__name__ for a in made.actions] == ["ScaleBase", "RemoveFinalizer"]
