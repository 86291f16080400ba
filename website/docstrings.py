"""Docstrings for Sphinx: those of `Gate`'s parts as its own, and their Markdown as its markup."""

import builtins
import re
import sys
from collections.abc import Iterator
from enum import Enum
from functools import cache
from inspect import ismethod
from typing import Any

from sphinx.addnodes import pending_xref
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.pycode import ModuleAnalyzer

from faregate import Gate, Settings
from faregate.testing import memory_gate

#: Single backticks have code in them, whatever it is.
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_SECTION = re.compile(r"\w+:$")
#: A table, and the sentence before it: of `Gate`, which methods are those of which part.
_TABLE = re.compile(r"[^\n]+:\n\n(?:\|.*\n)+")
_COROUTINE = re.compile(r".*\bCoroutine\[[^,]+, [^,]+, (.*)\]")


def setup(app: Any) -> None:
    """Connect with Sphinx."""
    for name, method in vars(memory_gate()).items():
        if ismethod(method) and not name.startswith("_"):
            # A gate has the methods of its parts as attributes, so its class does not show them.
            setattr(Gate, name, method.__func__)
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-process-signature", _sign)
    app.connect("doctree-read", _unlink)


def _process(
    _app: Any, kind: str, name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Change a docstring in place."""
    if kind == "data":
        lines[:] = _comment_on(name.rpartition(".")[2])
    lines[:] = as_rst(_TABLE.sub("", "\n".join(lines)).split("\n"))
    # Of an attribute it would take what stands before a colon for a type.
    if kind not in {"attribute", "property", "data"}:
        lines[:] = GoogleDocstring(list(lines)).lines()


def _unlink(_app: Any, tree: Any) -> None:
    """Take the links from types of Python: `bytes` is no attribute of ours with this name."""
    for link in list(tree.findall(pending_xref)):
        if link["refdomain"] == "py" and hasattr(builtins, link["reftarget"]):
            link.replace_self(link.children)


@cache
def _comment_on(name: str) -> list[str]:
    """Return the comment above a name, in whatever module of ours it is."""
    for module in [one for one in sys.modules if one.startswith("faregate")]:
        comments = ModuleAnalyzer.for_module(module).find_attr_docs()
        if ("", name) in comments:
            return list(comments["", name])
    return []


def _sign(
    _app: Any, kind: str, _name: str, object: Any, _options: Any, signature: str, result: str | None
) -> tuple[str, str | None]:
    """Return how a name is called.

    An enum is not, the arguments of settings are their attributes, and a method of `SyncGate`
    returns what the coroutine does that it waits for.
    """
    if kind == "class" and issubclass(object, Enum | Settings):
        return "", None
    return signature, result and _COROUTINE.sub(r"\1", result)


def as_rst(lines: list[str]) -> Iterator[str]:
    """Return a docstring with its code, and its indented examples, marked as such."""
    before, is_code = "", False
    for number, line in enumerate(lines):
        is_indented = line.startswith("    ")
        begins = is_indented and not lines[number - 1].strip() and not is_code
        if begins and not before.startswith(" ") and not _SECTION.match(before):
            yield from (".. code-block:: python", "")
            is_code = True
        elif line.strip() and not is_indented:
            is_code = False
        yield line if is_code else _CODE.sub(r"``\1``", line)
        before = line if line.strip() else before
