"""Pages whose tables a command makes."""

from __future__ import annotations

import pytest

from bench.between import END, begin_of, replaced

ONE, OTHER = begin_of("bench.one"), begin_of("bench.other")
PAGE = f"before\n{ONE}\nold\n{END}\nbetween\n{OTHER}\nold, too\n{END}\nafter\n"


def test_a_table_takes_the_place_of_the_one_that_its_command_made() -> None:
    assert replaced(PAGE, ONE, "new\n", "p.md") == PAGE.replace("\nold\n", "\nnew\n")
    assert replaced(PAGE, OTHER, "new", "p.md") == PAGE.replace("\nold, too\n", "\nnew\n")


@pytest.mark.parametrize(
    "page",
    [
        "",
        PAGE.replace(ONE, ""),
        PAGE.replace(END, ""),
        PAGE.replace(f"old\n{END}", "old"),  # its end is that of the next
        PAGE + ONE,
        f"{END}\n{ONE}",
    ],
)
def test_a_page_without_its_place_is_an_error_that_names_it(page: str) -> None:
    with pytest.raises(ValueError, match=r"p\.md has no place for the table: it needs one line .*bench\.one"):
        replaced(page, ONE, "new", "p.md")
