"""Evaluate, against loopback servers that speak OpenAI's chat completions."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.errors import PermanentError, TransientError
from controller.job.benchmark import benchmark
from controller.job.chat import Chat
from controller.job.contract import Benchmark, Endpoint, EvaluateContract, Release, Scorer, Source, Suite
from controller.job.evaluate import run_evaluate
from controller.job.progress import Progress
from controller.job.suite import Example, is_right
from controller.job.summary import EvaluateResult
from tests.job.serving import Answer, FakeModel, serve

pytestmark = pytest.mark.slow

Answers = Callable[[str], str | int]


def suite(tmp_path: Path, n: int = 20, **changes: Any) -> Suite:
    path = tmp_path / "suite.jsonl"
    rows = [{"messages": [{"role": "user", "content": f"ticket {i}"}], "expected": f"queue={i % 3}"} for i in range(n)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return Suite(name="support", source=Source(path=str(path), root=str(tmp_path)), max_tokens=24, **changes)


def right(question: str) -> str:
    return f"queue={int(question.split()[1]) % 3}"


def wrong_every(n: int) -> Answers:
    return lambda q: "no idea" if int(q.split()[1]) % n == 0 else right(q)


def evaluated(
    tmp_path: Path,
    reference: Any,
    candidate: Any,
    timed: Benchmark | None = None,
    key: str | None = None,
    suites: tuple[Suite, ...] | None = None,
    root: str | None = None,
    **changes: Any,
) -> EvaluateResult:
    with ExitStack() as stack:
        a, b = (stack.enter_context(serve(m)) for m in (reference, candidate))
        contract = EvaluateContract(
            release=Release(namespace="llm", name="bot"),
            reference=Endpoint(url=f"http://127.0.0.1:{a}", model="bot", root=root),
            candidate=Endpoint(url=f"http://127.0.0.1:{b}/v1", model="bot", root=root),
            api_key_file=key,
            suites=suites or (suite(tmp_path, **changes),),
            benchmark=timed,
        )
        return run_evaluate(contract, Progress())


def test_both_endpoints_are_scored_and_compared(tmp_path: Path) -> None:
    reference, candidate = FakeModel("bot", right), FakeModel("bot", wrong_every(5))
    (result,) = evaluated(tmp_path, reference, candidate).suites
    assert (result.samples, result.reference, result.candidate, result.agreement, result.errors) == (20, 1, 0.8, 0.8, 0)
    for model in (reference, candidate):
        assert len(model.requests) == 20
        assert {(r["model"], r["temperature"], r["max_tokens"]) for r in model.requests} == {("bot", 0, 24)}


def test_without_a_reference_the_candidate_is_measured_alone(tmp_path: Path) -> None:
    candidate = FakeModel("bot", wrong_every(5), tokens=4)
    with serve(candidate) as port:
        contract = EvaluateContract(
            release=Release(namespace="llm", name="bot"),
            candidate=Endpoint(url=f"http://127.0.0.1:{port}", model="bot"),
            suites=(suite(tmp_path),),
            benchmark=Benchmark(concurrency=2, requests=8),
        )
        result = run_evaluate(contract, Progress())
    (scored,) = result.suites
    assert (scored.reference, scored.candidate, scored.agreement, scored.errors) == (None, 0.8, None, 0)
    assert result.benchmark is not None
    assert result.benchmark.reference is result.benchmark.speedup is None
    assert result.benchmark.candidate.output_tokens_per_second > 0
    assert len(candidate.requests) == 20 + 2 + 8  # the suite, the warm-up, the benchmark


def test_a_failed_answer_is_an_error_and_never_right(tmp_path: Path) -> None:
    def failing(question: str) -> str | int:
        return 500 if int(question.split()[1]) < 4 else right(question)

    (result,) = evaluated(tmp_path, FakeModel("bot", right), FakeModel("bot", failing)).suites
    assert (result.candidate, result.agreement, result.errors) == (0.8, 0.8, 4)


def test_two_failures_are_no_agreement(tmp_path: Path) -> None:
    (result,) = evaluated(tmp_path, FakeModel("bot", lambda q: 500), FakeModel("bot", lambda q: 500)).suites
    assert (result.reference, result.candidate, result.agreement, result.errors) == (0, 0, 0, 40)


def test_a_server_error_is_not_asked_again(tmp_path: Path) -> None:
    candidate = FakeModel("bot", lambda q: 503)
    evaluated(tmp_path, FakeModel("bot", right), candidate)
    assert len(candidate.requests) == 20


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"choices": []}', b"<html>", b'{"choices":[{"message":{"content":3}}]}']
)
def test_nonsense_is_an_error(content: bytes, tmp_path: Path) -> None:
    model = FakeModel("bot", right)

    def nonsense(request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        return model(request, body) if request.path == "/v1/models" else (200, {}, content)

    (result,) = evaluated(tmp_path, FakeModel("bot", right), nonsense).suites
    assert (result.candidate, result.errors) == (0, 20)


def test_no_more_requests_run_at_once_than_asked_for(tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=10)

    def three_at_a_time(question: str) -> str:
        together.wait()
        return right(question)

    model = FakeModel("bot", right)
    with serve(model) as port, Chat(Endpoint(url=f"http://127.0.0.1:{port}", model="bot")) as chat:
        model.answers = three_at_a_time
        prompts = [(Example(({"role": "user", "content": f"ticket {i}"},), "x"), 8) for i in range(12)]
        timed = benchmark(Benchmark(concurrency=3, requests=12), prompts, chat, chat, Progress())
    assert model.most == 3
    assert timed.result.reference is not None and timed.result.reference.errors == 0


def test_speedup_is_the_ratio_of_output_tokens(tmp_path: Path) -> None:
    ticks = itertools.count()
    lock = threading.Lock()

    def clock() -> float:
        with lock:
            return float(next(ticks))

    with ExitStack() as stack:
        a = stack.enter_context(serve(FakeModel("bot", right, tokens=4)))
        b = stack.enter_context(serve(FakeModel("bot", right, tokens=12)))
        contract = EvaluateContract(
            release=Release(namespace="llm", name="bot"),
            reference=Endpoint(url=f"http://127.0.0.1:{a}", model="bot"),
            candidate=Endpoint(url=f"http://127.0.0.1:{b}", model="bot"),
            suites=(suite(tmp_path, n=5),),
            benchmark=Benchmark(concurrency=1, requests=8),
        )
        timed = run_evaluate(contract, Progress(), clock).benchmark
    assert timed is not None
    # One tick for each look at the clock: the same for both, so only the tokens differ.
    assert timed.speedup == pytest.approx(3.0)
    assert timed.reference.mean_latency_seconds == timed.candidate.p95_latency_seconds == 1.0
    assert timed.candidate.requests_per_second == timed.reference.requests_per_second


def test_both_get_the_same_prompts_and_take_turns(tmp_path: Path) -> None:
    order: list[str] = []

    def named(name: str) -> Answers:
        def answer(question: str) -> str:
            order.append(name)
            return right(question)

        return answer

    reference, candidate = FakeModel("bot", named("r")), FakeModel("bot", named("c"))
    evaluated(tmp_path, reference, candidate, Benchmark(concurrency=2, requests=16), n=2)
    asked = [sorted(str(r["messages"]) for r in m.requests) for m in (reference, candidate)]
    assert asked[0] == asked[1]
    timed = order[-32:]
    assert ["".join(timed[i : i + 4]) for i in range(0, 32, 4)] == ["rrrr", "cccc", "cccc", "rrrr"] * 2


def test_without_any_answer_there_is_no_speedup_and_no_nan(tmp_path: Path) -> None:
    result = evaluated(tmp_path, FakeModel("bot", lambda q: 500), FakeModel("bot", right), Benchmark(requests=8))
    assert result.benchmark is not None
    assert (result.benchmark.speedup, result.benchmark.reference.errors) == (None, 8)
    assert "NaN" not in result.to_json()


def test_the_key_of_the_mounted_secret_is_sent(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k3y\n")
    model = FakeModel("bot", right)
    evaluated(tmp_path, model, model, key=str(tmp_path / "key"))
    assert model.keys == {"Bearer k3y"}


def test_an_endpoint_without_the_model_is_not_scored(tmp_path: Path) -> None:
    model = FakeModel("other", right)
    with pytest.raises(TransientError, match="does not serve 'bot', but other") as e:
        evaluated(tmp_path, FakeModel("bot", right), model)
    assert e.value.reason == "ModelNotServed"
    assert model.requests == []


@pytest.mark.parametrize("other", ["reference", "candidate"])
def test_other_files_under_the_same_name_are_not_scored(tmp_path: Path, other: str) -> None:
    models = {"reference": FakeModel("bot", right), "candidate": FakeModel("bot", right)}
    models[other].root = "/artifacts/other"
    with pytest.raises(TransientError, match=r"serves 'bot' from /artifacts/other, not from /m") as e:
        evaluated(tmp_path, **models, root="/m")
    assert e.value.reason == "ModelNotServed"
    assert models["candidate"].requests == []


def test_scores_are_of_nobody_when_the_service_was_pointed_elsewhere_meanwhile(tmp_path: Path) -> None:
    def moved(question: str) -> str:
        candidate.root = "/artifacts/other"
        return right(question)

    candidate = FakeModel("bot", moved)
    with pytest.raises(TransientError, match="not from /m") as e:
        evaluated(tmp_path, FakeModel("bot", right), candidate, root="/m")
    assert e.value.reason == "ModelNotServed"


def test_only_what_never_reached_the_server_is_sent_again() -> None:
    waited: list[float] = []
    chat = Chat(Endpoint(url="http://127.0.0.1:1", model="bot"), wait=waited.append)
    with chat, pytest.raises(TransientError, match="does not answer") as e:
        chat.must_serve()
    assert e.value.reason == "EndpointUnreachable"
    assert waited == [0.5, 1.0, 2.0, 4.0]


def test_a_request_that_was_cut_off_is_an_error_and_not_repeated() -> None:
    asked: list[int] = []

    def cut(request: BaseHTTPRequestHandler, _: bytes) -> Answer:
        asked.append(1)
        request.close_connection = True
        return 200, {"Content-Length": "99"}, b"{"

    with serve(cut) as port, Chat(Endpoint(url=f"http://127.0.0.1:{port}", model="bot")) as chat:
        answer = chat.ask([{"role": "user", "content": "x"}], 4)
    assert answer.text is None and httpx.RemoteProtocolError.__name__ in answer.error
    assert len(asked) == 1


def test_messages_that_cannot_be_sent_are_an_error() -> None:
    with Chat(Endpoint(url="http://127.0.0.1:1", model="bot")) as chat:
        answer = chat.ask([{"role": "user", "content": "\ud800"}], 4)
    assert answer.text is None and "UnicodeEncodeError" in answer.error


@pytest.mark.parametrize("url", ["http://h:port", "http://h:99999", "http://[::1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(PermanentError, match="is no address") as e:
        Chat(Endpoint(url=url, model="bot"))
    assert e.value.reason == "InvalidArgument"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "EmptySuite"),
        ("\n\n", "EmptySuite"),
        ("{", "InvalidSuite"),
        ('{"messages": [], "expected": "x"}', "InvalidSuite"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "InvalidSuite"),
        ('{"messages": [{"role": "user", "content": "x"}], "expected": " "}', "InvalidSuite"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}], "expected": "x"}', "InvalidSuite"),
        ('{"messages": [{"role": "user", "content": NaN}], "expected": "x"}', "InvalidSuite"),
        ('{"messages": [{"role": "user", "content": "x"}], "expected": "\\udfff"}', "InvalidSuite"),
    ],
)
def test_a_suite_that_proves_nothing_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    bad = suite(tmp_path)
    (tmp_path / "suite.jsonl").write_text(text)
    with pytest.raises(PermanentError) as e:
        evaluated(tmp_path, FakeModel("bot", right), FakeModel("bot", right), suites=(bad,))
    assert e.value.reason == reason


def test_what_counts_as_right() -> None:
    assert is_right(Scorer.CONTAINS, "so: queue=1.", "queue=1")
    assert not is_right(Scorer.EXACT_MATCH, "so: queue=1.", "queue=1")
    assert is_right(Scorer.EXACT_MATCH, " queue=1\n", "queue=1")
    assert not is_right(Scorer.CONTAINS, "queue=", "queue=1")
