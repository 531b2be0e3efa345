"""Logs are JSON lines, and say no secret."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from controller.runtime import logs


def written(message: str, *args: object, **extra: object) -> str:
    record = logging.LogRecord("test", logging.INFO, "here", 1, message, args, None)
    record.__dict__.update(extra)
    return logs.JsonFormatter().format(record)


def line(message: str, *args: object, **extra: object) -> dict[str, object]:
    def no_json(text: str) -> Any:
        raise ValueError(f"{text} is no JSON")

    parsed: dict[str, object] = json.loads(written(message, *args, **extra), parse_constant=no_json)
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
        "cloning https://s3cr3tvalue@host/x",
        'password="correct horse s3cr3tvalue"',
        "{'client_secret': 'a,b;s3cr3tvalue'}",
        r"{\"token\": \"correct horse s3cr3tvalue\"}",
        "passphrase: s3cr3tvalue",
        "with glpat-s3cr3tvalue",
        "private_key: -----BEGIN RSA PRIVATE KEY-----\nabc\ns3cr3tvalue\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nabc\ns3cr3tvalue and cut off",
    ],
)
def test_what_looks_like_a_credential_is_struck_out(text: str) -> None:
    assert "s3cr3tvalue" not in json.dumps(line("said: %s", text, why=text))


def test_a_value_that_was_hidden_is_struck_out_anywhere() -> None:
    logs.hide("correct-horse")
    assert line("a correct-horse b")["msg"] == "a [redacted] b"


def test_of_hidden_values_that_begin_alike_nothing_is_left() -> None:
    """The shorter one first would leave the longer one's end."""
    for length in range(5, 15):
        logs.hide("battery-staple"[:length])
    assert line("a battery-staple b")["msg"] == "a [redacted] b"


def test_a_long_word_of_somebody_else_takes_no_square_of_its_length() -> None:
    """It would hold up every thread that logs, for hours here."""
    assert line("a" * 1_000_000)["level"] == "info"


@pytest.mark.parametrize(
    "text", ["prompt_tokens: 12 of 900", "https://host:8000/v1/models", "tokenizer ok", "design: dark", "secrets: none"]
)
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


@pytest.mark.parametrize(
    "text", ["two\nlines", "a\r\u2028\u2029\x85b", "\x1b[2J\x9b31m\x07", "bot\u202egnillib", "\ud800"]
)
def test_what_others_wrote_stays_one_line_that_steers_no_terminal_and_hides_nothing(text: str) -> None:
    said = written("model %s", text, why=text)
    assert said.isprintable() and len(said.splitlines()) == 1
    assert json.loads(said)["msg"] == f"model {text}" and json.loads(said)["why"] == text


def test_words_of_any_language_stay_readable() -> None:
    assert "日本語 שלום é 🚀" in written("日本語 שלום é 🚀")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_a_word(number: float) -> None:
    said = line("x", value=number, good=1.5)
    assert (said["value"], said["good"]) == (str(number), 1.5)


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Of a process that logs as the controller does."""
    root, stream = logging.root, io.StringIO()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    logs.configure(stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_what_nobody_caught_is_a_line_too_and_says_no_secret(stderr: io.StringIO) -> None:
    def broken() -> None:
        raise ValueError("token=abcdef123456")

    thread = threading.Thread(target=broken)
    thread.start()
    thread.join()
    try:
        broken()
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    said = [json.loads(text) for text in stderr.getvalue().splitlines()]
    assert [(s["level"], s["msg"]) for s in said] == [("error", "not caught")] * 2
    assert all("ValueError: token=[redacted]" in s["error"] and "in broken" in s["error"] for s in said)
