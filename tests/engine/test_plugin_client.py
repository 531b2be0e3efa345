"""The client of the engine plugin against a faithful fake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from controller.engine.errors import EngineRefused, EngineTroubled, EngineUnreachable
from controller.engine.plugin_client import Alias, ModelState, PluginClient, PluginState
from controller.engine.server import Server, new_http
from controller.engine.vllm import Model, VllmClient
from tests.fakes.plugin import FakePlugin
from tests.fakes.vllm import FakeVllm

PATH, NEXT = "/store/adapters/a/1", "/store/adapters/a/2"
ALIAS = Alias("bot@1", PATH, "llm/bot", "v1", "adapter")


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with new_http() as http:
        yield http


@pytest.fixture
def server() -> Iterator[FakeVllm]:
    with FakeVllm(disk={PATH: None, NEXT: None}, plugin=FakePlugin(version="abc")) as server:
        server.listed["bot@1"] = PATH
        yield server


def server_of(fake: FakeVllm, http: httpx.Client, *tokens: str) -> Server:
    return Server(fake.url, None, tokens or ("t0ken",), http=http)


def test_an_alias_is_listed_in_place_of_its_target(server: FakeVllm, http: httpx.Client) -> None:
    PluginClient(server_of(server, http)).set_alias("bot", ALIAS)
    vllm = VllmClient(server_of(server, http))
    assert vllm.models() == {"tiny-llama": Model("/store/models/base", None), "bot": Model(PATH, "tiny-llama")}
    vllm.probe("bot")


def test_a_version_beside_it_is_listed_for_the_controller_only(server: FakeVllm, http: httpx.Client) -> None:
    PluginClient(server_of(server, http)).set_alias("bot", ALIAS)
    VllmClient(server_of(server, http)).load("bot@2", NEXT)
    assert "bot@2" in VllmClient(server_of(server, http)).models()
    assert "bot@2" not in VllmClient(Server(server.url, http=http)).models()


def test_the_state_says_targets_requests_and_what_was_not_restored(server: FakeVllm, http: httpx.Client) -> None:
    client = PluginClient(server_of(server, http))
    client.set_alias("org/bot", ALIAS)
    client.tell_routed("org/bot", False)
    assert server.plugin is not None
    server.plugin.running, server.plugin.departed_seconds = {"bot@1": 3, "bot@0": 0}, 7.5
    server.plugin.restore = {"other": "no such file"}
    assert client.state() == PluginState(
        "abc", {"org/bot": ModelState("bot@1", False, 7.5)}, {"bot@1": 3}, {"other": "no such file"}
    )


def test_a_cleared_alias_is_gone_and_clearing_it_again_is_done(server: FakeVllm, http: httpx.Client) -> None:
    client = PluginClient(server_of(server, http))
    client.set_alias("bot", ALIAS)
    for _ in range(2):
        client.clear_alias("bot")
    assert client.state() == PluginState("abc")


def test_a_server_without_the_plugin_has_no_state(http: httpx.Client) -> None:
    with FakeVllm() as plain:
        assert PluginClient(server_of(plain, http)).state() is None


def test_an_alias_to_what_is_not_loaded_is_refused_with_the_cause(server: FakeVllm, http: httpx.Client) -> None:
    with pytest.raises(EngineRefused, match="not from /store/adapters/a/2"):
        PluginClient(server_of(server, http)).set_alias("bot", Alias("bot@1", NEXT, "llm/bot", "v2", "adapter"))


def test_an_older_token_is_tried_where_the_newest_is_refused(server: FakeVllm, http: httpx.Client) -> None:
    old = server_of(server, http, "n3w", "t0ken")
    PluginClient(old).set_alias("bot", ALIAS)
    VllmClient(old).load("bot@2", NEXT)
    assert server.listed["bot@2"] == NEXT


def test_a_refused_token_is_named_but_not_said(server: FakeVllm, http: httpx.Client) -> None:
    with pytest.raises(EngineRefused, match="Secret adapterrelease-engine") as raised:
        PluginClient(server_of(server, http, "wr0ng")).state()
    assert raised.value.reason == "PluginTokenRefused"
    assert "wr0ng" not in raised.value.message


def test_a_load_without_the_token_is_refused(server: FakeVllm, http: httpx.Client) -> None:
    with pytest.raises(EngineRefused):
        VllmClient(Server(server.url, http=http)).load("bot@2", NEXT)
    assert "bot@2" not in server.listed


@pytest.mark.parametrize(
    "answer", [[], {}, {"version": "1"}, {"version": "1", "models": {"a": 1}, "inFlight": {}, "restore": {}}]
)
def test_a_state_of_another_shape_is_a_trouble_of_the_server(
    server: FakeVllm, http: httpx.Client, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.plugin, "answer", lambda *_: (200, answer))
    with pytest.raises(EngineTroubled, match="not what was expected"):
        PluginClient(server_of(server, http)).state()


def test_a_server_that_is_gone_is_unreachable(http: httpx.Client) -> None:
    with FakeVllm() as gone:
        pass
    with pytest.raises(EngineUnreachable):
        PluginClient(server_of(gone, http)).state()
