"""The points that a drain passes between a record and its row, at which tests kill things."""

from collections.abc import Callable
from typing import Any

from faregate.adapters.postgres import archive as archive_module
from faregate.adapters.postgres import cursors, inserts, queries
from faregate.adapters.postgres.archive import PostgresArchive
from faregate.adapters.redis.stream import RedisStream
from faregate.ports import Stored

#: Points inside the transaction: the statement that is asked for next.
BEFORE_STATEMENT = {"insert_rows": "after copy", "add_to_profiles": "after insert"}
POINTS = (
    "after read",
    *BEFORE_STATEMENT.values(),
    "before cursor",
    "before commit",
    "after commit",
    "before trim",
)

Reach = Callable[[str], object]


def watch(stream: RedisStream, rows: PostgresArchive, reach: Reach) -> None:
    """Tell each point that a drain over these two reaches, before anybody learns what it did."""
    _watch_transactions(reach)
    read, note_stored, store = stream.read, stream.note_stored, rows.store
    made: Any = stream
    opened: Any = rows
    is_stored = False

    def watched_read(*arguments: Any) -> Any:
        batch = read(*arguments)
        if batch is not None:
            reach("after read")
        return batch

    def watched_store(*arguments: Any) -> Stored:
        nonlocal is_stored
        stored = store(*arguments)
        is_stored = not stored.is_stale
        if is_stored:
            reach("after commit")
        return stored

    def watched_note(*arguments: Any) -> int:
        nonlocal is_stored
        if is_stored:
            reach("before trim")
        is_stored = False
        return note_stored(*arguments)

    made.read, made.note_stored, opened.store = watched_read, watched_note, watched_store


def _watch_transactions(reach: Reach) -> None:
    """Tell the points inside transactions, of all archives of this process."""
    in_archive: Any = archive_module
    in_inserts: Any = inserts
    # Of the module that has them for good, so that a second watch replaces the first.
    ask, write = queries.statement, cursors.write_batch

    def statement(name: str) -> Any:
        if name in BEFORE_STATEMENT:
            reach(BEFORE_STATEMENT[name])
        return ask(name)

    def write_batch(*arguments: Any) -> None:
        reach("before cursor")
        write(*arguments)
        reach("before commit")

    in_inserts.statement, in_archive.write_batch = statement, write_batch
