"""docs/architecture.md says what the code imports and promises what the README promises."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from tests.docs.pages import ROOT, rows, section

PAGE = ROOT / "docs" / "architecture.md"
CONTROLLER = ROOT / "controller"


def imported_by(folder: Path) -> set[str]:
    """Parts of the project that the files of `folder` import, at any place in them."""
    found: set[str] = set()
    for source in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("controller"):
                parts = f"{node.module}.{node.names[0].name}".split(".")
                found.add(parts[1])
    return found - {folder.name, "__version__"}


def test_the_table_of_imports_is_what_the_code_imports() -> None:
    table = {row[0].strip("`"): row[2] for row in rows(section(PAGE, "Layers"))}
    folders = {path.parent.name for path in CONTROLLER.glob("*/__init__.py")}
    documented = {name: set(re.findall(r"`(\w+)`", cell)) for name, cell in table.items() if name in folders}
    assert documented == {name: imported_by(CONTROLLER / name) for name in folders}


def test_every_import_contract_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = re.findall(r"^- (.+?)[;.]$", section(PAGE, "Layers"), re.MULTILINE)
    assert sorted(listed) == sorted(contract["name"] for contract in project["tool"]["importlinter"]["contracts"])


def test_the_readme_makes_as_many_promises_as_are_tested() -> None:
    tested = re.findall(r"^(\d+)\. ", section(PAGE, "What must always hold"), re.MULTILINE)
    promised = re.findall(r"^(\d+)\. ", section(ROOT / "README.md", "Why"), re.MULTILINE)
    assert promised == tested
