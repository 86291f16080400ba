"""`faregate export`: rows as CSV or JSON lines."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import typer

from faregate.bootstrap import open_reports
from faregate.cli.conventions import error_console, json_of, stream_out
from faregate.config import read_settings
from faregate.ports import ROW_COLUMNS

#: How many rows are printed between two updates of the progress.
PROGRESS_ROWS = 1_000
#: The columns of a transaction, without its place in a batch.
_NAMES = ROW_COLUMNS[1:]
_Row: TypeAlias = Mapping[str, Any]
_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


class Format(StrEnum):
    """The format of rows."""

    CSV = "csv"
    JSONL = "jsonl"


def export(
    form: Annotated[Format, typer.Option("--format", help="CSV, or one JSON object a line.")],
    user: Annotated[UUID | None, typer.Option(help="The user; all users by default.")] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=_TIMES, help="From this time on, in UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_TIMES, help="Before this time, in UTC.")
    ] = None,
) -> None:
    """Print any number of rows in the order of their time, from one snapshot.

    Example: faregate export --format csv --since 2026-11-01 > november.csv
    """
    write = _csv if form is Format.CSV else _json_lines
    with (
        open_reports(read_settings()) as reports,
        closing(reports.rows(user, _in_utc(since), _in_utc(until))) as rows,
        error_console().status("exporting") as progress,
    ):
        stream_out(write(_counted(rows, lambda count: progress.update(f"{count:,} rows"))))


def _in_utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)


def _counted(rows: Iterable[_Row], on_progress: Callable[[int], None]) -> Iterator[_Row]:
    for count, row in enumerate(rows, start=1):
        yield row
        if not count % PROGRESS_ROWS:
            on_progress(count)


def _json_lines(rows: Iterable[_Row]) -> Iterator[str]:
    return (f"{json_of(row)}\n" for row in rows)


class _Line:
    """A file whose `write` returns its argument, so that `csv.writer.writerow` returns the line."""

    @staticmethod
    def write(line: str) -> str:
        return line


def _csv(rows: Iterable[_Row]) -> Iterator[str]:
    """Write rows by RFC 4180, with a header."""
    writer: Any = csv.writer(_Line())
    lines = (writer.writerow([_field(row[name]) for name in _NAMES]) for row in rows)
    # Print nothing before Postgres has answered.
    first = next(lines, "")
    yield writer.writerow(_NAMES) + first
    yield from lines


def _field(value: object) -> object:
    if isinstance(value, Mapping):
        return json_of(value)
    return value.isoformat() if isinstance(value, datetime) else value
