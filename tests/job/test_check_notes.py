"""What is no reason to refuse an adapter, but what its owner should know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controller.job.base import read_base
from controller.job.check import Report, examine
from tests.cli.test_offline import call
from tests.job import odd_models, tiny_models
from tests.job.odd_models import LLAMA, Q0, H, lora_on
from tests.job.tiny_models import lora_config

WORDS = [f"t{i}" for i in range(40)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return tiny_models.adapter(tmp_path / "adapter")


def examined(adapter: Path, base: Path) -> Report:
    return examine(adapter, read_base(base), 16)


def write_tokenizer(path: Path, tokens: list[str], **config: Any) -> None:
    (path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {t: i for i, t in enumerate(tokens)}}}))
    (path / "tokenizer_config.json").write_text(json.dumps(config))


def test_an_adapter_for_this_base_has_none(adapter: Path, base: Path) -> None:
    write_tokenizer(adapter, WORDS, eos_token="t1", chat_template="{{ messages }}")
    write_tokenizer(base, WORDS, eos_token={"content": "t1"}, chat_template="{{ messages }}\n")
    assert examined(adapter, base) == Report(examined(adapter, base).adapter, (), ())


@pytest.mark.parametrize(
    ("ours", "theirs", "note"),
    [
        ({"chat_template": "a"}, {"chat_template": "b"}, "its chat template is not the base's, and requests use"),
        ({"chat_template": "a"}, {}, "its chat template is not the base's, and the base has none"),
        (
            {"chat_template": [{"name": "default", "template": "a"}]},
            {"chat_template": "b"},
            "its chat template is not the base's",
        ),
        ({"eos_token": "<a>"}, {"eos_token": "<b>"}, "its eos_token is '<a>', requests use the base's '<b>'"),
        (
            {"added_tokens_decoder": {"45": {"content": "<tool>"}}},
            {},
            "1 tokens that the base's has not ('<tool>'): requests are tokenized by the base's",
        ),
        (
            {"added_tokens_decoder": {"45": {"content": "<tool>"}}},
            {"added_tokens_decoder": {str(i): {"content": f"<reserved_{i}>"} for i in range(45, 46)}},
            "other names for 1 tokens ('<reserved_45>' is '<tool>')",
        ),
    ],
)
def test_another_way_to_put_words_is_noted(
    ours: dict[str, Any], theirs: dict[str, Any], note: str, adapter: Path, base: Path
) -> None:
    words = [f"t{i}" for i in range(45)]
    write_tokenizer(adapter, words * 1, **ours)
    write_tokenizer(base, words, **theirs)
    report = examined(adapter, base)
    if "other names" in note:  # one of 46 is more than a hundredth: only of a real vocabulary it is a few
        assert report.findings != ()
        return
    assert report.findings == ()
    assert [n for n in report.notes if note in n], report.notes


def test_a_template_in_a_file_of_its_own_counts(adapter: Path, base: Path) -> None:
    write_tokenizer(base, WORDS, chat_template="{{ messages }}")
    (adapter / "chat_template.jinja").write_text("{{ other }}")
    assert "its chat template is not the base's" in " ".join(examined(adapter, base).notes)
    (adapter / "chat_template.jinja").write_text("{{ messages }}")
    assert examined(adapter, base).notes == ()


def test_a_few_reserved_tokens_may_get_other_names(tmp_path: Path) -> None:
    shapes = {n: (300 if s[0] == odd_models.V else s[0], *s[1:]) for n, s in LLAMA.items()}
    base = odd_models.base_of(tmp_path / "base", shapes)
    path = tiny_models.adapter(tmp_path / "a", lora_on({Q0: (H, H)}), lora_config(target_modules=["q_proj"]))
    words = [f"t{i}" for i in range(300)]
    write_tokenizer(base, words)
    write_tokenizer(path, ["<tool>", *words[1:]])
    report = examined(path, base)
    assert report.findings == ()
    assert "other names for 1 tokens ('t0' is '<tool>')" in " ".join(report.notes)


def test_another_name_or_revision_of_the_base_proves_nothing(tmp_path: Path) -> None:
    ours, theirs = "a" * 40, "b" * 40
    base = tiny_models.base(tmp_path / "models--meta--Llama" / "snapshots" / theirs)
    same = tiny_models.adapter(tmp_path / "same", config=lora_config(base_model_name_or_path="/data/llama"))
    assert examined(same, base).notes == ()
    other = lora_config(base_model_name_or_path="meta/Llama-Instruct", revision=ours)
    report = examined(tiny_models.adapter(tmp_path / "other", config=other), base)
    assert report.findings == ()
    assert report.notes == (
        "trained on 'meta/Llama-Instruct', the base is meta/Llama: is it the same model?",
        f"trained on revision '{ours}', the base is {theirs}",
    )


def test_what_the_same_weights_would_compute_otherwise_is_noted(adapter: Path, base: Path) -> None:
    document = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(document | {"rope_theta": 1e4}))
    (adapter / "config.json").write_text(json.dumps(document | {"rope_theta": 5e5}))
    assert "has rope_theta 500000.0, the base's 10000.0 is used" in " ".join(examined(adapter, base).notes)


def test_files_that_are_no_part_of_an_adapter_are_named(adapter: Path, base: Path) -> None:
    (adapter / "trainer_state.json").write_text("{}")
    assert examined(adapter, base).notes == ("not part of an adapter, left behind: trainer_state.json",)


def test_a_base_in_float8_is_noted(tmp_path: Path) -> None:
    base = odd_models.base_of(tmp_path / "base", LLAMA, "F8_E4M3")
    path = tiny_models.adapter(tmp_path / "a", lora_on({Q0: (H, H)}), lora_config(target_modules=["q_proj"]))
    assert "can be served, but not merged into it" in " ".join(examined(path, base).notes)


def test_the_command_tells_notes_to_people_and_to_scripts(adapter: Path, base: Path) -> None:
    (adapter / "trainer_state.json").write_text("{}")
    done = call("check", adapter, "--base", base)
    assert (done.exit_code, done.stdout) == (0, "good: rank 4, 8 modules\n")
    assert done.stderr == "note: not part of an adapter, left behind: trainer_state.json\n"
    done = call("check", adapter, "--base", base, "--json")
    assert json.loads(done.stdout)["notes"] == ["not part of an adapter, left behind: trainer_state.json"]
