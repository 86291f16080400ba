"""The public surface: the names in `__all__` of a few modules, and no more."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import get_args, get_origin

import pytest

import faregate
from faregate import FaregateError
from waiting import WAIT_S_MAX

ROOT = Path(__file__).resolve().parents[1]
MODULES = [
    "faregate",
    "faregate.asgi",
    "faregate.asgi.identity",
    "faregate.asgi.identity.jwt",
    "faregate.cli.servers",
    "faregate.jobs",
    "faregate.logs",
    "faregate.metrics",
    "faregate.testing",
    "faregate.wsgi",
]
#: Objects that come from Faregate: users call their methods, and never make one.
NOT_MADE_BY_USERS = {
    *("ChargeContext", "Gate", "HoldBlock", "SyncChargeContext", "SyncHoldBlock"),
    *("EmbeddedPostgres", "EmbeddedValkey", "Server"),
}
#: Importing these takes longer than all of Faregate's own modules.
SLOW = ["cryptography", "pydantic", "psycopg", "redis", "rq", "typer", "uvicorn"]
IMPORTS = re.compile(
    r"^\s*(from faregate[\w.]* import (?:\([^)]*\)|[^\n(]+)|import faregate[^\n]*)", re.M
)


def exported(module: str) -> list[str]:
    """The public names of a module."""
    names: list[str] = import_module(module).__all__
    return names


@cache
def public() -> Mapping[int, str]:
    """All public objects, by their ids."""
    return {id(getattr(import_module(m), n)): f"{m}.{n}" for m in MODULES for n in exported(m)}


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_sorted_and_explained(module: str) -> None:
    """So that a name that is added or taken away is one line of a diff."""
    assert exported(module) == sorted(set(exported(module)))
    for name in exported(module):
        value = getattr(import_module(module), name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, name


def test_the_root_says_which_modules_are_public() -> None:
    """A reader of `help(faregate)` finds them all, and nothing else."""
    named = set(re.findall(r"`(faregate\.[\w.]+)`", faregate.__doc__ or ""))
    assert {"faregate", *named} == set(MODULES)


def test_every_error_is_public() -> None:
    """All of the tree, so that nobody has to catch more than is meant."""

    def below(error: type[FaregateError]) -> set[type[FaregateError]]:
        return {error}.union(*map(below, error.__subclasses__()))

    # An AttemptError never leaves the gate.
    tree = {found for found in below(FaregateError) if found.__module__.startswith("faregate")}
    assert len(tree) > 20
    assert {e.__name__ for e in tree if id(e) not in public()} == {"AttemptError"}


def test_a_missing_name_raises_the_error_of_python() -> None:
    """Names that are imported at their first use change nothing about the others."""
    with pytest.raises(AttributeError, match="module 'faregate' has no attribute 'build_gates'"):
        _ = faregate.build_gates  # type: ignore[attr-defined]
    assert dir(faregate) == faregate.__all__


def test_an_import_loads_no_client_of_a_server() -> None:
    """An app's tests, and an app that has yet to build its gate, need none of them."""
    light = [m for m in MODULES if m not in {"faregate.asgi.identity.jwt", "faregate.metrics"}]
    code = f"import sys, {', '.join(light)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S_MAX, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "faregate" in loaded
    assert loaded & set(SLOW) == set()


def shown_code() -> Iterator[tuple[str, str]]:
    """What users read and copy: code of pages, examples and new projects, and docstrings."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    project = (ROOT / "src/faregate/cli/project").glob("*.py.txt")
    for path in (*pages, *project, *(ROOT / "examples").rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
    for module in MODULES:
        for name in exported(module):
            value = getattr(import_module(module), name)
            yield f"{module}.{name}", inspect.getdoc(value) or ""


def imported(text: str) -> Iterator[tuple[str, str]]:
    """The modules of Faregate that a text imports from, each with the name that it imports."""
    for found in IMPORTS.finditer(text):
        for node in ast.parse(found[1]).body:
            if isinstance(node, ast.ImportFrom):
                yield from ((node.module or "", alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from ((alias.name, "__all__") for alias in node.names)


def test_all_that_is_shown_is_imported_from_public_modules() -> None:
    """Whatever a reader copies goes on working in the next release."""
    shown = [(where, *found) for where, text in shown_code() for found in imported(text)]
    assert len({where for where, *_ in shown}) > 10
    private = [
        f"{where}: from {module} import {name}"
        for where, module, name in shown
        if module not in MODULES or name not in {*exported(module), "__all__"}
    ]
    assert private == []


def classes_in(hint: object) -> Iterator[type]:
    """The classes of Faregate in an annotation, however deep."""
    if isinstance(hint, list | tuple):
        for part in hint:
            yield from classes_in(part)
    elif get_args(hint):
        yield from classes_in([get_origin(hint), *get_args(hint)])
    elif isinstance(hint, type) and hint.__module__.startswith("faregate"):
        yield hint


def hidden_in(value: Callable[..., object], name: str) -> Iterator[str]:
    """The classes that are not public in the signature of a function, or the fields of a value."""
    # Python 3.11 cannot evaluate `memoryview[float]`.
    names = {"memoryview": list}
    for part, hint in inspect.get_annotations(value, locals=names, eval_str=True).items():
        for found in classes_in(hint):
            if id(found) not in public():
                yield f"{name}, {part}: {found.__module__}.{found.__qualname__}"


def functions_of(of: type) -> Iterator[tuple[str, Callable[..., object]]]:
    """The methods and properties that users call."""
    for name, member in inspect.getmembers_static(of):
        plain = getattr(member, "fget", None) or inspect.unwrap(getattr(of, name))
        function = getattr(plain, "__func__", plain)
        if not inspect.isfunction(function) or not function.__module__.startswith("faregate"):
            continue
        is_made = name == "__init__" and of.__name__ not in NOT_MADE_BY_USERS
        if is_made or not name.startswith("_") or name in {"__enter__", "__aenter__"}:
            yield f"{of.__name__}.{name}", function


@pytest.mark.parametrize("module", MODULES)
def test_types_that_users_meet_are_public(module: str) -> None:
    """In signatures of functions and methods, and in the fields of values."""
    hidden: list[str] = []
    for name in exported(module):
        value = getattr(import_module(module), name)
        if inspect.isfunction(value):
            hidden += hidden_in(value, name)
        elif inspect.isclass(value) and not issubclass(value, Enum):
            for base in value.__mro__:
                if base.__module__.startswith("faregate"):
                    hidden += hidden_in(base, name)
            for method, function in functions_of(value):
                hidden += hidden_in(function, method)
        elif get_args(value):
            hidden += [str(found) for found in classes_in(value) if id(found) not in public()]
    assert hidden == []


def test_the_version_is_the_one_of_the_package_and_of_the_changelog() -> None:
    """One number: of the package that is installed, and of the newest section."""
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = re.findall(r"^## (\d+\.\d+\.\d+) ", changelog, re.M)
    assert released[0] == faregate.__version__
