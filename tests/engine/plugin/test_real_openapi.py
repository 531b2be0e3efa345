"""vLLM's own OpenAPI, by schemathesis: what follows from it, valid and not, is answered as without the plugin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode

from tests.engine.plugin.real import SECONDS, Server, real_server

pytestmark = [pytest.mark.ml, pytest.mark.timeout(1200)]
EXAMPLES = 8  # of each operation and kind
# Doors are in test_real_vllm.py; these two count, so that the second answer differs.
LEFT_OUT = re.compile(r"/metrics|/load|/v1/(un)?load_lora_adapter|/adapters.*|/invocations|/scale_elastic_ep")
# Asked for short, certain answers, by a model that is there; and for nothing that keeps an engine busy for hours.
TRIES = 3
FIXED = {"model": "tiny", "max_tokens": 3, "max_completion_tokens": 3, "max_output_tokens": 3, "temperature": 0, "n": 1}
ASKED: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "hi"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/responses": {"input": "hi"},
}
TOO_MUCH = ("use_beam_search", "structured_outputs", "response_format", "min_tokens", "background", "store", "best_of")
_VARIES = re.compile(
    rb'"[a-z_]*id":"[^"]*"|"(created|created_at|completed_at)":[\d.]+|-?\d+\.\d+(e-?\d+)?'
    rb"|(?<=Token id )-?\d+(?= is out of vocabulary)"  # of several prompts it says which its threads looked at first
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with real_server(tmp_path_factory.mktemp("vllm")) as server:
        yield server


def said(response: requests.Response, port: int) -> tuple[int, dict[str, str], bytes]:
    """Without what two answers of the same server differ in."""
    headers = {key.lower(): value for key, value in response.headers.items() if key.lower() != "date"}
    content, varies = _VARIES.subn(b"", response.content)
    if varies:
        assert int(headers.pop("content-length", len(response.content))) == len(response.content)
    return response.status_code, headers, content.replace(b":%d" % port, b"")


def tamed(case: Case) -> None:
    if isinstance(case.body, dict) and case.path.startswith(("/v1/c", "/v1/m", "/v1/r")):
        case.body = {key: value for key, value in case.body.items() if key not in TOO_MUCH} | FIXED
        case.body |= ASKED.get(case.path, {})


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_whatever_the_openapi_allows_or_not_is_answered_as_without_the_plugin(
    server: Server, mode: GenerationMode
) -> None:
    document = httpx.get(f"http://127.0.0.1:{server.bare}/openapi.json", trust_env=False).json()
    codes: dict[str, set[int]] = {}
    with requests.Session() as session:
        session.trust_env = False

        def asked(case: Case, port: int) -> requests.Response:
            prepared = session.prepare_request(
                requests.Request(**case.as_transport_kwargs(base_url=f"http://127.0.0.1:{port}"))
            )
            return session.send(prepared, timeout=SECONDS)

        def check(case: Case) -> None:
            if mode is GenerationMode.POSITIVE:
                tamed(case)
            for _ in range(TRIES):  # vLLM itself puts two tokens into one event when the machine is busy
                with_it, without = (said(asked(case, port), port) for port in (server.port, server.bare))
                if with_it == without:
                    break
            if mode is GenerationMode.NEGATIVE and with_it[0] == without[0] == 200:
                with_it, without = ((*it[:2], b"") for it in (with_it, without))  # allowed after all, and sampled
            assert with_it == without, case.as_curl_command()
            codes.setdefault(case.path, set()).add(with_it[0])

        for operation in _operations(document):
            patient = settings(
                max_examples=EXAMPLES,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
                derandomize=True,
                database=None,
            )
            with suppress(Unsatisfiable):  # there is nothing that an operation without parameters would refuse
                patient(given(operation.as_strategy(generation_mode=mode))(check))()
    print("measured: codes by path:", {path: sorted(found) for path, found in codes.items()})
    wanted = 200 if mode is GenerationMode.POSITIVE else 400
    for path in ASKED:
        assert wanted in codes[path], path
    assert not [name for name, value in server.metrics().items() if "plugin_errors_total" in name and value]


def _operations(document: Any) -> Iterator[Any]:
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = result.ok()
        if not LEFT_OUT.fullmatch(operation.path):
            yield operation
