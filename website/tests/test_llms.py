"""llms.txt: a heading, a summary, and a line for each page, whose link leads to its Markdown."""

import re
from pathlib import Path

from website.navigation import navigation


def test_the_index_has_a_line_for_each_page(site: Path) -> None:
    """In the form of llmstxt.org."""
    head, *sections = re.split(r"^## ", (site / "llms.txt").read_text("utf-8"), flags=re.M)
    assert re.fullmatch(r"# Faregate\n\n> .*\.\n\n", head)
    lines = [line for section in sections for line in section.splitlines()[2:] if line]
    links = [re.fullmatch(r"- \[[^\]]+\]\(([^)]+)\): .+\.", line) for line in lines]
    targets = [link[1] for link in links if link]
    parts = navigation()
    assert [section.splitlines()[0] for section in sections] == [part.title for part in parts]
    assert len(targets) == len(lines) == sum(len(p.pages) + len(p.modules) for p in parts)
    assert [target for target in targets if not (site / target).is_file()] == []


def test_the_full_text_has_all_pages(site: Path) -> None:
    """One after the other, each from its heading on."""
    text = (site / "llms-full.txt").read_text("utf-8")
    for page in (page for part in navigation() for page in part.pages):
        assert (site / page.path).read_text("utf-8") in text
