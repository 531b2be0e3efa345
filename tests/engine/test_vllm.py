"""The vLLM client against a faithful fake: every answer that vLLM is known to give, and those it should not."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from controller.engine.errors import (
    AdapterNotVisible,
    EngineRefused,
    EngineTroubled,
    EngineUnreachable,
    LoadRejected,
    NameTaken,
    UnknownAdapter,
)
from controller.engine.metrics import RequestCounters, read_counters
from controller.engine.server import Server, new_http
from controller.engine.vllm import Model, Timeouts, VllmClient
from tests.fakes.vllm import NAN, FakeVllm

GOOD, OTHER, WIDE, MISSING = "/store/adapters/a/1", "/store/adapters/a/2", "/store/adapters/a/3", "/store/nowhere"
TOO_WIDE = "Call to add_lora method failed: LoRA rank 32 is greater than max_lora_rank 16."


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with new_http() as http:
        yield http


@pytest.fixture
def server() -> Iterator[FakeVllm]:
    with FakeVllm(disk={GOOD: None, OTHER: None, WIDE: TOO_WIDE}) as server:
        yield server


@pytest.fixture
def client(server: FakeVllm, http: httpx.Client) -> VllmClient:
    return VllmClient(Server(server.url, http=http))


def test_an_adapter_has_a_parent_and_the_base_has_none(client: VllmClient) -> None:
    client.load("support-bot", GOOD)
    assert client.models() == {
        "tiny-llama": Model("/store/models/base", None),
        "support-bot": Model(GOOD, "tiny-llama"),
    }


def test_loading_the_same_path_again_is_done(client: VllmClient, server: FakeVllm) -> None:
    client.load("support-bot", GOOD)
    client.load("support-bot", GOOD)
    assert server.listed == {"support-bot": GOOD}


def test_no_load_is_ever_in_place(client: VllmClient, server: FakeVllm) -> None:
    client.load("support-bot", GOOD)
    assert server.requests == [("/v1/load_lora_adapter", {"lora_name": "support-bot", "lora_path": GOOD})]


def test_a_name_with_another_path_is_taken(client: VllmClient) -> None:
    client.load("support-bot", OTHER)
    with pytest.raises(NameTaken, match=f"support-bot is loaded from {OTHER}, not from {GOOD}"):
        client.load("support-bot", GOOD)


def test_the_name_of_the_base_model_is_taken(client: VllmClient) -> None:
    with pytest.raises(NameTaken, match="name of the base model itself: choose another modelName"):
        client.load("tiny-llama", GOOD)


def test_a_path_that_is_not_there_may_appear_later(client: VllmClient) -> None:
    with pytest.raises(AdapterNotVisible, match="No adapter found for /store/nowhere"):
        client.load("support-bot", MISSING)


def test_a_healthy_engine_that_cannot_load_has_rejected_the_adapter_in_its_own_words(client: VllmClient) -> None:
    with pytest.raises(LoadRejected, match="rank 32 is greater than max_lora_rank 16"):
        client.load("support-bot", WIDE)


def test_a_dying_engine_has_rejected_nothing(client: VllmClient, server: FakeVllm) -> None:
    server.alive = False
    with pytest.raises(EngineTroubled, match="EngineCore encountered an issue"):
        client.load("support-bot", GOOD)


def test_a_server_without_runtime_updating_refuses(http: httpx.Client) -> None:
    with (
        FakeVllm(updating=False, disk={GOOD: None}) as server,
        pytest.raises(EngineRefused, match=r"404: .*Not Found"),
    ):
        VllmClient(Server(server.url, http=http)).load("support-bot", GOOD)


def test_unload_of_an_unknown_name_says_so(client: VllmClient, server: FakeVllm) -> None:
    client.load("support-bot", GOOD)
    client.unload("support-bot")
    assert server.listed == {}
    with pytest.raises(UnknownAdapter):
        client.unload("support-bot")


def test_a_probe_asks_for_one_token(client: VllmClient, server: FakeVllm) -> None:
    client.load("support-bot", GOOD)
    client.probe("support-bot")
    _, body = server.requests[-1]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("support-bot", 1, 0)


def test_a_probe_of_a_model_that_is_gone_fails(client: VllmClient, server: FakeVllm) -> None:
    client.load("support-bot", GOOD)
    server.restart()
    with pytest.raises(EngineRefused, match="does not exist"):
        client.probe("support-bot")


def test_an_empty_text_is_an_answer(client: VllmClient, server: FakeVllm) -> None:
    server.disk[GOOD] = NAN
    client.load("support-bot", GOOD)
    client.probe("support-bot")


def test_the_key_is_sent_and_a_wrong_one_is_named_without_being_shown(http: httpx.Client) -> None:
    with FakeVllm(api_key="s3cret-key") as server:
        assert "tiny-llama" in VllmClient(Server(server.url, "s3cret-key", http=http)).models()
        with pytest.raises(EngineRefused) as refused:
            VllmClient(Server(server.url, "wr0ng-key", http=http)).models()
    assert refused.value.reason == "ApiKeyRefused"
    assert "wr0ng-key" not in refused.value.message


@pytest.mark.parametrize(("fault", "error"), [("garbage", EngineTroubled), ("500", EngineTroubled)])
def test_an_answer_that_makes_no_sense_is_transient(
    client: VllmClient, server: FakeVllm, fault: str, error: type[Exception]
) -> None:
    server.fault = fault
    with pytest.raises(error):
        client.models()
    with pytest.raises(error):
        client.probe("tiny-llama")


def test_a_hung_server_is_given_up(server: FakeVllm, http: httpx.Client) -> None:
    server.fault = "hang"
    client = VllmClient(Server(server.url, http=http), Timeouts(ask=0.05, load=0.05, probe=0.05))
    with pytest.raises(EngineUnreachable) as given_up:
        client.models()
    assert given_up.value.reason == "Timeout"


def test_a_server_that_is_gone_is_unreachable(http: httpx.Client) -> None:
    with FakeVllm() as server:
        pass
    with pytest.raises(EngineUnreachable):
        VllmClient(Server(server.url, http=http)).models()


def test_a_redirect_is_not_followed(http: httpx.Client) -> None:
    assert http.follow_redirects is False
    assert http.trust_env is False  # a proxy of the environment must not see the API key


def test_counters_are_of_completions_only(client: VllmClient, server: FakeVllm) -> None:
    server.serve(requests=10, errors=3, latency=0.2)
    counters = client.counters()
    assert (counters.requests, counters.errors, counters.latency_count) == (10, 3, 7)
    assert counters.latency_seconds == pytest.approx(1.4)


def test_counters_of_a_fresh_server_are_zero() -> None:
    assert read_counters("") == RequestCounters()


def test_client_errors_are_no_errors_of_the_backend() -> None:
    text = 'http_requests_total{handler="/v1/completions",method="POST",status="4xx"} 5.0\n'
    assert read_counters(text) == RequestCounters(requests=5, errors=0)


def test_text_that_is_no_metrics_is_refused(client: VllmClient, server: FakeVllm) -> None:
    server.fault = "garbage"
    with pytest.raises(EngineTroubled, match="no Prometheus text"):
        client.counters()


def test_the_fake_evicts_silently_and_dies_of_a_vanished_directory(client: VllmClient, server: FakeVllm) -> None:
    """The fake's own promise, on which tests of the slot check stand."""
    server.max_cpu_loras = 1
    client.load("one", GOOD)
    client.load("two", OTHER)
    assert set(client.models()) == {"tiny-llama", "one", "two"}
    assert server.evicted == {"one"}
    del server.disk[GOOD]
    with pytest.raises(EngineTroubled):
        client.probe("one")
    assert server.alive is False
