"""The model card: metadata that the Hub understands, and text in which nothing of a user's becomes markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from controller.job.artifact import Inputs
from controller.job.card import card_of, licence_of
from controller.job.contract import AdapterInput, BaseReference, BuildContract, Quantization, Release
from controller.job.markup import cell, code

DIGEST = "sha256:" + "1" * 64
AWQ = {"method": "AWQ", "scheme": "W4A16_ASYM", "groupSize": 128, "calibrationDigest": DIGEST}


def card(
    quantization: dict[str, Any] | None = None,
    licence: dict[str, str] | None = None,
    training_run: str = "mlflow:/runs/1",
    base_name: str = "tiny-llama",
    model: str = "org/tiny",
    revision: str = "r1",
) -> str:
    adapter = AdapterInput(name="support", version="v1", digest=DIGEST, path="/x", training_run=training_run)
    asked = {"method": "AWQ", "scheme": "W4A16_ASYM", "groupSize": 128, "calibration": {"path": "/c", "root": "/"}}
    contract = BuildContract(
        release=Release(namespace="llm", name="bot"),
        store="/store",
        base=BaseReference(model=model, name=base_name, revision=revision),
        adapters=(adapter,),
        quantization=Quantization.model_validate(asked) if quantization else None,
    )
    inputs = Inputs(DIGEST, ((DIGEST, 1.0),), "bfloat16", quantization, {"merge": "1"})
    return card_of(contract, inputs, "merged-tiny-llama-r1-adapter-support-v1", licence or {})


def front(text: str) -> Any:
    _, head, _ = text.split("---\n", 2)
    return yaml.safe_load(head)


def body(text: str) -> str:
    return text.split("---\n", 2)[2]


def test_the_metadata_say_what_it_is_to_its_base() -> None:
    assert front(card()) == {
        "base_model": "org/tiny",
        "base_model_relation": "merge",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["adapter-release", "lora", "merged", "vllm"],
    }
    quantized = front(card(AWQ))
    assert quantized["base_model_relation"] == "quantized"
    assert quantized["tags"][-2:] == ["awq", "compressed-tensors"]


def test_a_base_that_is_a_directory_is_called_by_its_name() -> None:
    assert front(card(model="/store/models/base"))["base_model"] == "tiny-llama"


def test_people_are_told_what_it_is_made_of_how_to_use_it_and_where_its_scores_are() -> None:
    text = body(card(AWQ))
    for part in (DIGEST, "`mlflow:/runs/1`", "`AWQ W4A16_ASYM g128`", "revision `r1`", "`support` `v1`"):
        assert part in text
    assert "vllm serve DIRECTORY --served-model-name merged-tiny-llama-r1-adapter-support-v1" in text
    assert "adapterrelease verify DIRECTORY" in text and "ID.evaluations/" in text


NASTY = [
    "`</code><script>alert(1)</script>",
    "x\n---\nlicense: mit\n---\n# Heading",
    "[click](https://evil.example) ![x](https://evil.example/x.png)",
    "https://evil.example www.evil.example",
    "`` ` ```",
    "a|b|c",
    "\u202eevil\u0000\x1b[31m",
    ": {a: &b [*b]} # no",
    "'\"\\",
    "*" * 5000,
]


@pytest.mark.parametrize("text", NASTY)
def test_a_user_s_text_becomes_neither_markup_nor_metadata(text: str) -> None:
    made = card(training_run=text, revision=text)
    plain = front(card())
    assert front(made) == plain
    html = MarkdownIt("commonmark").render(body(made))
    assert "<a " not in html and "<img" not in html and "<script" not in html
    assert html.count("<h1") == 1 and html.count("<h2") == body(card()).count("\n## ")
    assert len(made) < len(card()) + 1000


@pytest.mark.parametrize("text", NASTY)
def test_a_base_s_name_stays_one_value_of_the_metadata(text: str) -> None:
    found = front(card(model="/m", base_name=text))
    assert set(found) == set(front(card()))
    assert isinstance(found["base_model"], str) and "\n" not in found["base_model"]


@pytest.mark.parametrize("text", NASTY)
def test_a_cell_stays_one_cell(text: str) -> None:
    table = f"| a | b |\n|---|---|\n| {cell(text)} | z |\n"
    html = MarkdownIt("commonmark").enable("table").render(table)
    assert html.count("<td>") == 2 and html.count("<tr>") == 2 and "<script" not in html


def test_a_code_span_shows_backticks_as_they_are() -> None:
    assert MarkdownIt("commonmark").renderInline(code("a ``b`` c`")) == "<code>a ``b`` c`</code>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\nlicense: apache-2.0\n---\n", {"license": "apache-2.0"}),
        ("---\r\nlicense: 'mit'  # as it was\r\n---\r\n", {"license": "mit"}),
        (
            "---\nlicense: other\nlicense_name: llama3\nlicense_link: LICENSE\ntags: [x]\n---\n",
            {"license": "other", "license_name": "llama3", "license_link": "LICENSE"},
        ),
        ("# license: mit\n", {}),
        ("---\ntags: [x]\n---\nlicense: mit\n", {}),
        ("---\nlicense: mit\n", {}),
        ("---\nlicense: [mit, apache-2.0]\n---\n", {}),
        ("---\nlicense: *x\n---\n", {}),
        ("---\nlicense_name: x\n---\n", {}),
        ("", {}),
        ("\xff\x00", {}),
    ],
)
def test_a_licence_is_taken_over_only_if_the_base_says_it(text: str, expected: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(text.encode("latin-1"))
    assert licence_of(tmp_path) == expected
    assert {k: v for k, v in front(card(licence=expected)).items() if k.startswith("license")} == expected


def test_a_base_without_a_card_has_no_licence(tmp_path: Path) -> None:
    assert licence_of(tmp_path) == {}
