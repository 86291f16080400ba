"""What all commands have in common: their exit codes, and how they print."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated

import typer

EXIT_NOT_EXACT = 1
EXIT_WRONG_USE = 2
EXIT_BROKEN = 3

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]


def tell(plain: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Print JSON for programs, or lines for people."""
    for line in [json.dumps(plain, default=_as_text)] if as_json else lines:
        print(line)


def _as_text(value: object) -> str:
    """Write what JSON has no form for: ids, and times by ISO 8601."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_table(numbers: Mapping[str, int | str]) -> None:
    """Print numbers with their names, for people; a long one whole, however narrow the terminal."""
    width = max(map(len, numbers))
    for name, value in numbers.items():
        print(f"{name.replace('_', ' '):<{width}}  {value}")
