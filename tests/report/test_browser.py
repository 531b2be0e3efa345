"""The page in a real browser: nothing is asked for, nothing complains, nothing runs over the edge of a phone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.cli.report import documents_in
from controller.report.documents import report_of
from controller.report.facts import Report, Verdict
from controller.report.page import page_of
from tests.report.browser import Tab, browser
from tests.report.example import example
from tests.report.hostile import at_once
from tests.report.samples import Sample, renamed, support, without_what_is_new
from tests.report.test_palette import contrast

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

PHONE, DESK = 360, 1280
THEMES = ("light", "dark")


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with browser() as chromium:
        yield Tab(chromium)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind by name."""
    root = tmp_path_factory.mktemp("reports")
    found = _reports(root)
    for name, report in found.items():
        (root / f"{name}.html").write_text(page_of(report), encoding="utf-8")
    return {name: root / f"{name}.html" for name in found}


def _reports(root: Path) -> dict[str, Report]:
    alone, old = (Sample(root / name) for name in ("alone", "old"))
    alone.measured(renamed(support(), adapter=None))
    old.measured(support())
    old.rewritten(without_what_is_new)
    return {
        "whole": example(root / "whole"),
        "alone": report_of(documents_in(alone.directory)),
        "old": replace(report_of(documents_in(old.directory)), verdict=Verdict("Fail", "a drop", "x")),
        "nothing": Report(name="x", artifact_id="sha256:1"),
        "hostile": at_once(),  # each attack by itself: test_page.py
    }


NAMES = ["whole", "alone", "old", "nothing", "hostile"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_asked_for_and_nothing_complains(name: str, tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages[name])
    assert tab.requests() == [pages[name].as_uri()]
    assert tab.complaints() == [] and tab.dialogs() == []
    assert tab.ask("document.scripts.length + document.images.length + document.links.length") == 0


def test_the_browser_would_have_complained(tab: Tab, tmp_path: Path, pages: dict[str, Path]) -> None:
    """The policy is the page's own: what slipped through the builder would still not run, and would be seen here."""
    page = tmp_path / "slipped.html"
    slipped = "<script>document.title = 'ran'</script><img src='http://127.0.0.1:9/x.png'>"
    slipped += "<style>h1{color:rgb(1, 2, 3)}</style><p id=p style='color:rgb(1, 2, 3)'>x</p></main>"
    page.write_text(pages["whole"].read_text().replace("</main>", slipped))
    tab.open(page)
    assert tab.ask("document.title") != "ran"
    assert (
        tab.ask("['h1', '#p'].map(e => getComputedStyle(document.querySelector(e)).color)") == ["rgb(27, 31, 36)"] * 2
    )
    assert len([text for text in tab.complaints() if "Content Security Policy" in text]) == 4


_WIDER = """(() => {
  const wide = document.documentElement.scrollWidth, screen = document.documentElement.clientWidth;
  const scrolls = e => { for (; e; e = e.parentElement) {
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(e).overflowX)) return true } return false };
  const over = [...document.querySelectorAll('body *')].filter(e =>
    e.getBoundingClientRect().right > screen + 0.5 && !scrolls(e.parentElement));
  return [wide - screen, over.map(e => `${e.tagName} ${e.getAttribute('class')}`)] })()"""


@pytest.mark.parametrize("width", [320, 768])
@pytest.mark.parametrize("name", NAMES)
def test_no_page_runs_over_the_edge(name: str, width: int, tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages[name], width)
    tab.ask("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert tab.ask(_WIDER) == [0, []]


_TEXTS = """(() => [...document.querySelectorAll('svg text')].filter(t => {
  const [box, all] = [t.getBoundingClientRect(), t.closest('svg').getBoundingClientRect()];
  return box.left < all.left - 1 || box.right > all.right + 1 || box.bottom > all.bottom + 2 || box.top < all.top - 2
}).map(t => t.textContent))()"""

_SMALLEST = """Math.min(...[...document.querySelectorAll('svg text')].map(t =>
  parseFloat(getComputedStyle(t).fontSize) * t.closest('svg').getBoundingClientRect().width / 360))"""


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", ["whole", "alone"])
def test_words_in_pictures_can_be_read_and_stay_inside(name: str, width: int, tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages[name], width)
    assert tab.ask(_TEXTS) == []
    assert tab.ask(_SMALLEST) > 10


_OVERLAPS = """(() => [...document.querySelectorAll('svg')].flatMap(svg => {
  const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  return texts.flatMap(([a, x], i) => texts.slice(i + 1).filter(([, y]) =>
    x.left < y.right - 1 && y.left < x.right - 1 && x.top < y.bottom - 3 && y.top < x.bottom - 3).map(([b]) => [a, b]))
}))()"""


@pytest.mark.parametrize("name", ["whole", "alone"])
def test_words_in_pictures_do_not_lie_on_each_other(name: str, tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages[name], PHONE)
    assert tab.ask(_OVERLAPS) == []


_COLOURS = """(() => {
  const behind = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor; if (c !== 'rgba(0, 0, 0, 0)') return c }
    return 'rgb(255, 255, 255)' };
  const found = new Map();
  document.querySelectorAll('details').forEach(d => { d.open = true });
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.namespaceURI.endsWith('svg') && e.tagName !== 'text') continue;
    const front = e.tagName === 'text' ? getComputedStyle(e).fill : getComputedStyle(e).color;
    found.set(`${front} on ${behind(e)}`, [front, behind(e), e.tagName + '.' + e.getAttribute('class')]);
  }
  return [...found.values()] })()"""


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", ["whole", "old", "hostile"])
def test_every_word_has_the_contrast_that_can_be_read(name: str, theme: str, tab: Tab, pages: dict[str, Path]) -> None:
    """As the browser paints it, whatever the palette says."""
    tab.open(pages[name], DESK, theme)
    found = tab.ask(_COLOURS)
    assert len(found) > 3
    assert [f for f in found if contrast(_hex(f[0]), _hex(f[1])) < 4.5] == []


def _hex(colour: str) -> str:
    channels = [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(", ")]
    return "#" + "".join(f"{channel:02x}" for channel in channels)


def test_the_dark_theme_is_dark(tab: Tab, pages: dict[str, Path]) -> None:
    seen = {}
    for theme in THEMES:
        tab.open(pages["whole"], DESK, theme)
        seen[theme] = tab.ask("getComputedStyle(document.body).backgroundColor")
    assert seen == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}


def test_the_verdict_is_seen_without_scrolling(tab: Tab, pages: dict[str, Path]) -> None:
    for width in (PHONE, DESK):
        tab.open(pages["whole"], width)
        assert tab.ask("document.querySelector('.verdict .word').getBoundingClientRect().bottom") < 640


def test_numbers_of_a_column_stand_below_each_other(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["whole"])
    right = "[...document.querySelectorAll('tbody tr')].map(r => r.cells[2].getBoundingClientRect().right)"
    assert len(set(tab.ask(f"{right}.slice(0, 2)"))) == 1
    assert tab.ask("getComputedStyle(document.querySelector('td')).fontVariantNumeric") == "tabular-nums"
    assert tab.ask("getComputedStyle(document.querySelector('td')).textAlign") == "right"


def test_both_scores_are_seen_on_a_phone(tab: Tab, pages: dict[str, Path]) -> None:
    """Without scrolling a table that does not look as if it could be."""
    tab.open(pages["whole"], PHONE)
    edge = "document.querySelector('.scroll').getBoundingClientRect().right"
    heads = "[...document.querySelectorAll('.scroll th')].slice(0, 4)"
    assert tab.ask(f"{heads}.map(h => h.textContent)") == ["Suite", "Examples", "Adapter", "Artifact"]
    assert tab.ask(f"{heads}.every(h => h.getBoundingClientRect().right <= {edge})") is True
    assert tab.ask("getComputedStyle(document.querySelector('.scroll')).backgroundAttachment") == "local, scroll"


def test_a_table_that_is_too_wide_can_be_reached_by_the_keyboard(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["whole"], PHONE)
    scrolls = "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth && "
    scrolls += "['auto', 'scroll'].includes(getComputedStyle(e).overflowX))"
    assert tab.ask(f"{scrolls}.length") > 0
    assert tab.ask(f"{scrolls}.filter(e => e.tabIndex !== 0).length") == 0


def test_words_that_turn_around_do_not_turn_what_stands_beside_them(tab: Tab, tmp_path: Path) -> None:
    """A right-to-left name leaves the comma and the time behind it where they are."""
    page = tmp_path / "rtl.html"
    page.write_text(
        page_of(Report(name="x", artifact_id="y", release="שלום", evaluated="2026-11-25")), encoding="utf-8"
    )
    tab.open(page)
    place = "(() => { const b = document.querySelectorAll('.eyebrow bdi');"
    place += " return b[0].getBoundingClientRect().right < b[1].getBoundingClientRect().left })()"
    assert tab.ask(place) is True


def test_on_paper_it_is_light_and_all_of_it_is_there(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["whole"], DESK, "dark", media="print")
    assert tab.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    closed = "[...document.querySelectorAll('details:not([open]) .words')]"
    assert tab.ask(f"{closed}.length") > 0
    assert tab.ask(f"{closed}.every(e => e.checkVisibility({{contentVisibilityAuto: true}}))") is True
    assert tab.paper().startswith(b"%PDF-")


def _axe(node: Any) -> str:
    return str(node.get("name", {}).get("value", ""))


def test_whoever_does_not_see_it_is_told_the_same(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["whole"])
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    pictures = [n for n in nodes if n.get("role", {}).get("value") in ("image", "img")]
    assert len(pictures) == 5 and all("title" not in _axe(n) and len(_axe(n)) > 40 for n in pictures)
    assert any(_axe(n) == "Verdict" for n in nodes)
    headings = [_axe(n) for n in nodes if n.get("role", {}).get("value") == "heading"]
    assert headings[0] == "merged-llama3-8b-8c22764a-adapter-support-v3" and "Scores" in headings
