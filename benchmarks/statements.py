"""Counts the statements of the product: `python -m benchmarks.statements [TREE]`.

Comments, docstrings and blank lines are no statements. Replay, demo and embedded servers are left
out, since they serve development. Python is counted by its grammar; Lua by its lines, of which a
statement that goes on over several counts once.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("src", "worker", "lua")
#: The modules of `cli` that are the command line itself, beside those of its commands.
_COMMANDS = {"__init__", "__main__", "app", "conventions", "display", "gates", "lines", "settings"}
_CONTINUED = re.compile(r"(?:[=,(+\-*/]|\.\.|\b(?:and|or|not|return))\s*$")
_NO_STATEMENT = re.compile(r"(?:(?:end|else|then|until|and|or)\b|\.\.|[)}\]])")
_COMMENT = re.compile(r"--.*$")
_DEPTH = {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}


def python_statements(source: str) -> int:
    """Return how many statements a module has."""
    return sum(
        1
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and not _is_text(node)
    )


def _is_text(node: ast.stmt) -> bool:
    """Say whether a statement is a docstring, or the body of a protocol."""
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return False
    return isinstance(node.value.value, str | type(...))


def lua_statements(source: str) -> int:
    """Return how many statements a script has."""
    count, depth, is_continued = 0, 0, False
    for text in source.splitlines():
        line = _COMMENT.sub("", text).strip()
        if not line:
            continue
        if depth == 0 and not is_continued and not _NO_STATEMENT.match(line):
            count += 1
        depth += sum(_DEPTH.get(character, 0) for character in line)
        is_continued = _CONTINUED.search(line) is not None
    return count


def files(root: Path) -> Iterator[Path]:
    """Iterate over what is counted."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            is_cli = path.parent.name == "cli" and path.stem not in _COMMANDS
            if path.suffix in {".py", ".lua"} and not is_cli and "servers" not in path.parts:
                yield path


def count(root: Path) -> Counter[str]:
    """Return the statements of a tree, by package."""
    found: Counter[str] = Counter()
    for path in files(root):
        parts = path.relative_to(root).parts
        depth = 4 if "adapters" in parts else 3
        source = path.read_text(encoding="utf-8")
        is_lua = path.suffix == ".lua"
        name = "lua" if is_lua else "/".join(parts[:-1][:depth])
        found[name] += lua_statements(source) if is_lua else python_statements(source)
    return found


def main(root: Path) -> None:
    """Print the statements of a tree."""
    found = count(root)
    for name, statements in sorted(found.items()):
        print(f"{name:32}{statements:6}")
    print(f"{'all':32}{sum(found.values()):6}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
