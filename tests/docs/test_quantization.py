"""docs/quantization.md says what the code does: methods, schemes, groups, calibration, limits."""

from __future__ import annotations

import re
from typing import get_args

from controller.api.v1alpha1 import QuantizationMethod
from controller.job import calibration
from controller.job.contract import CALIBRATED, GROUPED, SCHEMES, Quantization
from controller.job.recipes import SMOOTHING
from tests.docs.pages import ROOT, rows, section

PAGE = ROOT / "docs" / "quantization.md"
METHODS = {row[0].strip("`"): row[1:] for row in rows(section(PAGE, "Methods"))}


def test_every_method_is_listed_with_its_schemes_the_default_first() -> None:
    assert list(METHODS) == [m.value for m in QuantizationMethod]
    listed = {method: tuple(re.findall(r"`(\w+)`", row[0])) for method, row in METHODS.items()}
    assert listed == {**SCHEMES, "None": ()}


def test_groups_and_calibration_are_those_of_the_contract() -> None:
    assert [m for m, row in METHODS.items() if row[1] != "none"] == list(GROUPED)
    assert [m for m, row in METHODS.items() if row[2] == "required"] == list(CALIBRATED)
    sizes = get_args(get_args(Quantization.model_fields["group_size"].annotation)[0])
    for method in GROUPED:
        assert METHODS[method][1] == f"{sizes[0]}, {sizes[1]} or {sizes[2]} (default)"


def test_the_least_that_calibration_needs_is_said() -> None:
    text = section(PAGE, "Calibration data")
    assert f"less than {calibration.MIN_SAMPLES} samples" in text
    assert f"less than {calibration.MIN_TOKENS} tokens, or less than {calibration.MIN_TOKENS_IN_ALL} tokens" in text


def test_the_strength_of_smoothing_is_said() -> None:
    assert f"SmoothQuant, strength {SMOOTHING}" in section(PAGE, "Methods")
