"""The common style of all commands: exit codes, JSON, tables, verdicts.

A command prints one value of plain data: as JSON for programs (docs/commands.schema.json), or as
tables for people.
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

#: Wide enough for any table, since output to a file must not wrap.
_WIDTH_OF_FILES = 1_000

Json = Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")]


def print_result(result: object, lines: Iterable[str] | None = None, *, as_json: bool) -> None:
    """Print plain data: as JSON, or else as the given lines, or else as tables."""
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
    """Return an id, or a time in ISO 8601, as text for JSON."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def members(value: Any) -> dict[str, object]:
    """Return the fields of a dataclass with their values."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def stream_out(lines: Iterable[str]) -> None:
    """Print many lines, until a reader such as `head` closes the pipe."""
    try:
        sys.stdout.writelines(lines)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes again at its end, and would fail there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_tables(result: object, title: str | None = None) -> None:
    """Print plain data as tables: one for a list, one for the plain members of a mapping."""
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
    """Print whether all numbers agree, in words, so that no colour is needed."""
    colour = "green" if is_exact else "red"
    _console().print(
        f"[bold {colour}]{'exact' if is_exact else 'not exact'}[/]{escape(but)}", highlight=False
    )


def text_of(value: object) -> str:
    """Return a value as text: numbers with separators, times to the second in UTC, `-` for None."""
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
    """Return the console on standard error, which is for progress and errors."""
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
    """Print rows; columns without a name have no header.

    If the terminal is too narrow for named columns, each row is a table of its own, as in the
    expanded display of psql, so that ids can be copied.
    """
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
        # A wide value wraps, and is never truncated.
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    console = _console()
    whole = console.options.update(max_width=_WIDTH_OF_FILES)
    if not rows:
        print(f"no {title}" if title else "nothing found")
    elif any(heads) and console.measure(table, options=whole).maximum > console.width:
        for row in rows:
            _print_table(list(zip(heads, row, strict=True)), [None, None], title)
            title = None
    else:
        console.print(table)


def _cell(value: object) -> Text:
    """Return a value as it is printed: numbers to the right."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Users choose descriptions and names, so control characters are removed.
    text = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text_of(value))
    return Text(text, justify="right" if is_number else None)
