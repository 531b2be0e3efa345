"""Logs are JSON lines, and say no secret."""

from __future__ import annotations

import json
import logging

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
