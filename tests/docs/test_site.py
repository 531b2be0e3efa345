"""mkdocs.yml has every page once; what docs/outside.py makes of links. `make docs` itself builds it with --strict."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


@pytest.fixture(scope="module")
def outside() -> ModuleType:
    spec = importlib.util.spec_from_file_location("outside", ROOT / "docs" / "outside.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entries(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for inner in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from entries(inner)


NAV = sorted(entries(CONFIG["nav"]))


def test_every_page_of_docs_is_in_the_navigation_once(outside: ModuleType) -> None:
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    brought_in = [place for place in outside.outside_of_docs() if place.endswith(".md")]
    assert sorted([*pages, *brought_in]) == NAV


def test_the_build_fails_on_whatever_leads_nowhere() -> None:
    checks = CONFIG["validation"]
    assert set(checks["nav"].values()) == set(checks["links"].values()) == {"warn"}
    assert "anchors" in checks["links"]
    assert "mkdocs build --strict" in (ROOT / "Makefile").read_text()


def test_nothing_is_loaded_from_another_host(outside: ModuleType) -> None:
    assert CONFIG["theme"]["font"] is False
    for loads in (
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        "<img alt='' src=\"http://pictures.example/x.png\">",
    ):
        assert outside.FROM_A_HOST.search(loads), loads
    for stays in ('<a href="https://elsewhere.example">', '<script src="assets/x.js">', '<link href="x.css">'):
        assert not outside.FROM_A_HOST.search(stays), stays


@pytest.mark.parametrize(
    ("place", "link", "in_site"),
    [
        ("docs/helm.md", "operating.md#install", "operating.md#install"),
        ("docs/how-to/update.md", "../checks.md", "../checks.md"),
        ("docs/helm.md", "../CHANGELOG.md", "CHANGELOG.md"),
        ("docs/how-to/kueue.md", "../../manifests/samples/stable.yaml", "../manifests/samples/stable.yaml"),
        ("CHANGELOG.md", "docs/report.md#from-a-cluster", "report.md#from-a-cluster"),
        ("sandbox/README.md", "../docs/helm.md", "../helm.md"),
        ("docs/helm.md", "../README.md", "README.md"),
        ("docs/helm.md", "#values", "#values"),
        ("CHANGELOG.md", "https://example.com/a", "https://example.com/a"),
    ],
)
def test_links_lead_to_the_same_in_the_site(outside: ModuleType, place: str, link: str, in_site: str) -> None:
    assert outside.rewritten(place, f"see [it]({link}).") == f"see [it]({in_site})."


def test_what_a_page_links_to_outside_of_docs_is_brought_in_and_nothing_else(outside: ModuleType) -> None:
    found = outside.outside_of_docs()
    assert "CHANGELOG.md" in found
    assert "manifests/samples/stable.yaml" in found
    assert not [place for place in found if place.startswith("docs/") or not (ROOT / place).is_file()]
    assert "README.md" not in found, "docs/README.md is the site's first page"
