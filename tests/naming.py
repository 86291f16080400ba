"""The names of the product, collected from its sources, and the rules of the glossary for them."""

import ast
import re
from dataclasses import dataclass, field
from typing import Any

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LOGGING = {"debug", "info", "warning", "error", "exception", "critical"}
#: Methods that other libraries name: those of asyncio.Protocol and of loggers.
_OF_LIBRARIES = {"data_received", "connection_lost", "warning", "error", "aclose"}


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name in snake, camel or kebab case, in lower case and the singular."""
    return tuple(_singular(part.lower()) for part in _PARTS.findall(name))


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word


@dataclass(frozen=True)
class Name:
    """One name, and what settles its meaning."""

    text: str
    #: class, function, parameter, attribute, member, or the kind of a name that is not Python's.
    kind: str
    where: str
    #: The types in its annotation.
    types: frozenset[str] = frozenset()
    #: The class that it belongs to.
    owner: str = ""
    #: Whether it is a public method that returns nothing.
    is_action: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.kind} {self.text}"


@dataclass(frozen=True)
class Glossary:
    """What docs/glossary.md says, for tests."""

    #: Words that must not be used, with the words to use instead.
    refused: dict[str, str]
    #: By ambiguous word: what its cell allows.
    allowed: dict[str, frozenset[str]]
    verbs: frozenset[str]
    units: frozenset[str]
    bounds: frozenset[str]
    meanings: dict[str, str] = field(default_factory=dict)


def read_glossary(text: str) -> Glossary:
    """Read the page: its two tables and its two lists."""
    parts = dict(re.findall(r"^## ([\w ]+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    rows = [_cells(line) for line in parts["Words"].splitlines() if line.startswith("| ")][2:]
    several = parts["Words with more than one meaning"].splitlines()
    allowed = [_cells(line) for line in several if line.startswith("| ")][2:]
    units, bounds = parts["Units"].rsplit("Units are", 1)[1].split(";")
    return Glossary(
        refused={word.strip(): row[0] for row in rows for word in row[2].split(",") if word},
        allowed={word: frozenset(re.findall(r"`([^`]+)`", cell)) for word, cell in allowed},
        verbs=frozenset(re.findall(r"`(\w+)`", parts["Verbs"])),
        units=frozenset(words_of(unit)[0] for unit in re.findall(r"`(\w+)`", units)),
        bounds=frozenset(re.findall(r"`(\w+)`", bounds)),
        meanings={row[0]: row[1] for row in rows},
    )


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def python_names(source: str, where: str) -> list[Name]:
    """Return the names of classes, functions, parameters and attributes of a module."""
    visitor = _Names(where)
    visitor.visit(ast.parse(source))
    return visitor.found


class _Names(ast.NodeVisitor):
    """Collects the names that a module defines; local variables are left to their readers."""

    def __init__(self, where: str) -> None:
        self.found: list[Name] = []
        self._where = where
        self._classes: list[str] = []
        self._parameters: dict[str, frozenset[str]] = {}
        self._is_in_function = False

    def _add(self, node: ast.AST, text: str, kind: str, **more: Any) -> None:
        place = f"{self._where}:{getattr(node, 'lineno', 0)}"
        owner = self._classes[-1] if self._classes else ""
        self.found.append(Name(text, kind, place, owner=owner, **more))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._add(node, node.name, "class")
        self._classes.append(node.name)
        outer, self._is_in_function = self._is_in_function, False
        for part in node.body:
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                self._add(part, part.target.id, "attribute", types=_types(part.annotation))
            elif isinstance(part, ast.Assign):
                for target in part.targets:
                    if isinstance(target, ast.Name):
                        self._add(part, target.id, "member")
            self.visit(part)
        self._is_in_function = outer
        self._classes.pop()

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        types = {one.arg: _types(one.annotation) for one in given}
        around = _types(node.returns).union(*types.values())
        self._add(node, node.name, "function", types=around, is_action=self._is_action(node))
        for one in given:
            self._add(one, one.arg, "parameter", types=types[one.arg])
        outer = self._parameters, self._is_in_function
        self._parameters, self._is_in_function = self._parameters | types, True
        self.generic_visit(node)
        self._parameters, self._is_in_function = outer

    visit_FunctionDef = visit_AsyncFunctionDef = _visit_function  # noqa: N815 -- named by ast

    def _is_action(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        is_method = bool(self._classes) and not self._is_in_function
        is_public = is_method and not self._classes[-1].startswith("_")
        returns_nothing = isinstance(node.returns, ast.Constant) and node.returns.value is None
        is_named_here = node.name not in _OF_LIBRARIES and not node.name.startswith("_")
        is_setter = any(isinstance(of, ast.Attribute) for of in node.decorator_list)
        return is_public and returns_nothing and is_named_here and not is_setter

    def visit_Assign(self, node: ast.Assign) -> None:
        types = self._parameters.get(ast.unparse(node.value), _called(node.value))
        for target in node.targets:
            if isinstance(target, ast.Attribute):
                self._add(node, target.attr, "attribute", types=types)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Attribute):
            self._add(node, node.target.attr, "attribute", types=_types(node.annotation))
        self.generic_visit(node)


def _types(annotation: ast.expr | None) -> frozenset[str]:
    text = "" if annotation is None else ast.unparse(annotation)
    return frozenset(re.findall(r"[A-Za-z_]\w*", text))


def _called(value: ast.expr) -> frozenset[str]:
    """Return the name of what is called to make a value, such as its class."""
    return _types(value.func) if isinstance(value, ast.Call) else frozenset()


def log_texts(source: str, where: str) -> list[Name]:
    """Return the texts of log calls, which are phrases for people to search for."""
    return [
        Name(node.args[0].value, "log text", f"{where}:{node.lineno}")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and _is_logging(ast.unparse(node.func))
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    ]


def _is_logging(function: str) -> bool:
    receiver, _, method = function.rpartition(".")
    is_log = receiver.rpartition(".")[2].lstrip("_") in {"log", "logger"}
    return (is_log and method in _LOGGING) or method.startswith("_log_")


def faults_of(name: Name, glossary: Glossary) -> list[str]:
    """Say what the glossary has against a name."""
    words = words_of(name.text)
    faults = [
        f"{name}: say {glossary.refused[word]!r} instead of {word!r}"
        for word in words
        if word in glossary.refused
    ]
    faults += [
        f"{name}: {word!r} has several meanings; allowed are {', '.join(sorted(allowed))}"
        for word, allowed in glossary.allowed.items()
        if word in words and not _is_settled(word, words, name, allowed)
    ]
    if name.is_action and words[0] not in glossary.verbs:
        faults.append(f"{name}: {words[0]!r} is none of the verbs for methods that return nothing")
    if name.kind not in {"function", "class", "log text"} and not _ends_with_units(words, glossary):
        faults.append(f"{name}: its unit does not come last")
    return faults


def _is_settled(word: str, words: tuple[str, ...], name: Name, allowed: frozenset[str]) -> bool:
    """Say whether a compound, a type, or the class around it settles an ambiguous word."""
    if name.text.startswith("__") or f"{name.owner}.{name.text}" in allowed:
        return True
    if name.kind == "function" and f"{words[0]}()" in allowed and words.count(word) == 1:
        return words[0] == word
    types = {one for one in allowed if one[0].isupper() and "." not in one}
    if name.types & types or name.text in types or name.owner in types:
        return True
    compounds = [words_of(one) for one in allowed if one[0].islower()]
    around = [words, words_of(name.owner)] if name.kind != "class" else [words]
    return any(
        word in compound and _holds(within, compound) for compound in compounds for within in around
    )


def _holds(words: tuple[str, ...], part: tuple[str, ...]) -> bool:
    return any(words[at : at + len(part)] == part for at in range(len(words)))


def _ends_with_units(words: tuple[str, ...], glossary: Glossary) -> bool:
    """Say whether nothing but bounds follows a unit."""
    for at, word in enumerate(words):
        if word in glossary.units and not set(words[at + 1 :]) <= glossary.bounds:
            return False
    return True
