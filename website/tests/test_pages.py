"""Each page in a browser: from a server and from a file, on a phone and a desk, light and dark."""

from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from website.navigation import navigation
from website.tests.tabs import Tab

PAGES = [
    "index.html",
    "genindex.html",
    *(page.path.replace(".md", ".html") for part in navigation() for page in part.pages),
    *(f"api/{module.path}.html" for part in navigation() for module in part.modules),
]
#: In an order in which one of both changes at a time.
VIEWS = (("light", 1280), ("light", 360), ("dark", 360), ("dark", 1280))
#: What is wider than the screen and lies in nothing that scrolls: on a phone it would be cut off.
WIDE = """() => [...document.querySelectorAll("article *")].filter((element) => {
    if (element.getBoundingClientRect().right <= innerWidth) return false;
    let outer = element;
    while ((outer = outer.parentElement).tagName !== "ARTICLE")
        if (getComputedStyle(outer).overflowX !== "visible") return false;
    return true;
}).map((element) => element.outerHTML.slice(0, 100))"""
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
#: What a page has to say of itself.
LOOK = """() => ({
    headings: [...document.querySelectorAll("article :is(h1, h2, h3, h4, h5, h6)")].map(
        (heading) => Number(heading.tagName[1])),
    images: [...document.images].filter((image) => !image.alt || !image.naturalWidth).map(
        (image) => image.src),
    bare: [...document.querySelectorAll("div.highlight")].filter(
        (block) => !block.querySelector("button.copybtn")).length,
    markdown: [...document.querySelectorAll("article :is(p, li, td)")].map(
        (text) => text.innerText).filter(
            (text) => /^\\[[ x]\\]|\\]\\(|^\\|.*\\|$|^[-*] |```/.test(text)),
})"""


class Links(HTMLParser):
    """The links of a page, and its anchors."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.add(given.get("id") or "")
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))


@pytest.fixture(scope="session")
def links(site: Path) -> dict[Path, Links]:
    """Of all pages."""
    return {page: Links(page) for page in site.rglob("*.html")}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_fits_in_both_schemes(tab: Tab, name: str) -> None:
    """Nothing is wider than the screen, and the scheme is the reader's."""
    tab.open(name)
    check(tab.page.evaluate(LOOK))
    if tab.base.startswith("file:"):
        # The same bytes have the same layout.
        return
    backgrounds = {}
    for scheme, width in VIEWS:
        tab.page.emulate_media(color_scheme=scheme)
        tab.page.set_viewport_size({"width": width, "height": 800})
        assert tab.page.evaluate(WIDE) == [], (scheme, width)
        backgrounds[scheme] = tab.page.evaluate(BACKGROUND)
    assert backgrounds["light"] != backgrounds["dark"]


def check(look: dict[str, Any]) -> None:
    """Headings begin with one of the first level and skip none; images are there, and named."""
    levels = look["headings"]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert [pair for pair in pairwise(levels) if pair[1] > pair[0] + 1] == []
    assert look["images"] == []
    assert look["bare"] == 0
    assert look["markdown"] == []


@pytest.mark.parametrize("name", PAGES)
def test_links_of_a_page_lead_somewhere(site: Path, links: dict[Path, Links], name: str) -> None:
    """To a file of the site, and to an anchor that its page has."""
    page = site / name
    broken = []
    for link in links[page].links:
        target = urlsplit(link)
        if target.scheme:
            continue
        file = (page.parent / unquote(target.path)).resolve() if target.path else page
        anchors = links[file].anchors if file in links else set()
        if not file.is_file() or (target.fragment and target.fragment not in anchors):
            broken.append(link)
    assert links[page].links
    assert broken == []


def test_all_pages_are_looked_at(links: dict[Path, Links], site: Path) -> None:
    """A page of the site that is in no list would not be tested; test_search.py has the last."""
    found = {page.relative_to(site).as_posix() for page in links}
    assert found - set(PAGES) == {"search.html"}
