"""The pages of the site in their order, as `navigation.toml` has them."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: The page that is shown first.
START = "README.md"
#: What tells readers what each page is about.
_FILE = Path(__file__).with_name("navigation.toml")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the site.

    Attributes:
        path: Its file in the repository.
        about: What it is about, in one line.
    """

    path: str
    about: str


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the navigation: tutorial, how-to guides, reference or explanation.

    Attributes:
        title: Its name.
        pages: Its pages in order.
        modules: The modules whose docstrings follow them; the path of each is its name.
    """

    title: str
    pages: tuple[Page, ...]
    modules: tuple[Page, ...] = ()


def navigation() -> tuple[Part, ...]:
    """Return the parts in order."""
    parts = tomllib.loads(_FILE.read_text("utf-8"))["parts"]
    return tuple(
        Part(part["title"], *(_pages(part.get(kind, {})) for kind in ("pages", "modules")))
        for part in parts
    )


def _pages(told: dict[str, str]) -> tuple[Page, ...]:
    return tuple(Page(path, about) for path, about in told.items())
