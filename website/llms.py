"""The site for language models, in the form of llmstxt.org: an index of its pages, and all of them.

The pages are those of the repository, in Markdown, since a model reads it as it is.
"""

from pathlib import Path

from website.navigation import ROOT, START, Page, navigation
from website.sources import title_of

_INDEX, _ALL = "llms.txt", "llms-full.txt"


def write_llms(site: Path) -> None:
    """Write `llms.txt`, `llms-full.txt` and the pages into the folder of a site."""
    start = (ROOT / START).read_text("utf-8")
    # The sentences below the heading say what all of this is.
    summary = " ".join(start.split("\n\n")[1].split())
    index = [f"# {title_of(START)}\n\n> {summary}\n"]
    texts = [start]
    for part in navigation():
        index.append(f"\n## {part.title}\n\n")
        for page in part.pages:
            texts.append(_copy(page, site))
            index.append(f"- [{title_of(page.path)}]({page.path}): {page.about}\n")
        index += [f"- [{one.path}](api/{one.path}.html): {one.about}\n" for one in part.modules]
    (site / _INDEX).write_text("".join(index), encoding="utf-8")
    (site / _ALL).write_text("\n".join(texts), encoding="utf-8")


def _copy(page: Page, site: Path) -> str:
    """Copy the Markdown of a page beside its HTML, and return it."""
    text = (ROOT / page.path).read_text("utf-8")
    target = site / page.path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return text
