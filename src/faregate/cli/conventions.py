"""The one style of all commands: exit codes, JSON, tables, and verdicts.

A command tells one value of plain data. It is printed as JSON for programs, whose schema is
docs/commands.schema.json, or as tables for people.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

EXIT_NOT_EXACT = 1
EXIT_WRONG_USE = 2
EXIT_BROKEN = 3

#: Wide enough for any table: what is not a terminal does not wrap.
_WIDTH_OF_FILES = 1_000

Json = Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")]


def print_result(result: object, lines: Iterable[str] | None = None, *, as_json: bool) -> None:
    """Print plain data: as JSON for programs, or for people as lines or, without any, as tables."""
    if as_json:
        print(json_of(result))
    elif lines is not None:
        for line in lines:
            print(line)
    else:
        print_tables(result)


def json_of(result: object) -> str:
    """Return plain data as one line of JSON."""
    return json.dumps(result, default=_as_text)


def _as_text(value: object) -> str:
    """Write what JSON has no form for: ids, and times by ISO 8601."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def members(value: Any) -> dict[str, object]:
    """Return the fields of a dataclass, whose values stay as they are."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def stream_out(lines: Iterable[str]) -> None:
    """Print lines, which may be many, until the reader, such as `head`, has seen enough."""
    try:
        sys.stdout.writelines(lines)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end, and would fail there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_tables(result: object, title: str | None = None) -> None:
    """Print plain data as tables: a list is one, and so are the plain members of a mapping."""
    if isinstance(result, Mapping):
        parts = {name: value for name, value in result.items() if _is_nested(value)}
        plain = [(_words(name), value) for name, value in result.items() if name not in parts]
        if plain or not parts:
            _print_table(plain, [None, None], title)
        for name, value in parts.items():
            print_tables(value, _words(name))
    else:
        items = cast("Sequence[Mapping[str, object]]", result)
        names = list(items[0]) if items else []
        _print_table([list(item.values()) for item in items], names, title)


def show_verdict(is_exact: bool, but: str = "") -> None:
    """Print whether all numbers agree, as words that need no colour."""
    colour = "green" if is_exact else "red"
    _console().print(
        f"[bold {colour}]{'exact' if is_exact else 'not exact'}[/]{escape(but)}", highlight=False
    )


def text_of(value: object) -> str:
    """Return how a value is read: numbers with thousands, times to the second in UTC, or `-`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Mapping):
        return json_of(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)


def error_console() -> Console:
    """Return the console on standard error: for progress and errors, so that JSON is alone."""
    return Console(stderr=True)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)


def _is_nested(value: object) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(isinstance(item, Mapping) for item in value)
    return isinstance(value, Mapping)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _print_table(
    rows: Sequence[Sequence[object]], names: Sequence[str | None], title: str | None
) -> None:
    """Print rows; columns without a name have no header."""
    heads = [_words(name or "") for name in names]
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        show_header=any(heads),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for head in heads:
        # A value that is too wide goes on in the next line, and is not cut.
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    if rows:
        _console().print(table)
    else:
        print(f"no {title}" if title else "nothing found")


def _cell(value: object) -> Text:
    """Return a value as it is printed: numbers to the right."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Others choose descriptions and names: their characters do not get to control the terminal.
    text = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text_of(value))
    return Text(text, justify="right" if is_number else None)
