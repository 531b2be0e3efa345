"""Our reading of adapters against the installed PEFT's own. Needs the ML environment."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from controller.job.adapter_config import parse_config
from controller.job.adapter_features import IRRELEVANT, KNOWN, MERGE_ONLY, READ, UNSUPPORTED
from controller.job.base import read_base
from controller.job.check import check_adapter
from controller.job.contract import Use
from controller.job.reasons import Reason
from tests.job.conftest import Ml
from tests.job.peft_facts import KINDS, SERVED
from tests.job.tiny_models import lora_config

pytestmark = [pytest.mark.ml, pytest.mark.timeout(600)]

MODULES = [
    *("model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "model.layers.11.mlp.up_proj"),
    *("model.layers.5.mlp.experts.1.up_proj", "layers.1.q_proj", "q_proj", "h.1.q_proj", "transformer.h.1.q_proj"),
    *("lm_head", "model.embed_tokens", "vision.blocks.1.attn.q_proj", "model.layers.1.self_attn.q_projx"),
]
TARGETS: list[dict[str, Any]] = [
    {"target_modules": ["q_proj"]},
    {"target_modules": ["q_proj", "up_proj", "lm_head"]},
    {"target_modules": ["model.layers.1.self_attn.q_proj", "up_proj"]},
    {"target_modules": r".*\.layers\.\d+\..*_proj"},
    {"target_modules": r"(?!.*vision).*q_proj"},
    {"target_modules": "(?i).*Q_PROJ"},
]
LIMITS: list[dict[str, Any]] = [
    {},
    {"exclude_modules": ["layers.1.self_attn.q_proj", "lm_head"]},
    {"exclude_modules": r".*\.1\..*"},
    {"modules_to_save": ["lm_head", "self_attn"]},
    {"layers_to_transform": [1]},
    {"layers_to_transform": 1, "layers_pattern": "layers"},
    {"layers_to_transform": [1, 5], "layers_pattern": ["h", "layers"]},
    {"rank_pattern": {"q_proj": 2, r"layers\.1\..*": 3, "^q_proj": 5, "blocks.1.attn.q_proj": 7}},
]


def questions() -> list[dict[str, Any]]:
    made = []
    for targets, limits, module in itertools.product(TARGETS, LIMITS, MODULES):
        if isinstance(targets["target_modules"], list) or "layers_to_transform" not in limits:
            made.append({"config": {"r": 4, **targets, **limits}, "module": module})
    return made


@pytest.fixture(scope="module")
def facts(ml: Ml, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("facts") / "questions.json"
    path.write_text(json.dumps(questions()))
    facts: dict[str, Any] = json.loads(ml("-m", "tests.job.peft_facts", "ask", path).stdout.splitlines()[-1])
    return facts


@pytest.fixture(scope="module")
def made(ml: Ml, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made")
    ml("-m", "tests.job.peft_facts", "make", directory)
    return directory


def test_every_setting_of_peft_has_its_place_in_one_list(facts: dict[str, Any]) -> None:
    assert sorted(KNOWN) == sorted(facts["fields"])
    assert len(KNOWN) == len(READ) + len(MERGE_ONLY) + len(UNSUPPORTED) + len(IRRELEVANT)


def test_modules_and_ranks_are_those_of_peft(facts: dict[str, Any]) -> None:
    asked = questions()
    assert len(asked) > 400
    for question, (targeted, rank) in zip(asked, facts["answers"], strict=True):
        config, problems = parse_config(lora_config(**question["config"]))
        assert config is not None, problems
        module = question["module"]
        assert (question, config.targets(module), config.rank_of(module)) == (question, targeted, rank)


@pytest.mark.parametrize("kind", KINDS)
def test_what_peft_saves_beyond_lora_is_good_to_merge_and_not_to_serve(kind: str, made: Path) -> None:
    base = read_base(made / KINDS[kind][0])
    adapter, findings = check_adapter(made / kind, base, 16, Use.MERGE)
    assert adapter is not None and findings == ()
    assert {f.reason for f in check_adapter(made / kind, base, 16, Use.SERVE)[1]} == {Reason.NOT_SERVABLE_DYNAMICALLY}


@pytest.mark.parametrize("kind", SERVED)
def test_what_peft_saves_of_lora_is_good_to_serve(kind: str, made: Path) -> None:
    assert check_adapter(made / kind, read_base(made / "qwen"), 16)[1] == ()
