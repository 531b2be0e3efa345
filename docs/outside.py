"""The site's hook for MkDocs: files outside of docs/ that pages link to, anchors as Git hosting makes them, no host.

Links are written for Git hosting, relative to the file that they stand in. In the site the pages of docs/ lie at its
root, and what lies elsewhere in the checkout lies below its own path: CHANGELOG.md, sandbox/README.md. README.md of
the checkout is not in it; docs/README.md is the site's first page. Must not know what pages say.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from posixpath import normpath, relpath
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"
FIRST = "README.md"
# Under `mkdocs`, whose warnings `--strict` counts.
_LOG = logging.getLogger("mkdocs.hooks.outside")
_LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
FROM_A_HOST = re.compile(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"?(?:https?:)?//|<link\b[^>]*\bhref=\"?(?:https?:)?//")


def linked(place: str, text: str) -> set[str]:
    """Paths in the checkout that a file at `place` in it links to."""
    directory = place.rpartition("/")[0]
    return {normpath(f"{directory}/{link}".lstrip("/")) for _, link, _ in _LINK.findall(text)}


def outside_of_docs() -> list[str]:
    """Files that README.md and pages of docs/ link to outside of it, and those that these link to."""
    found: set[str] = set()
    left = {FIRST, *(path.relative_to(ROOT).as_posix() for path in (ROOT / DOCS).rglob("*.md"))}
    while left:
        here = left.pop()
        for target in linked(here, (ROOT / here).read_text()) - found:
            if target != FIRST and not target.startswith(f"{DOCS}/") and (ROOT / target).is_file():
                found.add(target)
                left |= {target} if target.endswith(".md") else set()
    return sorted(found)


def in_site(place: str) -> str:
    """Where a file of the checkout lies in the site."""
    return place.removeprefix(f"{DOCS}/")


def rewritten(place: str, text: str) -> str:
    """The text of the file at `place` in the checkout with links as the site needs them."""
    directory = place.rpartition("/")[0]
    here = in_site(place).rpartition("/")[0]

    def link(match: re.Match[str]) -> str:
        target = normpath(f"{directory}/{match[2]}".lstrip("/"))
        if place.startswith(f"{DOCS}/") and target.startswith(f"{DOCS}/"):
            return match[0]
        return f"{match[1]}{relpath(in_site(target), here or '.')}{match[3]}"

    return _LINK.sub(link, text)


def on_config(config: Any) -> None:
    from pymdownx.slugs import slugify

    config["mdx_configs"]["toc"]["slugify"] = slugify(case="lower")


def on_files(files: Any, config: Any) -> None:
    from mkdocs.structure.files import File

    for place in outside_of_docs():
        files.append(File.generated(config, in_site(place), abs_src_path=str(ROOT / place)))


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    path = Path(page.file.abs_src_path).relative_to(ROOT).as_posix()
    return rewritten(path, markdown)


def on_post_page(output: str, page: Any, config: Any) -> None:
    """The site works without a network, and tells no other host who reads it."""
    for found in FROM_A_HOST.findall(output):
        _LOG.warning("page %s loads something from another host: %s", page.file.src_uri, found)
