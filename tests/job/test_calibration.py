"""Calibration data in tokens: what is refused before a model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller.errors import PermanentError
from controller.job.calibration import Sample, read_samples, tokenized


class Words:
    """A tokenizer whose tokens are words; special tokens are one at the beginning."""

    def __init__(self, chat_template: str | None = "a template") -> None:
        self.chat_template = chat_template

    def __call__(
        self, text: str, *, add_special_tokens: bool, truncation: bool, max_length: int
    ) -> dict[str, list[int]]:
        assert truncation
        if "untellable" in text:
            raise TypeError("TextEncodeInput must be Union[TextInputSequence, ...]")
        ids = ([0] if add_special_tokens else []) + [len(word) for word in text.split()]
        ids = ids[:max_length]
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": [0] * len(ids)}

    def apply_chat_template(self, messages: list[dict[str, str]], *, tokenize: bool) -> str:
        assert not tokenize
        if messages[0]["role"] == "system":
            raise ValueError("this model takes no system message")
        return " ".join(f"<{m['role']}> {m['content']}" for m in messages)


def texts(count: int, words: int) -> list[Sample]:
    return [Sample(number, text="word " * words) for number in range(1, count + 1)]


def test_texts_get_special_tokens_and_conversations_bring_their_own() -> None:
    chat = Sample(1, ({"role": "user", "content": "word " * 150}, {"role": "assistant", "content": "word " * 150}))
    (first, second) = tokenized(Words(), [chat, *texts(1, 20)], 1000)
    assert (first["input_ids"][0], len(first["input_ids"])) == (len("<user>"), 302)
    assert (second["input_ids"][0], len(second["input_ids"])) == (0, 21)
    assert set(first) == {"input_ids", "attention_mask"}  # others would be arguments that a model does not know


def test_a_sample_is_cut_at_the_sequence_length() -> None:
    assert {len(row["input_ids"]) for row in tokenized(Words(), texts(16, 100), 32)} == {32}


@pytest.mark.parametrize(
    ("samples", "length", "message"),
    [
        ([*texts(40, 20), Sample(41, text="too short")], 64, "line 41 have less than 8 tokens"),
        (texts(8, 20), 64, "168 tokens in 8 samples of at most 64, at least 256 are needed"),
        (texts(8, 2000), 16, "128 tokens in 8 samples of at most 16"),
        ([*texts(2, 20), Sample(3, text="untellable")], 64, "line 3 cannot be cut into tokens: TextEncodeInput"),
        ([Sample(3, ({"role": "system", "content": "x"},))], 64, "line 3 does not fit the model's chat template: this"),
    ],
)
def test_data_that_say_nothing_of_a_model_are_refused(samples: list[Sample], length: int, message: str) -> None:
    with pytest.raises(PermanentError, match=message) as e:
        tokenized(Words(), samples, length)
    assert e.value.reason == "InvalidCalibration"


@pytest.mark.parametrize("tokenizer", [Words(chat_template=None), object()])
def test_messages_need_a_chat_template(tokenizer: Any) -> None:
    with pytest.raises(PermanentError, match="no chat template: use texts"):
        tokenized(tokenizer, [Sample(1, ({"role": "user", "content": "x"},))], 64)


@pytest.mark.parametrize(
    "line", ['{"text": "half \\ud800"}', '{"messages": [{"role": "user", "content": "x"}], "expected": "\\udfff"}']
)
def test_half_of_a_character_is_no_text(line: str, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"text": "\\ud83d\\ude00"}\n' + line)
    with pytest.raises(PermanentError, match="line 2 is no text") as e:
        read_samples(tmp_path / "c.jsonl", 8)
    assert e.value.reason == "InvalidCalibration"
