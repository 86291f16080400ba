"""The migrations that were applied to a database, and those that are pending."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import psycopg
from psycopg.rows import class_row

from faregate.adapters.postgres.migration_files import Migration, migrations
from faregate.adapters.postgres.migration_run import holds, sql
from faregate.domain.errors import MigrationError


class MigrationState(StrEnum):
    """The states of a migration in one database."""

    APPLIED = "applied"
    PENDING = "pending"
    #: It was applied, and its file was edited since.
    EDITED = "edited"
    #: It was applied by a newer version, which this one does not know.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatus:
    """The status of one migration in one database."""

    name: str
    state: MigrationState
    applied_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """The record of an applied migration in the database."""

    name: str
    checksum: str
    applied_at: datetime


def statuses(connection: psycopg.Connection) -> list[MigrationStatus]:
    """Compare the files of this version with the records of the database."""
    records = {record.name: record for record in _records(connection)}
    known = [_compare(migration, records.pop(migration.name, None)) for migration in migrations()]
    known += [
        MigrationStatus(
            name=record.name, state=MigrationState.UNKNOWN, applied_at=record.applied_at
        )
        for record in records.values()
    ]
    return sorted(known, key=lambda status: status.name)


def _compare(migration: Migration, record: _Record | None) -> MigrationStatus:
    if record is None:
        return MigrationStatus(name=migration.name, state=MigrationState.PENDING, applied_at=None)
    same = record.checksum == migration.checksum
    state = MigrationState.APPLIED if same else MigrationState.EDITED
    return MigrationStatus(name=migration.name, state=state, applied_at=record.applied_at)


def _records(connection: psycopg.Connection) -> list[_Record]:
    if not holds(connection, "has_records"):
        return []
    with connection.cursor(row_factory=class_row(_Record)) as cursor:
        return cursor.execute(sql("read_records")).fetchall()


def pending(connection: psycopg.Connection) -> list[Migration]:
    """Return the pending migrations, if the records allow to apply them."""
    names = set()
    for status in statuses(connection):
        if status.state is MigrationState.EDITED:
            raise MigrationError(
                f"{status.name} was edited after it had been applied at {status.applied_at};"
                " restore it, and write a new migration instead"
            )
        if status.state is MigrationState.UNKNOWN:
            raise MigrationError(f"{status.name} is of a newer version of Faregate: install that")
        if status.state is MigrationState.PENDING:
            names.add(status.name)
    return [migration for migration in migrations() if migration.name in names]
