"""Contrast by WCAG 2.2: 4.5 for words, 3 for lines and marks, in light and in dark."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from controller.report.palette import DARK, LIGHT, MARKS, WORDS
from controller.report.sheet import SHEET


def luminance(colour: str) -> float:
    def linear(channel: int) -> float:
        value = channel / 255
        return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)

    red, green, blue = (linear(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(front: str, behind: str) -> float:
    light, dark = sorted((luminance(front), luminance(behind)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_black_on_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("pairs", "least"), [(WORDS, 4.5), (MARKS, 3.0)], ids=["words", "marks"])
def test_everything_can_be_told_from_what_is_behind_it(
    palette: Mapping[str, str], pairs: tuple[tuple[str, str], ...], least: float
) -> None:
    low = {pair: round(c, 2) for pair in pairs if (c := contrast(palette[pair[0]], palette[pair[1]])) < least}
    assert not low


def test_both_themes_have_every_colour_that_the_sheet_uses() -> None:
    used = set(re.findall(r"var\(--([a-z-]+)\)", SHEET))
    assert used == set(LIGHT) == set(DARK)
