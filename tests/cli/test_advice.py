"""`advise`: what is weighed, that it is weighed one way only, and what the command says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.cli.advice import Facts, Verdict, advice
from controller.reconcile.caches import RELEASES
from controller.runtime.resources import DEPLOYMENTS
from tests.cli.place import Place
from tests.cli.states import world_in
from tests.domain.world import ROUTE
from tests.fakes import faults
from tests.reconcile.deployments import container, deployment

patient = settings(deadline=None)  # the machine may be busy
DAYS = st.floats(0, 400).map(lambda d: timedelta(days=d))
FACTS = st.builds(
    Facts,
    variants=st.integers(1, 50),
    age=st.none() | DAYS,
    updates_per_week=st.none() | st.floats(0, 20),
    requests_per_second=st.none() | st.floats(0, 1000),
    speedup=st.none() | st.floats(0.1, 10),
    gpus=st.integers(0, 64),
    replicas=st.integers(1, 8),
    adapter_bytes=st.integers(0, 1 << 32),
    artifact_bytes=st.integers(0, 1 << 40),
    merge_only=st.booleans(),
)
ORDER = [Verdict.KEEP, Verdict.EITHER, Verdict.MERGE]


@patient
@given(FACTS)
def test_every_verdict_has_reasons_that_add_up_to_it(facts: Facts) -> None:
    result = advice(facts)
    assert result.points == sum(r.points for r in result.reasons)
    assert (result.verdict is Verdict.MERGE) == (result.points >= 2)
    assert (result.verdict is Verdict.KEEP) == (result.points <= -2)
    assert all(r.text for r in result.reasons)


@patient
@given(FACTS)
def test_what_vllm_cannot_serve_is_merged(facts: Facts) -> None:
    assert advice(replace(facts, merge_only=True)).verdict is Verdict.MERGE


@pytest.mark.parametrize(
    ("fact", "more"),
    [
        ("speedup", st.floats(0, 5)),
        ("requests_per_second", st.floats(0, 500)),
        ("age", DAYS),
    ],
)
def test_more_of_what_speaks_for_it_never_turns_against_it(fact: str, more: st.SearchStrategy[Any]) -> None:
    @patient
    @given(FACTS, more)
    def holds(facts: Facts, extra: Any) -> None:
        if getattr(facts, fact) is not None:
            larger = replace(facts, **{fact: getattr(facts, fact) + extra})
            assert ORDER.index(advice(larger).verdict) >= ORDER.index(advice(facts).verdict)

    holds()


@pytest.mark.parametrize(("fact", "more"), [("variants", st.integers(0, 20)), ("updates_per_week", st.floats(0, 20))])
def test_more_of_what_speaks_against_it_never_turns_for_it(fact: str, more: st.SearchStrategy[Any]) -> None:
    @patient
    @given(FACTS, more)
    def holds(facts: Facts, extra: Any) -> None:
        if getattr(facts, fact) is not None:
            larger = replace(facts, **{fact: getattr(facts, fact) + extra})
            assert ORDER.index(advice(larger).verdict) <= ORDER.index(advice(facts).verdict)

    holds()


@patient
@given(FACTS)
def test_what_is_not_known_is_named_and_has_no_points(facts: Facts) -> None:
    blind = replace(facts, age=None, updates_per_week=None, requests_per_second=None, speedup=None)
    result = advice(blind)
    assert len(result.unknown) == 4
    assert result.points == sum(r.points for r in advice(facts).reasons if _is_still_known(r.text))


def _is_still_known(text: str) -> bool:
    return not any(w in text for w in ("this version has", "updates a week", "requests a second", "measured"))


WEEKS = timedelta(weeks=1)


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (Facts(variants=1, age=8 * WEEKS, updates_per_week=0.1, requests_per_second=20, speedup=1.6), Verdict.MERGE),
        (Facts(variants=30, age=8 * WEEKS, updates_per_week=0.1, requests_per_second=0.01, speedup=1.6), Verdict.KEEP),
        (Facts(variants=2, age=timedelta(hours=3), updates_per_week=7, requests_per_second=3), Verdict.KEEP),
        (Facts(variants=1, age=2 * WEEKS, updates_per_week=0.2, requests_per_second=5, speedup=1.0), Verdict.EITHER),
        (Facts(variants=20, age=8 * WEEKS, updates_per_week=0, requests_per_second=50, speedup=1.8), Verdict.MERGE),
    ],
)
def test_the_usual_cases(facts: Facts, verdict: Verdict) -> None:
    assert advice(facts).verdict is verdict, advice(facts)


# -- the command
class Prometheus:
    """Answers every query with one number, or with what it is told."""

    def __init__(self, body: str, code: int = 200) -> None:
        self.asked: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked.append(parse_qs(urlsplit(self.path).query)["query"][0])
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    made = Prometheus('{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"12.5"]}]}}')
    yield made
    made.close()


def test_it_gathers_what_it_weighs(place: Place, prometheus: Prometheus) -> None:
    place.hold(world_in("promoted"))
    for number in range(4):
        other = {"metadata": {"name": f"other-{number}"}, "spec": {"baseRef": {"name": "tiny-llama"}}}
        place.api.create(RELEASES.path("llm", f"other-{number}"), other)
    limits = {"limits": {"nvidia.com/gpu": "2", "memory": "1Gi"}}
    place.api.create(DEPLOYMENTS.path("llm", "tiny-llama"), deployment(container(resources=limits)))
    done = place.run("advise", ROUTE, "--prometheus", prometheus.url)
    assert done.exit_code == 0, done.output
    assert prometheus.asked == [f'sum(rate(adapterrelease_requests_total{{release="llm/{ROUTE}"}}[1h]))']
    for said in ("4 other releases", "12.50 requests a second", "1.50 times", "4 GPUs more", "+2  ", "-3  "):
        assert said in done.stdout, said
    assert "not known" not in done.stdout


def test_as_yaml_it_has_points_and_reasons(place: Place) -> None:
    place.hold(world_in("serving"))
    said = yaml.safe_load(place.run("advise", ROUTE, "-o", "yaml").stdout)
    assert said["verdict"] in list(Verdict)
    assert said["points"] == sum(r["points"] for r in said["reasons"])


def test_before_promoting_it_says_what_the_spec_lacks(place: Place) -> None:
    done = place.hold(world_in("serving")).run("advise", ROUTE)
    assert done.stdout.startswith("Merge: add build and validation to its spec")


def test_who_may_not_read_the_base_gets_the_rest(place: Place) -> None:
    place.hold(world_in("serving"))
    place.api.inject(
        faults.status(403, "Forbidden", "deployments is forbidden"), "GET", DEPLOYMENTS.path("llm", "tiny-llama")
    )
    done = place.run("advise", ROUTE)
    assert done.exit_code == 0, done.output
    assert "not known: the base's replicas and GPUs" in done.stdout


def test_a_prometheus_that_does_not_answer_is_named(place: Place) -> None:
    broken = Prometheus("no", 500)
    done = place.hold(world_in("serving")).run("advise", ROUTE, "--prometheus", broken.url)
    broken.close()
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1 and "is it the root of a Prometheus?" in done.stderr
