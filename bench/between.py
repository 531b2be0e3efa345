"""Pages whose tables a command makes: what it made stands between two marks, all around it is written by people."""

from __future__ import annotations

from pathlib import Path

END = "<!-- end -->"


def begin_of(module: str) -> str:
    """The line that is above what `python -m MODULE` made; below it is END."""
    return f"<!-- made by python -m {module}: begin -->"


def replaced(page: str, begin: str, text: str, name: str) -> str:
    """The page with the text between its marks. Raises ValueError with its name where it does not have them."""
    head, mark, rest = page.partition(begin)
    before, end, tail = rest.partition(END)
    if not mark or not end or begin in rest or "<!-- made by " in before:
        raise ValueError(f"{name} has no place for the table: it needs one line '{begin}' and after it one '{END}'")
    return f"{head}{begin}\n{text.strip()}\n{END}{tail}"


def write(path: Path, begin: str, text: str) -> None:
    """Replace what an earlier run wrote. Raises ValueError where the page has no place for it."""
    path.write_text(replaced(path.read_text(), begin, text, str(path)))
