"""Takes the cursor of a shard back after Redis lost its entry, and names the lost records.

Rows of lost records stay, since their users were charged. One transaction writes a batch without
records, whose end is the last common place, and the fork with the records that Redis has lost. The
drain goes on from there.
"""

from collections.abc import Iterator
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import dict_row

from faregate.adapters.postgres.cursors import Newest
from faregate.adapters.postgres.queries import statement
from faregate.ports import Cursor, Fork

FILE: Final = "forks.sql"
#: How many places are read at once.
PLACES_MAX: Final = 200
#: How many lost rows are named in one statement.
NAMED_MAX: Final = 50_000


def places(connection: psycopg.Connection, shard: int, before: int) -> list[Cursor]:
    """Return the ends of some batches before a number, the newest first."""
    asked = {"shard": shard, "before": before, "count_max": PLACES_MAX}
    rows = connection.cursor(row_factory=dict_row).execute(statement("read_places", FILE), asked)
    return [Cursor(**{**row, "digest": bytes(row["digest"])}) for row in rows]


def take_back(connection: psycopg.Connection, fork: Fork, newest: Newest) -> None:
    """Take the cursor of a shard back, in a transaction that holds the shard's lock."""
    asked = {"shard": fork.shard, "epoch": fork.before.epoch}
    found = [*_rows(connection, "adopt_fork", asked)] or [*_rows(connection, "insert_fork", asked)]
    fork_id = found[0]["id"]
    _write_batch(connection, fork, newest)
    _note_places(connection, fork, fork_id)
    common = {
        "ids": [one for one, _ in fork.common],
        "times": [made_at for _, made_at in fork.common],
    }
    name_rows(connection, fork_id, {"lost_since": fork.lost_since, **common})
    connection.execute(statement("name_kept_letters", FILE), {"fork_id": fork_id, **common})
    connection.execute(statement("reopen_earlier", FILE), {"fork_id": fork_id})


def name_rows(connection: psycopg.Connection, fork_id: int, asked: dict[str, Any]) -> bool:
    """Name the next lost rows of a fork; return whether there are more."""
    asked = {"fork_id": fork_id, "count_max": NAMED_MAX, **asked}
    (named,) = _rows(connection, "name_kept_rows", asked)
    if not named["has_more"]:
        connection.execute(statement("end_naming", FILE), {"fork_id": fork_id})
    return bool(named["has_more"])


def _write_batch(connection: psycopg.Connection, fork: Fork, newest: Newest) -> None:
    end = fork.end
    row = {
        "shard": fork.shard,
        "number": end.number,
        "epoch": end.epoch,
        "read_after": None,
        "first_position": end.position,
        "last_position": end.position,
        "first_ordinal": end.ordinal + 1,
        "last_ordinal": end.ordinal,
        # Records with such ordinals may be known by their ids.
        "ordinal_max": newest.ordinal_max,
        "record_count": 0,
        "last_digest": end.digest,
        "leaves": b"",
        "chain_before": newest.chain,
    }
    connection.execute(statement("write_batch"), row)


def _note_places(connection: psycopg.Connection, fork: Fork, fork_id: int) -> None:
    end, after = fork.end, fork.after
    row = {
        "fork_id": fork_id,
        "batch_number": end.number,
        "number_before": fork.before.number,
        "position_before": fork.before.position,
        "ordinal_before": fork.before.ordinal,
        "number_after": after.number if after else 0,
        "position_after": end.position,
        "ordinal_after": end.ordinal,
        "lost_since": fork.lost_since,
    }
    connection.execute(statement("describe_fork", FILE), row)


def _rows(
    connection: psycopg.Connection, name: LiteralString, asked: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    yield from connection.cursor(row_factory=dict_row).execute(statement(name, FILE), asked)
