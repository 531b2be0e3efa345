"""Logs are JSON lines, and say no secret."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from controller.runtime import logs


def line(message: str, *args: object, **extra: object) -> dict[str, object]:
    record = logging.LogRecord("test", logging.INFO, "here", 1, message, args, None)
    record.__dict__.update(extra)
    parsed: dict[str, object] = json.loads(logs.JsonFormatter().format(record))
    return parsed


def test_a_line_has_time_level_message_scope_and_extra() -> None:
    with logs.scope(controller="release"), logs.scope(key="llm/a"):
        said = line("loaded %s", "v2", pods=3, ok=True, nothing=None)
    assert said.pop("ts")
    assert said == {
        "level": "info",
        "logger": "test",
        "msg": "loaded v2",
        "controller": "release",
        "key": "llm/a",
        "pods": 3,
        "ok": True,
        "nothing": None,
    }
    assert "key" not in line("outside")


def test_an_exception_is_one_line_with_its_traceback() -> None:
    try:
        raise ValueError("token=abcdef123456")
    except ValueError as error:
        record = logging.LogRecord("t", logging.ERROR, "h", 1, "it broke", (), (type(error), error, None))
    said = json.loads(logs.JsonFormatter().format(record))
    assert "ValueError" in said["error"]
    assert "abcdef123456" not in said["error"]


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer s3cr3tvalue",
        "authorization: basic czNjcjN0dmFsdWU=s3cr3tvalue",
        "GET https://user:s3cr3tvalue@host/x",
        "https://host/x?X-Amz-Signature=s3cr3tvalue&a=1",
        "https://host/x?sig=s3cr3tvalue",
        '{"password": "s3cr3tvalue"}',
        "AWS_SECRET_ACCESS_KEY=s3cr3tvalue",
        "api_key: s3cr3tvalue",
        "HF_TOKEN=s3cr3tvalue",
        "using hf_s3cr3tvalue now",
    ],
)
def test_what_looks_like_a_credential_is_struck_out(text: str) -> None:
    assert "s3cr3tvalue" not in json.dumps(line("said: %s", text, why=text))


def test_a_value_that_was_hidden_is_struck_out_anywhere() -> None:
    logs.hide("correct-horse")
    assert line("a correct-horse b")["msg"] == "a [redacted] b"


@pytest.mark.parametrize("text", ["prompt_tokens: 12 of 900", "https://host:8000/v1/models", "tokenizer ok"])
def test_what_is_no_credential_stays(text: str) -> None:
    assert line(text)["msg"] == text


def test_a_thread_of_a_pool_has_the_scope_of_who_gave_it_the_work_and_none_afterwards() -> None:
    """Threads of an executor are made once, with no scope, or with that of the first who needed them."""
    with ThreadPoolExecutor(1) as pool:
        for key in ("llm/a", "llm/b"):
            with logs.scope(key=key):
                said = pool.submit(logs.carried(line), "asked").result()
            assert said["key"] == key
        assert "key" not in pool.submit(line, "asked").result()


def test_a_call_that_was_carried_gives_its_answer_and_its_error() -> None:
    assert logs.carried(int)("7") == 7
    with pytest.raises(ValueError, match="seven"):
        logs.carried(int)("seven")
