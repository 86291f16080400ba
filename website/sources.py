"""The folder that Sphinx reads: the pages where they lie here, and the files they link to."""

import re
import shutil
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FunctionType

from website.navigation import ROOT, START, Part, navigation

_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
#: A block that shows a file of the repository.
_TITLED = re.compile(r'^( *)```(\w+) title="([^"]+)"$', re.M)
_FENCED = re.compile(r"^( *)(```+).*?^\1\2$", re.M | re.S)
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
_REPOSITORY = _PROJECT["urls"]["Source"]


class BrokenLinkError(Exception):
    """A page links to a file that does not exist."""


def assemble(folder: Path) -> None:
    """Write all pages into a folder, which is emptied first.

    Raises:
        BrokenLinkError: A page links to a file that does not exist.
    """
    shutil.rmtree(folder, ignore_errors=True)
    parts = navigation()
    pages = [START, *(page.path for part in parts for page in part.pages)]
    for page in pages:
        text = _page(page, set(pages), folder)
        if page == START:
            text += "".join(map(_toctree, parts))
        target = folder / _name(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    (folder / "api").mkdir()
    for module in (module for part in parts for module in part.modules):
        (folder / f"api/{module.path}.rst").write_text(_api(module.path), encoding="utf-8")


def title_of(page: str) -> str:
    """Return the heading of a page."""
    first, _, _ = (ROOT / page).read_text("utf-8").partition("\n")
    return first.removeprefix("# ")


def _name(page: str) -> str:
    return "index.md" if page == START else page


def _toctree(part: Part) -> str:
    names = [page.path.removesuffix(".md") for page in part.pages]
    names += [f"api/{module.path}" for module in part.modules]
    pages = "\n".join(names)
    return f"\n```{{toctree}}\n:hidden:\n:caption: {part.title}\n\n{pages}\n```\n"


def _api(module: str) -> str:
    """Return the page of a module; Sphinx adds its docstrings, if values are named one by one."""
    loaded = import_module(module)
    names = [name for name in loaded.__all__ if not name.startswith("_")]
    values = [name for name in names if not isinstance(getattr(loaded, name), type | FunctionType)]
    again = "   :exclude-members: Caller\n" if module.endswith(".identity") else ""
    page = f"{module}\n{'=' * len(module)}\n\n.. automodule:: {module}\n   :members:\n{again}"
    return page + "".join(f"\n.. autodata:: {module}.{name}\n   :no-value:\n" for name in values)


def _page(page: str, pages: set[str], folder: Path) -> str:
    """Return the text of a page; what it links to and is no page is copied.

    A link that is named as its file, for readers on a git host, is named as its page.
    """

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match.groups(default="")
        file = (ROOT / page).parent.joinpath(target).resolve()
        path = file.relative_to(ROOT).as_posix()
        if file.is_dir():
            # A site has no page of a folder.
            return f"[{text}]({_REPOSITORY}/tree/main/{path})"
        if not file.is_file():
            raise BrokenLinkError(f"{page} links to {target}, which is no file")
        if file.suffix == ".md" and path not in pages:
            raise BrokenLinkError(f"{page} links to {target}, which navigation.toml lacks")
        if path == START:
            target = target.removesuffix(START) + _name(START)
        elif path not in pages:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / path)
        if path in pages and text.endswith(file.name):
            text = title_of(path)
        return f"[{text}]({target}{anchor})"

    written = (ROOT / page).read_text("utf-8")
    written = _outside_of_blocks(written, lambda prose: _LINK.sub(link, prose))
    return _TITLED.sub(r"\1```{code-block} \2\n\1:caption: \3", written)


def _outside_of_blocks(text: str, change: Callable[[str], str]) -> str:
    """Return a text in which all is changed but its blocks of code."""
    done, end = [], 0
    for block in _FENCED.finditer(text):
        done += [change(text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*done, change(text[end:])])
