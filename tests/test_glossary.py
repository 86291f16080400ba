"""One word, one meaning: names and log texts keep to docs/glossary.md."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from faregate.asgi.problems import STATUSES
from faregate.cli.app import app
from faregate.config import PREFIX, Settings
from naming import Name, faults_of, log_texts, python_names, read_glossary, words_of

ROOT = Path(__file__).resolve().parents[1]
POSTGRES = ROOT / "src/faregate/adapters/postgres"
GLOSSARY = read_glossary((ROOT / "docs/glossary.md").read_text(encoding="utf-8"))
PYTHON = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "worker").rglob("*.py")])
PAGE_LINES_MAX = 110


def relative(path: Path) -> str:
    """The name under which a file appears in a report."""
    return path.relative_to(ROOT).as_posix()


def read(pattern: str, folder: str) -> Iterator[tuple[str, str]]:
    """The files of one kind below a folder: name and text."""
    for path in sorted((ROOT / folder).rglob(pattern)):
        yield relative(path), path.read_text(encoding="utf-8")


def found_in(pattern: str, text: str, kind: str, where: str) -> Iterator[Name]:
    """The names that a regular expression finds in a text."""
    for match in re.finditer(pattern, text, re.MULTILINE):
        yield Name(match[1], kind, f"{where}:{text.count(chr(10), 0, match.start()) + 1}")


def lua_names() -> Iterator[Name]:
    """The functions of scripts and fragments."""
    for where, text in read("*.lua", "lua"):
        yield from found_in(r"^(?:local )?function (\w+)", text, "function", where)


def sql_names() -> Iterator[Name]:
    """Columns and functions of the schema, and the names of queries."""
    for line in (POSTGRES / "schema.tsv").read_text(encoding="utf-8").splitlines():
        _, kind, name, *_ = line.split("\t")
        if kind in {"column", "function", "table", "view"}:
            yield Name(name.partition("(")[0].strip('"'), kind, "schema.tsv")
    for where, text in read("*.sql", "src/faregate/adapters/postgres"):
        yield from found_in(r"^-- name: (\w+)$", text, "function", where)


def other_names() -> Iterator[Name]:
    """Settings, metrics, options of the command line, and the codes of problems."""
    for name in Settings.model_fields:
        yield Name(name, "setting", PREFIX + name.upper())
    for folder in ("src", "worker"):
        for where, text in read("metrics.py", folder):
            yield from found_in(r"\"(faregate_\w+)\"", text, "metric", where)
    groups = [get_command(app)]
    for group in groups:
        groups += getattr(group, "commands", {}).values()
        for parameter in group.params:
            yield from (Name(one, "option", str(group.name)) for one in parameter.opts)
    for code in STATUSES:
        yield Name(code, "problem", "problems")


def names() -> list[Name]:
    """Every name that the glossary rules."""
    found = [
        name
        for path in PYTHON
        for name in python_names(path.read_text(encoding="utf-8"), relative(path))
    ]
    return [*found, *lua_names(), *sql_names(), *other_names()]


def phrases() -> list[Name]:
    """The texts of all log calls."""
    return [
        text
        for path in PYTHON
        for text in log_texts(path.read_text(encoding="utf-8"), relative(path))
    ]


def test_names_keep_to_the_glossary() -> None:
    """No refused word, ambiguous words in compounds only, verbs for actions, units last."""
    found = names()
    assert {name.kind for name in found} >= {
        *("class", "function", "parameter", "attribute", "member", "column"),
        *("setting", "metric", "option", "problem"),
    }
    assert [fault for name in found for fault in faults_of(name, GLOSSARY)] == []


def test_log_texts_are_phrases_that_an_operator_would_search_for() -> None:
    """A fixed event of two words or more, without an article, before the first value."""
    found = phrases()
    assert len(found) > 20
    faults = [fault for text in found for fault in faults_of(text, GLOSSARY)]
    faults += [str(text) for text in found if not is_event(text.text)]
    assert faults == []


def is_event(text: str) -> bool:
    """Say whether a log text begins with an event."""
    event = re.split(r"[%:;(]| \w+=", text)[0].split()
    return len(event) >= 2 and event[0].lower() not in {"a", "an", "the", "no", "every", "what"}


def test_classes_have_names_of_their_own() -> None:
    """A name of two classes has two meanings."""
    places: dict[str, list[str]] = {}
    for path in PYTHON:
        for name in python_names(path.read_text(encoding="utf-8"), relative(path)):
            if name.kind == "class" and not name.text.startswith("_"):
                places.setdefault(name.text, []).append(name.where)
    assert {name: at for name, at in places.items() if len(at) > 1} == {}


def test_the_glossary_is_one_page_with_one_sentence_a_word() -> None:
    """Each word is explained once, in short, and is not refused elsewhere."""
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= PAGE_LINES_MAX
    assert all(
        meaning.endswith(".") and len(meaning) < 110 for meaning in GLOSSARY.meanings.values()
    )
    assert set(GLOSSARY.refused).isdisjoint(
        part for word in GLOSSARY.meanings for part in words_of(word)
    )


PLANTED = {
    "a refused word in a class": "class TollBooth: ...",
    "a refused word in a parameter": "def charge(fares: int) -> int: ...",
    "a bare ambiguous parameter": "def read(key: str) -> int: ...",
    "an ambiguous word in another compound": "class Gate:\n    charge_key: str = ''",
    "an attribute without a type": "class Gate:\n  def f(self):\n    self.entry = 1",
    "a unit before the end": "def wait(ms_timeout: int) -> int: ...",
    "a unit between": "class Gate:\n    max_ms_delay: int = 0",
    "an action without a verb": "class Gate:\n    def balance(self) -> None: ...",
    "a refused word in a log text": "log.warning('toll refused: %s', 1)",
    "an ambiguous word in a log text": "self._log.error('key unknown: %s', 1)",
}


@pytest.mark.parametrize("source", PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_found(source: str) -> None:
    """The rules above can fail."""
    found = [*python_names(source, "planted"), *log_texts(source, "planted")]
    assert len([fault for name in found for fault in faults_of(name, GLOSSARY)]) == 1


SOUND = """
class IdempotencyKey:
    key: str
class ApiKeyIdentity:
    def __init__(self, keys: ApiKeys, keys_max: int) -> None:
        self._keys = keys
class Gate:
    decision_timeout_ms: int
    def note_entry(self, entry: JournalEntry) -> None: ...
    def renew_all(self) -> int: ...
log.warning('idempotency key taken over: %s', 1)
"""


def test_sound_names_pass() -> None:
    """Compounds, types and the class around a name settle an ambiguous word."""
    found = [*python_names(SOUND, "sound"), *log_texts(SOUND, "sound")]
    assert [fault for name in found for fault in faults_of(name, GLOSSARY)] == []


@pytest.mark.parametrize("text", ["%s: %s", "stopped", "a charge is not given back: %s"])
def test_a_log_text_without_an_event_is_found(text: str) -> None:
    """No phrase to search for, too short, or a sentence with an article."""
    assert not is_event(text)
