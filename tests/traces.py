"""Where an id lies: in any column of any table, any key or value of Redis, any file of a folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from durable import Database

_TABLES = """
select format('%I.%I', n.nspname, c.relname) as name
from pg_class as c inner join pg_namespace as n on c.relnamespace = n.oid
where c.relkind in ('r', 'p', 'm') and n.nspname not in ('pg_catalog', 'information_schema')
order by name
"""


def forms(user_id: UUID) -> list[bytes]:
    """How an id may be written: as bytes, and in two forms of text."""
    return [user_id.bytes, str(user_id).encode(), user_id.hex.encode()]


def traces_in_tables(tables: Database, user_id: UUID) -> set[str]:
    """The tables that have it, in whichever column; bytes are text in hexadecimal here."""
    asked = f"%{user_id}%", f"%{user_id.hex}%"
    found = set()
    for row in tables.run(_TABLES):
        query = f"select 1 from {row['name']} as t where t::text like any(array[%s, %s])"  # noqa: S608
        if tables.run(query, *asked):
            found.add(row["name"])
    return found


def traces_in_redis(client: Any, user_id: UUID) -> set[str]:
    """The letters of the keys that have it, in name or value."""
    return {
        name.partition(b"}")[2][:1].decode()
        if b"}:" not in name
        else name.partition(b"}")[2].decode()
        for name in client.scan_iter()
        if any(form in text for form in forms(user_id) for text in (name, *_texts(client, name)))
    }


def _texts(client: Any, name: bytes) -> Iterator[bytes]:
    kind = client.type(name).decode()
    if kind == "stream":
        yield from (part for _, fields in client.xrange(name) for part in fields.values())
    elif kind == "hash":
        yield from (part for field in client.hgetall(name).items() for part in field)
    elif kind == "string":
        yield client.get(name) or b""
    elif kind != "none":
        command = {"zset": client.zrange, "list": client.lrange, "set": client.sscan_iter}[kind]
        yield from command(name) if kind == "set" else command(name, 0, -1)


def traces_in_files(folder: Path, user_id: UUID) -> set[str]:
    """The ends of the names of the files that have it."""
    return {
        path.suffix
        for path in folder.rglob("*")
        if path.is_file() and any(form in path.read_bytes() for form in forms(user_id))
    }
