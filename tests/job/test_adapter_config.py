"""What a config means: which modules it targets, with what rank and scaling, as PEFT resolves it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from controller.job.adapter_config import AdapterConfig, parse_config
from controller.job.patterns import Matcher, PatternError, problem_of
from tests.job.tiny_models import lora_config

Q5 = "model.layers.5.self_attn.q_proj"


def config(**changes: Any) -> AdapterConfig:
    parsed, problems = parse_config(lora_config(4, **changes))
    assert parsed is not None, problems
    return parsed


@pytest.mark.parametrize(
    ("changes", "module", "targeted"),
    [
        ({"target_modules": ["q_proj"]}, Q5, True),
        ({"target_modules": ["self_attn.q_proj"]}, Q5, True),
        ({"target_modules": ["proj"]}, Q5, False),
        ({"target_modules": [Q5]}, Q5, True),
        ({"target_modules": r".*q_proj"}, Q5, True),
        ({"target_modules": r"q_proj"}, Q5, False),
        ({"target_modules": "all-linear"}, Q5, True),
        ({"target_modules": "ALL-LINEAR"}, "lm_head", False),
        ({"target_modules": "all-linear"}, "model.embed_tokens", False),
        ({"target_modules": ["q_proj"], "exclude_modules": [Q5]}, Q5, False),
        ({"target_modules": ["q_proj"], "exclude_modules": r".*\.5\..*"}, Q5, False),
        ({"target_modules": ["q_proj"], "modules_to_save": ["self_attn"]}, Q5, False),
        ({"target_modules": ["q_proj"], "layers_to_transform": 5}, Q5, True),
        ({"target_modules": ["q_proj"], "layers_to_transform": [4]}, Q5, False),
        ({"target_modules": [Q5], "layers_to_transform": [4]}, Q5, True),
        ({"target_modules": ["w1"], "layers_to_transform": [5]}, "model.layers.5.experts.1.w1", True),
        ({"target_modules": ["w1"], "layers_to_transform": [1]}, "model.layers.5.experts.1.w1", False),
        ({"target_modules": ["q_proj"], "layers_to_transform": [5], "layers_pattern": "layers"}, Q5, True),
        ({"target_modules": ["q_proj"], "layers_to_transform": [5], "layers_pattern": ["h", "layers"]}, Q5, True),
        ({"target_modules": ["q_proj"], "layers_to_transform": [5], "layers_pattern": ["h"]}, Q5, False),
        ({"target_modules": ["q_proj"], "layers_to_transform": [5]}, "layers.5.q_proj", False),
    ],
)
def test_modules_are_targeted_as_peft_does(changes: dict[str, Any], module: str, targeted: bool) -> None:
    assert config(**changes).targets(module) is targeted


def test_the_first_pattern_that_fits_the_end_of_the_name_decides() -> None:
    found = config(rank_pattern={"k_proj": 2, r"layers\.5\..*": 8, "q_proj": 16}, alpha_pattern={"q_proj": 32})
    assert [found.rank_of(m) for m in (Q5, "model.layers.1.self_attn.q_proj", "k_proj", "v_proj")] == [8, 16, 2, 4]
    assert found.scaling_of(Q5) == 4
    assert found.rank_of("model.layers.5.self_attn.q_projx") == 8


def test_rslora_divides_by_the_root_of_the_rank() -> None:
    assert config(use_rslora=True).scaling_of(Q5) == 8 / math.sqrt(4)


@pytest.mark.parametrize(
    "pattern",
    [r"(?:(?:\w|[a-z]|\.)+)+(?!.)(?<!j)", r"(?=(?:\w|[a-z]|\.)+!).*", r"((\w|[a-z]|\.)*)$(?<=!)"],
)
def test_a_pattern_that_backtracks_for_ever_is_stopped(pattern: str) -> None:
    found = config(target_modules=pattern)
    for _ in range(3):  # and it stays stopped: a thousand modules do not take a thousand times as long
        with pytest.raises(PatternError, match="takes too long to match"):
            found.targets(Q5 * 4)


@pytest.mark.parametrize("pattern", [r"(\w+)+[!?]", r"(.*)*[!?]", r"(.*\.?)*(.*\.?)*(.*\.?)*[!?]", r"((\w|\w)*\.?)*-"])
def test_the_classics_end_by_themselves(pattern: str) -> None:
    assert not config(target_modules=pattern).targets(Q5 * 4)


def test_all_matches_together_have_one_limit() -> None:
    matcher = Matcher(seconds=0)
    with pytest.raises(PatternError):
        matcher.match("a", "a")


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(", "no regular expression"),
        ("(" * 500 + ")" * 500, "no regular expression"),
        ("a" * 1025, "longer than 1024"),
        ("(?:q_proj){e<=1}", "begins no count"),
        ("(?R)", "no regular expression"),
        (r"\p{L}", "begins no count"),
    ],
)
def test_a_pattern_that_is_not_python_s_is_refused(pattern: str, problem: str) -> None:
    assert problem in str(problem_of(pattern))


@pytest.mark.parametrize("value", [{"k": "[" * 100_000}, ["x" * 100_000] * 2, "y" * 100_000, 10**4000, -1.5])
def test_a_message_stays_short_whatever_the_config_says(value: Any) -> None:
    for key in (*lora_config(), "unheard_of", "trainable_token_indices"):
        _, problems = parse_config(lora_config() | {key: value})
        assert all(len(p) < 600 for p in problems)
