"""The site shows all pages: what `make docs` takes from here, without building it."""

from collections import Counter
from pathlib import Path

import pytest

from website.navigation import ROOT, navigation
from website.sources import BrokenLinkError, assemble

SHOWN = [page.path for part in navigation() for page in part.pages]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))


def test_each_page_of_the_docs_is_in_the_navigation_once() -> None:
    """A new page needs a line in `website/navigation.toml`, in one of the four parts."""
    missing = sorted(set(PAGES) - set(SHOWN))
    assert missing == [], f"in no part of website/navigation.toml: {', '.join(missing)}"
    twice = [page for page, count in Counter(SHOWN).items() if count > 1]
    assert twice == [], f"twice in website/navigation.toml: {', '.join(twice)}"


def test_the_navigation_has_four_parts_and_no_page_that_is_gone() -> None:
    """Tutorial, how-to guides, reference, explanation; each page a file, with a line about it."""
    titles = [part.title for part in navigation()]
    assert titles == ["Tutorial", "How-to guides", "Reference", "Explanation"]
    gone = [page for page in SHOWN if not (ROOT / page).is_file()]
    assert gone == [], f"in website/navigation.toml, and no file: {', '.join(gone)}"
    assert all(page.about.endswith(".") for part in navigation() for page in part.pages)


def test_no_page_links_to_a_file_that_is_gone(tmp_path: Path) -> None:
    """Links lead from page to page by the paths of the repository."""
    assemble(tmp_path / "website")
    assert "](docs/mount.md)" in (tmp_path / "website/index.md").read_text("utf-8")
    assert (tmp_path / "website/docs/commands.schema.json").is_file()


def test_a_link_to_a_file_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the page and the link."""
    (tmp_path / "README.md").write_text("# A\n\n[this](docs/gone.md)\n", encoding="utf-8")
    monkeypatch.setattr("website.sources.ROOT", tmp_path)
    monkeypatch.setattr("website.sources.navigation", lambda: ())
    with pytest.raises(BrokenLinkError, match=r"README.md links to docs/gone.md"):
        assemble(tmp_path / "website")
