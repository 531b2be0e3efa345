"""Every link and every path that a page names leads somewhere in the checkout."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, place, prose

PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.svg"))
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:controller|docs|locks|manifests|sandbox|tests)/[\w./-]*)`")


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_links_lead_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    dead = [link for link in _LINK.findall(prose(page)) if not link.startswith("https://") and not _exists(page, link)]
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_paths_in_the_text_exist(page: Path) -> None:
    assert [path for path in _PATH.findall(prose(page)) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_pictures_stand_alone_and_know_both_colour_schemes(picture: Path) -> None:
    text = picture.read_text()
    tree = ElementTree.fromstring(text)
    names = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert {"title", "desc", "style"} <= names
    assert not names & {"image", "script", "foreignObject"}
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"url\((?!#)|href=", text)


def _exists(page: Path, link: str) -> bool:
    target, _, anchor = link.partition("#")
    path = (page.parent / target).resolve() if target else page
    if not path.exists():
        return False
    return not anchor or anchor in anchors(path)
