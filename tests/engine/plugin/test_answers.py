"""The model's name in answers, wherever the server cuts them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controller.engine.plugin.answers import Answer
from tests.engine.plugin.test_alias import PARTS, cut
from tests.engine.plugin.world import patient

NAME, TARGET = "bot", "bot@aaaaaaaaaaaa"
PIECE = st.sampled_from(
    [f'"model":"{TARGET}"', f'"model":"{NAME}"', '"', '"mod', f'"model":"{TARGET[:5]}', TARGET, "\n"]
)
BODIES = st.lists(PIECE | st.text(max_size=5), max_size=8).map(lambda pieces: "".join(pieces).encode())


def start(kind: bytes, length: int | None, status: int = 200) -> dict[str, Any]:
    headers = [(b"content-type", kind)] + ([] if length is None else [(b"content-length", str(length).encode())])
    return {"type": "http.response.start", "status": status, "headers": headers}


def said(answer: Answer, messages: list[dict[str, Any]]) -> list[Any]:
    held: Any = ()
    out: list[Any] = []
    for message in messages:
        some, held = answer.step(held, message, [(b"x-a", b"1")])
        out += some
    assert held == ()
    return out


def body_of(parts: list[bytes]) -> list[dict[str, Any]]:
    return [
        {"type": "http.response.body", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]


@patient
@given(BODIES, PARTS, st.sampled_from([b"application/json", b"text/event-stream; charset=utf-8"]), st.booleans())
def test_every_name_is_replaced_wherever_the_answer_is_cut(
    body: bytes, places: list[int], kind: bytes, with_length: bool
) -> None:
    first, *parts = said(
        Answer(NAME, TARGET), [start(kind, len(body) if with_length else None), *body_of(cut(body, places))]
    )
    wanted = body.replace(f'"model":"{TARGET}"'.encode(), f'"model":"{NAME}"'.encode())
    assert b"".join(part["body"] for part in parts) == wanted
    assert [part["more_body"] for part in parts][-1] is False
    if with_length:
        assert dict(first["headers"])[b"content-length"] == str(len(wanted)).encode()
    assert (b"x-a", b"1") in first["headers"]


@patient
@given(BODIES, PARTS)
def test_errors_name_it_anywhere(body: bytes, places: list[int]) -> None:
    _, *parts = said(Answer(NAME, TARGET), [start(b"application/json", len(body), 404), *body_of(cut(body, places))])
    assert b"".join(part["body"] for part in parts) == body.replace(TARGET.encode(), NAME.encode())


@patient
@given(BODIES, PARTS)
def test_other_kinds_of_answers_and_models_without_an_alias_pass_as_they_are(body: bytes, places: list[int]) -> None:
    for answer, kind in ((Answer(NAME, TARGET), b"audio/wav"), (Answer(NAME, None), b"application/json")):
        messages = [start(kind, len(body)), *body_of(cut(body, places))]
        first, *parts = said(answer, messages)
        assert parts == messages[1:] and first["headers"] == [*messages[0]["headers"], (b"x-a", b"1")]


def test_a_whole_event_is_never_held_back() -> None:
    answer = Answer(NAME, TARGET)
    answer.step((), start(b"text/event-stream", None), ())
    event = b'data: {"model":"%s","text":"\\"mod"}\n\n' % TARGET.encode()
    for _ in range(3):
        (out,), held = answer.step((), {"type": "http.response.body", "body": event, "more_body": True}, ())
        assert json.loads(out["body"][6:])["model"] == NAME and held == ()


def test_a_piece_without_the_name_is_passed_on_as_the_same_object() -> None:
    answer = Answer(NAME, TARGET)
    answer.step((), start(b"text/event-stream", None), ())
    message = {"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True}
    (out,), _ = answer.step((), message, ())
    assert out is message
