"""The shape of the sources: sizes, docstrings, headers, names; a failure names its file."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkout import ROOT, tracked_files

POSTGRES = ROOT / "src/faregate/adapters/postgres"

FILE_LINES_MAX = 300
CLASS_LINES_MAX = 150
FUNCTION_LINES_MAX = 50
POSITIONAL_PARAMETERS_MAX = 5
PARAMETERS_MAX = 8
#: Commands of many options: nobody calls them, and their users name the options that they need.
COMMANDS = {"replay"}
LUA_LINES_MAX = 150
ARCHITECTURE_LINES_MAX = 70

Function = ast.FunctionDef | ast.AsyncFunctionDef

#: Written in two halves where a rule would otherwise find itself.
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
REGISTRY = re.compile(
    r"\.whl"
    r"#"
    r"|--(?:extra-)?index"
    r"-url"
    r"|--find"
    r"-links"
    r"|https?://[^\s\"'`]*(?:/sim"
    r"ple\b|\bpypi\b|\bfiles\.|\bindex\b|\bmirrors?\b|\bregistry\b)"
)
MACHINE_PATH = re.compile(r"(?<![\w.~:/-])/(?:work|root|home|Users)/|/tm" r"p/v\b")


def relative(path: Path) -> str:
    """The name under which a file appears in the report."""
    return path.relative_to(ROOT).as_posix()


def files(pattern: str, *folders: str) -> list[Path]:
    """Our files of one kind, sorted, so that runs are comparable."""
    found = [path for folder in folders for path in (ROOT / folder).rglob(pattern)]
    return sorted(path for path in found if "__pycache__" not in path.parts)


def functions(path: Path) -> Iterator[Function]:
    """Every function of a file, nested ones and methods included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def query_names() -> list[str]:
    """The names of the statements in the files of queries, in their order."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in POSTGRES.glob("*.sql"))
    return re.findall(r"^-- name: (\w+)$", text, re.MULTILINE)


PYTHON = files("*.py", "src", "worker", "tests", "benchmarks", "examples", "website")
SHIPPED = files("*.py", "src", "worker")
LUA = files("*.lua", "lua")
SCRIPTS = [path for path in LUA if path.parent.name == "lua"]
MIGRATIONS = files("*.sql", "src/faregate/adapters/postgres/migrations")
QUERIES = query_names()
TEXTS = [path for path in tracked_files() if b"\0" not in path.read_bytes()]


def test_there_are_files_to_check() -> None:
    """A list that is empty by a mistake of ours would make every rule below pass."""
    assert all((PYTHON, SHIPPED, LUA, SCRIPTS, MIGRATIONS, QUERIES, TEXTS))
    assert ROOT / "pyproject.toml" in TEXTS


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_files_and_functions_are_short(path: Path) -> None:
    """A file fits in a few screens and a function in one."""
    total = len(path.read_text(encoding="utf-8").splitlines())
    assert total <= FILE_LINES_MAX
    lines = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions(path)}
    assert {name: n for name, n in lines.items() if n > FUNCTION_LINES_MAX} == {}


@pytest.mark.parametrize("path", SHIPPED, ids=relative)
def test_classes_are_short(path: Path) -> None:
    """A class that grows is two."""
    classes = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    lines = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in classes}
    assert {name: n for name, n in lines.items() if n > CLASS_LINES_MAX} == {}


@pytest.mark.parametrize("path", SHIPPED, ids=relative)
def test_functions_take_few_parameters(path: Path) -> None:
    """What a caller must keep in order is at most five; what it names may be a few more."""
    too_many = {}
    for node in functions(path):
        if node.name in COMMANDS:
            continue
        positional = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
        if positional[:1] in (["self"], ["cls"]):
            positional.pop(0)
        total = len(positional) + len(node.args.kwonlyargs)
        if len(positional) > POSITIONAL_PARAMETERS_MAX or total > PARAMETERS_MAX:
            too_many[node.name] = total
    assert too_many == {}


def undocumented(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    """The public classes, functions and methods of a body that have no docstring."""
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        marks = {ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list}
        if node.name.startswith("_") or marks & {"override", "overload"}:
            continue
        if not ast.get_docstring(node):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body, f"{prefix}{node.name}.")


@pytest.mark.parametrize("path", SHIPPED, ids=relative)
def test_public_names_have_docstrings(path: Path) -> None:
    """Every module, public class, function and method says what it means."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(module)
    assert list(undocumented(module.body, "")) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_scripts_open_with_their_signature(path: Path) -> None:
    """A script is a function: its header gives its keys, arguments, reply and what it appends."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next((n for n, line in enumerate(lines) if not line.startswith("--")), len(lines))
    header = "\n".join(lines[:end])
    assert header.startswith(f"-- {path.stem}: ")
    missing = [
        w for w in ("KEYS", "ARGV", "Reply", "Appends") if not re.search(rf"\b{w}\b", header)
    ]
    assert missing == []


@pytest.mark.parametrize("path", LUA, ids=relative)
def test_scripts_are_short_and_hide_no_errors(path: Path) -> None:
    """Short files, no JSON, and no error of the script itself that is caught.

    `redis.pcall` catches nothing: it returns the error of a command, for the script to look at.
    """
    text = path.read_text(encoding="utf-8")
    total = len(text.splitlines())
    assert total <= LUA_LINES_MAX
    code = re.sub(r"--.*", "", text)
    assert re.findall(r"\bcjson\b|(?<!redis\.)\bx?pcall\b", code) == []


@pytest.mark.parametrize("path", MIGRATIONS, ids=relative)
def test_migrations_are_named_so_that_supabase_takes_them(path: Path) -> None:
    """`supabase db push` applies files of this form, in the order of their numbers."""
    assert re.fullmatch(r"[0-9]+_[a-z0-9_]+\.sql", path.name)


def test_migrations_have_a_number_each() -> None:
    """Two migrations of one number would have no order."""
    numbers = [path.name.partition("_")[0] for path in MIGRATIONS]
    assert len(set(numbers)) == len(numbers)
    assert len({len(number) for number in numbers}) == 1


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_is_used(name: str) -> None:
    """A query that nothing asks for by its name is dead."""
    quoted = re.compile(rf"[\"']{name}[\"']")
    assert [relative(p) for p in SHIPPED if quoted.search(p.read_text(encoding="utf-8"))]


def test_queries_have_a_name_each() -> None:
    """The second of two queries of one name would hide the first."""
    assert len(set(QUERIES)) == len(QUERIES)


@pytest.mark.parametrize("path", TEXTS, ids=relative)
def test_nothing_is_unfinished_and_nothing_names_this_machine(path: Path) -> None:
    """No open ends; no package registry and no path that exists on one machine only."""
    text = path.read_text(encoding="utf-8")
    for rule in (UNFINISHED, REGISTRY, MACHINE_PATH):
        assert [match.group() for match in rule.finditer(text)] == []


def tree_of(text: str) -> Iterator[str]:
    """The paths in the tree that ARCHITECTURE.md shows: what stands before the descriptions."""
    block = next(
        b for b in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) if "src/faregate/" in b
    )
    parents: list[tuple[int, str]] = []
    for line in block.splitlines():
        indent = len(line) - len(line.lstrip())
        parents = [parent for parent in parents if parent[0] < indent]
        base = parents[-1][1] if parents else ""
        for token in re.split(r"\s{2,}", line.strip()):
            if not re.fullmatch(r"[\w.\-/]*[./][\w.\-/]*", token):
                break
            yield base + token
            if token.endswith("/"):
                parents.append((indent, base + token))


def test_the_architecture_fits_one_screen_and_its_tree_exists() -> None:
    """The map is short, and everything on it is there."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    total = len(text.splitlines())
    assert total <= ARCHITECTURE_LINES_MAX
    shown = list(tree_of(text))
    assert "src/faregate/domain/" in shown
    assert [path for path in shown if not (ROOT / path).exists()] == []


def test_every_part_of_the_package_is_on_the_map() -> None:
    """No folder or module of the package is missing from the tree."""
    shown = {path.rstrip("/") for path in tree_of((ROOT / "ARCHITECTURE.md").read_text("utf-8"))}
    parts = {relative(p) for p in (ROOT / "src/faregate").iterdir() if not p.name.startswith("_")}
    assert {part for part in parts if not part.endswith("py.typed")} - shown == set()
